"""An endpoint's filter, from `create()` to what arrives."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker
from support.local import Install
from support.receiver import Receiver
from support.shop import Product
from tenacity import stop_after_attempt

from sqla_webhooks import InvalidFilter, Webhooks, models

Sessions = sessionmaker[Session]


def stock_of(receiver: Receiver) -> list[tuple[str, str, int]]:
    return [(one.event["data"]["sku"], one.event["operation"], one.event["data"]["stock"]) for one in receiver.received]


def put(sessions: Sessions, sku: str, stock: int) -> None:
    with sessions.begin() as session:
        session.merge(Product(sku=sku, stock=stock))


def test_an_endpoint_gets_what_its_filter_lets_through_and_nothing_else(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), ["product.*"], filter={"data.stock": {"$gt": 5}})
    for sku, stock in (("a", 1), ("b", 6), ("a", 7), ("b", 2)):
        put(sessions, sku, stock)
    webhooks.drain()
    assert stock_of(receiver) == [("b", "create", 6), ("a", "update", 7)]


def test_a_filter_speaks_of_transitions(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    sold_out = {"changes.stock.from": {"$gt": 0}, "changes.stock.to": 0}
    webhooks.endpoints.create(receiver.url(), ["*"], filter=sold_out)
    for sku, stock in (("a", 0), ("b", 3), ("b", 0), ("a", 2), ("a", 1), ("a", 0)):
        put(sessions, sku, stock)
    webhooks.drain()
    assert stock_of(receiver) == [("b", "update", 0), ("a", "update", 0)]


def test_another_filter_counts_for_changes_from_now_on(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], filter={"data.sku": "a"})
    put(sessions, "a", 1)
    put(sessions, "b", 1)
    webhooks.drain()
    assert webhooks.endpoints.update(endpoint.id, filter={"data.sku": {"$in": ["b"]}}).filter == {
        "data.sku": {"$in": ["b"]}
    }
    put(sessions, "a", 2)
    put(sessions, "b", 2)
    webhooks.drain()
    assert webhooks.endpoints.update(endpoint.id, description="the same filter").filter is not None
    assert webhooks.endpoints.update(endpoint.id, filter={}).filter is None
    put(sessions, "a", 3)
    webhooks.drain()
    assert stock_of(receiver) == [("a", "create", 1), ("b", "update", 2), ("a", "update", 3)]


def test_an_event_that_is_too_large_is_held_against_the_filter_whole(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, payload_limit=1024, deliver=False)
    webhooks.endpoints.create(receiver.url("/few"), ["product.*"], filter={"data.stock": 1})

    @webhooks.enricher(Product)
    def _much(_product: Product, payload: dict[str, Any]) -> None:
        payload["much"] = "x" * 2000

    put(sessions, "a", 1)
    put(sessions, "b", 2)
    webhooks.drain()
    (only,) = receiver.received
    assert only.event["truncated"]
    assert only.event["resource_id"] == "a"


@pytest.mark.parametrize(
    ("filter", "place"),
    [
        ({"data.stock": {"$gt": True}}, 'filter["data.stock"]["$gt"]'),
        ({"$or": [{"data.stock": 1}, {"stock": 1}]}, 'filter["$or"][1]["stock"]'),
        ({"data.stock": {"$gte": 1}}, 'filter["data.stock"]["$gte"]'),
        ("data.stock > 1", "filter"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_place_of_the_fault(
    webhooks: Webhooks, receiver: Receiver, filter: Any, place: str
) -> None:
    with pytest.raises(InvalidFilter) as refused:
        webhooks.endpoints.create(receiver.url(), ["*"], filter=filter)
    assert place in str(refused.value)
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"])
    with pytest.raises(InvalidFilter):
        webhooks.endpoints.update(endpoint.id, filter=filter)
    assert webhooks.endpoints.get(endpoint.id).filter is None


def test_a_filter_that_cannot_be_read_loses_nothing_and_is_told_of(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], filter={"data.stock": 1})
    with webhooks.engine.begin() as connection:
        connection.execute(update(models.endpoint).values(filter='{"data.stock": {"$newer": 1}}'))
    put(sessions, "a", 2)
    with caplog.at_level(logging.ERROR, "sqla_webhooks"):
        webhooks.drain()
    assert stock_of(receiver) == [("a", "create", 2)]
    assert endpoint.id in caplog.text
    assert "$newer" in caplog.text


def test_a_replay_of_all_goes_by_the_filter_and_that_of_one_does_not(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url("/all"), ["*"])
    for sku, stock in (("a", 1), ("b", 6), ("c", 7)):
        put(sessions, sku, stock)
    webhooks.drain()
    few = webhooks.endpoints.create(receiver.url("/few"), ["*"], filter={"data.stock": {"$gt": 5}})
    receiver.forget()
    webhooks.events.replay_all(endpoint=few.id)
    webhooks.drain()
    assert [sku for sku, _, _ in stock_of(receiver)] == ["b", "c"]
    first = webhooks.events.list()[-1]
    webhooks.events.replay(first.id, endpoint=few.id)
    webhooks.drain()
    assert [sku for sku, _, _ in stock_of(receiver)] == ["b", "c", "a"]


def test_a_replay_leaves_out_what_was_for_another_endpoint_alone(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, "a", 1)
    one = webhooks.endpoints.create(receiver.url("/one"), ["*"])
    webhooks.backfill(Product, endpoint=one.id)
    webhooks.endpoints.test(one.id, type="product.created")
    other = webhooks.endpoints.create(receiver.url("/other"), ["*"])
    webhooks.drain()
    assert [each.path for each in receiver.received] == ["/one", "/one"]
    assert webhooks.events.replay_all(endpoint=other.id).total == 0
    assert webhooks.events.replay_all(endpoint=one.id, again=True).total == 2


def test_what_is_told_of_the_webhooks_themselves_passes_any_filter(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False, stop=stop_after_attempt(1))
    webhooks.endpoints.create(receiver.url("/dead"), ["product.*"])
    webhooks.endpoints.create(receiver.url("/told"), ["delivery.dead"], filter={"data.stock": 1})
    receiver.answer(500)
    put(sessions, "a", 2)
    webhooks.drain()
    assert [(one.path, one.type) for one in receiver.received][1:] == [("/told", "delivery.dead")]


def test_endpoints_with_filters_can_be_members_of_sets(webhooks: Webhooks, receiver: Receiver) -> None:
    for _ in range(2):
        webhooks.endpoints.create(receiver.url(), ["*"], filter={"data.stock": 1})
    assert len(set(webhooks.endpoints.list())) == 2
