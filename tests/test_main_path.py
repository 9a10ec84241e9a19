"""The main job, once through, by thread and by hand."""

from __future__ import annotations

from sqlalchemy.orm import Session, sessionmaker
from support.local import Install
from support.receiver import Receiver
from support.shop import Order

from sqla_webhooks import DeliveryState, Webhooks


def test_a_committed_change_arrives_signed(
    install: Install, sessions: sessionmaker[Session], receiver: Receiver
) -> None:
    webhooks = install(sessions)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["order.*"])

    with sessions.begin() as session:
        session.add(Order(quantity=2))

    (request,) = receiver.wait_for(1)
    event = request.verify(endpoint.secret)
    assert event["type"] == "order.created"
    assert event["data"]["total"] == "19.00"
    assert request.id == event["id"]


def test_drain_does_the_same_in_this_thread(
    webhooks: Webhooks, sessions: sessionmaker[Session], receiver: Receiver
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Order())

    drained = webhooks.drain()

    assert (drained.events, drained.attempts, drained.complete) == (1, 1, True)
    (request,) = receiver.received
    assert request.is_signed(endpoint.secret)
    (delivery,) = webhooks.deliveries.list()
    assert delivery.state is DeliveryState.DELIVERED
    assert webhooks.events.get(request.id).payload == request.body
