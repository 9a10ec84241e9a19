"""The right to use the relay: held by one thread at a time, or by none while the process forks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds after which a thread that waits for it looks whether it still wants it.
_LOOK = 0.05


def _never() -> bool:
    return False


class Baton:
    """
    Held by the relay's thread for one turn, and by `drain()` for all of its turns.

    A lock, since `Relay` is for one thread at a time; and who holds it, since
    the holder itself may come again, out of an enricher or a signal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        #: Threads that fork, and hold the lock for it. Several may fork at once; one of them has the lock.
        self._forking: set[int] = set()

    @property
    def is_here(self) -> bool:
        """Whether the calling thread holds it."""
        return self._holder == threading.get_ident()

    @contextmanager
    def taken(self, *, give_up: Callable[[], bool] = _never) -> Iterator[bool]:
        """
        Wait for it, and hold it meanwhile.

        Args:
            give_up: Asked while it waits, whether to wait no longer.

        Returns:
            Whether it is held.
        """
        while not self._lock.acquire(timeout=_LOOK):
            if give_up():
                yield False
                return
        self._holder = threading.get_ident()
        try:
            yield True
        finally:
            self._holder = None
            self._lock.release()

    def pause(self, timeout: float) -> None:
        """
        Before a fork: wait until nobody holds it, *timeout* seconds at most, and let nobody have it.

        A lock of the database driver that the relay held at that instant would
        stay locked in the child for ever. If the holder itself forks, there is
        nothing to wait for.
        """
        if not self.is_here and self._lock.acquire(timeout=timeout):
            self._forking.add(threading.get_ident())

    def resume(self) -> None:
        """After the fork, in the parent."""
        if threading.get_ident() in self._forking:
            self._forking.discard(threading.get_ident())
            self._lock.release()
