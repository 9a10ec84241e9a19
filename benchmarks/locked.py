"""
Eight threads of read-modify-write on one SQLite file, without a busy time-out: how often "database is locked" is said.

With SQLAlchemy alone; installed, with nobody to deliver; and with the relay at
work, which delivers everything to a receiver in this process.
"""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from benchmarks import command
from benchmarks.command import Options
from benchmarks.figures import table
from benchmarks.model import Base, Order, new

THREADS = 8
TRANSACTIONS, QUICK_TRANSACTIONS = 100, 25
ROUNDS, QUICK_ROUNDS = 5, 2
#: Seconds between two transactions of a thread, on average: one that never paused would be in the others' way alone.
PAUSE = 0.03


class With(StrEnum):
    NOTHING = "SQLAlchemy alone"
    CAPTURE = "installed, nobody delivers"
    RELAY = "the relay delivers"


@dataclass(frozen=True, slots=True)
class Mode:
    journal: str
    explicit: bool
    #: Whether one thread works at a time, so that they do not hinder each other.
    in_turns: bool

    def __str__(self) -> str:
        begin = "BEGIN" if self.explicit else "driver's default"
        return f"{self.journal}, {begin}, {'one at a time' if self.in_turns else 'all at once'}"


MODES = [Mode(*one) for one in product(("rollback journal", "wal"), (False, True), (True, False))]


@dataclass(frozen=True, slots=True)
class Found:
    transactions: int = 0
    locked: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(self.transactions + other.transactions, self.locked + other.locked)

    def over(self, other: Found) -> str:
        """The ratio to another."""
        if not other.locked:
            return "∞" if self.locked else "none at all"
        return f"{self.locked / other.locked:.2f}"


def run(options: Options) -> None:
    """Print a table."""
    each = QUICK_TRANSACTIONS if options.quick else TRANSACTIONS
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    print(f'\nHow often "database is locked" is said in {rounds * THREADS * each:,} transactions\n')
    found = {(mode, one): Found() for mode in MODES for one in With}
    for _ in range(rounds):
        for mode, one in random.sample(list(found), len(found)):
            found[mode, one] += _measure(mode, one, each=each)
    rows = [_row(str(mode), *(found[mode, one] for one in With)) for mode in MODES]
    print(table(["sqlite file", *With, "to alone", "to nobody"], rows), end="\n\n")


def _row(label: str, alone: Found, capture: Found, relay: Found) -> list[str]:
    counts = [f"{one.locked:,}" for one in (alone, capture, relay)]
    return [label, *counts, relay.over(alone), relay.over(capture)]


def _measure(mode: Mode, installed: With, *, each: int) -> Found:
    """One run on a new file; with everything that was committed delivered in the end."""
    with TemporaryDirectory(prefix="sqla_webhooks-") as directory, _engine(Path(directory), mode) as engine:
        sessions = sessionmaker(engine)
        with sessions.begin() as session:
            session.add_all([Order(id=number + 1, **new(number) | {"quantity": 0}) for number in range(THREADS)])
        if installed is With.NOTHING:
            return _work(sessions, mode, each=each)
        return _work_installed(sessions, mode, deliver=installed is With.RELAY, each=each)


def _work_installed(sessions: sessionmaker[Session], mode: Mode, *, deliver: bool, each: int) -> Found:
    import sqla_webhooks

    with (
        _receiver() as (url, ids),
        sqla_webhooks.install(
            sessions, allow_http=True, allow_networks=["127.0.0.1"], batch_window=0, coalesce=False, deliver=deliver
        ) as webhooks,
    ):
        webhooks.endpoints.create(url, events=["order.updated"])
        found = _work(sessions, mode, each=each)
        webhooks.drain()
        if len(ids) != found.transactions - found.locked:
            message = f"{found.transactions - found.locked} were committed, and {len(ids)} delivered"
            raise RuntimeError(message)
    return found


def _work(sessions: sessionmaker[Session], mode: Mode, *, each: int) -> Found:
    """Each thread adds one to the quantity of an order of its own, again and again."""
    locked: list[int] = []
    turnstile: AbstractContextManager[Any] = threading.Lock() if mode.in_turns else nullcontext()
    pause = threading.Event()

    def work(number: int) -> None:
        for _ in range(each):
            pause.wait(0 if mode.in_turns else random.expovariate(1 / PAUSE))
            try:
                with turnstile, sessions.begin() as session:
                    session.get_one(Order, number).quantity += 1
            except OperationalError:
                locked.append(number)

    threads = [threading.Thread(target=work, args=(number + 1,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        for number in range(1, THREADS + 1):
            if session.get_one(Order, number).quantity != each - locked.count(number):
                message = f"order {number} does not say how often it was written"
                raise RuntimeError(message)
    return Found(THREADS * each, len(locked))


@contextmanager
def _engine(directory: Path, mode: Mode) -> Iterator[Engine]:
    path = directory / "orders.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'wal' if mode.journal == 'wal' else 'delete'}")
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0}, pool_size=THREADS)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    if mode.explicit:
        event.listen(engine, "connect", _no_begin)
        event.listen(engine, "begin", _begin)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def _no_begin(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@contextmanager
def _receiver() -> Iterator[tuple[str, set[str]]]:
    """A receiver's URL, and the ids of what it gets."""
    ids: set[str] = set()

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for an answer

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            ids.add(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks", ids
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> None:
    options = command.options(command.parser("benchmarks.locked", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
