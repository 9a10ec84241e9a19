"""Clocks that a test moves, and one that hurries."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from sqla_webhooks._clock import SystemClock

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class MovedClock:
    """A `Clock`. Waiting on it takes no time: it moves the clock to the end of the wait."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._gone = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._start + timedelta(seconds=self._gone)

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

    def __repr__(self) -> str:
        return f"<MovedClock at {self.now():%Y-%m-%d %H:%M:%S}>"


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
