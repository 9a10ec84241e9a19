"""Starts the applications that fork, and says what was seen of each of their processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import sessionmaker

import sqla_webhooks
from sqla_webhooks import Webhooks, models
from sqla_webhooks.relay.thread import NAME
from support.crash.clock import ShiftedClock
from support.databases import Database
from support.local import LOCAL
from support.receiver import PATIENCE, Receiver
from support.shop import Base

#: Where the support is, and where what is tested is.
_HERE, _SOURCE = Path(__file__).parents[2], Path(sqla_webhooks.__file__).parents[1]

#: How often something is committed until each process has been seen to relay, and how much at once.
_ROUNDS, _AT_ONCE = 30, 4


@dataclass(frozen=True)
class Report:
    """
    What a process said after a commit; see `application.put`.

    Attributes:
        threads_found: The names of its threads before the commit.
        threads: And after it.
        connections: All that it knows of: which process has had which, by the server's number.
    """

    sku: str
    process: int
    threads_found: Sequence[str]
    threads: Sequence[str]
    connections: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Served:
    """An application on a database, its receiver, and an installation of the test's own, that sends nothing."""

    database: Database
    engine: Engine
    receiver: Receiver
    directory: Path
    observer: Webhooks
    clock: ShiftedClock

    def environment(self, *, deliver: bool = True) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_HERE), str(_SOURCE)]),
            "DATABASE": self.database.url.render_as_string(hide_password=False),
            "DELIVER": "yes" if deliver else "no",
            "REPORT": str(self.directory / "report"),
        }

    @property
    def reports(self) -> list[Report]:
        path = self.directory / "report"
        return [Report(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    @contextmanager
    def running(
        self,
        *command: str,
        program: str = sys.executable,
        deliver: bool = True,
        pass_fds: Sequence[int] = (),
        ends_with: int = signal.SIGTERM,
        status: int = 0,
    ) -> Iterator[subprocess.Popen[str]]:
        """
        A process, told to end after the block: then it does so in time.

        Args:
            ends_with: The signal that tells it; 0 if its input's end does.
            status: That of its end.
        """
        log = self.directory / f"{len(list(self.directory.glob('*.log')))}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [program, *command],
                env=self.environment(deliver=deliver),
                cwd=_HERE,
                pass_fds=pass_fds,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                yield process
                process.send_signal(ends_with)
                process.communicate(timeout=PATIENCE)
            except BaseException as error:
                error.add_note(log.read_text())
                raise
            finally:
                process.kill()
                process.communicate()
        assert process.returncode == status, log.read_text()
        if status == 0:
            assert "Traceback" not in log.read_text(), log.read_text()

    def put_until_each_relays(self, put: Callable[[str], object], processes: int) -> None:
        """Commit, a few at a time, until so many processes have relayed what they have committed themselves."""
        for number in range(_ROUNDS):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(put, [f"{number}-{one}" for one in range(_AT_ONCE)]))
            self.receiver.wait_for((number + 1) * _AT_ONCE)
            if len(self._relay_their_own()) >= processes:
                return
        message = f"only {self._relay_their_own()} relay what they commit; there are {self._committers()}"
        raise AssertionError(message)

    def wait_until_recorded(self) -> None:
        """Everything that was committed is delivered, and that is written down."""
        with self.engine.connect() as connection:
            for _ in range(round(PATIENCE / 0.02)):
                waiting = connection.scalar(select(func.count()).select_from(models.outbox))
                connection.rollback()
                if not waiting and not self.observer.deliveries.list(state="pending", limit=1):
                    return
                Event().wait(0.02)  # of another process nothing tells us
        message = "not everything was delivered"
        raise AssertionError(message)

    def check(self) -> None:
        """Each commit came once, and no connection was in the hands of two processes."""
        came = Counter(one["resource_id"] for one in self.receiver.events())
        assert came == Counter(one.sku for one in self.reports)
        owners = defaultdict(set)
        for report in self.reports:
            for process, connection in report.connections:
                owners[connection].add(process)
        assert [one for one in owners.values() if len(one) > 1] == []
        if self.database.is_shared:
            assert self._committers() <= set().union(*owners.values())

    def check_threads(self, *, inherited: bool, parent: int = 0) -> None:
        """
        Each process has its relay's thread after its first commit.

        Args:
            inherited: Whether the processes were forked after `install()`: then they had none before.
            parent: But for this one.
        """
        for process in self._committers() - {parent}:
            first = next(one for one in self.reports if one.process == process)
            assert first.threads.count(NAME) == 1
            assert first.threads_found.count(NAME) == (0 if inherited else 1)

    def relayed_by(self) -> set[int]:
        """The processes that have relayed."""
        return {one["data"]["relayed_by"] for one in self.receiver.events()}

    def _committers(self) -> set[int]:
        return {one.process for one in self.reports}

    def _relay_their_own(self) -> set[int]:
        events = self.receiver.events()
        relayed = {one["data"]["relayed_by"] for one in events if int(one["data"]["name"]) == one["data"]["relayed_by"]}
        return relayed & self._committers()


@contextmanager
def served(database: Database, receiver: Receiver, directory: Path) -> Iterator[Served]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        clock = ShiftedClock(directory / "clock")
        with sqla_webhooks.install(sessionmaker(engine), deliver=False, clock=clock, **LOCAL) as observer:
            observer.endpoints.create(receiver.url(), events=["*"])
            yield Served(database, engine, receiver, directory, observer, clock)
