"""What was written for nobody, and commits while a backfill is at work: it waits for that with its beginning."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database, database_named
from support.local import Install
from support.receiver import Receiver
from support.shop import Base, Customer, Order, Product, put

from sqla_webhooks import Progress, Webhooks
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.outbox.subscribed import FRESH
from sqla_webhooks.outbox.writers import OLD, writers

Sessions = sessionmaker[Session]

pytestmark = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)

COMPLAINT = (
    "a backfill waits for transactions that had written to its tables before it began, and are open for a minute: are "
    "they still at work?"
)


def pause() -> None:
    """Until InnoDB looks anew, unless others, who do not come at the same times, have asked it meanwhile."""
    SystemClock().wait(threading.Event(), random.uniform(1.5, 4) * OLD)


class WaitedFor(MovedClock):
    """Each time that somebody waits, something happens; when all has happened, they wait for the database to notice."""

    def __init__(self) -> None:
        super().__init__()
        self.then: list[Callable[[], object]] = []
        self._in_vain = 0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if seconds < FRESH and self.then:
            self.then.pop(0)()
        elif seconds < FRESH:
            self._in_vain += 1
            assert self._in_vain < 100, "nothing ends what is waited for"
            pause()
        return super().wait(event, seconds)


@pytest.fixture
def clock() -> WaitedFor:
    return WaitedFor()


@pytest.fixture
def engine(patient_engine: Engine) -> Engine:
    return patient_engine


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: WaitedFor) -> Webhooks:
    """To which nobody has subscribed: what is written now is captured for nobody."""
    put(sessions, "b", "d")
    return install(sessions, deliver=False, clock=clock)


def seen(engine: Engine, count: int = 1) -> None:
    """Wait until the database shows that many transactions to whoever asks: InnoDB's answer may be old."""
    for _ in range(100):
        with engine.connect() as connection:
            if len(writers(connection, ["product", "customer"])) == count:
                return
        pause()
    pytest.fail(f"there are not {count} transactions")


def told(receiver: Receiver) -> list[str]:
    return [f"{one['type']} {one['resource_id']}" for one in receiver.events()]


def test_what_was_inserted_is_told_of(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, clock: WaitedFor, receiver: Receiver
) -> None:
    with sessions() as early, sessions() as undone, sessions() as moved:
        early.add(Product(sku="a"))
        early.flush()
        undone.add(Product(sku="x"))
        undone.flush()
        moved.get_one(Product, "d").sku = "c"
        moved.flush()
        webhooks.endpoints.create(receiver.url(), events=["*"])
        clock.then = [early.commit, undone.rollback, moved.commit]
        seen(engine, 3)
        assert webhooks.backfill(Product, page=1, waiting=None) == Progress(3, 3)
    webhooks.drain()
    assert sorted(told(receiver)) == ["product.read a", "product.read b", "product.read c"]
    assert clock.then == []


def test_what_comes_into_the_condition_is_told_of(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, clock: WaitedFor, receiver: Receiver
) -> None:
    with sessions() as session:
        session.get_one(Product, "b").stock = 7
        session.flush()
        webhooks.endpoints.create(receiver.url(), events=["*"])
        clock.then = [session.commit]
        seen(engine)
        webhooks.backfill(Product, where=Product.stock == 7, waiting=None)
    webhooks.drain()
    assert told(receiver) == ["product.read b"]


def test_who_begins_later_is_captured_and_not_waited_for(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, clock: WaitedFor, receiver: Receiver
) -> None:
    with sessions() as early, sessions() as late:
        early.add(Product(sku="a"))
        early.flush()
        webhooks.endpoints.create(receiver.url(), events=["*"])

        def begin() -> None:
            late.add(Product(sku="0"))
            late.flush()
            early.commit()

        clock.then = [begin]
        seen(engine)
        webhooks.backfill(Product, page=1, waiting=None)
        late.commit()
    webhooks.drain()
    assert sorted(told(receiver)) == ["product.created 0", *(f"product.read {sku}" for sku in "abd")]


