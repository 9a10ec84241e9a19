"""A database that goes away, fails, is locked, is full, or loses what is ours: nothing is lost, or out of order."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, NullPool, create_engine, delete, event, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.application import Application, reconcile
from support.clock import HurriedClock
from support.databases import Database
from support.local import Install
from support.postgresql import PostgreSQL
from support.receiver import PATIENCE, Receiver, Reply
from support.shop import Base, Product, put
from support.threads import until
from tenacity import wait_fixed

from sqla_webhooks import DeliveryState, OutboxWriteError, Webhooks, models
from sqla_webhooks.outbox.deadlock import outlive

pytestmark = pytest.mark.stress

Sessions = sessionmaker[Session]

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class Setbacks(logging.Handler):
    """Counts how often a relay could not go on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._count = 0
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        if "could not go on" in record.getMessage():
            with self._more:
                self._count += 1
                self._more.notify_all()

    def wait_for(self, count: int) -> None:
        """Until so many more have come."""
        self.wait_until(self._count + count)

    def wait_until(self, count: int) -> None:
        """Until so many have come in all."""
        with self._more:
            assert self._more.wait_for(lambda: self._count >= count, PATIENCE)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """Whose transactions wait for each other's locks, as they would in earnest."""
    with replace(database, connect_args={}).engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def setbacks() -> Iterator[Setbacks]:
    setbacks = Setbacks()
    logger = logging.getLogger("sqla_webhooks")
    logger.addHandler(setbacks)
    yield setbacks
    logger.removeHandler(setbacks)


#: Minutes that pass in seconds; and a request that meets a busy machine has its time all the same.
HURRIED: dict[str, Any] = {"wait": wait_fixed(5), "timeout": 30, "lease": 60, "batch_window": 1}


@pytest.fixture
def hurried() -> HurriedClock:
    return HurriedClock(wall=30, steady=30)


def settle(*relays: Webhooks) -> None:
    """Wait until the relays have done all that there is to do, nothing given up, and stop them."""
    until(partial(is_settled, relays[0].engine))
    for one in relays:
        assert one.stop(timeout=None)


def is_settled(engine: Engine) -> bool:
    with engine.connect() as connection:
        states = set(connection.scalars(select(models.delivery.c.state).distinct()))
        waiting = connection.scalar(select(func.count()).select_from(models.outbox))
    return states == {DeliveryState.DELIVERED} and waiting == 0


# ------------------------------------------------------------------ PostgreSQL is stopped


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def on_postgresql(postgresql: PostgreSQL) -> Iterator[Engine]:
    with postgresql.database() as url:
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        yield engine
        engine.dispose()


