"""A row whose primary key changes keeps its order, with what comes before under its old key and after under the new."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.receiver import Receiver
from support.shop import Product, put

from sqla_webhooks import Webhooks

Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def endpoint(webhooks: Webhooks, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])


def rename(sessions: Sessions, old: str, new: str) -> None:
    with sessions.begin() as session:
        session.get_one(Product, old).sku = new


def change(sessions: Sessions, sku: str, **values: Any) -> None:
    with sessions.begin() as session:
        for name, value in values.items():
            setattr(session.get_one(Product, sku), name, value)


def came(receiver: Receiver) -> list[tuple[str, str]]:
    return [(one.event["operation"], one.event["resource_id"]) for one in receiver.received]


def test_it_waits_behind_the_old_key_and_the_new_key_waits_behind_it(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    rename(sessions, "a", "b")
    change(sessions, "b", stock=7)
    put(sessions, "c")
    webhooks.drain()
    assert came(receiver) == [("create", "a"), ("create", "c")]

    clock.advance(6)
    webhooks.drain()
    assert came(receiver)[2:] == [("create", "a"), ("update", "b"), ("update", "b")]


def test_who_takes_the_old_key_waits_for_its_former_holder(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    rename(sessions, "a", "b")
    put(sessions, "a")
    webhooks.drain()
    assert came(receiver) == [("create", "a")]

    clock.advance(6)
    webhooks.drain()
    assert came(receiver)[1:] == [("create", "a"), ("update", "b"), ("create", "a")]


def test_who_gives_up_the_new_key_is_waited_for(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """The deletion of b fails; the row that becomes b comes after it."""
    put(sessions, "a", "b")
    webhooks.drain()
    receiver.forget()
    receiver.answer(500)
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "b"))
    rename(sessions, "a", "b")
    webhooks.drain()
    assert came(receiver) == [("delete", "b")]

    clock.advance(6)
    webhooks.drain()
    assert came(receiver)[1:] == [("delete", "b"), ("update", "b")]


def test_two_heads_before_it_are_both_waited_for(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    put(sessions, "a", "b")
    webhooks.drain()
    receiver.forget()
    receiver.answer(500, 500)
    change(sessions, "a", stock=1)
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "b"))
    rename(sessions, "a", "b")
    webhooks.drain()
    assert sorted(came(receiver)) == [("delete", "b"), ("update", "a")]

    receiver.answer(200, 500)
    clock.advance(6)
    webhooks.drain()
    assert len(receiver.received) == 4  # one of the two has come
    clock.advance(1000)
    webhooks.drain()
    assert came(receiver)[-1] == ("update", "b")


def test_keys_that_are_handed_on_in_one_transaction(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    put(sessions, "x", "y", "z")
    webhooks.drain()
    receiver.forget()
    receiver.answer(500)
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "x"))
        session.flush()
        session.get_one(Product, "y").sku = "x"
        session.flush()
        session.get_one(Product, "z").sku = "y"
    webhooks.drain()
    assert len(receiver.received) == 1
    clock.advance(6)
    webhooks.drain()
    assert came(receiver)[1:] == [("delete", "x"), ("update", "x"), ("update", "y")]


def test_replica_of_keys_that_move_under_failures(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """Every third request fails; a copy that only applies what it gets ends as the database."""
    fails = iter(range(10_000))
    receiver.on_request = lambda _: receiver.answer(500 if next(fails) % 3 == 0 else 200)
    put(sessions, *"abc")
    for step in range(12):
        old, new = "abcd"[step % 3], "abcd"[(step + 3) % 4]
        with sessions.begin() as session:
            present = {one.sku for one in session.query(Product)}
            if old in present and new not in present:
                session.get_one(Product, old).sku = new
            for one in session.query(Product):
                one.stock += 1
        webhooks.drain()
    while webhooks.deliveries.list(state="pending"):
        clock.advance(100_000)
        webhooks.drain()
    assert webhooks.deliveries.list(state="dead") == []

    copy: dict[str, int] = {}
    seen: set[str] = set()
    for request, status in zip(receiver.received, _statuses(len(receiver.received)), strict=True):
        event = request.event
        if status == 500 or event["id"] in seen:  # it did not take it
            continue
        seen.add(event["id"])
        former = event.get("changes", {}).get("sku", {}).get("from")
        if former is not None:
            del copy[former]
        if event["operation"] == "create" or former is not None:
            assert event["resource_id"] not in copy
        copy[event["resource_id"]] = event["data"]["stock"]
    with sessions() as session:
        assert copy == {one.sku: one.stock for one in session.query(Product)}


def _statuses(count: int) -> list[int]:
    return [500 if number % 3 == 0 else 200 for number in range(count)]
