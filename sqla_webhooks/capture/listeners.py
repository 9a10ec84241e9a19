"""Listeners to sessions, which can be taken away while the sessions are at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import event

from sqla_webhooks.capture.factory import Listened

Listener = Callable[..., Any]


class Listeners:
    """
    Some listeners to the events of one session class, or of one session.

    SQLAlchemy goes through listeners without a lock, and fails if one is taken
    away meanwhile. So they are first made to do nothing, and a thread that is
    within one is waited for. Listeners of others, which we know nothing of,
    may still be gone through at that instant.
    """

    def __init__(self, listened: Listened, listeners: Mapping[str, Listener]) -> None:
        self._listened = listened
        self._listeners = [(name, self._unless_closed(listener)) for name, listener in listeners.items()]
        self._closed = False
        #: Threads that are within one.
        self._inside: set[int] = set()
        #: Set when one has left, once they are to be removed.
        self._left = threading.Event()

    def add(self) -> None:
        """Listen, in sessions that are already open too."""
        for name, listener in self._listeners:
            event.listen(self._listened, name, listener)

    def remove(self, timeout: float) -> None:
        """
        Listen no more. Does nothing the second time.

        Args:
            timeout: Seconds to wait for each thread that is within one: real
                ones, since the wait is for a thread and not for an instant.
        """
        self._closed = True
        alive = {thread.ident for thread in threading.enumerate()}  # after a fork the others are not
        others = (self._inside & alive) - {threading.get_ident()}
        while True:
            self._left.clear()
            if others.isdisjoint(self._inside) or not self._left.wait(timeout):
                break
        for name, listener in self._listeners:
            if event.contains(self._listened, name, listener):
                event.remove(self._listened, name, listener)

    def _unless_closed(self, listener: Listener) -> Listener:
        def listen(*arguments: Any) -> Any:
            if self._closed:
                return None
            self._inside.add(threading.get_ident())
            try:
                return listener(*arguments)
            finally:
                self._leave()

        return listen

    def _leave(self) -> None:
        self._inside.discard(threading.get_ident())
        if self._closed:
            self._left.set()