@pytest.mark.parametrize(
    ("mode", "times"), [("fast", 1), ("immediate", 1), pytest.param("immediate", 10, marks=pytest.mark.long)]
)
def test_a_server_that_is_away_for_a_minute(
    mode: Literal["fast", "immediate"],
    times: int,
    postgresql: PostgreSQL,
    on_postgresql: Engine,
    install: Install,
    receiver: Receiver,
    hurried: HurriedClock,
    setbacks: Setbacks,
) -> None:
    sessions = sessionmaker(on_postgresql)
    webhooks = install(sessions, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with Application(sessions) as application:
        for _ in range(times):
            application.wait_for(committed=20)
            postgresql.stop(mode)
            stopped = hurried.now()
            application.wait_for(failed=4)
            while hurried.now() - stopped < timedelta(minutes=1):
                setbacks.wait_for(1)
            postgresql.start()
            receiver.wait_for(len(receiver.received) + 10)
        application.wait_for(committed=20)
    reconcile(on_postgresql, receiver)
    settle(webhooks)


def test_a_pool_of_connections_that_have_died_in_an_idle_hour(
    postgresql: PostgreSQL, on_postgresql: Engine, install: Install, receiver: Receiver, hurried: HurriedClock
) -> None:
    sessions = sessionmaker(on_postgresql)
    webhooks = install(sessions, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(on_postgresql.connect())
    postgresql.stop("fast")
    postgresql.start()
    with Application(sessions) as application:
        application.wait_for(committed=5)
    assert application.failed <= 5
    reconcile(on_postgresql, receiver)
    settle(webhooks)


# ------------------------------------------------------------------ MariaDB kills connections


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_connections_that_are_killed_at_any_moment(
    database: Database, engine: Engine, install: Install, receiver: Receiver, hurried: HurriedClock, setbacks: Setbacks
) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with database.engine(poolclass=NullPool) as killer, Application(sessions) as application:
        for _ in range(10):
            application.wait_for(committed=10)
            kill_all(killer)
        setbacks.wait_until(2)
    assert application.failed > 2
    engine.dispose()  # of those that were killed and that nobody has used since
    reconcile(engine, receiver)
    settle(webhooks)


def kill_all(killer: Engine) -> None:
    """Every connection to this database but its own."""
    with killer.connect() as connection:
        found = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        for number in connection.exec_driver_sql(found).scalars().all():
            with suppress(OperationalError):  # it has gone by itself
                connection.exec_driver_sql(f"KILL {number}")


# ------------------------------------------------------------------ transactions that the database takes back


#: What the relay writes in each of its transactions.
WRITTEN = ["INSERT ON webhook_event", "INSERT ON webhook_attempt", "UPDATE ON webhook_delivery"]

#: What has three transactions of each kind fail: errors that are the database's own.
TAKE_BACK = {
    "postgresql": [
        "CREATE SEQUENCE taken_{number}",
        """
        CREATE FUNCTION take_{number}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('taken_{number}') <= 3 THEN
                RAISE EXCEPTION 'taken back' USING ERRCODE = {error};
            END IF;
            RETURN NEW;
        END $$
        """,
        "CREATE TRIGGER take_{number} BEFORE {what} FOR EACH ROW EXECUTE FUNCTION take_{number}()",
    ],
    "mariadb": [
        "CREATE SEQUENCE taken_{number}",
        """
        CREATE TRIGGER take_{number} BEFORE {what} FOR EACH ROW
            IF NEXT VALUE FOR taken_{number} <= 3 THEN
                SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = {error}, MESSAGE_TEXT = 'taken back';
            END IF
        """,
    ],
}

SERIALIZATION = {"postgresql": "'40001'", "mariadb": "1020"}
DEADLOCK = {"postgresql": "'40P01'", "mariadb": "1213"}


def take_back(engine: Engine, name: str, error: str) -> None:
    with engine.begin() as connection:
        for number, what in enumerate(WRITTEN):
            for statement in TAKE_BACK[name]:
                connection.exec_driver_sql(statement.format(number=number, what=what, error=error))


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_deadlock_is_outlived_at_every_step_and_nobody_hears_of_it(
    database: Database, engine: Engine, install: Install, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    take_back(engine, database.name, DEADLOCK[database.name])
    put(sessions, "a")
    assert webhooks.drain().attempts == 1
    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED]
    assert len(receiver.received) == 1
    heard = [one for one in caplog.records if one.name != "sqla_webhooks.resources"]  # of other tests' classes
    assert heard == []


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_serialization_failures(
    database: Database, engine: Engine, install: Install, receiver: Receiver, hurried: HurriedClock, setbacks: Setbacks
) -> None:
    """Of three relays, and of an application whose transactions are all serializable."""
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    factories = [sessionmaker(strict) for _ in range(3)]
    relays = [install(one, clock=hurried, **HURRIED) for one in factories]
    relays[0].endpoints.create(receiver.url(), events=["*"])
    take_back(engine, database.name, SERIALIZATION[database.name])
    receiver.answer(*[500, 200, 200] * 10)
    with Application(factories[0], threads=3) as application:
        setbacks.wait_until(3 * len(WRITTEN))
        application.wait_for(committed=20)
    reconcile(engine, receiver)
    settle(*relays)


# ------------------------------------------------------------------ SQLite is locked, or full


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
print("unlocked", flush=True)
"""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """By another process."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "unlocked\n"


def test_a_file_that_another_process_has_locked(
    tmp_path: Path, install: Install, receiver: Receiver, hurried: HurriedClock, setbacks: Setbacks
) -> None:
    """The relay waits; and a flush fails as it does without us."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db", connect_args={"timeout": 0.05})
    Base.metadata.create_all(engine)
    sessions, plain = sessionmaker(engine), sessionmaker(engine)
    webhooks = install(sessions, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with Application(sessions) as application:
        for _ in range(2):
            application.wait_for(committed=5)
            with locked(tmp_path / "shop.db"):
                setbacks.wait_for(3)
                application.wait_for(failed=3)
                assert refused(sessions) == refused(plain)
        application.wait_for(committed=5)
    reconcile(engine, receiver)
    settle(webhooks)
    engine.dispose()


def refused(sessions: Sessions) -> tuple[str, str]:
    """How a flush fails."""
    session = sessions()
    session.add(Product(sku="refused"))
    with closing(session), pytest.raises(OperationalError) as raised:
        session.flush()
    return str(raised.value.orig), raised.value.statement or ""


class Disk:
    """What room a SQLite file has: no limit, until it is filled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pages = _MOST_PAGES
        event.listen(engine, "checkout", self._limit)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE filler (data BLOB)")

    def fill(self) -> None:
        self._pages = 1  # which stands for as many as there are
        for size in (3000, 100, 1):
            with suppress(OperationalError):
                while True:
                    with self._engine.begin() as connection:
                        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(?))", (size,))

    def make_room(self) -> None:
        self._pages = _MOST_PAGES

    def _limit(self, connection: Any, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {self._pages}")


_MOST_PAGES = 1_000_000


@pytest.fixture
def disk(engine: Engine) -> Disk:
    return Disk(engine)


@on_sqlite
def test_a_disk_that_is_full_fails_flushes_and_what_has_committed_is_sent_when_there_is_room(
    engine: Engine, disk: Disk, install: Install, receiver: Receiver, hurried: HurriedClock, setbacks: Setbacks
) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, *(f"0-{number}" for number in range(50)))
    disk.fill()
    with pytest.raises(OutboxWriteError):
        put(sessions, *(f"1-{number}" for number in range(1000)))
    with pytest.raises(OperationalError, match="full"), sessions.begin() as session:
        session.add(Product(sku="1-1001", name="large" * 1000))
    before = skus(engine)
    assert 50 <= len(before) < 1050

    webhooks.start()
    setbacks.wait_for(4)
    assert receiver.received == []
    disk.make_room()
    put(sessions, "2-0")
    receiver.wait_for(len(before) + 1)
    settle(webhooks)
    assert sorted(event["resource_id"] for event in receiver.events()) == sorted([*before, "2-0"])


@on_sqlite
def test_a_result_that_finds_the_disk_full_is_recorded_when_there_is_room(
    engine: Engine, disk: Disk, install: Install, receiver: Receiver, hurried: HurriedClock, setbacks: Setbacks
) -> None:
    """And nothing is sent again for it."""
    sessions = sessionmaker(engine)
    webhooks = install(sessions, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(Reply(200, b"much to say " * 400))
    receiver.on_request = lambda _request: disk.fill()
    put(sessions, "a")
    setbacks.wait_for(4)
    disk.make_room()
    settle(webhooks)

    assert len(receiver.received) == 1


def skus(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(Product.sku)))


# ------------------------------------------------------------------ what is ours is lost


def test_tables_that_are_dropped_and_made_again(
    engine: Engine, install: Install, receiver: Receiver, hurried: HurriedClock, setbacks: Setbacks
) -> None:
    """Meanwhile no change is let through silently; the relay goes on with what is there afterwards."""
    sessions = sessionmaker(engine)
    webhooks = install(sessions, clock=hurried, **HURRIED)
    webhooks.endpoints.create(receiver.url("/old"), events=["*"])
    put(sessions, "a")
    receiver.wait_for(1)
    until(partial(is_settled, engine))
    models.metadata.drop_all(engine)
    setbacks.wait_for(2)
    with pytest.raises(OutboxWriteError):
        put(sessions, "b")
    assert skus(engine) == ["a"]

    models.metadata.create_all(engine)
    webhooks.endpoints.create(receiver.url("/new"), events=["product.deleted"])
    put(sessions, "b")
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "b"))
    settle(webhooks)
    assert [(one.path, one.type) for one in receiver.received] == [
        ("/old", "product.created"),
        ("/new", "product.deleted"),
    ]


def delete_leases(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(models.lease))


def test_a_lease_that_is_deleted_again_and_again(
    engine: Engine, install: Install, receiver: Receiver, hurried: HurriedClock
) -> None:
    """Two relays make it anew, and no transaction is relayed before another that came first."""
    factories = [sessionmaker(engine) for _ in range(2)]
    relays = [install(one, clock=hurried, **HURRIED) for one in factories]
    relays[0].endpoints.create(receiver.url(), events=["*"])
    with Application(factories[0]) as application:
        for _ in range(10):
            application.wait_for(committed=5)
            # Several rows at once: the database may choose this transaction to give way to a relay's.
            outlive(partial(delete_leases, engine))
    reconcile(engine, receiver)
    settle(*relays)
