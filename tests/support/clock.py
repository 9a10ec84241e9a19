"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

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
