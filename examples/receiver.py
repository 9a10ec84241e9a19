"""
The other side of an example: a receiver on this machine, of the standard library and `verify` alone.

A partner does the same in whatever framework it has: verify the body as it
came, do the work once for each event, and answer soon.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import sqla_webhooks
from sqla_webhooks import SignatureError

#: Seconds that anything may take; all of it takes a few.
PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered."""

    status: int = HTTPStatus.NO_CONTENT
    #: Written as JSON; None for no body.
    content: Any = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request that was verified: the event in it, or the list of them, and what it was answered."""

    content: Any
    reply: Reply


def new_secret() -> str:
    """One that receiver and sender may agree on; left to itself, `endpoints.create()` makes one."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Receiver:
    """
    Listens on a free port of loopback for as long as its block lasts, and answers each request in a thread of its own.

    Args:
        take: Given what was verified, does the work and says what to answer. What it raises is answered with 500.
        verify: `verify`, or `verify_batch` for an endpoint that gets several events in a request.
    """

    def __init__(self, take: Callable[[Any], Reply], *, verify: Callable[..., Any] = sqla_webhooks.verify) -> None:
        self.secret = new_secret()
        self.receipts: list[Receipt] = []
        self._take, self._verify = take, verify
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False  # they are waited for at the end
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    def wait_for(self, count: int) -> list[Receipt]:
        """The requests so far, once there are *count*."""
        return self.wait_until(lambda receipts: len(receipts) >= count)

    def wait_until(self, holds: Callable[[list[Receipt]], bool]) -> list[Receipt]:
        """
        The requests so far, once something holds of them.

        Raises:
            TimeoutError: It does not come to that.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self.receipts), PATIENCE):
                message = f"what was waited for has not come: there were {len(self.receipts)} requests"
                raise TimeoutError(message)
            return list(self.receipts)

    def receive(self, headers: Any, body: bytes) -> Reply:
        """One request."""
        try:
            content = self._verify(body, headers, self.secret)
        except SignatureError:
            return Reply(HTTPStatus.BAD_REQUEST)  # not from who it says: nothing is done
        try:
            reply = self._take(content)
        except Exception as error:  # noqa: BLE001  # a receiver's own trouble: the sender comes again
            reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        with self._changed:
            self.receipts.append(Receipt(content, reply))
            self._changed.notify_all()
        return reply

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receive = self.receive

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                reply = receive(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
                body = b"" if reply.content is None else json.dumps(reply.content).encode()
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing: the examples say what matters."""

        return Handler
