"""The same oracle for mapped classes that nobody thought of: for each example others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import sessionmaker
from support.clock import MovedClock
from support.databases import Database, clear
from support.local import LOCAL
from support.machine.endings import Endings
from support.machine.objects import Objects
from support.machine.random_models import DESIGNS, Design, map_classes
from support.machine.work import NUMBERS, WHICH, World
from support.receiver import Receiver

import sqla_webhooks

pytestmark = pytest.mark.machine


class Application(Objects, Endings):
    """What an application may do to rows that stand alone."""


def step(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


#: A rule of the state machine, and what is drawn for it.
Step = tuple[str, dict[str, Any]]
_VALUES = st.lists(NUMBERS, min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        step("add", which=WHICH, number=NUMBERS, values=_VALUES),
        step("add_several", which=WHICH, number=NUMBERS, count=st.integers(2, 3)),
        step("change", which=WHICH, number=NUMBERS, values=_VALUES),
        step("change_and_change_back", which=WHICH, number=NUMBERS, value=NUMBERS),
        step("change_without_loading", which=WHICH, number=NUMBERS, values=_VALUES, whole=st.booleans()),
        step("delete", which=WHICH, number=NUMBERS, flush=st.booleans()),
        step("replace", which=WHICH, number=NUMBERS, values=_VALUES, flush=st.booleans()),
        step("merge", which=WHICH, number=NUMBERS, values=_VALUES, load=st.booleans()),
        step("commit"),
        step("rollback"),
        step("begin_savepoint"),
        step("end_savepoint", kept=st.booleans()),
        step("expire_all"),
    ),
    min_size=5,
    max_size=30,
)
EXAMPLES = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])


def run(
    database: Database, receiver: Receiver, *, designs: Sequence[Design], steps: Sequence[Step], keep_loaded: bool
) -> None:
    base, kinds = map_classes(designs)
    receiver.forget()
    with ExitStack() as stack:
        engine = stack.enter_context(database.engine())
        base.metadata.create_all(engine)
        stack.callback(base.metadata.drop_all, engine)
        sessions = sessionmaker(engine)
        webhooks = stack.enter_context(sqla_webhooks.install(sessions, deliver=False, clock=MovedClock(), **LOCAL))
        clear(engine, *sqla_webhooks.models.metadata.sorted_tables)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        work = Application(World(database, engine, receiver, webhooks, sessions, [kind.cls for kind in kinds]))
        stack.callback(work.teardown)
        work.open(keep_loaded=keep_loaded, kinds=kinds)
        for name, arguments in steps:
            getattr(work, name)(lane=0, **arguments)
    base.registry.dispose()


def oracle(database: Database, receiver: Receiver, *, examples: int) -> None:
    @settings(EXAMPLES, max_examples=examples)
    @given(designs=DESIGNS, steps=STEPS, keep_loaded=st.booleans())
    def holds(*, designs: list[Design], steps: list[Step], keep_loaded: bool) -> None:
        run(database, receiver, designs=designs, steps=steps, keep_loaded=keep_loaded)

    holds()


def test_a_replica_equals_the_database_whatever_is_mapped(database: Database, receiver: Receiver) -> None:
    oracle(database, receiver, examples=25 if database.name == "sqlite" else 10)


@pytest.mark.long
def test_a_replica_equals_the_database_whatever_is_mapped_for_long(database: Database, receiver: Receiver) -> None:
    oracle(database, receiver, examples=1000)
