"""The worked examples: each runs by itself; and what the web frameworks' shops tell, held against their databases."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import ROOT
from support.receiver import PATIENCE, Receiver

from examples.shop_fastapi.app import create_app as create_fastapi
from examples.shop_flask.app import create_app as create_flask
from examples.shop_flask.app import db

SECRET = "whsec_" + "c2VjcmV0" * 4

#: Of each example what it says at its end, and what the log says meanwhile.
EXAMPLES = {
    "analytics": (
        "the collector knows all that has happened\n",
        r"evt_\w+ to ep_\w+ is given up after attempt 3: .*\n",
    ),
    "fulfilment": ("they agree\n", ""),
    "inventory": ("outlet    {'7002': 0, '7001': 14}: as it should be\n", ""),
    "shop": ("", ""),  # tests/test_demo.py
    "shop_fastapi": ("[('order.created', 'r1', 'open'), ('order.updated', 'r3', 'paid')]\n", ""),
    "shop_flask": ("[('order.created', 'r1', 'open'), ('order.updated', 'r3', 'paid')]\n", ""),
}


def test_every_example_is_run_here() -> None:
    assert {path.parent.name for path in (ROOT / "examples").glob("*/__main__.py")} == EXAMPLES.keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"shop"}))
def test_an_example_comes_to_what_it_should(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )

    said, logged = EXAMPLES[name]
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(said)
    assert re.fullmatch(logged, done.stderr)


# --------------------------------------------------------------------------- the shops of web frameworks


@dataclass(frozen=True)
class Shop:
    """
    A running one.

    Attributes:
        post: Given a path, JSON and the request's id, the status and the JSON of the answer.
    """

    file: Path
    post: Callable[[str, Any, str | None], tuple[int, Any]]
    together: Callable[[list[tuple[str, Any, str]]], list[int]]
    drain: Callable[[], Any]

    def rows(self, sql: str) -> list[Any]:
        """Without SQLAlchemy."""
        with closing(sqlite3.connect(self.file)) as connection, connection:
            return connection.execute(sql).fetchall()


Open: TypeAlias = Callable[[Path, Receiver], Any]


@contextmanager
def on_fastapi(directory: Path, receiver: Receiver) -> Iterator[Shop]:
    file = directory / "shop.db"
    app = create_fastapi(f"sqlite+aiosqlite:///{file}", partner_url=receiver.url(), partner_secret=SECRET)
    client = AsyncClient(transport=ASGITransport(app), base_url="http://shop")
    stack = AsyncExitStack()

    async def post(path: str, content: Any, request_id: str | None) -> tuple[int, Any]:
        answer = await client.post(path, json=content, headers={"x-request-id": request_id} if request_id else {})
        return answer.status_code, answer.json()

    async def together(calls: list[tuple[str, Any, str]]) -> list[int]:
        return [status for status, _ in await asyncio.gather(*(post(*call) for call in calls))]

    with asyncio.Runner() as runner:
        runner.run(stack.enter_async_context(app.router.lifespan_context(app)))
        runner.run(stack.enter_async_context(client))
        try:
            yield Shop(
                file,
                lambda *call: runner.run(post(*call)),
                lambda calls: runner.run(together(calls)),
                app.state.webhooks.drain,
            )
        finally:
            runner.run(stack.aclose())


@contextmanager
def on_flask(directory: Path, receiver: Receiver) -> Iterator[Shop]:
    file = directory / "shop.db"
    app = create_flask(f"sqlite:///{file}", partner_url=receiver.url(), partner_secret=SECRET)

    def post(path: str, content: Any, request_id: str | None) -> tuple[int, Any]:
        headers = {"x-request-id": request_id} if request_id else {}
        answer = app.test_client().post(path, json=content, headers=headers)
        return answer.status_code, answer.json

    def together(calls: list[tuple[str, Any, str]]) -> list[int]:
        async def all_of_them() -> list[int]:
            return [one for one, _ in await asyncio.gather(*(asyncio.to_thread(post, *call) for call in calls))]

        return asyncio.run(all_of_them())

    with app.extensions["sqla_webhooks"] as webhooks:
        yield Shop(file, post, together, webhooks.drain)
    with app.app_context():
        db.engine.dispose()


@contextmanager
def opened(open_: Open) -> Iterator[tuple[Shop, Receiver]]:
    """A shop with one customer, and its partner."""
    with TemporaryDirectory() as directory, Receiver() as receiver, open_(Path(directory), receiver) as shop:
        shop.rows("INSERT INTO customers VALUES (1, 'Ada', 'ada@example.org', 'x')")
        yield shop, receiver


each = pytest.mark.parametrize("open_", [on_fastapi, on_flask])

#: What is asked of a shop: an order of so many mugs; or that an order is paid, by some card.
Step: TypeAlias = tuple[str, int, str]

steps = st.lists(
    st.tuples(st.just("order"), st.integers(1, 9), st.just(""))
    | st.tuples(st.just("pay"), st.integers(1, 3), st.sampled_from(["4242", "declined"])),
    max_size=8,
)


def asked(step: Step) -> tuple[str, Any]:
    what, number, card = step
    if what == "order":
        return "/orders", {"customer": 1, "lines": {"MUG": number}}
    return f"/orders/{number}/pay", {"card": card}


@each
@settings(max_examples=8, deadline=None)
@given(plan=steps)
@example([("order", 2, ""), ("pay", 1, "declined"), ("pay", 1, "4242"), ("pay", 1, "4242"), ("pay", 2, "4242")])
def test_what_is_told_is_what_the_answers_and_the_database_say(open_: Open, plan: list[Step]) -> None:
    right, paid = [], set()
    with opened(open_) as (shop, receiver):
        for number, step in enumerate(plan):
            status, answer = shop.post(*asked(step), f"r{number}")
            if status == 201:
                right.append(("order.created", str(answer["id"]), f"r{number}"))
            elif status == 200 and step[1] not in paid:  # paid twice is no change
                paid.add(step[1])
                right.append(("order.updated", str(step[1]), f"r{number}"))
        shop.drain()
        stored = shop.rows("SELECT o.id, status, quantity FROM orders o JOIN order_lines l ON o.id = l.order_id")
        events = [request.verify(SECRET) for request in receiver.received]

    told = [(event["type"], event["resource_id"], event["context"]["request_id"]) for event in events]
    assert sorted(told) == sorted(right)
    last = {event["data"]["id"]: event["data"] for event in events}
    assert sorted((id_, data["status"], data["lines"][0]["quantity"]) for id_, data in last.items()) == sorted(stored)
    assert all(data["customer"] == {"name": "Ada", "email": "ada@example.org"} for data in last.values())


@each
def test_a_request_that_is_rolled_back_sends_nothing(open_: Open) -> None:
    with opened(open_) as (shop, receiver):
        assert shop.post(*asked(("order", 2, "")), "r1")[0] == 201
        assert shop.post(*asked(("pay", 1, "declined")), "r2")[0] == 402
        shop.drain()

        assert shop.rows("SELECT status FROM orders") == [("open",)]
        assert receiver.types == ["order.created"]


@each
def test_requests_at_once_do_not_share_their_ids(open_: Open) -> None:
    with opened(open_) as (shop, receiver):
        calls = [(*asked(("order", number, "")), f"r{number}") for number in range(1, 9)]
        assert shop.together(calls) == [201] * 8
        shop.drain()

        told = {event["data"]["lines"][0]["quantity"]: event["context"] for event in receiver.events()}
    assert told == {number: {"request_id": f"r{number}"} for number in range(1, 9)}


@each
def test_a_request_without_an_id_is_given_one(open_: Open) -> None:
    with opened(open_) as (shop, receiver):
        shop.post(*asked(("order", 1, "")), None)
        shop.post(*asked(("order", 1, "")), None)
        shop.drain()

        ids = {event["context"]["request_id"] for event in receiver.events()}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
