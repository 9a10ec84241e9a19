"""
Many requests at a time, in threads; or one by one, in the caller's own.

Both look the same to the relay: it submits requests while there is room, and
collects the results that are there. Plain daemon threads and a queue: the
executor of the standard library refuses work once the interpreter is ending.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection
from typing import Protocol

from sqla_webhooks._clock import Clock
from sqla_webhooks.deliveries import Claim, Result
from sqla_webhooks.delivery.request import Request
from sqla_webhooks.delivery.send import Sender


class Senders(Protocol):
    """Where the relay hands its requests. Used by one thread at a time."""

    @property
    def one_by_one(self) -> bool:
        """Whether each request has ended when the next is made."""

    @property
    def free(self) -> int:
        """How many more requests it takes now."""

    @property
    def under_way(self) -> Collection[Claim]:
        """Those that are submitted whose results are not collected."""

    def get_ready(self) -> None:
        """
        See that there is something to send with: before anything is claimed, which would else wait for its lease's end.

        Raises:
            RuntimeError: No thread can be had.
        """

    def submit(self, request: Request) -> None:
        """Take a request; its result says what came of it. There is none if its lease has ended by then."""

    def collect(self) -> list[Result]:
        """The results that are there, each once."""


class InlineSenders:
    """Sends at once, in the thread that submits: for `drain()`, whose order is thereby fixed."""

    def __init__(self, make_sender: Callable[[], Sender], *, size: int, clock: Clock) -> None:
        self._sender = make_sender()
        self._size = size
        self._clock = clock
        self._results: list[Result] = []

    @property
    def one_by_one(self) -> bool:
        return True

    @property
    def free(self) -> int:
        return self._size - len(self._results)

    @property
    def under_way(self) -> Collection[Claim]:
        return [result.claim for result in self._results]

    def get_ready(self) -> None:
        """It always is."""

    def submit(self, request: Request) -> None:
        if (result := _send(self._sender, request, self._clock)) is not None:
            self._results.append(result)

    def collect(self) -> list[Result]:
        collected, self._results = self._results, []
        return collected

    def close(self) -> None:
        self._sender.close()


class SenderPool:
    """
    Sender threads, made as there is more work; no more than *size*, if no more is submitted than there is room for.

    Args:
        make_sender: Makes a sender for one thread.
        size: The most threads.
        on_result: Called in a sender's thread when a result is there.
    """

    def __init__(
        self, make_sender: Callable[[], Sender], *, size: int, clock: Clock, on_result: Callable[[], None]
    ) -> None:
        self._make_sender = make_sender
        self._size = size
        self._clock = clock
        self._on_result = on_result
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Claim, Result | None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        #: By token and number, since a delivery may be claimed again while its late request still runs.
        self._under_way: dict[tuple[str, int], Claim] = {}

    @property
    def one_by_one(self) -> bool:
        return False

    @property
    def free(self) -> int:
        return self._size - len(self._under_way)

    @property
    def under_way(self) -> Collection[Claim]:
        return self._under_way.values()

    def get_ready(self) -> None:
        if not self._threads:
            self._start_thread()

    def submit(self, request: Request) -> None:
        if len(self._under_way) >= len(self._threads):
            self._start_thread()
        self._under_way[_key(request.claim)] = request.claim
        self._requests.put(request)

    def collect(self) -> list[Result]:
        collected: list[Result] = []
        while True:
            try:
                claim, result = self._results.get_nowait()
            except queue.Empty:
                return collected
            self._under_way.pop(_key(claim), None)
            if result is not None:
                collected.append(result)

    def close(self, *, deadline: float) -> None:
        """
        Let each thread end after the request it is at.

        Args:
            deadline: Until when to wait for them, on the monotonic clock.
        """
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        self._threads.clear()

    def _start_thread(self) -> None:
        name = f"sqla_webhooks sender {len(self._threads) + 1}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more, or the interpreter is ending
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        sender = self._make_sender()
        try:
            while (request := self._requests.get()) is not None:
                self._results.put((request.claim, _send(sender, request, self._clock)))
                self._on_result()
        finally:
            sender.close()


def _send(sender: Sender, request: Request, clock: Clock) -> Result | None:
    """What came of it; None if its lease has ended, as when the machine was suspended: it is another relay's by now."""
    return sender.send(request) if clock.now() < request.claim.until else None


def _key(claim: Claim) -> tuple[str, int]:
    return claim.token, claim.delivery_id
