"""Threads in tests: the relay's, one that is held at a gate, and one that works aside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.relay.thread import NAME
from support.receiver import PATIENCE


def relays() -> list[threading.Thread]:
    """The relay threads that run."""
    return [thread for thread in threading.enumerate() if thread.name == NAME]


class Gate:
    """A place where whoever comes is held until it is opened: a receiver, an enricher, a clock."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, *_: object, **__: object) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE)

    def wait(self) -> None:
        """Until somebody has come."""
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        """For those that wait, and for all that come."""
        self._open.set()


@contextmanager
def opened(gate: Gate) -> Iterator[Gate]:
    """Open in the end, so that nobody is left behind it."""
    try:
        yield gate
    finally:
        gate.open()


def aside(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run *function* in a thread; what it returned, or raised, will be in the list."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(function())
        except Exception as error:  # noqa: BLE001  # the test looks at it
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


def until(is_so: Callable[[], bool]) -> None:
    """Look again and again, for what nobody tells of: what another thread has written to the database."""
    clock, never = SystemClock(), threading.Event()
    deadline = clock.monotonic() + PATIENCE
    while not is_so():
        assert clock.monotonic() < deadline, "it has not come to be so"
        clock.wait(never, 0.02)
