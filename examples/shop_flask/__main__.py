"""
A customer orders and pays. Exit status 0 only if the partner was told of exactly that.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask import Flask

from examples.receiver import Receiver, Reply
from examples.shop.models import Customer
from examples.shop_flask.app import create_app, db

#: Of which event, in which request, and as what it shows the order; written down by hand.
RIGHT = [("order.created", "r1", "open"), ("order.updated", "r3", "paid")]


def main() -> int:
    with TemporaryDirectory() as directory, Receiver(lambda _event: Reply()) as receiver:
        database = f"sqlite:///{Path(directory) / 'shop.db'}"
        app = create_app(database, partner_url=receiver.url, partner_secret=receiver.secret)
        with app.extensions["sqla_webhooks"]:
            shop(app)
        with app.app_context():
            db.engine.dispose()
        told = [told_by(receipt.content) for receipt in receiver.receipts]
    print(f"the partner was told {told}" if told == RIGHT else f"THE PARTNER WAS TOLD {told}, AND NOT {RIGHT}")
    return 0 if told == RIGHT else 1


def shop(app: Flask) -> None:
    with app.app_context():  # and not around the requests: each has one of its own, and a session with it
        db.session.add(Customer(name="Ada Byron", email="ada@example.org", password_hash="scrypt$..."))  # noqa: S106  # stands for one
        db.session.commit()
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/orders", {"customer": 1, "lines": {"MUG": 2, "LAMP": 1}}),
        ("/orders/1/pay", {"card": "declined"}),
        ("/orders/1/pay", {"card": "4242"}),
    ]
    for number, (path, content) in enumerate(calls, start=1):
        answer = app.test_client().post(path, json=content, headers={"x-request-id": f"r{number}"})
        print(f"r{number}  POST {path:<14} {answer.status_code}  {answer.text.strip()}")
    # A server would go on, and its relay in a thread of its own; we wait until all is sent.
    app.extensions["sqla_webhooks"].drain()


def told_by(event: dict[str, Any]) -> tuple[str, str, str]:
    return event["type"], event["context"]["request_id"], event["data"]["status"]


if __name__ == "__main__":
    sys.exit(main())
