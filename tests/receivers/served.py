"""Receivers behind HTTP, on loopback."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from receivers.checks import Refused, lowered, parsed
from receivers.report import Report

#: Seconds for what should be there at once.
_PATIENCE = 20.0

_NOBODY = "nothing is received at this path"


class Receives(Protocol):
    """A receiver of one dialect; see `Standard`."""

    events: list[Any]

    def receive(self, headers: Mapping[str, str], body: bytes) -> None: ...


class Served:
    """Made by `served()`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reports: queue.SimpleQueue[Report] = queue.SimpleQueue()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def report(self) -> Report:
        """Of the next request; waits for it."""
        return self._reports.get(timeout=_PATIENCE)

    def add(self, report: Report) -> None:
        self._reports.put(report)


@contextmanager
def served(receivers: Mapping[str, Receives]) -> Iterator[Served]:
    """
    A server, for as long as the block lasts: 204 for what is accepted, 400 for what is refused. One request at a time.

    Args:
        receivers: By path.
    """
    at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5  # a connection that is kept open does not keep the server from ending

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with at_a_time:
                report = _report(self.path, receivers.get(self.path), dict(self.headers.items()), body)
                here.add(report)
            self.send_response(204 if report.error is None else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here = Served(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="receivers")
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            thread.join()


def _report(path: str, receiver: Receives | None, headers: Mapping[str, str], body: bytes) -> Report:
    read, error, events = None, None, []
    try:
        read = parsed(body)
        events = _accepted(receiver, headers, body)
    except Refused as refused:
        error = str(refused)
    return Report(path, error, lowered(headers), read, events)


def _accepted(receiver: Receives | None, headers: Mapping[str, str], body: bytes) -> list[Any]:
    if receiver is None:
        raise Refused(_NOBODY)
    before = len(receiver.events)
    receiver.receive(headers, body)
    return receiver.events[before:]
