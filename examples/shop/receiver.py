"""
The other side: what a partner would run, in a process of its own.

It knows nothing of `sqla_webhooks`. It verifies each request with the
independent package `standardwebhooks`, and answers 503 once, to the first
request of the type that it is told to refuse.

On its stdout, in lines of JSON: first its port, then a `Receipt` for each
request. On its stdin: first the secret, which a process listing must not
show; and when stdin ends, so does the receiver, however the demo ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the receiver says of one request."""

    #: The header `webhook-id`: the event's.
    id: str
    #: The event's type; empty if the signature is wrong, for then the body says nothing.
    type: str
    verified: bool
    #: What it answered.
    status: int
    #: Nanoseconds since 1970.
    arrived_at: int
    body: str

    @property
    def accepted(self) -> bool:
        """Whether the signature was right and the answer 200."""
        return self.verified and self.status == HTTPStatus.OK


class Partner(ThreadingHTTPServer):
    """
    Listens on loopback, on a free port, from the moment that it is made.

    Answers each request in a thread of its own, once it has got its secret.
    """

    def __init__(self, *, refuse: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._refuse: str | None = refuse
        self._lock = threading.Lock()

    def serve(self, secret: str) -> None:
        """Answer requests, in the background, until `shutdown()`."""
        self._webhook = Webhook(secret)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def receive(self, headers: dict[str, str], body: bytes, *, arrived_at: int) -> Receipt:
        """Verify one request, and decide how to answer it."""
        event_id, text = headers.get("webhook-id", ""), body.decode()
        try:
            event: dict[str, Any] = self._webhook.verify(body, headers)
        except WebhookVerificationError:
            return Receipt(
                event_id, "", verified=False, status=HTTPStatus.UNAUTHORIZED, arrived_at=arrived_at, body=text
            )
        status = self._status(event["type"])
        return Receipt(event_id, event["type"], verified=True, status=status, arrived_at=arrived_at, body=text)

    def tell(self, value: dict[str, Any]) -> None:
        """Write one line; the lock keeps the lines of two threads apart."""
        with self._lock:
            print(json.dumps(value), flush=True)

    def _status(self, type: str) -> HTTPStatus:
        with self._lock:
            if type != self._refuse:
                return HTTPStatus.OK
            self._refuse = None
            return HTTPStatus.SERVICE_UNAVAILABLE


class Handler(BaseHTTPRequestHandler):
    """One connection; what to answer is the partner's business."""

    protocol_version = "HTTP/1.1"
    server: Partner

    def do_POST(self) -> None:
        arrived_at = time.time_ns()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receipt = self.server.receive(headers, body, arrived_at=arrived_at)
        self.send_response(receipt.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.tell(asdict(receipt))

    def log_message(self, *_: object) -> None:
        """Nothing: the receipts say it all."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refuse", required=True, help="the type of event to which 503 is answered once")
    arguments = parser.parse_args()
    # Ctrl-C is meant for the demo, and comes here too.
    with suppress(KeyboardInterrupt), Partner(refuse=arguments.refuse) as partner:
        partner.tell({"port": partner.server_port})
        partner.serve(sys.stdin.readline().strip())
        sys.stdin.read()
        partner.shutdown()


if __name__ == "__main__":
    main()
