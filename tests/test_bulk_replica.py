"""Random bulk writes: a replica that is built of the events equals the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from support.bulk.models import Animal, Dog, Item, Seat, Tag
from support.bulk.twins import Twins, replay, rows, twins_on

pytestmark = pytest.mark.machine

#: The name of a step, and what it takes.
Step: TypeAlias = tuple[Any, ...]

_NAMES = st.sampled_from(["p", "x", "y", "z"])
_NUMBERS = st.integers(0, 4)

STEPS = st.one_of(
    st.tuples(st.just("insert_tags"), st.lists(_NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("upsert_tags"), st.lists(_NAMES, min_size=1, max_size=3, unique=True), _NUMBERS),
    st.tuples(st.just("ignore_tags"), st.lists(_NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("count_tags"), _NUMBERS),
    st.tuples(st.just("rename_tag"), _NAMES, _NAMES),
    st.tuples(st.just("delete_tags"), _NUMBERS),
    st.tuples(st.just("insert_items"), st.integers(1, 3), _NUMBERS),
    st.tuples(st.just("change_items"), _NUMBERS, _NUMBERS),
    st.tuples(st.just("change_items_by_key"), st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=3)),
    st.tuples(st.just("change_item"), _NUMBERS),
    st.tuples(st.just("delete_items"), _NUMBERS),
    st.tuples(st.just("move_seats"), st.integers(-2, 2)),
    st.tuples(st.just("save_dogs"), st.integers(1, 3)),
    st.tuples(st.just("name_animals"), _NUMBERS, _NAMES),
    st.tuples(st.just("savepoint"), st.booleans()),
)
TRANSACTIONS = st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=1, max_size=3)


class Work:
    """The steps. One that the database refuses is rolled back to where it began, like a part of an application."""

    def __init__(self, session: Session) -> None:
        self._session = session
        kind = {"sqlite": sqlite, "postgresql": postgresql}[session.get_bind().dialect.name]
        self._upsert: Any = kind.insert(Tag)

    def run(self, steps: list[Step]) -> None:
        for step in steps:
            if step[0] == "savepoint":
                continue
            with suppress(DBAPIError, StaleDataError), self._session.begin_nested() as savepoint:
                getattr(self, step[0])(*step[1:])
                if ("savepoint", True) in steps and step is steps[0]:
                    savepoint.rollback()

    def insert_tags(self, names: list[str]) -> None:
        self._session.execute(insert(Tag), [{"name": name} for name in names])

    def upsert_tags(self, names: list[str], uses: int) -> None:
        statement = self._upsert.on_conflict_do_update(index_elements=["name"], set_={"uses": Tag.uses + uses})
        self._session.execute(statement, [{"name": name} for name in names])

    def ignore_tags(self, names: list[str]) -> None:
        self._session.execute(self._upsert.on_conflict_do_nothing().values([{"name": name} for name in names]))

    def count_tags(self, uses: int) -> None:
        self._session.execute(update(Tag).where(Tag.uses < uses).values(uses=Tag.uses + 1))

    def rename_tag(self, old: str, new: str) -> None:
        self._session.execute(update(Tag).where(Tag.name == old).values(name=new))

    def delete_tags(self, uses: int) -> None:
        self._session.execute(delete(Tag).where(Tag.uses == uses))

    def insert_items(self, count: int, amount: int) -> None:
        rows = [{"amount": amount, "label": f"{n}"} for n in range(count)]
        self._session.scalars(insert(Item).returning(Item), rows).all()

    def change_items(self, amount: int, new: int) -> None:
        self._session.execute(update(Item).where(Item.amount >= amount).values(amount=new))

    def change_items_by_key(self, rows: list[tuple[int, int]]) -> None:
        self._session.execute(update(Item), [{"id": number, "amount": amount} for number, amount in rows])

    def change_item(self, amount: int) -> None:
        if (item := self._session.scalars(select(Item).order_by(Item.id).limit(1)).first()) is not None:
            item.amount = amount
            self._session.flush()

    def delete_items(self, amount: int) -> None:
        self._session.execute(delete(Item).where(Item.amount == amount))

    def move_seats(self, by: int) -> None:
        self._session.execute(update(Seat).where(Seat.line == "a").values(number=Seat.number + by))

    def save_dogs(self, count: int) -> None:
        self._session.bulk_save_objects([Dog(name="new", tricks=n) for n in range(count)])

    def name_animals(self, least: int, name: str) -> None:
        self._session.execute(update(Animal).where(Animal.id >= least).values(name=name))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins_on(request.param, tmp_path_factory.mktemp("twins")) as twins:
        yield twins


def run(twins: Twins, transactions: list[list[Step]]) -> None:
    twins.restart()
    before = rows(twins.heard)
    for steps in transactions:
        with twins.sessions.begin() as session:
            Work(session).run(steps)
        after = rows(twins.heard)
        replay(twins.events(), before, after)
        before = after


@example(transactions=[[("move_seats", 2), ("move_seats", 1)]])  # into the keys of one another
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(transactions=TRANSACTIONS)
def test_a_replica_of_the_events_equals_the_tables(twins: Twins, transactions: Any) -> None:
    run(twins, transactions)


@pytest.mark.long
@settings(max_examples=800, deadline=None, suppress_health_check=list(HealthCheck))
@given(transactions=TRANSACTIONS)
def test_a_replica_of_the_events_equals_the_tables_for_long(twins: Twins, transactions: Any) -> None:
    run(twins, transactions)
