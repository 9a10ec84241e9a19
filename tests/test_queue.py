"""What waits for an endpoint that is disabled or deleted: how it is shown, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.queues import faults, rows_of
from support.receiver import Receiver
from support.shop import Product, put
from support.threads import Gate

from sqla_webhooks import DeliveryState, NewEndpoint, Webhooks, models
from sqla_webhooks.outbox import pages
from sqla_webhooks.relay.upkeep import EVERY

Sessions = sessionmaker[Session]


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


def sell(sessions: Sessions, sku: str, *stocks: int) -> None:
    for stock in stocks:
        with sessions.begin() as session:
            session.get_one(Product, sku).stock = stock


@pytest.fixture
def three_of_one_row(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """Three deliveries in one queue, whose head is to be retried, and is due; and the upkeep is."""
    receiver.answer(500)
    put(sessions, "a")
    sell(sessions, "a", 1, 2)
    webhooks.drain()
    assert [one.next_attempt_at is None for one in webhooks.deliveries.list()] == [True, True, False]
    clock.advance(6)


def shown(webhooks: Webhooks) -> list[DeliveryState]:
    return [one.state for one in webhooks.deliveries.list()]


def stored(engine: Engine) -> list[str]:
    return [row.state for row in rows_of(engine)]


def left(engine: Engine) -> list[Any]:
    """What is still in a lane or a queue, or due."""
    table = models.delivery
    places = (table.c.lane, table.c.ordering_key, table.c.former_key, table.c.next_attempt_at, table.c.lease_token)
    with engine.connect() as connection:
        return [row for row in connection.execute(select(*places)) if set(row) != {None}]


@pytest.mark.usefixtures("three_of_one_row")
def test_what_waits_for_a_deleted_endpoint_is_shown_as_cancelled_at_once_and_is_so_with_the_upkeep(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.delete(endpoint.id)
    assert shown(webhooks) == [DeliveryState.CANCELLED] * 3
    assert stored(engine) == ["pending"] * 3
    webhooks.drain()

    assert stored(engine) == ["cancelled"] * 3
    assert left(engine) == []
    assert {one.finished_at for one in webhooks.deliveries.list()} == {clock.now()}
    assert len(receiver.received) == 1


@pytest.mark.usefixtures("three_of_one_row")
def test_what_waits_for_a_disabled_endpoint_is_held_and_goes_on_when_it_is_enabled(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.disable(endpoint.id)
    webhooks.drain()
    assert shown(webhooks) == [DeliveryState.HELD] * 3
    assert len(receiver.received) == 1
    clock.advance(EVERY)
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()

    assert shown(webhooks) == [DeliveryState.DELIVERED] * 3
    assert [one["data"]["stock"] for one in receiver.events()] == [0, 0, 1, 2]
    assert left(engine) == []


@pytest.mark.usefixtures("three_of_one_row")
def test_what_was_held_and_then_deleted_is_cancelled(webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine) -> None:
    webhooks.endpoints.disable(endpoint.id)
    webhooks.endpoints.delete(endpoint.id)
    webhooks.drain()
    assert stored(engine) == ["cancelled"] * 3
    assert left(engine) == []


@pytest.mark.usefixtures("three_of_one_row")
def test_another_relay_does_it_once_the_first_has_ended(
    webhooks: Webhooks, endpoint: NewEndpoint, install: Install, engine: Engine, clock: MovedClock
) -> None:
    webhooks.drain()
    webhooks.endpoints.delete(endpoint.id)
    webhooks.uninstall()
    again = install(sessionmaker(engine), deliver=False, clock=clock)
    put(sessionmaker(engine), "b")
    clock.advance(60)
    again.drain()
    assert set(stored(engine)) <= {"cancelled", "delivered"}
    assert left(engine) == []


# --------------------------------------------------------------------------- while_disabled="drop"


@pytest.fixture
def dropping(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, while_disabled="drop")


def test_what_waits_for_a_disabled_endpoint_is_dropped(
    dropping: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    endpoint = dropping.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    sell(sessions, "a", 1, 2)
    dropping.drain()
    dropping.endpoints.disable(endpoint.id)
    sell(sessions, "a", 3)
    clock.advance(6)
    dropping.drain()
    assert stored(engine) == ["cancelled"] * 4
    assert left(engine) == []

    dropping.endpoints.enable(endpoint.id)
    sell(sessions, "a", 4)
    dropping.drain()
    assert [event["data"]["stock"] for event in receiver.events()] == [0, 4]


def test_what_was_not_dropped_yet_goes_on_when_the_endpoint_is_enabled(
    install: Install,
    sessions: Sessions,
    receiver: Receiver,
    engine: Engine,
    clock: MovedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first page of a row is cancelled, and then the endpoint is enabled."""
    monkeypatch.setattr(pages, "SIZE", 2)
    webhooks = install(sessions, deliver=False, clock=clock, while_disabled="drop")
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    sell(sessions, "a", 1, 2, 3)
    webhooks.drain()
    webhooks.endpoints.disable(endpoint.id)
    clock.advance(6)
    webhooks.drain(timeout=0)  # one turn
    assert sorted(stored(engine)) == ["cancelled", "cancelled", "pending", "pending"]
    assert faults(engine) == []
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    clock.advance(6)
    webhooks.drain()
    assert set(stored(engine)) == {"cancelled", "delivered"}
    assert left(engine) == []


def test_what_is_being_sent_is_not_cancelled(
    in_flight: Webhooks, install: Install, engine: Engine, gate: Gate, receiver: Receiver
) -> None:
    in_flight.endpoints.delete(in_flight.endpoints.list()[0].id)
    other = install(sessionmaker(engine), deliver=False)
    other.drain()
    assert stored(engine) == ["pending"]
    gate.open()
    receiver.wait_for(1)
    assert in_flight.stop()
    assert stored(engine) == ["delivered"]
