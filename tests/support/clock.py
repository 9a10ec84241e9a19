"""Clocks that a test moves, that jump, or that hurry."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta

from sqla_webhooks._clock import SystemClock

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class MovedClock:
    """A `Clock`. Waiting on it takes no time: it moves the clock to the end of the wait."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._gone = self._suspended = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._start + timedelta(seconds=self._gone + self._suspended)

    def monotonic(self) -> float:
        with self._lock:
            return self._gone

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._gone += seconds

    def suspend(self, seconds: float) -> None:
        """Only the time of day moves on, as while the machine sleeps: no request is over for it."""
        with self._lock:
            self._suspended += seconds

    def __repr__(self) -> str:
        return f"<MovedClock at {self.now():%Y-%m-%d %H:%M:%S}>"


class JumpingClock(MovedClock):
    """One whose time of day jumps by hours, forth and back, between any two looks; its seconds go on as ever."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)
        self._jump = timedelta()
        #: Whether it jumps.
        self.jumping = True

    def now(self) -> datetime:
        if self.jumping and self._chance.random() < _OFTEN:
            self._jump = timedelta(hours=self._chance.uniform(-_FAR, _FAR))
        return super().now() + self._jump

    def calm_down(self) -> None:
        """Be right from now on."""
        self.jumping, self._jump = False, timedelta()


_OFTEN, _FAR = 0.5, 12.0


class SteppedClock:
    """
    A `Clock` that stands still for threads too: one that waits does so until the test has moved it far enough.

    Its time of day may be set, as a machine's is, without a second passing.
    """

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._gone = self._set_by = 0.0
        self._waiting = 0
        #: Seconds of each wait so far.
        self.waits: list[float] = []

    def now(self) -> datetime:
        return START + timedelta(seconds=self._gone + self._set_by)

    def monotonic(self) -> float:
        return self._gone

    def wait(self, event: threading.Event, seconds: float) -> bool:
        with self._moved:
            self.waits.append(seconds)
            until = self._gone + seconds
            self._moved.notify_all()
            while not event.is_set() and self._gone < until:
                self._moved.wait(_A_MOMENT)  # an event that is set notifies nobody of it
        return event.is_set()

    def set_by(self, seconds: float) -> None:
        """Set the time of day."""
        self._set_by += seconds

    def advance(self, seconds: float) -> None:
        """Move on, and wait until somebody waits again."""
        with self._moved:
            before = len(self.waits)
            self._gone += seconds
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: len(self.waits) > before, _PATIENCE)


_A_MOMENT, _PATIENCE = 0.005, 20.0


class HurriedClock:
    """
    A `Clock` that goes by itself, and faster than the machine's: what is to take minutes takes seconds.

    Args:
        wall: How much faster the time of day goes, by which retries are due, pauses and leases end.
        steady: How much faster that goes by which is waited; a socket's timeout takes as long as ever.
    """

    def __init__(self, *, wall: float, steady: float = 1.0) -> None:
        self._machine = SystemClock()
        self._began = self._machine.monotonic()
        self._wall, self._steady = wall, steady

    def now(self) -> datetime:
        return START + timedelta(seconds=self._wall * self._gone())

    def monotonic(self) -> float:
        return self._steady * self._gone()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return self._machine.wait(event, seconds / self._steady)

    def _gone(self) -> float:
        return self._machine.monotonic() - self._began
