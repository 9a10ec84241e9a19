"""Lives, one after the other or side by side, on one database, and what comes of them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import sessionmaker

import sqla_webhooks
from sqla_webhooks import DeliveryState, Webhooks, models
from support.crash.account import Account, Arrival, Change, Death
from support.crash.clock import ShiftedClock
from support.crash.life import LONGEST, Life, live, settings
from support.crash.models import Base, Ledger, Slot
from support.crash.steps import FELL, Fall
from support.crash.work import SLOTS
from support.databases import Database
from support.receiver import PATIENCE, Receiver

#: Seconds after which another relay may lead, and after which a claimed delivery is due again.
LEAD, LEASE = 11.0, 61.0

#: Threads of a process that write.
WRITERS = 3

#: Of requests that are answered by a failure, and how many answers are laid ready.
_FAILING, _ANSWERS = 0.08, 500_000

#: Those of the endpoints; both get everything.
PATHS = ("/first", "/second")

#: More than there ever are.
_ALL = 1_000_000

#: Processes are forked from one that has imported everything and done nothing: a life begins within a moment.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["__main__", live.__module__])


@dataclass(frozen=True)
class Process:
    """A life that goes on."""

    life: Life
    process: ForkServerProcess
    leash: Connection

    def wait_until_it_writes(self) -> None:
        assert self.leash.poll(PATIENCE), f"it commits nothing: {self._errors()}"

    def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        self.process.kill()
        self.wait_for(-signal.SIGKILL)

    def wait_for(self, status: int, *, seconds: float = PATIENCE) -> None:
        """Its end, with that status."""
        self.process.join(seconds)
        assert self.process.exitcode == status, f"{self.life}: {self.process.exitcode}: {self._errors()}"
        self.leash.close()
        self.process.close()

    def _errors(self) -> str:
        return self.life.log.read_text() if self.life.log.exists() else ""


@dataclass(frozen=True)
class Ordeal:
    """One application on one database: its processes, and what is known of them. `ordeal()` makes one."""

    database: Database
    receiver: Receiver
    directory: Path
    seed: str
    #: An installation of the test's own, that sends nothing.
    observer: Webhooks
    clock: ShiftedClock
    #: How the requests are answered, in their order.
    answers: Sequence[int]
    deaths: list[Death] = field(default_factory=list)
    _lives: Iterator[int] = field(default_factory=itertools.count)

    def start(self, *, transactions: float = float("inf"), fall: Fall | None = None) -> Process:
        """
        A life that writes.

        Args:
            transactions: How many each of its threads makes, before it delivers what is due and ends.
            fall: Where it falls.
        """
        return self._start(writers=WRITERS, transactions=transactions, fall=fall)

    def _start(self, *, writers: int, transactions: float = 0, fall: Fall | None = None, last: bool = False) -> Process:
        number = next(self._lives)
        life = Life(
            self.database,
            self.directory / "clock",
            self.directory / f"errors {number}",
            seed=f"{self.seed}/{number}",
            writers=writers,
            transactions=transactions,
            fall=fall,
            last=last,
        )
        leash, theirs = _processes.Pipe()
        process = _processes.Process(target=live, args=(life, theirs), daemon=True)
        process.start()
        theirs.close()
        return Process(life, process, leash)

    def fall(self, fall: Fall) -> None:
        """One life, to where it falls."""
        self.start(fall=fall).wait_for(FELL)
        self.bury()

    def kill(self, process: Process) -> None:
        """`kill -9`."""
        process.kill()
        self.bury()

    def pass_the_lead(self) -> None:
        """Some live on, and need not wait until the lead of one that died ends by itself."""
        self.clock.advance(LEAD)

    def bury(self) -> None:
        """No process lives: note what the dead have left, and let their leases end."""
        self.receiver.wait_until_alone()
        pending = self.observer.deliveries.list(state="pending", limit=_ALL)
        paths = {one.id: urlsplit(one.url).path for one in self.observer.endpoints.list()}
        unrecorded = frozenset((paths[one.endpoint_id], one.event_id) for one in pending)
        self.deaths.append(Death(len(self.receiver.received), unrecorded))
        self.clock.advance(LEASE)

    def finish(self) -> Account:
        """One more life delivers what is left: then all must add up."""
        self._start(writers=0, last=True).wait_for(0, seconds=LONGEST + PATIENCE)
        account = self._account()
        account.check()
        self._check_records(account)
        return account

    def _check_records(self, account: Account) -> None:
        """What is written down: each delivery once, as delivered, and all of its attempts that were not cut short."""
        deliveries = {one.id: one for one in self.observer.deliveries.list(limit=_ALL)}
        assert {one.state for one in deliveries.values()} == {DeliveryState.DELIVERED}
        assert len(deliveries) == len({one.key for one in account.arrivals})
        attempts = defaultdict(list)
        with self.observer.engine.connect() as connection:
            for one in connection.execute(select(models.attempt.c.delivery_id, models.attempt.c.number)):
                attempts[one.delivery_id].append(one.number)
        for number, delivery in deliveries.items():
            assert sorted(attempts[number]) == list(range(1, delivery.attempts + 1)), delivery

    def _account(self) -> Account:
        arrivals = [Arrival(*one) for one in zip(self.receiver.received, self.answers, strict=False)]
        assert len(arrivals) == len(self.receiver.received), "lay more answers ready"
        ledger: dict[int, list[Change]] = {slot: [] for slot in range(SLOTS)}
        with self.observer.engine.connect() as connection:
            for one in connection.execute(select(Ledger).order_by(Ledger.item, Ledger.version)):
                ledger[one.item].append((one.operation, one.mark))
        return Account(ledger, arrivals, self.deaths, paths=PATHS)


@contextmanager
def ordeal(
    database: Database, receiver: Receiver, *, directory: Path, seed: str, journal: str = "delete"
) -> Iterator[Ordeal]:
    """
    Args:
        directory: Where its files go.
        seed: Of everything that is chosen by chance; a failure shows it.
        journal: The mode of SQLite's journal.
    """
    _start_server()
    chance = random.Random(seed)
    answers = [500 if chance.random() < _FAILING else 200 for _ in range(_ANSWERS)]
    receiver.answer(*answers)
    clock = ShiftedClock(directory / "clock")
    with database.engine() as engine:
        if database.name == "sqlite":
            _set_journal(engine, journal)
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        with sessions.begin() as session:
            session.add_all(Slot(id=slot) for slot in range(SLOTS))
        with sqla_webhooks.install(sessions, **settings(clock), deliver=False) as observer:
            for path in PATHS:
                observer.endpoints.create(receiver.url(path), events=["item.*"])
            try:
                yield Ordeal(database, receiver, directory, seed, observer, clock, answers)
            except BaseException as error:
                error.add_note(f"the seed is {seed!r}")
                raise
            finally:
                _end_all()
    clock.close()


def _end_all() -> None:
    """Where the test has failed, some still write."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join()


def _start_server() -> None:
    """Where the processes are forked: told our path, which not every Python hands on to what it preloads there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        ensure_running()


def _set_journal(engine: Engine, mode: str) -> None:
    """For good: the file remembers it."""
    raw = engine.raw_connection()
    raw.cursor().execute(f"PRAGMA journal_mode = {mode}")
    raw.close()
