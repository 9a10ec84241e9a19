"""
Rows that are told of while others change them: none is overtaken, nobody waits for long, and none is in a circle.

Each race is held at one place and let go on from there.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker
from support.databases import Database
from support.interleaving import commit_held, reached, running, statement_held, waits
from support.local import Install
from support.receiver import PATIENCE
from support.shop import Customer, Order, Product, put
from support.threads import aside, until
from support.told import Told

from sqla_webhooks import Progress, Webhooks, backfill, encoding, models

pytestmark = [pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True), pytest.mark.stress]

Sessions = sessionmaker[Session]

SKUS = ["b", "d", "f"]
LOCKS, WRITES, MOVES = "SKIP LOCKED", "INSERT INTO webhook_outbox", "UPDATE webhook_backfill SET place"
READS = "product.details AS details"


@pytest.fixture
def engine(patient_engine: Engine) -> Engine:
    return patient_engine


@pytest.fixture
def webhooks(install: Install, sessions: Sessions) -> Webhooks:
    put(sessions, *SKUS)
    return install(sessions, deliver=False, capture="all")


@pytest.fixture
def told(webhooks: Webhooks) -> Told:
    return Told(webhooks)


def stock(told: Told) -> list[tuple[str, str, Any]]:
    """Each event with the stock that it tells."""
    return [(type_.removeprefix("product."), sku, data["stock"]) for type_, sku, data in told()]


@contextmanager
def changing(sessions: Sessions, sku: str, number: int) -> Iterator[Session]:
    """A transaction that has changed a product, and has not ended."""
    with sessions() as session:
        session.get_one(Product, sku).stock = number
        session.flush()
        yield session


def tried_again(engine: Engine) -> list[str]:
    """The products that were held by others when they were come to."""
    with engine.connect() as connection:
        again = connection.execute(select(models.backfill.c.again)).scalar()
    return [] if again is None else [place[2][0] for place in encoding.loads(again)]


# --------------------------------------------------------------------------- rows that others hold


def test_what_another_has_changed_and_not_committed_comes_later(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine
) -> None:
    with changing(sessions, "d", 7) as session:
        thread, came = aside(lambda: webhooks.backfill(Product))
        until(lambda: tried_again(engine) == ["d"])
        assert stock(told) == [("read", "b", 0), ("read", "f", 0)]
        session.commit()
    thread.join(PATIENCE)
    assert came == [Progress(3, 3)]
    assert stock(told) == [("updated", "d", (0, 7)), ("read", "d", 7)]


def test_what_is_rolled_back_is_told_of_as_it_was(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine
) -> None:
    with changing(sessions, "d", 7):
        thread, _ = aside(lambda: webhooks.backfill(Product))
        until(lambda: tried_again(engine) == ["d"])
    thread.join(PATIENCE)
    assert stock(told) == [("read", "b", 0), ("read", "f", 0), ("read", "d", 0)]


def test_what_another_deletes_is_not_told_of_again(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine
) -> None:
    with sessions() as session:
        session.delete(session.get_one(Product, "d"))
        session.flush()
        thread, came = aside(lambda: webhooks.backfill(Product))
        until(lambda: tried_again(engine) == ["d"])
        session.commit()
    thread.join(PATIENCE)
    assert came == [Progress(3, 3)]
    assert told.names() == ["product.deleted d", "product.read b", "product.read f"]


def test_a_row_that_takes_another_key_is_told_of_by_its_change(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine
) -> None:
    with sessions() as session:
        session.get_one(Product, "d").sku = "a"
        session.flush()
        thread, came = aside(lambda: webhooks.backfill(Product))
        until(lambda: tried_again(engine) == ["d"])
        session.commit()
    thread.join(PATIENCE)
    assert came == [Progress(3, 3)]
    assert told.names() == ["product.updated a", "product.read b", "product.read f"]


def test_broken_off_it_remembers_what_others_hold(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine
) -> None:
    def break_off(so_far: Progress) -> None:
        if so_far.done == 2:
            raise KeyboardInterrupt

    with changing(sessions, "b", 1) as session:
        with pytest.raises(KeyboardInterrupt):
            webhooks.backfill(Product, page=1, progress=break_off)
        assert tried_again(engine) == ["b"]
        session.commit()
    assert webhooks.backfill(Product) == Progress(3, 3)
    assert [one for one in stock(told) if one[0] == "read"] == [("read", "d", 0), ("read", "f", 0), ("read", "b", 1)]


def test_with_many_rows_held_it_comes_to_no_new_ones(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "MOST_AGAIN", 0)
    with changing(sessions, "b", 1) as session:
        thread, _ = aside(lambda: webhooks.backfill(Product, page=1))
        with reached(engine, LOCKS) as tries:
            for _ in range(3):
                tries.clear()
                assert tries.wait(PATIENCE)
        assert tried_again(engine) == ["b"]
        assert stock(told) == []
        session.commit()
    thread.join(PATIENCE)
    assert stock(told) == [("updated", "b", (0, 1)), ("read", "b", 1), ("read", "d", 0), ("read", "f", 0)]


# --------------------------------------------------------------------------- between two statements of a page


@pytest.mark.parametrize("statement", [LOCKS, "SELECT product.sku"])
def test_what_changes_before_the_lock_is_read(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine, statement: str
) -> None:
    with statement_held(engine, statement) as gate:
        thread, _ = aside(lambda: webhooks.backfill(Product))
        gate.wait()
        with changing(sessions, "d", 7) as session:
            session.delete(session.get_one(Product, "b"))
            session.commit()
    thread.join(PATIENCE)
    assert stock(told) == [
        ("updated", "d", (0, 7)),
        ("deleted", "b", 0),
        ("read", "d", 7),
        ("read", "f", 0),
    ]


def test_what_no_longer_fulfils_the_condition_by_then_is_not_told_of(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine
) -> None:
    with statement_held(engine, LOCKS) as gate:
        thread, came = aside(lambda: webhooks.backfill(Product, where=Product.stock == 0))
        gate.wait()
        with changing(sessions, "d", 7) as session:
            session.commit()
    thread.join(PATIENCE)
    assert came == [Progress(3, 3)]
    assert stock(told) == [("updated", "d", (0, 7)), ("read", "b", 0), ("read", "f", 0)]


@pytest.mark.parametrize("statement", [READS, WRITES, MOVES])
def test_what_changes_after_the_lock_waits_and_comes_after_it(
    webhooks: Webhooks, told: Told, sessions: Sessions, engine: Engine, statement: str
) -> None:
    def change() -> None:
        with changing(sessions, "d", 7) as session:
            session.commit()

    with statement_held(engine, statement) as gate:
        thread, _ = aside(lambda: webhooks.backfill(Product))
        gate.wait()
        with running(engine, change, until="UPDATE product") as came:
            until(lambda: waits(engine))
            gate.open()
    thread.join(PATIENCE)
    assert came == [None]
    assert stock(told) == [("read", "b", 0), ("read", "d", 0), ("read", "f", 0), ("updated", "d", (0, 7))]


# --------------------------------------------------------------------------- beside a page


def at_once(database: Database, work: Callable[[Session], object]) -> None:
    """In a transaction in which no statement waits for another's lock."""
    with database.engine() as engine, Session(engine) as session:
        work(session)
        session.commit()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_nobody_who_inserts_beside_a_page_waits_for_it(
    database: Database, webhooks: Webhooks, engine: Engine, level: Any
) -> None:
    def insert(session: Session) -> None:
        session.connection(execution_options={"isolation_level": level})
        session.add_all([Product(sku=sku) for sku in ("a", "c", "e", "g")])

    with commit_held(engine, MOVES) as gate:
        thread, came = aside(lambda: webhooks.backfill(Product))
        gate.wait()
        at_once(database, insert)
        gate.open()
    thread.join(PATIENCE)
    assert came == [Progress(3, 3)]


