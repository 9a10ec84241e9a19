"""A real forward proxy on loopback: CONNECT, and URLs in full. It looks the names up, by a table of its own."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Self
from urllib.parse import urlsplit

from sqla_webhooks.delivery.egress import EgressPolicy
from support.hostile import Server
from support.network import allowing
from support.receiver import PATIENCE

#: Of a target, which nobody but a proxy can look up.
NAME = "hooks.partner.example"


class Proxy:
    """
    A context manager.

    Args:
        routes: Where the names of targets lead: ports of this machine. It answers 502 for all others.
    """

    def __init__(self, routes: Mapping[str, int]) -> None:
        self._routes = routes
        #: The heads of the requests that were made to it, as they were on the wire.
        self.heads: list[bytes] = []
        #: Connections to it so far.
        self.accepted = 0
        self._open: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy")

    def url(self, user: str = "") -> str:
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self.port}"

    def hang_up(self) -> None:
        """Close every connection that is open."""
        for connection in [*self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self.hang_up()
        self._server.server_close()  # waits for the handlers

    def serve(self, connection: socket.socket) -> None:
        """One connection, request after request."""
        self.accepted += 1
        self._open.add(connection)
        connection.settimeout(PATIENCE)
        try:
            while head := _head(connection):
                self.heads.append(head)
                method, target, _ = head.split(b"\r\n")[0].decode("ascii").split(" ")
                if method == "CONNECT":
                    self._tunnel(connection, target.rpartition(":")[0])
                    return
                self._forward(connection, head, target)
        finally:
            self._open.discard(connection)

    def _tunnel(self, connection: socket.socket, host: str) -> None:
        if host not in self._routes:
            connection.sendall(b"HTTP/1.1 502 No Such Host\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", self._routes[host]), PATIENCE) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: here\r\n\r\n")
            _relay(connection, target)

    def _forward(self, connection: socket.socket, head: bytes, target: str) -> None:
        url = urlsplit(target)
        assert url.scheme == "http", head
        body = _exactly(connection, _length(head))
        if (host := str(url.hostname)) not in self._routes:
            connection.sendall(b"HTTP/1.1 502 No Such Host\r\nContent-Length: 0\r\n\r\n")
            return
        path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(b"proxy-")]
        with socket.create_connection(("127.0.0.1", self._routes[host]), PATIENCE) as upstream:
            upstream.sendall(b"\r\n".join([first.replace(target.encode(), path.encode()), *kept, b"", b""]) + body)
            answer = _head(upstream)
            connection.sendall(answer + _exactly(upstream, _length(answer)))

    def _handler(self) -> type[BaseRequestHandler]:
        serve = self.serve

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):
                    serve(self.request)

        return Handler


def through(proxy: Proxy | Server | str, user: str = "") -> EgressPolicy:
    """A policy with this proxy; a server of any kind may stand for one."""
    if isinstance(proxy, Server):
        return allowing(egress_proxy=proxy.url(""))
    return allowing(egress_proxy=proxy.url(user) if isinstance(proxy, Proxy) else proxy)


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        raise  # noqa: PLE0704  # what the handler has raised


def _head(connection: socket.socket) -> bytes:
    """Up to the empty line, and nothing of what follows; nothing if there is no more."""
    taken = bytearray()
    while not taken.endswith(b"\r\n\r\n"):
        if not (piece := connection.recv(1)):
            return b""
        taken += piece
    return bytes(taken)


def _length(head: bytes) -> int:
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return int(lengths[0].partition(b":")[2]) if lengths else 0


def _exactly(connection: socket.socket, count: int) -> bytes:
    taken = bytearray()
    while len(taken) < count and (piece := connection.recv(count - len(taken))):
        taken += piece
    return bytes(taken)


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until one side hangs up."""
    while True:
        for ready in select.select([one, other], [], [], PATIENCE)[0]:
            if not (piece := ready.recv(65536)):
                return
            (other if ready is one else one).sendall(piece)
