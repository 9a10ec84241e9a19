"""A receiver that behaves as its mood is, from request to request; and what is to be recorded of each mood."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sqla_webhooks import Delivery, Webhooks
from support.hostile import Peer, http
from support.receiver import PATIENCE


@dataclass(frozen=True)
class Mood:
    """
    How one request is dealt with.

    Attributes:
        deal: Answers or not; whether the connection goes on.
        reason: Why the attempt has failed, as it is to be recorded; None if it has not.
        unanswered: Whether the connection ends before there is any answer: on one that was kept from an earlier
            request, that is no failure, and the request is made once more.
    """

    name: str
    deal: Callable[[Peer], bool]
    reason: str | None
    unanswered: bool = False


def says(*pieces: bytes, then: Callable[[Peer], bool]) -> Callable[[Peer], bool]:
    def deal(peer: Peer) -> bool:
        for piece in pieces:
            peer.send(piece)
        return then(peer)

    return deal


def goes_on(_peer: Peer) -> bool:
    return True


def closes(_peer: Peer) -> bool:
    return False


def resets(peer: Peer) -> bool:
    peer.reset()
    return False


def stalls(peer: Peer) -> bool:
    with suppress(ConnectionError):
        peer.await_hang_up()
    return False


_HALF = http(200, b"x" * 100)[:-50]
_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Length: "
_INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

STALLS = Mood("stalls", stalls, "timeout")
HEALTHY = Mood("healthy", says(http(200, b"ok"), then=goes_on), None)

MOODS = [
    Mood("fails", says(http(500), then=goes_on), "status"),
    Mood("is overloaded", says(http(503), then=goes_on), "status"),
    Mood("resets", resets, "invalid_answer", unanswered=True),
    Mood("closes", closes, "invalid_answer", unanswered=True),
    Mood("resets in the middle", says(_HALF, then=resets), "invalid_answer"),
    Mood("closes in the middle", says(_HALF, then=closes), "invalid_answer"),
    STALLS,
    Mood("stalls in the middle", says(_HALF, then=stalls), "timeout"),
    Mood("drips", says(*(bytes([one]) for one in http(200, b"drop by drop")), then=goes_on), None),
    Mood("says too much", says(_HEADERS + b"2\r\n\r\nok, and so on", then=goes_on), None),
    Mood("says too little", says(_HEADERS + b"20\r\n\r\nok", then=closes), "invalid_answer"),
    Mood("says no number", says(_HEADERS + b"many\r\n\r\nok", then=closes), None),
    Mood("answers twice", says(http(200) + http(500), then=goes_on), None),
    Mood("talks something else", says(b"SSH-2.0-OpenSSH\0_9.9\r\n", then=closes), "invalid_answer"),
    Mood("gives hints and closes", says(_INTERIM, then=closes), "invalid_answer"),
    Mood("gives hints for ever", says(*[_INTERIM] * 100, then=stalls), "invalid_answer"),
    Mood("closes a kept connection", says(http(200), then=closes), None),
]


@dataclass(frozen=True)
class Seen:
    """
    A request that has come.

    Attributes:
        first: Whether it was the first of its connection.
    """

    event: dict[str, Any]
    mood: Mood
    first: bool

    @property
    def is_an_attempt(self) -> bool:
        """Or else the request is made once more, and that is the attempt."""
        return self.first or not self.mood.unanswered


class Moody:
    """
    A server on loopback, each of whose connections has a thread. A context manager.

    Args:
        moods: Those of its first requests; afterwards it is healthy.
    """

    def __init__(self, moods: Iterable[Mood] = ()) -> None:
        self._moods = list(moods)
        self.seen: list[Seen] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._bell, self._rung = socket.socketpair()
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hooks"

    def refuse(self) -> None:
        """Be away: connections are cut off, and new ones refused."""
        self._stopping.set()
        self._bell.send(b"!")
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._rung.recv(1)
        self._threads.clear()

    def listen(self) -> None:
        """Be there, at the same port as before."""
        self._stopping.clear()
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._start(self._accept, listener)

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads:
            self.refuse()
        self._bell.close()
        self._rung.close()

    def _start(self, run: Callable[[socket.socket], None], of: socket.socket) -> None:
        thread = threading.Thread(target=run, args=(of,), name="moody receiver")
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self._stopping.is_set():
                ready, _, _ = select.select([listener, self._rung], [], [])
                if listener in ready:
                    self._start(self._converse, listener.accept()[0])

    def _converse(self, connection: socket.socket) -> None:
        peer = Peer(connection, self._stopping)
        with self._changed:
            self._connections.add(connection)
            if self._stopping.is_set():
                connection.shutdown(socket.SHUT_RDWR)
        first = True
        with suppress(OSError):  # the client has hung up, or this is to stop
            while (request := peer.request()) and self._next(request, first=first).deal(peer):
                first = False
        with self._changed:
            self._connections.discard(connection)
            connection.close()

    def _next(self, request: bytes, *, first: bool) -> Mood:
        with self._changed:
            mood = self._moods.pop(0) if self._moods else HEALTHY
            self.seen.append(Seen(json.loads(request.partition(b"\r\n\r\n")[2]), mood, first))
            self._changed.notify_all()
            return mood

    def wait_for(self, is_so: Callable[[list[Seen]], bool]) -> None:
        """Until the requests so far are as they should be."""
        with self._changed:
            assert self._changed.wait_for(lambda: is_so(self.seen), PATIENCE), f"{len(self.seen)} requests came"


def check(moody: Moody, webhooks: Webhooks, *, endpoint: str, events: int) -> None:
    """
    Compare what has come with what is recorded, delivery by delivery and attempt by attempt.

    All is delivered at last; no row has gone back; every attempt is written down, and no other. But for those that
    found nobody there, of which nobody here has heard.
    """
    expected: dict[str, list[str | None]] = defaultdict(list)
    rows: dict[str, list[int]] = defaultdict(list)
    for one in moody.seen:
        rows[one.event["resource_id"]].append(one.event["data"]["stock"])
        if one.is_an_attempt:
            expected[one.event["id"]].append(one.mood.reason)
    deliveries = webhooks.deliveries.list(endpoint=endpoint, limit=10_000)
    reasons = {
        one.event_id: [reason for reason in reasons_of(webhooks, one) if reason != "connect"] for one in deliveries
    }
    assert len(deliveries) == events
    assert {one.state.value for one in deliveries} == {"delivered"}
    assert reasons == expected
    assert all(stocks == sorted(stocks) for stocks in rows.values())


def reasons_of(webhooks: Webhooks, delivery: Delivery) -> list[str | None]:
    """Why each attempt has failed."""
    return [attempt.reason for attempt in webhooks.deliveries.attempts(delivery.id)]
