"""`endpoints.test()`: an example, sent to one endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.receiver import Receiver
from support.shop import Order, Product

from sqla_webhooks import DeliveryState, InvalidSubscription, NotFound, Webhooks

Sessions = sessionmaker[Session]


def test_the_example_of_the_catalogue_is_sent_signed(webhooks: Webhooks, receiver: Receiver) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["product.updated"])
    delivery = webhooks.endpoints.test(endpoint.id)
    assert (delivery.state, delivery.endpoint_id) == (DeliveryState.PENDING, endpoint.id)
    webhooks.drain()
    (only,) = receiver.received
    assert only.is_signed(endpoint.secret)
    assert only.id == only.event["id"] == delivery.event_id
    assert only.id.startswith("evt_test_")
    described = webhooks.catalogue()["product.updated"]
    Draft202012Validator(described.schema).validate(only.event)
    for key in ("type", "resource", "operation", "data", "changes"):
        assert only.event[key] == described.example[key]
    assert webhooks.deliveries.get(delivery.id).state is DeliveryState.DELIVERED


def test_every_event_of_the_catalogue_can_be_sent(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    # Not of the classes of all other tests too.
    webhooks = install(sessions, deliver=False, clock=clock, include=[Product, Order])
    endpoint = webhooks.endpoints.create(receiver.url(), ["product.created"], filter={"data.stock": -1})
    types = [one.type for one in webhooks.catalogue()]
    for type_ in types:
        webhooks.endpoints.test(endpoint.id, type=type_)
    webhooks.drain()
    assert sorted(receiver.types) == sorted(types)


@pytest.mark.parametrize(
    ("pattern", "type_"),
    [("*", None), ("product.*", "product.created"), ("*.deleted", None), ("delivery.dead", "delivery.dead")],
)
def test_by_default_it_is_one_that_the_endpoint_has_asked_for(
    webhooks: Webhooks, receiver: Receiver, pattern: str, type_: str | None
) -> None:
    webhooks.endpoints.test(webhooks.endpoints.create(receiver.url(), [pattern]).id)
    webhooks.drain()
    (sent,) = receiver.types
    if type_ is not None:
        assert sent == type_
    assert pattern == "*" or pattern.partition(".")[0] in ("*", sent.partition(".")[0])


@pytest.mark.parametrize("dialect", ["openfront", "github", "cloudevents", "cloudevents-binary"])
def test_it_comes_in_the_endpoints_dialect(webhooks: Webhooks, receiver: Receiver, dialect: str) -> None:
    webhooks.endpoints.test(webhooks.endpoints.create(receiver.url(), ["product.*"], dialect=dialect).id)
    webhooks.drain()
    (only,) = receiver.received
    named = {"openfront": "x-openfront-delivery-id", "github": "x-github-delivery"}.get(dialect, "webhook-id")
    assert named in only.headers


def test_one_that_fails_holds_no_row_up_and_is_tried_again(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["product.*"])
    example = webhooks.catalogue()["product.created"].example
    receiver.answer(500)
    webhooks.endpoints.test(endpoint.id, type="product.created")
    webhooks.drain()
    with sessions.begin() as session:
        session.add(Product(sku=example["data"]["sku"]))
    webhooks.drain()
    webhooks.endpoints.test(endpoint.id, type="product.created")
    webhooks.drain()
    assert len(receiver.received) == 3
    clock.advance(6)
    webhooks.drain()
    assert receiver.ids.count(receiver.ids[0]) == 2


def test_a_tenants_endpoint_can_be_tried_and_nobody_elses_gets_it(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False, tenant=lambda _: "acme")
    endpoint = webhooks.endpoints.create(receiver.url("/acme"), ["*"], tenant="acme")
    others = [
        webhooks.endpoints.create(receiver.url("/other"), ["*"], tenant="other"),
        webhooks.endpoints.create(receiver.url("/all"), ["*"]),
    ]
    delivery = webhooks.endpoints.test(endpoint.id, type="product.created")
    webhooks.drain()
    assert [one.path for one in receiver.received] == ["/acme"]
    assert [(one.id, one.tenant) for one in webhooks.events.list()] == [(delivery.event_id, "acme")]
    with pytest.raises(NotFound, match=f"no event that may reach {others[0].id} has the id '{delivery.event_id}'"):
        webhooks.events.replay(delivery.event_id, endpoint=others[0].id)


def test_what_cannot_be_is_refused(webhooks: Webhooks, receiver: Receiver) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["product.*"])
    with pytest.raises(NotFound, match=r"no event is called 'product\.sold'"):
        webhooks.endpoints.test(endpoint.id, type="product.sold")
    with pytest.raises(NotFound, match="no endpoint has the id"):
        webhooks.endpoints.test("ep_0")
    webhooks.endpoints.delete(endpoint.id)
    with pytest.raises(NotFound, match="no endpoint has the id"):
        webhooks.endpoints.test(endpoint.id)
    webhooks.drain()
    assert receiver.received == []


def test_where_nothing_can_occur_that_was_asked_for_that_is_said(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    first = install(sessions, deliver=False)
    id_ = first.endpoints.create(receiver.url(), ["product.*"]).id
    first.uninstall()
    # Another class of that name may have been mapped by another test.
    other: Any = install(sessions, deliver=False, include=[Order])
    with pytest.raises(InvalidSubscription, match=r"nothing that can occur here .* product\.\*"):
        other.endpoints.test(id_)
