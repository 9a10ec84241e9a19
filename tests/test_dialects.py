"""The bytes and the headers that an endpoint gets."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook
from support.clock import START, MovedClock
from support.events import SECRETS, event, events, post, updated
from support.hostile import CREDENTIALS, SECRET, claim_for, stored
from support.receiver import Receiver
from support.shop import Product

import sqla_webhooks
from sqla_webhooks import Webhooks
from sqla_webhooks.delivery.credentials import Credentials
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.request import USER_AGENT, request
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.encoding import TABLE, Encoding
from sqla_webhooks.events import Event, Operation


@pytest.mark.parametrize(
    ("one", "body"),
    [
        (
            event(),
            (
                b'{"type":"order.created","timestamp":"2026-03-01T12:00:00.123Z","id":"evt_1","resource":"order",'
                b'"resource_id":"7","operation":"create","data":{"id":7,"status":"pending"}}'
            ),
        ),
        (
            event(
                type="order.updated",
                operation=Operation.UPDATE,
                data={"status": "paid", "id": 7},
                changes={"status": {"from": "pending", "to": "paid"}},
            ),
            (
                b'{"type":"order.updated","timestamp":"2026-03-01T12:00:00.123Z","id":"evt_1","resource":"order",'
                b'"resource_id":"7","operation":"update","data":{"status":"paid","id":7},'
                b'"changes":{"status":{"from":"pending","to":"paid"}}}'
            ),
        ),
        (
            event(type="order.deleted", operation=Operation.DELETE, data={}),
            (
                b'{"type":"order.deleted","timestamp":"2026-03-01T12:00:00.123Z","id":"evt_1","resource":"order",'
                b'"resource_id":"7","operation":"delete","data":{}}'
            ),
        ),
    ],
    ids=["create", "update", "delete"],
)
def test_the_body_has_these_keys_in_this_order_and_nothing_else(one: Event, body: bytes) -> None:
    assert Standard().body(one, dumps=TABLE.dumps) == body


def test_a_thin_body_has_the_key_and_says_that_it_is_not_whole() -> None:
    one = event(
        type="order.updated",
        operation=Operation.UPDATE,
        data={"status": "paid", "id": 7, "shop": 1},
        changes={"status": {"from": "pending", "to": "paid"}},
        links={"tags": {"added": ["3"], "removed": []}},
    )
    assert Standard().body(thinned(one, ("shop", "id", "unknown")), dumps=TABLE.dumps) == (
        b'{"type":"order.updated","timestamp":"2026-03-01T12:00:00.123Z","id":"evt_1","resource":"order",'
        b'"resource_id":"7","operation":"update","data":{"shop":1,"id":7},"truncated":true}'
    )


def test_a_thin_body_says_what_the_key_was() -> None:
    one = event(
        operation=Operation.UPDATE,
        data={"status": "paid", "id": 8},
        changes={"status": {"from": "pending", "to": "paid"}, "id": {"from": 7, "to": 8}},
    )
    body = Standard().body(thinned(one, ("id",)), dumps=TABLE.dumps)
    assert body.endswith(b'"data":{"id":8},"changes":{"id":{"from":7,"to":8}},"truncated":true}')


def test_a_thin_event_says_who_did_it_and_nothing_of_links() -> None:
    one = updated(links={"tags": {"added": ["3"]}}, context={"actor": "Zoë"})

    assert thinned(one, ()) == replace(one, data={}, changes=None, links=None, context={"actor": "Zoë"}, truncated=True)


def test_links_context_and_truncated_stand_at_the_end_in_this_order() -> None:
    one = updated(links={"tags": {"added": ["3"]}}, context={"actor": 1}, truncated=True)

    body = Standard().body(one, dumps=TABLE.dumps)

    assert body.endswith(b'"to":"paid"}},"links":{"tags":{"added":["3"]}},"context":{"actor":1},"truncated":true}')
    assert b"context" not in Standard().body(event(context={}), dumps=TABLE.dumps)


@given(events())
def test_a_body_says_all_that_the_event_does(any_event: Event) -> None:
    said = json.loads(Standard().body(any_event, dumps=TABLE.dumps))

    assert datetime.fromisoformat(said.pop("timestamp")) == any_event.timestamp.astimezone(UTC).replace(
        microsecond=any_event.timestamp.microsecond // 1000 * 1000
    )
    assert said.pop("truncated", False) is any_event.truncated
    assert said.pop("context", {}) == (any_event.context or {})
    assert said.pop("links", None) == any_event.links
    assert said.pop("changes", None) == any_event.changes
    assert said == {
        "type": any_event.type,
        "id": any_event.id,
        "resource": any_event.resource,
        "resource_id": any_event.resource_id,
        "operation": str(any_event.operation),
        "data": any_event.data,
    }


def test_an_update_without_known_changes_says_so() -> None:
    body = Standard().body(event(operation=Operation.UPDATE, changes={}), dumps=TABLE.dumps)

    assert body.endswith(b',"changes":{}}')


def test_the_body_is_utf8_and_escapes_no_more_than_it_must() -> None:
    body = Standard().body(event(data={"name": 'Zoë "☃" \u2028\n'}), dumps=TABLE.dumps)

    assert body.endswith('"data":{"name":"Zoë \\"☃\\" \u2028\\n"}}'.encode())


@pytest.mark.parametrize(
    ("microsecond", "written"), [(0, "00.000Z"), (999, "00.000Z"), (1000, "00.001Z"), (999_999, "00.999Z")]
)
def test_the_timestamp_has_milliseconds(microsecond: int, written: str) -> None:
    body = Standard().body(event(timestamp=START.replace(microsecond=microsecond)), dumps=TABLE.dumps)

    assert f'"timestamp":"2026-03-01T12:00:{written}"'.encode() in body


def test_what_no_rule_knows_is_reported() -> None:
    class Odd: ...

    reported: list[type] = []

    Standard().body(event(data={"odd": Odd(), "price": Decimal("9.50")}), dumps=Encoding(report=reported.append).dumps)

    assert reported == [Odd]


# --- the request of one attempt


def test_the_request_has_these_headers_and_the_stored_bytes() -> None:
    payload = '{"type":"order.created","name":"Zoë"}'.encode()
    claim = claim_for("https://partner.example/hooks", payload)
    now = START + timedelta(microseconds=999_999)

    made = request(stored(claim), CREDENTIALS, dialect=Standard(), now=now)

    assert made.claim is claim
    assert made.body == payload
    assert made.headers == {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(START.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("evt_1", START, payload.decode()),
    }


def test_a_batch_is_signed_as_one() -> None:
    one = post(Standard(), event(), updated(id="evt_2"), id="batch_1")

    headers = Standard().headers(one)

    assert [body["id"] for body in json.loads(one.body)] == ["evt_1", "evt_2"]
    assert headers["webhook-id"] == "batch_1"
    by_each = [Webhook(secret).sign("batch_1", START, one.body.decode()) for secret in SECRETS]
    assert headers["webhook-signature"] == " ".join(by_each)


def test_the_user_agent_says_who_and_which_version() -> None:
    made = request(stored(claim_for("https://partner.example/hooks")), CREDENTIALS, dialect=Standard(), now=START)

    assert made.headers["User-Agent"] == f"sqla-webhooks/{sqla_webhooks.__version__}"


def test_the_next_attempt_has_the_same_id_and_its_own_timestamp_and_signature() -> None:
    claim = claim_for("https://partner.example/hooks")
    first = request(stored(claim), CREDENTIALS, dialect=Standard(), now=START)
    second = request(stored(replace(claim, attempt=2)), CREDENTIALS, dialect=Standard(), now=START + timedelta(hours=1))

    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 3600
    assert second.headers["webhook-signature"] != first.headers["webhook-signature"]
    assert second.body == first.body


def test_a_repr_shows_neither_secret_nor_signature_nor_body() -> None:
    claim = claim_for("https://partner.example/hooks", b'{"card":"4111"}')
    made = request(stored(claim), CREDENTIALS, dialect=Standard(), now=START)

    shown = repr(made)

    assert SECRET not in shown
    assert made.headers["webhook-signature"] not in shown
    assert "4111" not in shown


def test_a_repr_shows_no_secret_and_no_header_at_any_level() -> None:
    claim = claim_for("https://partner.example/hooks")
    sealed = replace(claim.destination, headers=f'{{"X-Key": "{SECRET}"}}')
    opened = Credentials(CREDENTIALS.secrets, {"X-Key": SECRET})

    for shown in (claim, sealed, sealed.secrets, replace(claim, destination=sealed), opened, opened.secrets):
        assert SECRET not in repr(shown)
    assert "ep_1" in repr(sealed)


def test_the_bytes_that_are_stored_are_those_that_are_sent_in_every_attempt(
    webhooks: Webhooks, sessions: sessionmaker[Session], receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.*"])
    with sessions.begin() as session:
        product = Product(sku="a/ß", name='Zoë "☃" \u2028', details={"weight": 1.0, "b": None, "a": [1]})
        session.add(product)
    with sessions.begin() as session:
        session.merge(Product(sku="a/ß", name="new"))
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a/ß"))
    receiver.answer(500)

    webhooks.drain()
    clock.advance(10)
    webhooks.drain()

    assert receiver.types == ["product.created", "product.created", "product.updated", "product.deleted"]
    assert len({one.id for one in receiver.received}) == 3
    for one in receiver.received:
        assert one.body == webhooks.events.get(one.id).payload
        assert one.is_signed(endpoint.secret)
