"""The queues of deliveries: what a fan-out that raced with a change of an endpoint leaves goes on all the same."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.receiver import Receiver
from support.shop import Product, put

from sqla_webhooks import DeliveryState, NewEndpoint, Webhooks, models

Sessions = sessionmaker[Session]


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


@pytest.fixture
def three_of_one_row(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """Three deliveries in one queue, whose head is to be retried."""
    receiver.answer(500)
    put(sessions, "a")
    for stock in (1, 2):
        with sessions.begin() as session:
            session.get_one(Product, "a").stock = stock
    webhooks.drain()
    assert [one.next_attempt_at is None for one in webhooks.deliveries.list()] == [True, True, False]
    clock.advance(6)


def write(engine: Engine, table: Any, **values: Any) -> None:
    """As a transaction would that committed between two looks of the fan-out's."""
    with engine.begin() as connection:
        connection.execute(update(table).values(**values))


def left(engine: Engine) -> list[Any]:
    """What is still in a queue, or due."""
    table = models.delivery
    unfinished = table.c.ordering_key.is_not(None) | table.c.next_attempt_at.is_not(None)
    with engine.connect() as connection:
        return list(connection.execute(select(table.c.id).where(unfinished)).scalars())


@pytest.mark.usefixtures("three_of_one_row")
def test_all_that_waits_for_an_endpoint_deleted_meanwhile_is_cancelled(
    webhooks: Webhooks, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    write(engine, models.endpoint, enabled=False, deleted_at=clock.now())
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.CANCELLED] * 3
    assert left(engine) == []
    assert len(receiver.received) == 1


@pytest.mark.usefixtures("three_of_one_row")
def test_all_that_waits_for_an_endpoint_disabled_meanwhile_goes_on_when_it_is_enabled(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine, receiver: Receiver
) -> None:
    write(engine, models.endpoint, enabled=False)
    webhooks.drain()
    assert len(receiver.received) == 1
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED] * 3
    assert [one["data"]["stock"] for one in receiver.events()] == [0, 0, 1, 2]
    assert left(engine) == []


@pytest.mark.usefixtures("three_of_one_row")
def test_what_was_held_as_its_endpoint_was_enabled_goes_on(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    """The relay saw it disabled, and wrote after `enable()` had looked for what was held."""
    webhooks.endpoints.disable(endpoint.id)
    webhooks.drain()
    webhooks.endpoints.enable(endpoint.id)
    write(engine, models.delivery, state=DeliveryState.HELD, next_attempt_at=None)
    clock.advance(1)
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED] * 3
    assert left(engine) == []


@pytest.mark.usefixtures("three_of_one_row")
def test_what_was_passed_over_as_its_endpoint_was_enabled_goes_on(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    """What finished its head saw it held, and `enable()` saw its head unfinished: due by nobody."""
    webhooks.endpoints.disable(endpoint.id)
    webhooks.drain()
    clock.advance(1)
    webhooks.endpoints.enable(endpoint.id)
    write(engine, models.delivery, next_attempt_at=None)
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED] * 3
    assert left(engine) == []


@pytest.mark.usefixtures("three_of_one_row")
def test_a_relay_that_begins_lets_go_on_what_was_left_held(
    webhooks: Webhooks, install: Install, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    write(engine, models.delivery, state=DeliveryState.HELD, next_attempt_at=None)
    webhooks.uninstall()
    again = install(sessionmaker(engine), deliver=False, clock=clock)
    again.drain()

    assert [one.state for one in again.deliveries.list()] == [DeliveryState.DELIVERED] * 3


@pytest.mark.usefixtures("three_of_one_row")
def test_all_that_waits_for_an_endpoint_disabled_and_deleted_is_cancelled(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine
) -> None:
    webhooks.endpoints.disable(endpoint.id)
    webhooks.endpoints.delete(endpoint.id)
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.CANCELLED] * 3
    assert left(engine) == []
