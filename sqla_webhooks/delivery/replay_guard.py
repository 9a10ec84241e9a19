"""What a receiver has accepted, remembered in memory, so that no copy of it is."""

from __future__ import annotations

import heapq
import threading

from sqla_webhooks._clock import Clock, SystemClock
from sqla_webhooks.errors import ConfigurationError


class MemoryReplayGuard:
    """
    A replay guard for `verify(replay_guard=...)`, for a receiver that is one process.

    One for each endpoint's receiver: two endpoints may get one event in one
    second, and its key is the same. Safe for any thread. Another process does not know what this one has
    accepted, nor does this one after a restart: where that matters, several
    processes share a store, such as Redis or a table.

    A key is forgotten when its time is over. When *most* are remembered whose
    time is not, the next request is refused with an error, and nothing is
    forgotten early: who could make the guard forget could replay.

    Args:
        most: How many keys it remembers at once; a hundred thousand take some 20 MB.
        clock: The source of time, for tests.
    """

    def __init__(self, *, most: int = 100_000, clock: Clock | None = None) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            message = f"most is {most!r}: give a whole number of at least 1"
            raise ConfigurationError(message)
        self._most = most
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        #: Each key with the end of its time, the first to end in front.
        self._ends: list[tuple[float, str]] = []

    def __call__(self, key: str, seconds: float) -> bool:
        """
        Whether *key* is new. If so, it is remembered for *seconds*.

        Raises:
            ConfigurationError: There is no room for it.
        """
        with self._lock:
            now = self._clock.monotonic()  # which nobody sets back
            while self._ends and self._ends[0][0] < now:
                self._keys.remove(heapq.heappop(self._ends)[1])
            if key in self._keys:
                return False
            if len(self._keys) >= self._most:
                message = (
                    f"the replay guard remembers {self._most} requests, and cannot forget one before its time: give it "
                    "room with MemoryReplayGuard(most=...), or let verify() have a smaller tolerance"
                )
                raise ConfigurationError(message)
            self._keys.add(key)
            heapq.heappush(self._ends, (now + seconds, key))
            return True