def test_who_only_reads_is_not_waited_for(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, clock: WaitedFor, receiver: Receiver
) -> None:
    with sessions() as reading, sessions() as locking:
        reading.get_one(Product, "b")
        webhooks.endpoints.create(receiver.url(), events=["*"])
        locking.get_one(Customer, put_customer(sessions), with_for_update=True)
        clock.then = [reading.rollback, locking.rollback]
        seen(engine, 0)
        assert webhooks.backfill(Product, waiting=None) == Progress(2, 2)
        assert reading.in_transaction()
        assert locking.in_transaction()


def put_customer(sessions: Sessions) -> int:
    with sessions.begin() as session:
        session.add(customer := Customer(email="a"))
        session.flush()
        return customer.id


def test_on_postgresql_who_writes_to_other_tables_is_not_waited_for(
    database: Database,
    webhooks: Webhooks,
    sessions: Sessions,
    engine: Engine,
    clock: WaitedFor,
    receiver: Receiver,
) -> None:
    with sessions() as session:
        session.add(Customer(email="a"))
        session.flush()
        webhooks.endpoints.create(receiver.url(), events=["*"])
        clock.then = [session.commit]
        seen(engine)
        webhooks.backfill(Order, waiting=None)
        assert session.in_transaction() is (database.name == "postgresql")


def test_who_writes_to_another_database_is_not_waited_for(
    database: Database,
    webhooks: Webhooks,
    engine: Engine,
    clock: WaitedFor,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with database_named(database.name, tmp_path) as other, other.patient.engine() as elsewhere:
        Base.metadata.create_all(elsewhere)
        with Session(elsewhere) as session:
            session.add(Product(sku="a"))
            session.flush()
            clock.then = [session.commit]
            seen(elsewhere)
            seen(engine, 0)
            assert webhooks.backfill(Product, waiting=None) == Progress(2, 2)
            assert session.in_transaction()


def test_who_has_all_captured_waits_for_nobody(
    install: Install, sessions: Sessions, clock: WaitedFor, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all")
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        webhooks.endpoints.create(receiver.url(), events=["*"])
        clock.then = [session.commit]
        webhooks.backfill(Product, waiting=None)
        assert session.in_transaction()
        session.commit()
    webhooks.drain()
    assert told(receiver) == ["product.created a"]


def test_after_a_minute_the_log_says_so_once(
    webhooks: Webhooks,
    sessions: Sessions,
    engine: Engine,
    clock: WaitedFor,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        webhooks.endpoints.create(receiver.url(), events=["*"])
        clock.then = [*[int] * 500, session.commit]
        seen(engine)
        webhooks.backfill(Product, waiting=None)
    said = [one for one in caplog.records if one.name == "sqla_webhooks.throttle"]
    assert [(one.levelno, one.getMessage()) for one in said] == [(logging.WARNING, COMPLAINT)]


def test_where_the_database_does_not_say_who_writes_the_log_does(
    database: Database, install: Install, engine: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    if database.name == "postgresql":
        pytest.skip("PostgreSQL tells everybody")
    name = f"guest_{database.url.database}"[:32]
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE USER {name} IDENTIFIED BY 'guest'")
        connection.exec_driver_sql(f"GRANT ALL ON {database.url.database}.* TO {name}")
    guest = create_engine(database.url.set(username=name, password="guest"))
    try:
        factory: Any = sessionmaker(guest)
        put(factory, "b")
        webhooks = install(factory, deliver=False, clock=MovedClock())
        webhooks.endpoints.create(receiver.url(), events=["*"])
        assert webhooks.backfill(Product, waiting=None) == Progress(1, 1)
    finally:
        guest.dispose()
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP USER {name}")
    said = [one.getMessage() for one in caplog.records if one.name == "sqla_webhooks.outbox.writers"]
    assert len(said) == 1
    assert "lacks the privilege PROCESS" in said[0]
