"""GitHub's habit: the signature by its documentation's own example, the rest by tables."""

from __future__ import annotations

import json
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from support.events import SECRETS, event, events, post, updated

from sqla_webhooks import ConfigurationError, Event, GitHub, Operation
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.encoding import dumps


def test_it_signs_as_in_the_example_of_githubs_documentation() -> None:
    """From "Validating webhook deliveries", section "Testing the webhook payload validation"."""
    made = post(GitHub(), event(), body=b"Hello, World!", secrets=("It's a Secret to Everybody",))

    assert GitHub().headers(made)["X-Hub-Signature-256"] == (
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    )


@pytest.mark.parametrize(
    ("one", "name", "expected"),
    [
        (event(), "order", '{"action":"created","order":{"id":7,"status":"pending"}}'),
        (
            updated(changes={"status": {"from": "pending", "to": "paid"}, "total": {"to": "99.50"}}),
            "order",
            (
                '{"action":"updated","order":{"id":7,"status":"paid","total":"99.50"},'
                '"changes":{"status":{"from":"pending"},"total":{}}}'
            ),
        ),
        (event(operation=Operation.DELETE), "order", '{"action":"deleted","order":{"id":7,"status":"pending"}}'),
        (event(operation=Operation.READ), "order", '{"action":"read","order":{"id":7,"status":"pending"}}'),
        (
            event(type="payment.captured", operation=Operation.EMIT),
            "payment",
            '{"action":"captured","order":{"id":7,"status":"pending"}}',
        ),
        (thinned(updated(), ("id",)), "order", '{"action":"updated","order":{"id":7},"truncated":true}'),
        (event(data={"name": "Zoë"}, context={"actor": 1}), "order", '{"action":"created","order":{"name":"Zoë"}}'),
        (event(resource="action", data={}), "action", '{"action":"created","action_":{}}'),
        (event(resource="changes", data={}), "changes", '{"action":"created","changes_":{}}'),
    ],
    ids=["create", "update", "delete", "read", "emit", "thin", "context", "action", "changes"],
)
def test_the_body_has_these_bytes_and_the_event_this_name(one: Event, name: str, expected: str) -> None:
    made = post(GitHub(), one)

    assert made.body == expected.encode()
    assert GitHub().headers(made)["X-GitHub-Event"] == name


def test_the_headers_are_these_and_no_others() -> None:
    headers = GitHub().headers(post(GitHub(), event()))

    assert headers.keys() == {
        "Content-Type",
        "X-GitHub-Event",
        "X-GitHub-Delivery",
        "X-GitHub-Hook-ID",
        "X-Hub-Signature-256",
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["X-GitHub-Hook-ID"] == "ep_1"


def test_the_delivery_is_a_uuid_the_same_for_every_attempt_and_for_no_other_event() -> None:
    def delivery(one: Event, **changes: Any) -> str:
        return GitHub().headers(post(GitHub(), one, **changes))["X-GitHub-Delivery"]

    assert UUID(delivery(event())).variant == RFC_4122
    # Receivers remember it: it must not become another with another version.
    assert delivery(event()) == "db365092-7803-5a3b-944d-be965986dd21"
    assert delivery(event()) == delivery(updated(), secrets=("x" * 16,), endpoint_id="ep_2")
    assert delivery(event()) != delivery(event(id="evt_2"))


@given(events())
def test_a_receiver_reads_what_has_happened(any_event: Event) -> None:
    said = json.loads(GitHub().body(any_event, dumps=dumps))

    assert said.pop("action") == any_event.type.partition(".")[2]
    assert said.pop("truncated", False) is any_event.truncated
    changes = said.pop("changes", None)
    assert list(said.values()) == [any_event.data]
    assert next(iter(said)).removesuffix("_") == any_event.resource.removesuffix("_")
    assert (changes is None) is (any_event.changes is None)
    for name, change in (any_event.changes or {}).items():
        assert changes.pop(name) == {key: value for key, value in change.items() if key != "to"}
    assert not changes


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_as_those_of_openfront(secret: str) -> None:
    assert GitHub().check_secret(secret) == secret
    with pytest.raises(ConfigurationError, match="it has 5 characters, not 16 to 500"):
        GitHub().check_secret("short")
