"""CloudEvents, read by the official SDK; signatures, by the independent library of Standard Webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from support.clock import START, MovedClock
from support.events import SECRETS, event, events, post, updated

from sqla_webhooks import CloudEvents, CloudEventsBinary, ConfigurationError, Event, Post, Standard, verify
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.encoding import dumps

BOTH = pytest.mark.parametrize("dialect", [CloudEvents(), CloudEventsBinary()], ids=lambda one: str(one.name))

odd = st.text("\0\x1f\x7f\x9f\ud800\udfff\ufdd0\ufffe\uffff\U0001ffff\U0010ffff é%\"'\\😀\u2028,/a")


def read(dialect: CloudEvents | CloudEventsBinary, made: Post) -> BaseCloudEvent:
    """What the SDK makes of the request."""
    return from_http_event(HTTPMessage(headers=dict(dialect.headers(made)), body=made.body))


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (
            event(),
            (
                '{"specversion":"1.0","id":"evt_1","source":"urn:sqla-webhooks","type":"order.created",'
                '"subject":"order/7","time":"2026-03-01T12:00:00.123Z","datacontenttype":"application/json",'
                '"data":{"resource":"order","resource_id":"7","operation":"create","data":{"id":7,"status":"pending"}}}'
            ),
        ),
        (
            thinned(updated(resource_id="ä%/ b"), ("id",)),
            (
                '{"specversion":"1.0","id":"evt_1","source":"urn:sqla-webhooks","type":"order.updated",'
                '"subject":"order/ä%/ b","time":"2026-03-01T12:00:00.123Z","datacontenttype":"application/json",'
                '"data":{"resource":"order","resource_id":"ä%/ b","operation":"update","data":{"id":7},'
                '"truncated":true}}'
            ),
        ),
    ],
    ids=["create", "thin update"],
)
def test_the_structured_body_has_these_bytes(one: Event, expected: str) -> None:
    assert CloudEvents().body(one, dumps=dumps) == expected.encode()


def test_the_binary_headers_and_body_are_these() -> None:
    dialect = CloudEventsBinary(source="https://shop.example/a%20b")
    made = post(dialect, event(resource_id='Euro € 😀 "%"'))
    headers = dict(dialect.headers(made))

    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        del headers[name]
    assert headers == {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "evt_1",
        "ce-source": "https://shop.example/a%2520b",
        "ce-type": "order.created",
        # The example of the HTTP binding, section 3.1.3.2, and what else it names there.
        "ce-subject": "order/Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25%22",
        "ce-time": "2026-03-01T12:00:00.123Z",
    }
    assert json.loads(made.body)["resource_id"] == 'Euro € 😀 "%"'


@BOTH
@given(any_event=events(), resource_id=st.text(max_size=20) | odd)
def test_the_sdk_reads_what_the_standard_body_says(
    dialect: CloudEvents | CloudEventsBinary, any_event: Event, resource_id: str
) -> None:
    any_event = event(**{name: getattr(any_event, name) for name in Event.__slots__} | {"resource_id": resource_id})
    standard = json.loads(Standard().body(any_event, dumps=dumps))
    made = post(dialect, any_event)

    seen = read(dialect, made)

    assert seen.get_data() == {name: standard[name] for name in standard if name not in ("id", "type", "timestamp")}
    assert (seen.get_id(), seen.get_type()) == (standard["id"], standard["type"])
    assert seen.get_time() == datetime.fromisoformat(standard["timestamp"])
    assert seen.get_source() == "urn:sqla-webhooks"
    assert str(seen.get_datacontenttype()) == "application/json"
    subject = str(seen.get_subject())
    assert [a for a, b in zip(subject, f"{any_event.resource}/{resource_id}", strict=True) if a != b] == [
        "\ufffd" for one in resource_id if is_forbidden(one)
    ]


def is_forbidden(character: str) -> bool:
    """As spec.md has it, in other words."""
    code = ord(character)
    control = code < 0x20 or 0x7F <= code <= 0x9F
    return control or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


@given(odd | st.text())
@example('Euro € 😀 "%"')
def test_the_sdk_writes_the_same_headers(resource_id: str) -> None:
    clean = "".join("-" if is_forbidden(one) else one for one in resource_id)
    one = event(resource_id=clean, timestamp=START)
    headers = CloudEventsBinary().headers(post(CloudEventsBinary(), one))
    attributes = {
        "id": "evt_1",
        "source": "urn:sqla-webhooks",
        "type": "order.created",
        "subject": f"order/{clean}",
        "datacontenttype": "application/json",
    }
    theirs = to_binary_event(CloudEvent(attributes, {})).headers

    assert {name: headers[name] for name in theirs if name.startswith("ce-") and name != "ce-time"} == {
        name: value for name, value in theirs.items() if name.startswith("ce-") and name != "ce-time"
    }
    assert unquote_to_bytes(headers["ce-subject"]).decode() == f"order/{clean}"
    assert all("!" <= letter <= "~" for letter in headers["ce-subject"])


@BOTH
def test_it_is_signed_by_each_secret_over_the_body(dialect: CloudEvents | CloudEventsBinary) -> None:
    made = post(dialect, event())
    headers = dialect.headers(made)

    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("evt_1", str(int(START.timestamp())))
    by_each = [Webhook(one).sign("evt_1", START, made.body.decode()) for one in SECRETS]
    assert headers["webhook-signature"] == " ".join(by_each)


def test_our_own_verify_takes_the_structured_form() -> None:
    made = post(CloudEvents(), event())

    seen = verify(made.body, CloudEvents().headers(made), SECRETS[1], clock=MovedClock())

    assert (seen["type"], seen["data"]["operation"]) == ("order.created", "create")


def test_a_batch_is_an_array_of_events_and_says_so() -> None:
    dialect = CloudEvents()
    made = post(dialect, event(), updated(id="evt_2"), id="batch_1")
    headers = dialect.headers(made)

    assert headers["Content-Type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert headers["webhook-id"] == "batch_1"
    # The SDK knows no batches: each event by itself.
    read_one = [
        from_http_event(HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(one).encode()))
        for one in json.loads(made.body)
    ]
    assert [one.get_id() for one in read_one] == ["evt_1", "evt_2"]
    assert dialect.headers(post(dialect, event()))["Content-Type"] == "application/cloudevents+json; charset=utf-8"


@BOTH
def test_a_subject_that_no_server_would_take_as_a_header_is_left_out(dialect: CloudEvents | CloudEventsBinary) -> None:
    longest = "ä" * 332 + "/"  # six bytes each, and one

    for resource_id, subject in ((longest + "x", f"order/{longest}x"), (longest + "xy", None)):
        seen = read(dialect, post(dialect, event(resource_id=resource_id)))
        assert seen.get_subject() == subject
        data = seen.get_data()
        assert isinstance(data, dict)
        assert data["resource_id"] == resource_id


@BOTH
@pytest.mark.parametrize(
    "source",
    [
        *("https://github.com/cloudevents", "mailto:cncf-wg-serverless@lists.cncf.io", "/sensors/tn-1234567/alerts"),
        *("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", "1-555-123-4567", "a/b:c", "?q", "#f", "//host:80/a//b"),
        *("https://[2001:db8::1]:8443/a?b/c?d#e", "https://me@shop.example", "a:/", "%C3%A4", "x" * 500),
    ],
)
def test_a_uri_reference_is_a_source(dialect: CloudEvents | CloudEventsBinary, source: str) -> None:
    made = type(dialect)(source=source)

    assert read(made, post(made, event())).get_source() == source


@BOTH
@pytest.mark.parametrize(
    "source",
    [
        *("", "a b", "ä", "a\r\nb", "%zz", "%", "a#b#c", "1-555:123", ":a", "<a>", '"', "a\\b", "a^b", "x" * 501),
        *("https://[::1", "https://a]b", "https://host:port/", "//a@b@c/\n", None, 7, b"a"),
    ],
)
def test_what_is_none_is_refused(dialect: CloudEvents | CloudEventsBinary, source: Any) -> None:
    with pytest.raises(ConfigurationError, match="source is "):
        type(dialect)(source=source)


@BOTH
def test_secrets_are_the_standard_ones(dialect: CloudEvents | CloudEventsBinary) -> None:
    assert dialect.check_secret(SECRETS[0]) == SECRETS[0]
    with pytest.raises(ConfigurationError, match="does not start with 'whsec_'"):
        dialect.check_secret("5f" * 32)


def test_the_times_of_all_zones_are_in_utc() -> None:
    one = event(timestamp=datetime(2026, 3, 1, 12, 0, 0, 999, tzinfo=UTC).astimezone())

    assert read(CloudEvents(), post(CloudEvents(), one)).get_time() == START
