"""
The time, as a thing that is passed in.

Everything that asks what time it is, or waits for a time, asks a `Clock`; so a
retry schedule of three days is tested in milliseconds. No other module may
call `datetime.now` or `time.monotonic` (ruff's banned-api rule checks it). A
wait for another thread is a real one.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the library asks of time. Used from any thread."""

    def now(self) -> datetime:
        """The instant it is, as an aware datetime in UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back: for durations only."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """
        Wait until *event* is set, *seconds* at most.

        Returns:
            Whether the event is set.
        """


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  # the one place

    def monotonic(self) -> float:
        return time.monotonic()  # noqa: TID251  # the one place

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)

    def __repr__(self) -> str:
        return "SystemClock()"
