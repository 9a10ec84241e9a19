"""The right to use the relay: held by one thread at a time, or by none while the process forks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Baton:
    """
    Held by the relay's thread for one turn, and by `drain()` for all of its turns.

    A lock, since `Relay` is for one thread at a time; and who holds it, since
    the holder itself may come again, out of an enricher or a signal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._paused = False

    @property
    def is_here(self) -> bool:
        """Whether the calling thread holds it."""
        return self._holder == threading.get_ident()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for it, and hold it."""
        with self._lock:
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None

    def pause(self, timeout: float) -> None:
        """
        Before a fork: wait until nobody holds it, *timeout* seconds at most, and let nobody have it.

        A lock of the database driver that the relay held at that instant would
        stay locked in the child for ever. If the holder itself forks, there is
        nothing to wait for.
        """
        self._paused = not self.is_here and self._lock.acquire(timeout=timeout)

    def resume(self) -> None:
        """After the fork, in the parent."""
        if self._paused:
            self._paused = False
            self._lock.release()
