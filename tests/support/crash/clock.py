"""
Real time, which a test sets forward for all processes at once.

So leases can be long, and nothing is sent again because a machine is slow; and
nobody waits for the leases of a process that was killed.
"""

from __future__ import annotations

import mmap
import struct
import threading
from datetime import datetime, timedelta
from pathlib import Path

from sqla_webhooks._clock import SystemClock

_SECONDS = struct.Struct("d")


class ShiftedClock:
    """
    A `Clock`.

    Args:
        path: The file that says how far it is set forward; all clocks on one file go alike.
    """

    def __init__(self, path: Path) -> None:
        self._real = SystemClock()
        if not path.exists():
            path.write_bytes(_SECONDS.pack(0.0))
        with path.open("r+b") as file:
            self._shift = mmap.mmap(file.fileno(), _SECONDS.size)

    def now(self) -> datetime:
        return self._real.now() + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._real.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return self._real.wait(event, seconds)

    def advance(self, seconds: float) -> None:
        """Set it forward, in every process."""
        self._shift[:] = _SECONDS.pack(self._seconds + seconds)

    def close(self) -> None:
        self._shift.close()

    @property
    def _seconds(self) -> float:
        (seconds,) = _SECONDS.unpack(self._shift[:])
        return float(seconds)
