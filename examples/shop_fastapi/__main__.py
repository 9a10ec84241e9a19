"""
A customer orders and pays. Exit status 0 only if the partner was told of exactly that.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from examples.receiver import Receiver, Reply
from examples.shop.models import Customer
from examples.shop_fastapi.app import create_app

#: Of which event, in which request, and as what it shows the order; written down by hand.
RIGHT = [("order.created", "r1", "open"), ("order.updated", "r3", "paid")]


def main() -> int:
    with TemporaryDirectory() as directory, Receiver(lambda _event: Reply()) as receiver:
        database = f"sqlite+aiosqlite:///{Path(directory) / 'shop.db'}"
        app = create_app(database, partner_url=receiver.url, partner_secret=receiver.secret)
        asyncio.run(shop(app))
        told = [told_by(receipt.content) for receipt in receiver.receipts]
    print(f"the partner was told {told}" if told == RIGHT else f"THE PARTNER WAS TOLD {told}, AND NOT {RIGHT}")
    return 0 if told == RIGHT else 1


async def shop(app: FastAPI) -> None:
    """The application runs here, beside its client, as uvicorn would run it."""
    transport = ASGITransport(app)
    async with app.router.lifespan_context(app), AsyncClient(transport=transport, base_url="http://shop") as client:
        async with app.state.sessions.begin() as session:
            session.add(Customer(name="Ada Byron", email="ada@example.org", password_hash="scrypt$..."))  # noqa: S106  # stands for one
        calls: list[tuple[str, dict[str, Any]]] = [
            ("/orders", {"customer": 1, "lines": {"MUG": 2, "LAMP": 1}}),
            ("/orders/1/pay", {"card": "declined"}),
            ("/orders/1/pay", {"card": "4242"}),
        ]
        for number, (path, content) in enumerate(calls, start=1):
            answer = await client.post(path, json=content, headers={"x-request-id": f"r{number}"})
            print(f"r{number}  POST {path:<14} {answer.status_code}  {answer.text}")
        # A server would go on, and its relay in a thread of its own; we wait until all is sent.
        await asyncio.to_thread(app.state.webhooks.drain)


def told_by(event: dict[str, Any]) -> tuple[str, str, str]:
    return event["type"], event["context"]["request_id"], event["data"]["status"]


if __name__ == "__main__":
    sys.exit(main())