def test_nobody_who_reads_its_rows_waits_for_it(database: Database, webhooks: Webhooks, engine: Engine) -> None:
    with commit_held(engine, MOVES) as gate:
        thread, _ = aside(lambda: webhooks.backfill(Product))
        gate.wait()
        at_once(database, lambda session: session.scalars(select(Product)).all())
        gate.open()
    thread.join(PATIENCE)


def test_on_postgresql_nobody_waits_who_refers_to_its_rows(
    database: Database, webhooks: Webhooks, sessions: Sessions, engine: Engine
) -> None:
    if database.name != "postgresql":
        pytest.skip("MariaDB has no shared lock that skips what others hold")
    with sessions.begin() as session:
        session.add(Customer(id=1, email="a"))
    with commit_held(engine, MOVES) as gate:
        thread, _ = aside(lambda: webhooks.backfill(Customer))
        gate.wait()
        at_once(database, lambda session: session.add(Order(customer_id=1)))
        gate.open()
    thread.join(PATIENCE)
    # And who has referred to them is not waited for.
    with sessions() as session:
        session.add(Order(customer_id=1))
        session.flush()
        assert webhooks.backfill(Customer) == Progress(1, 1)


def test_two_callers_go_by_turns(webhooks: Webhooks, told: Told, engine: Engine) -> None:
    with commit_held(engine, MOVES) as gate:
        thread, came = aside(lambda: webhooks.backfill(Product, page=2))
        gate.wait()
        with running(engine, lambda: webhooks.backfill(Product, page=2), until="UPDATE webhook_backfill") as too:
            until(lambda: waits(engine))
            gate.open()
    thread.join(PATIENCE)
    assert came == too == [Progress(3, 3)]
    assert told.names() == ["product.read b", "product.read d", "product.read f"]


