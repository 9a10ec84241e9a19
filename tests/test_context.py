"""What the application says of the circumstances of its changes."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session, sessionmaker
from support.async_databases import application_at
from support.clock import MovedClock
from support.databases import Database, clear
from support.local import Install
from support.receiver import PATIENCE, Receiver
from support.shop import Product

from sqla_webhooks import ConfigurationError, Webhooks, models

Sessions = sessionmaker[Session]


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, capture="all", domain_events={"stock.counted": None})


def contexts(webhooks: Webhooks) -> list[tuple[str, Any]]:
    """Of each event: its row, and the context that is kept."""
    webhooks.drain()
    return [(one.resource_id, one.context) for one in webhooks.events.list(limit=1000)[::-1]]


def add(sessions: Sessions, *skus: str) -> None:
    with sessions.begin() as session:
        session.add_all([Product(sku=sku) for sku in skus])


# --------------------------------------------------------------------------- what is recorded


def test_it_is_recorded_with_what_is_flushed_in_it(webhooks: Webhooks, sessions: Sessions) -> None:
    add(sessions, "before")
    with webhooks.context(actor=5, request_id="r1", ratio=0.5, first=True, note=None) as said:
        add(sessions, "within")
    add(sessions, "after")

    assert said == {"actor": 5, "request_id": "r1", "ratio": 0.5, "first": True, "note": None}
    assert contexts(webhooks) == [("before", None), ("within", dict(said)), ("after", None)]


def test_nothing_of_it_stands_in_the_outbox_where_none_is_said(
    webhooks: Webhooks, sessions: Sessions, engine: Engine
) -> None:
    add(sessions, "a")
    with webhooks.context():
        add(sessions, "b")
    with engine.connect() as connection:
        assert connection.scalars(select(models.outbox.c.context)).all() == [None, "{}"]


def test_bulk_statements_emitted_and_sent_by_hand_have_it_too(webhooks: Webhooks, sessions: Sessions) -> None:
    with webhooks.context(actor="a"):
        with sessions.begin() as session:
            session.execute(insert(Product), [{"sku": "bulk"}])
        with sessions.begin() as session:
            product = session.get_one(Product, "bulk")
            webhooks.emit(session, "stock.counted", product)
        webhooks.trigger("product.updated", product)

    assert contexts(webhooks) == [("bulk", {"actor": "a"})] * 3


def test_what_follows_from_a_change_has_that_of_the_change(webhooks: Webhooks, sessions: Sessions) -> None:
    webhooks.event("product.any", Product)(lambda _event: True)
    with webhooks.context(actor="a"):
        add(sessions, "x")
    assert contexts(webhooks) == [("x", {"actor": "a"})] * 2


@pytest.mark.parametrize("together", [True, False])
def test_an_event_has_what_was_said_of_its_row_and_that_of_its_own_flush_if_each_is_one(
    install: Install,
    sessions: Sessions,
    clock: MovedClock,
    together: bool,  # noqa: FBT001  # a setting
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", coalesce=together)
    with sessions.begin() as session:
        session.add(Product(sku="none"))
        session.flush()
        for actor, own in (("a", {"first": 1}), ("b", {"second": 2})):
            with webhooks.context(actor=actor, **own):
                session.add(Product(sku=actor))
                session.flush()
        session.get_one(Product, "a").name = "changed"
        with webhooks.context(actor="c"):
            session.flush()

    first, second = {"actor": "a", "first": 1}, {"actor": "b", "second": 2}
    alone = [("none", None), ("a", first), ("b", second), ("a", {"actor": "c"})]
    whole = [("none", None), ("a", {"actor": "c", "first": 1}), ("b", second)]
    assert contexts(webhooks) == (whole if together else alone)


def test_the_flush_counts_and_not_the_change(webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions.begin() as session, webhooks.context(actor="early"):
        session.add(Product(sku="a"))
    assert contexts(webhooks) == [("a", None)]


def test_installations_know_nothing_of_each_other(
    webhooks: Webhooks, install: Install, engine: Engine, sessions: Sessions
) -> None:
    other = install(sessionmaker(engine), deliver=False)
    with other.context(actor="other"):
        add(sessions, "a")
    assert contexts(webhooks) == [("a", None)]


values = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "é", "x" * 20]) | st.just(0.5)
said = st.dictionaries(st.sampled_from(["actor", "request_id", "_x", "Ab9"]), values, max_size=3)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["open", "open", "close", "add"]), said), max_size=12))
@example([("open", {"actor": 1, "_x": 1}), ("open", {"actor": 2}), ("add", {}), ("close", {}), ("add", {})])
def test_the_inner_one_wins_name_by_name(
    everywhere: tuple[Webhooks, Sessions], history: list[tuple[str, dict[str, Any]]]
) -> None:
    webhooks, sessions = everywhere
    clear(webhooks.engine, Product.__table__, models.event, models.outbox)  # type: ignore[arg-type]  # it is a table
    expected: list[tuple[str, Any]] = []
    open_: list[tuple[ExitStack, dict[str, Any]]] = []
    for number, (step, more) in enumerate(history):
        if step == "open":
            block = ExitStack()
            block.enter_context(webhooks.context(**more))
            open_.append((block, more))
        elif step == "close" and open_:
            open_.pop()[0].close()
        elif step == "add":
            add(sessions, str(number))
            merged = {name: value for _, one in open_ for name, value in one.items()}
            expected.append((str(number), merged if open_ else None))
    while open_:
        open_.pop()[0].close()

    assert contexts(webhooks) == expected


@pytest.fixture
def everywhere(database: Database, install: Install, clock: MovedClock) -> Iterator[tuple[Webhooks, Sessions]]:
    with database.engine() as engine:
        Product.__table__.create(engine)  # type: ignore[attr-defined]  # a table's own method
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False, clock=clock, capture="all")
        yield webhooks, sessions
        webhooks.uninstall()


# --------------------------------------------------------------------------- threads and tasks


def test_each_thread_has_its_own(webhooks: Webhooks, sessions: Sessions) -> None:
    both, one_by_one = threading.Barrier(2), threading.Lock()

    def work(name: str) -> None:
        with webhooks.context(actor=name):
            both.wait(PATIENCE)
            with one_by_one:
                add(sessions, name)
            both.wait(PATIENCE)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    with webhooks.context(actor="main"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert dict(contexts(webhooks)) == {"a": {"actor": "a"}, "b": {"actor": "b"}}


def test_each_task_has_its_own_and_what_it_was_started_in(install: Install, tmp_path: Path) -> None:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        webhooks = install(application.sessions, deliver=False, capture="all")

        async def work(name: str, both: asyncio.Barrier, turn: asyncio.Lock) -> None:
            with webhooks.context(actor=name):
                await both.wait()
                async with turn, application.sessions.begin() as session:
                    session.add(Product(sku=name))
                await both.wait()

        async def main() -> None:
            both, turn = asyncio.Barrier(2), asyncio.Lock()
            with webhooks.context(request_id=7):
                await asyncio.gather(*(work(name, both, turn) for name in "ab"))
            async with application.sessions.begin() as session:
                session.add(Product(sku="later"))

        application.run(main)
        assert dict(contexts(webhooks)) == {
            "a": {"request_id": 7, "actor": "a"},
            "b": {"request_id": 7, "actor": "b"},
            "later": None,
        }
        webhooks.uninstall()


def test_a_block_that_ends_elsewhere_than_it_began_says_so(webhooks: Webhooks, sessions: Sessions) -> None:
    block = webhooks.context(actor="a")
    contextvars.copy_context().run(block.__enter__)
    add(sessions, "x")
    with pytest.raises(ConfigurationError, match="ended in another thread or task than it began"):
        block.__exit__(None, None, None)
    assert contexts(webhooks) == [("x", None)]


# --------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize(
    ("names", "sent"),
    [([], None), (["request_id"], {"request_id": "r"}), (["actor", "absent"], {"actor": 5}), (["absent"], None)],
)
def test_only_what_is_named_is_sent_and_all_is_kept(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, names: list[str], sent: Any
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, send_context=names)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with webhooks.context(actor=5, request_id="r"):
        add(sessions, "a")
    add(sessions, "b")
    webhooks.drain()

    first, second = receiver.events()
    assert first.get("context") == sent
    assert ("context" in first) is (sent is not None)
    assert "context" not in second
    assert [one.context for one in webhooks.events.list()] == [None, {"actor": 5, "request_id": "r"}]


def test_a_truncated_body_has_no_more_of_it(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, send_context=["actor"], payload_limit=1024)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with webhooks.context(actor=5, request_id="r"), sessions.begin() as session:
        session.add(Product(sku="a", details="x" * 2000))
        session.flush()
    webhooks.drain()

    (event,) = receiver.events()
    assert event["truncated"] is True
    assert "request_id" not in json.dumps(event)


# --------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("given_values", "says"),
    [
        ({"1a": 1}, "has '1a': names are of letters"),
        ({"a.b": 1}, "has 'a.b'"),
        ({"é": 1}, "has 'é'"),
        ({"": 1}, "has ''"),
        ({"actor": object()}, "actor is a object: give texts"),
        ({"actor": ["x"]}, "actor is a list"),
        ({"actor": "secret\0"}, "actor is a str"),
        ({"actor": "\ud800"}, "actor is a str"),
        ({"actor": float("nan")}, "actor is a float"),
        ({"actor": 2**63}, "actor is a int"),
        ({f"a{n}": n for n in range(21)}, "has 21 names: 20 are allowed"),
        ({"actor": "é" * 2048}, "has 4,108 bytes: 4,096 are allowed"),
    ],
)
def test_what_cannot_be_said_is_refused_at_once(
    webhooks: Webhooks, sessions: Sessions, given_values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError) as caught, webhooks.context(**given_values):
        raise AssertionError
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    add(sessions, "a")
    assert contexts(webhooks) == [("a", None)]


def test_blocks_within_each_other_are_limited_together(webhooks: Webhooks) -> None:
    with webhooks.context(**{f"a{n}": n for n in range(20)}), pytest.raises(ConfigurationError, match="21 names"):
        webhooks.context(b=1).__enter__()
    with webhooks.context(actor="é" * 2042):  # 4,096 bytes
        pass


@pytest.mark.parametrize("names", ["actor", [1], ["a b"], [None]])
def test_names_to_be_sent_that_can_be_none_are_refused(install: Install, sessions: Sessions, names: Any) -> None:
    with pytest.raises(ConfigurationError, match="send_context"):
        install(sessions, deliver=False, send_context=names)
