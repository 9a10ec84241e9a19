"""A server that is a hostile receiver on its first connections, and a healthy one on all that follow."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from support.hostile import Peer, http

#: What every server of a cage answers in the end.
HEALTHY = http(200, b"healthy")

#: More than the buffers between two sockets hold, where the receiver's are small.
LARGE = b" " * (4 * 1024 * 1024)

Deal = Callable[[Peer], None]


@dataclass(frozen=True)
class Beast:
    """
    A receiver at its worst.

    Attributes:
        deal: What it does with a connection, which is closed afterwards.
        outcome: Why a request to it fails, as it is recorded; or the status of its answer.
        payload: Of the request.
        kept: Whether its answer leaves the connection fit for the next request.
        over_tls: Whether to meet it over TLS too.
        own_tls: Whether it does by itself what it wants of TLS.
    """

    name: str
    deal: Deal = field(repr=False)
    outcome: str | int
    payload: bytes = field(default=b"{}", repr=False)
    kept: bool = False
    over_tls: bool = True
    own_tls: bool = False


class Cage:
    """
    Each connection has a thread. A context manager.

    Args:
        tls: Makes it an https server.
        tame_after: How many connections are the beast's; None for all.
    """

    def __init__(self, beast: Beast, *, tls: ssl.SSLContext | None = None, tame_after: int | None = 1) -> None:
        self._beast = beast
        self._tls = tls
        self._wild = tame_after
        #: Connections so far.
        self.accepted = 0
        #: The requests that a healthy server has answered here.
        self.requests: list[bytes] = []
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        if len(beast.payload) >= len(LARGE):
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._bell, self._rung = socket.socketpair()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/hooks"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._bell.send(b"!")
        with self._lock:
            for connection in self._connections:
                _cut(connection)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, self._bell, self._rung):
            one.close()

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, name="beast")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._rung], [], [])
            if self._rung in ready:
                return
            connection = self._listener.accept()[0]
            self.accepted += 1
            self._start(self._converse, connection, self._wild is None or self.accepted <= self._wild)

    def _converse(self, connection: socket.socket, wild: bool) -> None:  # noqa: FBT001  # called by its thread
        if self._tls is not None and not (wild and self._beast.own_tls):
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._connections.add(connection)
            if self._stopping.is_set():
                _cut(connection)
        peer = Peer(connection, self._stopping)
        with suppress(OSError):  # the client has hung up, or this is to stop
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            if wild:
                self._beast.deal(peer)
            if not wild or self._beast.kept:
                self._behave(peer)
        with self._lock:
            self._connections.discard(connection)
            connection.close()

    def _behave(self, peer: Peer) -> None:
        while request := peer.request():
            self.requests.append(request)
            peer.send(HEALTHY)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        # Of the socket itself: TLS is another thread's.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