def test_one_begins_where_two_begin_at_once(webhooks: Webhooks, told: Told, engine: Engine) -> None:
    with commit_held(engine, "INSERT INTO webhook_backfill") as gate:
        thread, came = aside(lambda: webhooks.backfill(Product, page=1))
        gate.wait()
        with running(engine, lambda: webhooks.backfill(Product, page=1), until="UPDATE webhook_backfill") as too:
            until(lambda: waits(engine))
            gate.open()
    thread.join(PATIENCE)
    assert came == too == [Progress(3, 3)]
    assert told.names() == ["product.read b", "product.read d", "product.read f"]


def test_nobody_is_in_a_circle(webhooks: Webhooks, told: Told, sessions: Sessions) -> None:
    """The application locks rows in one order, so it alone is in none; and we would be seen as an error of either."""
    skus = [f"x{number}" for number in range(30)]
    put(sessions, *skus)
    over = threading.Event()

    def sell(seed: int) -> int:
        chance, sold = random.Random(seed), 0
        while not over.is_set():
            with sessions.begin() as session:
                # From the end to the beginning: against the order in which a page is locked.
                for sku in sorted(chance.sample(skus, 3), reverse=True):
                    session.execute(update(Product).where(Product.sku == sku).values(stock=Product.stock + 1))
                    sold += 1
        return sold

    sellers = [aside(lambda seed=seed: sell(seed)) for seed in range(3)]  # type: ignore[misc]  # mypy on defaults
    try:
        for number in range(5):
            assert webhooks.backfill(Product, page=7, waiting=None, name=f"{number}").done == len(SKUS) + len(skus)
    finally:
        over.set()
        for thread, _ in sellers:
            thread.join(PATIENCE)
    sold = [came[0] for _, came in sellers]
    assert all(isinstance(one, int) for one in sold), sold
    with sessions() as session:
        assert session.scalar(select(func.sum(Product.stock))) == sum(sold)
    webhooks.drain()
    assert never_back(told) == {sku: session_stock for sku, session_stock in stocks(sessions).items() if sku in skus}


def never_back(told: Told) -> dict[str, int]:
    """What the events say of each product in the end, if none says less than one before."""
    with Session(told.webhooks.engine) as session:
        payloads = session.scalars(select(models.event.c.payload).order_by(models.event.c.id)).all()
    known: dict[str, int] = {}
    for event in map(encoding.loads, payloads):
        sku, now = event["resource_id"], event["data"]["stock"]
        if sku.startswith("x"):
            assert now >= known.get(sku, 0), f"{event['type']} {sku} goes back from {known[sku]} to {now}"
            known[sku] = now
    return known


def stocks(sessions: Sessions) -> dict[str, int]:
    with sessions() as session:
        return {one.sku: one.stock for one in session.scalars(select(Product))}
