"""A real HTTP server on loopback: keeps what it gets, answers as it is told."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

#: How long a test waits for something to arrive before it fails.
PATIENCE = 20.0


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    #: By lower-case name.
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def timestamp(self) -> int:
        return int(self.headers["webhook-timestamp"])

    @property
    def event(self) -> dict[str, Any]:
        event = json.loads(self.body)
        assert isinstance(event, dict)
        return event

    @property
    def type(self) -> str:
        return str(self.event["type"])

    def verify(self, secret: str) -> dict[str, Any]:
        """As a receiver does it, by the independent library, which looks at the real time."""
        event = Webhook(secret).verify(self.body, self.headers)
        assert isinstance(event, dict)
        return event

    def is_signed(self, *secrets: str) -> bool:
        """Whether the independent library signs the same by these, in their order, whatever time it is."""
        return self.headers["webhook-signature"] == " ".join(map(self.signature, secrets))

    def signature(self, secret: str) -> str:
        """What the independent library signs it by, whatever time it is."""
        at = datetime.fromtimestamp(self.timestamp, UTC)
        return str(Webhook(secret).sign(self.id, at, self.body.decode()))


@dataclass(frozen=True)
class Reply:
    """How to answer a request."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    """Takes it calmly when a client is killed; knows how many there are."""

    def __init__(self, *arguments: Any) -> None:
        self._clients, self._changed = 0, threading.Condition()
        super().__init__(*arguments)

    def process_request(self, *arguments: Any) -> None:
        with self._changed:
            self._clients += 1
        super().process_request(*arguments)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._clients -= 1
            self._changed.notify_all()

    def wait_until_alone(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._clients == 0, PATIENCE), f"{self._clients} clients are left"

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*arguments)


class Receiver:
    """Use as a context manager, or by the fixture `receiver`."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._replies: deque[Reply] = deque()
        self._arrived = threading.Condition()
        #: Called with each request, in the server's thread, before it is answered.
        self.on_request: Callable[[Received], None] | None = None
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver")

    def url(self, path: str = "/hooks") -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def answer(self, *replies: int | Reply) -> None:
        """Answer the next requests so; after the last of them with 200."""
        self._replies.extend(one if isinstance(one, Reply) else Reply(one) for one in replies)

    def wait_for(self, count: int) -> list[Received]:
        """The requests so far, once there are *count*."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.received) >= count, PATIENCE), (
                f"{len(self.received)} requests came, not {count}"
            )
            return list(self.received)

    def wait_until_alone(self) -> None:
        """Until every request of clients that have ended is among the received; there must be no other clients."""
        with socket.create_connection(("127.0.0.1", self._server.server_port), PATIENCE) as last:
            last.shutdown(socket.SHUT_WR)
            last.recv(1)  # closed: so all who came before have been let in, and are counted
        self._server.wait_until_alone()

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.received]

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.received]

    def events(self, type_: str | None = None) -> list[dict[str, Any]]:
        return [one.event for one in self.received if type_ is None or one.type == type_]

    def forget(self) -> None:
        self.received.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, request: Received) -> Reply:
        if self.on_request is not None:
            self.on_request(request)
        with self._arrived:
            self.received.append(request)
            self._arrived.notify_all()
            return self._replies.popleft() if self._replies else Reply()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take: Callable[[Received], Reply] = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Idle connections must not keep the server's threads, nor the tests, waiting.
            timeout = 5
            # One packet for an answer: two would wait for each other's acknowledgement.
            wbufsize = -1

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # its sender was killed
                    self.close_connection = True
                    return
                reply = take(Received(self.path, {key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def by_row(requests: Iterable[Received]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The events of each row, in the order in which they came."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for request in requests:
        event = request.event
        rows.setdefault((event["resource"], event["resource_id"]), []).append(event)
    return rows
