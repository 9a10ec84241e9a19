"""Several events in one request: which, in what order, and what of them has been taken."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import LOCAL, Install
from support.receiver import Received, Receiver, Reply
from support.shop import Product, shop_at
from tenacity import stop_after_attempt, wait_fixed

import sqla_webhooks
from sqla_webhooks import DeliveryState, EndpointError, Webhooks
from sqla_webhooks.delivery import acknowledge

Sessions = sessionmaker[Session]


def put(sessions: Sessions, *rows: tuple[str, int]) -> None:
    for sku, stock in rows:
        with sessions.begin() as session:
            session.merge(Product(sku=sku, stock=stock))


def batch_of(request: Received) -> list[dict[str, Any]]:
    body = json.loads(request.body)
    assert isinstance(body, list)
    return body


def batches(receiver: Receiver) -> list[list[tuple[str, int]]]:
    return [[(one["data"]["sku"], one["data"]["stock"]) for one in batch_of(each)] for each in receiver.received]


def refusing(*ids: str) -> Reply:
    return Reply(200, json.dumps({"failed": list(ids)}).encode())


# --------------------------------------------------------------------------- what goes together


def test_what_waits_goes_in_one_request_with_one_signature(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], batch=10)
    put(sessions, *((f"{number:02}", number) for number in range(25)))
    drained = webhooks.drain()
    assert [len(one) for one in batches(receiver)] == [10, 10, 5]
    assert drained.attempts == 3
    assert [sku for one in batches(receiver) for sku, _ in one] == [f"{number:02}" for number in range(25)]
    for request in receiver.received:
        assert request.is_signed(endpoint.secret)
        assert request.id.startswith("batch_")
    assert len(set(receiver.ids)) == 3
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.DELIVERED}
    assert all(len(webhooks.deliveries.attempts(one.id)) == 1 for one in webhooks.deliveries.list())


def test_the_events_are_those_that_come_alone_elsewhere(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url("/batch"), ["*"], batch=3)
    webhooks.endpoints.create(receiver.url("/alone"), ["*"])
    put(sessions, ("a", 1), ("b", 2), ("c", 3))
    webhooks.drain()
    (batch,) = (one.body for one in receiver.received if one.path == "/batch")
    alone = [one.body for one in receiver.received if one.path == "/alone"]
    assert batch == b"[" + b",".join(alone) + b"]"


def test_a_single_event_is_an_array_too_and_has_its_own_id(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], batch=10)
    put(sessions, ("a", 1))
    webhooks.drain()
    (only,) = receiver.received
    assert [one["id"] for one in batch_of(only)] == [only.id]


def test_no_row_is_twice_in_one_request_and_each_keeps_its_order(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], batch=100)
    put(sessions, *((sku, stock) for stock in range(5) for sku in "abc"))
    webhooks.drain()
    for one in batches(receiver):
        assert len({sku for sku, _ in one}) == len(one)
    stocks: dict[str, list[int]] = defaultdict(list)
    for sku, stock in (pair for one in batches(receiver) for pair in one):
        stocks[sku].append(stock)
    assert stocks == {sku: [0, 1, 2, 3, 4] for sku in "abc"}


def test_a_request_has_a_mebibyte_at_the_most_unless_one_event_has_more(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, payload_limit=None)
    webhooks.endpoints.create(receiver.url(), ["*"], batch=100)

    @webhooks.enricher(Product)
    def _much(product: Product, payload: dict[str, Any]) -> None:
        payload["much"] = "x" * product.stock

    put(sessions, ("a", 600_000), ("b", 300_000), ("c", 300_000), ("d", 2_000_000), ("e", 1))
    webhooks.drain()
    assert [[sku for sku, _ in one] for one in batches(receiver)] == [["a", "b"], ["c"], ["d"], ["e"]]


def test_cloudevents_come_in_batches_by_their_own_content_type(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], batch=10, dialect="cloudevents")
    put(sessions, ("a", 1), ("b", 2))
    webhooks.drain()
    (only,) = receiver.received
    assert only.headers["content-type"].startswith("application/cloudevents-batch+json")
    assert [one["specversion"] for one in batch_of(only)] == ["1.0", "1.0"]
    assert only.is_signed(endpoint.secret)


@pytest.mark.parametrize("dialect", ["openfront", "github", "cloudevents-binary"])
def test_a_dialect_without_batches_refuses_them(webhooks: Webhooks, receiver: Receiver, dialect: str) -> None:
    with pytest.raises(EndpointError, match="sends each event by itself"):
        webhooks.endpoints.create(receiver.url(), ["*"], batch=2, dialect=dialect)
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], batch=2)
    with pytest.raises(EndpointError, match="sends each event by itself"):
        webhooks.endpoints.update(endpoint.id, dialect=dialect)
    assert webhooks.endpoints.get(endpoint.id).dialect == "standard"
    assert webhooks.endpoints.update(endpoint.id, dialect=dialect, batch=0).dialect == dialect


@pytest.mark.parametrize("batch", [-1, 101, 2.0, True, "2"])
def test_what_is_no_size_is_refused(webhooks: Webhooks, receiver: Receiver, batch: Any) -> None:
    with pytest.raises(EndpointError, match=r"^batch is "):
        webhooks.endpoints.create(receiver.url(), ["*"], batch=batch)


def test_a_rate_limit_counts_requests(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], batch=10, rate_limit=1)
    put(sessions, *((f"{number:02}", number) for number in range(40)))
    webhooks.drain()
    sent = [len(receiver.received)]
    for _ in range(3):
        clock.advance(1)
        webhooks.drain()
        sent.append(len(receiver.received))
    assert [later - earlier for earlier, later in pairwise(sent)] == [1] * (len(sent) - 1)
    assert all(len(one) == 10 for one in batches(receiver))


# --------------------------------------------------------------------------- what is taken of it


def test_what_is_named_as_failed_is_sent_again_alone_and_the_rest_is_delivered(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], batch=10)
    put(sessions, ("a", 1), ("b", 2), ("c", 3))
    refused: list[str] = []

    def refuse(request: Received) -> None:
        if not refused:
            refused.extend(one["id"] for one in batch_of(request) if one["data"]["sku"] == "b")
            receiver.answer(refusing(*refused, "evt_of_nobody"))

    receiver.on_request = refuse
    webhooks.drain()
    put(sessions, ("b", 20), ("a", 10))
    webhooks.drain()
    assert batches(receiver) == [[("a", 1), ("b", 2), ("c", 3)], [("a", 10)]]
    (waiting,) = [one for one in webhooks.deliveries.list(state="pending") if one.attempts]
    (attempt,) = webhooks.deliveries.attempts(waiting.id)
    assert (attempt.status, attempt.reason) == (None, "not_acknowledged")
    clock.advance(6)
    webhooks.drain()
    assert batches(receiver)[2:] == [[("b", 2)], [("b", 20)]]
    assert receiver.received[2].id == refused[0] == waiting.event_id
    assert all(one.is_signed(endpoint.secret) for one in receiver.received)


def test_a_batch_that_is_refused_is_sent_again_one_by_one(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], batch=10)
    put(sessions, ("a", 1), ("b", 2), ("c", 3))
    receiver.answer(500, 200, 500, 200)
    webhooks.drain()
    clock.advance(6)
    webhooks.drain()
    clock.advance(3600)
    webhooks.drain()
    assert [len(one) for one in batches(receiver)] == [3, 1, 1, 1, 1]
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.DELIVERED}


@pytest.mark.parametrize("status", [200, 500])
def test_what_an_answer_that_is_no_2xx_names_means_nothing(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, status: int
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], batch=10)
    put(sessions, ("a", 1), ("b", 2))
    receiver.answer(Reply(status, b'{"failed": []}'))
    webhooks.drain()
    assert len(webhooks.deliveries.list(state="delivered")) == (2 if status == 200 else 0)


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"[]", b'{"failed": 3}', b'{"failed": {"evt": 1}}', b'{"failed": [1, null]}', b"[" * 60_000]
)
def test_whatever_else_is_answered_has_taken_all(body: bytes) -> None:
    assert acknowledge.failed(body) == frozenset()


def test_more_ids_than_are_kept_of_an_answer_count(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], batch=100)
    put(sessions, *((f"{number:03}", number) for number in range(100)))
    receiver.on_request = lambda request: receiver.answer(refusing(*(one["id"] for one in batch_of(request))))
    webhooks.drain()
    assert len(webhooks.deliveries.list(state="pending")) == 100


def test_the_answer_of_an_endpoint_without_batches_names_nothing(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"])
    receiver.on_request = lambda request: receiver.answer(refusing(request.id))
    put(sessions, ("a", 1))
    webhooks.drain()
    assert len(webhooks.deliveries.list(state="delivered")) == 1


# --------------------------------------------------------------------------- whatever it answers

#: What is answered to a batch: a status, and which places of it are named as failed.
_ANSWERS = st.lists(
    st.tuples(st.sampled_from([200, 200, 200, 500, 429]), st.sets(st.integers(0, 4), max_size=3)), max_size=12
)


@given(
    size=st.integers(1, 5),
    changes=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=15),
    answers=_ANSWERS,
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_answered_each_event_is_taken_once_and_each_rows_in_order(
    receiver: Receiver, size: int, changes: list[tuple[str, int]], answers: list[tuple[int, set[int]]]
) -> None:
    left = list(answers)
    taken: list[tuple[str, str]] = []

    def answer(request: Received) -> None:
        batch = batch_of(request)
        assert len({one["resource_id"] for one in batch}) == len(batch) <= size
        status, places = left.pop(0) if left else (200, set())
        named = {batch[place]["id"] for place in places if place < len(batch)}
        if status == 200:
            taken.extend((one["resource_id"], one["id"]) for one in batch if one["id"] not in named)
        receiver.answer(Reply(status, json.dumps({"failed": sorted(named)}).encode()))

    clock = MovedClock()
    patient: dict[str, Any] = {"wait": wait_fixed(10), "stop": stop_after_attempt(100)}
    with (
        shop_at("sqlite://") as engine,
        sqla_webhooks.install(sessionmaker(engine), deliver=False, clock=clock, **LOCAL, **patient) as webhooks,
    ):
        webhooks.endpoints.create(receiver.url(), events=["*"], batch=size)
        put(sessionmaker(engine), *changes)
        receiver.on_request = answer
        webhooks.drain()
        while webhooks.deliveries.list(state="pending", limit=1):
            clock.advance(60)
            webhooks.drain()
        made = [(one.resource_id, one.id) for one in reversed(webhooks.events.list(limit=1000))]
    receiver.on_request = None
    assert sorted(taken) == sorted(made)
    for row in {row for row, _ in made}:
        assert [id_ for one, id_ in taken if one == row] == [id_ for one, id_ in made if one == row]
