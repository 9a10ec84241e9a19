"""
A replica that is built of a backfill and of the events beside it: it equals the table, and no row in it ever goes back.

The rows are inserted, updated, deleted and given other keys while they are gone through, before the place that it has
come to and behind it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from sqlalchemy import Engine, String, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support.databases import database_named
from support.heard import heard
from support.local import Install
from support.receiver import PATIENCE, Received, Receiver

from sqla_webhooks import models
from sqla_webhooks._clock import SystemClock

Sessions = sessionmaker[Session]

#: Seconds between two transactions of one thread.
PACE = 0.03


class Base(DeclarativeBase):
    """The table."""


class Row(Base):
    """Its key changes; its tag never does, and none is used twice."""

    __tablename__ = "replicated"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tag: Mapped[str] = mapped_column(String(20))
    version: Mapped[int] = mapped_column(default=0)


class Replica:
    """What the receiver knows, and what was wrong in what it has heard."""

    def __init__(self) -> None:
        #: Of each key the tag and the version.
        self.rows: dict[str, tuple[str, int]] = {}
        self.faults: list[str] = []
        self.read = 0
        self._versions: dict[str, int] = {}
        self._gone: set[str] = set()
        self._lock = threading.Lock()

    def take(self, request: Received) -> None:
        event = request.event
        with self._lock:
            _TAKEN[event["operation"]](self, event)

    def create(self, event: dict[str, Any]) -> None:
        self._keep(event, least=self._versions.get(event["data"]["tag"], 0))

    def note(self, event: dict[str, Any]) -> None:
        self.read += 1
        self._keep(event, least=self._versions.get(event["data"]["tag"], 0))

    def update(self, event: dict[str, Any]) -> None:
        tag, former = event["data"]["tag"], event["changes"].get("id")
        if former is not None and self.rows.get(key := str(former["from"]), ("", 0))[0] == tag:
            del self.rows[key]
        self._keep(event, least=self._versions.get(tag, 0) + 1)

    def delete(self, event: dict[str, Any]) -> None:
        self.rows.pop(event["resource_id"], None)
        self._gone.add(event["data"]["tag"])

    def _keep(self, event: dict[str, Any], *, least: int) -> None:
        data = event["data"]
        tag, version = data["tag"], data["version"]
        if tag in self._gone:
            self.faults.append(f"{event['type']} {tag}, which was deleted")
        if version < least:
            self.faults.append(f"{event['type']} {tag} goes back to {version}, at least {least} was to be")
        self.rows[event["resource_id"]] = (tag, version)
        self._versions[tag] = version


_TAKEN: dict[str, Callable[[Replica, dict[str, Any]], None]] = {
    "create": Replica.create,
    "read": Replica.note,
    "update": Replica.update,
    "delete": Replica.delete,
}


class Writer:
    """A thread that writes, transaction after transaction, to rows of its own. A context manager."""

    def __init__(self, sessions: Sessions, number: int, *, keys: list[int], most: int) -> None:
        self._sessions = sessions
        self._number = number
        self._chance = random.Random(number)
        self._mine = keys
        self._most = most
        self._tags = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.transactions = 0
        self.failed: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        assert self.failed is None, self.failed

    def _run(self) -> None:
        clock = SystemClock()
        try:
            while not clock.wait(self._over, PACE):
                self._write()
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.failed = error

    def _write(self) -> None:
        mine = list(self._mine)
        with self._sessions.begin() as session:
            for step in self._chance.choices(STEPS, k=self._chance.randint(1, 3)):
                step(self, session, mine)
                session.flush()
        self._mine = mine
        self.transactions += 1

    def _free(self, mine: list[int]) -> int:
        """A key of its own, anywhere in the table, that is free."""
        while True:
            key = self._chance.randrange(self._most) * 10 + self._number
            if key not in mine:
                return key

    def add(self, session: Session, mine: list[int]) -> None:
        key = self._free(mine)
        self._tags += 1
        session.add(Row(id=key, tag=f"{self._number}-{self._tags}-{self.transactions}", version=0))
        mine.append(key)

    def change(self, session: Session, mine: list[int]) -> None:
        session.get_one(Row, self._chance.choice(mine)).version += 1

    def move(self, session: Session, mine: list[int]) -> None:
        key = mine.pop(self._chance.randrange(len(mine)))
        row = session.get_one(Row, key)
        row.id, row.version = self._free([*mine, key]), row.version + 1
        mine.append(row.id)

    def remove(self, session: Session, mine: list[int]) -> None:
        session.delete(session.get_one(Row, mine.pop(self._chance.randrange(len(mine)))))


STEPS: list[Callable[[Writer, Session, list[int]], None]] = [
    Writer.add,
    Writer.change,
    Writer.change,
    Writer.change,
    Writer.move,
    Writer.remove,
]


@contextmanager
def hesitating(engine: Engine) -> Iterator[None]:
    """This thread waits a moment before it writes what it has read, so that others come in between if they can."""
    clock, never, here = SystemClock(), threading.Event(), threading.get_ident()

    def hesitate(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == here and statement.startswith("INSERT INTO webhook_outbox"):
            clock.wait(never, 0.1)

    with heard(engine, "before_cursor_execute", hesitate):
        yield


def run(engine: Engine, install: Install, receiver: Receiver, *, rows: int) -> None:
    sessions = sessionmaker(engine)
    with sessions.begin() as session:
        # The last digit of a key says whose the row is; those of 0 are nobody's.
        made: list[dict[str, Any]] = [{"id": n * 10 + n % 3, "tag": f"row {n}", "version": 0} for n in range(rows)]
        session.execute(insert(Row), made)
    replica = Replica()
    receiver.on_request = replica.take
    webhooks = install(sessions, batch_window=0.02)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["row.*"])
    # On SQLite two that read before they write would be in each other's way, whatever we do.
    numbers = (1,) if engine.dialect.name == "sqlite" else (1, 2)
    writers = [Writer(sessions, n, keys=[one["id"] for one in made if one["id"] % 10 == n], most=rows) for n in numbers]
    with ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        done = webhooks.backfill(Row, endpoint=endpoint.id)
    assert done.total == pytest.approx(rows, rel=0.1)
    assert all(writer.transactions > 10 for writer in writers)
    wait_until_sent(engine)
    assert replica.faults == []
    assert replica.read > rows * 0.8
    with sessions() as session:
        table = {str(row.id): (row.tag, row.version) for row in session.scalars(select(Row))}
    assert replica.rows == table


def wait_until_sent(engine: Engine) -> None:
    clock, never = SystemClock(), threading.Event()
    left, since = -1, clock.monotonic()
    while (now := unsent(engine)) != 0:
        if now != left:
            left, since = now, clock.monotonic()
        assert clock.monotonic() - since < PATIENCE, f"{now} are not sent, and none is any more"
        clock.wait(never, 0.05)


def unsent(engine: Engine) -> int:
    with engine.connect() as connection:
        outbox = connection.execute(select(func.count()).select_from(models.outbox)).scalar_one()
        lanes = select(func.count()).where(models.delivery.c.lane.is_not(None))
        return int(outbox + connection.execute(lanes).scalar_one())


@pytest.mark.stress
@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_the_replica_equals_the_table(name: str, tmp_path: Path, install: Install, receiver: Receiver) -> None:
    with database_named(name, tmp_path) as database, database.patient.engine(pool_size=10) as engine:
        Base.metadata.create_all(engine)
        with hesitating(engine):
            run(engine, install, receiver, rows=2000)


@pytest.mark.long
@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_the_replica_equals_a_large_table(name: str, tmp_path: Path, install: Install, receiver: Receiver) -> None:
    with database_named(name, tmp_path) as database, database.patient.engine(pool_size=10) as engine:
        Base.metadata.create_all(engine)
        run(engine, install, receiver, rows=100_000)
