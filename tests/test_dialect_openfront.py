"""Openfront's way, byte for byte: the tables here are written from its description, not from our code."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.events import SECRETS, event, events, post, updated

from sqla_webhooks import ConfigurationError, Event, OpenFront, Operation
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.encoding import dumps

#: 32 random bytes in hexadecimal, as Openfront makes them.
HEX = "5f" * 32


def body(one: Event, **options: Any) -> bytes:
    return OpenFront(**options).body(one, dumps=dumps)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (
            event(data={"id": 7, "status": "pending", "note": "Zoë"}),
            (
                '{"event":"order.create","timestamp":"2026-03-01T12:00:00.123Z","listKey":"Order","operation":"create",'
                '"data":{"id":7,"status":"pending","note":"Zoë"}}'
            ),
        ),
        (
            updated(),
            (
                '{"event":"order.update","timestamp":"2026-03-01T12:00:00.123Z","listKey":"Order","operation":"update",'
                '"data":{"id":7,"status":"paid","total":"99.50"},'
                '"previousData":{"id":7,"status":"pending","total":"99.50"},'
                '"changes":{"status":{"from":"pending","to":"paid"}}}'
            ),
        ),
        (
            event(type="order.deleted", operation=Operation.DELETE),
            (
                '{"event":"order.delete","timestamp":"2026-03-01T12:00:00.123Z","listKey":"Order","operation":"delete",'
                '"data":{"id":7,"status":"pending"}}'
            ),
        ),
        (
            event(type="order.read", operation=Operation.READ),
            (
                '{"event":"order.read","timestamp":"2026-03-01T12:00:00.123Z","listKey":"Order","operation":"read",'
                '"data":{"id":7,"status":"pending"}}'
            ),
        ),
        (
            event(type="cart.completed", operation=Operation.EMIT),
            (
                '{"event":"cart.completed","timestamp":"2026-03-01T12:00:00.123Z","listKey":"Order","operation":"emit",'
                '"data":{"id":7,"status":"pending"}}'
            ),
        ),
        (
            thinned(updated(), ("id",)),
            (
                '{"event":"order.update","timestamp":"2026-03-01T12:00:00.123Z","listKey":"Order","operation":"update",'
                '"data":{"id":7},"previousData":{"id":7},"changes":{},"truncated":true}'
            ),
        ),
        (
            event(resource="order_line", type="order_line.created", data={}),
            (
                '{"event":"orderline.create","timestamp":"2026-03-01T12:00:00.123Z","listKey":"OrderLine",'
                '"operation":"create","data":{}}'
            ),
        ),
    ],
    ids=["create", "update", "delete", "read", "emit", "thin", "two words"],
)
def test_the_body_has_these_bytes(one: Event, expected: str) -> None:
    assert body(one) == expected.encode()


def test_what_an_attribute_was_is_left_out_where_nobody_knows() -> None:
    one = updated(changes={"status": {"to": "paid"}, "total": {"from": None, "to": "99.50"}})

    assert json.loads(body(one))["previousData"] == {"id": 7, "total": None}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (event(), ("order.created", "Order", "create")),
        (updated(), ("order.updated", "Order", "update")),
        (event(operation=Operation.DELETE), ("order.deleted", "Order", "delete")),
        (event(operation=Operation.READ), ("order.read", "Order", "read")),
        (event(type="payment.captured", operation=Operation.EMIT), ("payment.captured", "Order", "emit")),
        (event(resource="order_line"), ("orderline.created", "OrderLine", "create")),
        (event(resource="APIKey_2"), ("apikey2.created", "APIKey2", "create")),
        (event(resource="__"), ("__.created", "__", "create")),
    ],
)
def test_the_headers_are_these_and_no_others(one: Event, expected: tuple[str, str, str]) -> None:
    dialect = OpenFront()
    made = post(dialect, one, secrets=(HEX, *SECRETS))

    assert list(dialect.headers(made).items()) == [
        ("Content-Type", "application/json"),
        ("X-OpenFront-Webhook-Signature", f"sha256={hmac.new(HEX.encode(), made.body, hashlib.sha256).hexdigest()}"),
        ("X-OpenFront-Topic", expected[0]),
        ("X-OpenFront-ListKey", expected[1]),
        ("X-OpenFront-Operation", expected[2]),
        ("X-OpenFront-Delivery-ID", "evt_1"),
    ]


def test_a_list_key_may_be_called_otherwise() -> None:
    dialect = OpenFront(list_keys={"order": "PurchaseOrder"})
    headers = dialect.headers(post(dialect, event()))

    assert json.loads(body(event(), list_keys=dialect.list_keys))["listKey"] == "PurchaseOrder"
    assert json.loads(body(event(), list_keys=dialect.list_keys))["event"] == "purchaseorder.create"
    assert (headers["X-OpenFront-Topic"], headers["X-OpenFront-ListKey"]) == ("purchaseorder.created", "PurchaseOrder")
    assert json.loads(body(event(resource="line"), list_keys=dialect.list_keys))["listKey"] == "Line"


@pytest.mark.parametrize(
    "list_keys",
    [["order"], None, {"order": ""}, {"order": "Pürchase"}, {"order": "A b"}, {"order": "A\r\n"}, {7: "A"}, {"a": 7}],
)
def test_what_is_no_list_key_is_refused(list_keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="list_keys"):
        OpenFront(list_keys=list_keys)


def test_the_list_keys_are_those_of_the_call() -> None:
    given_keys = {"order": "A"}
    dialect = OpenFront(list_keys=given_keys)
    given_keys["order"] = "B"

    assert dialect == OpenFront(list_keys={"order": "A"})
    assert len({dialect, OpenFront(list_keys={"order": "A"}), OpenFront()}) == 2


@given(events())
def test_a_receiver_reads_what_has_happened(any_event: Event) -> None:
    dialect = OpenFront()
    made = post(dialect, any_event)
    said, headers = json.loads(made.body), dialect.headers(made)

    rest = {"truncated"} if any_event.truncated else set()
    if any_event.operation is Operation.UPDATE:
        rest |= {"previousData", "changes"}
        changes = any_event.changes or {}
        assert said["changes"] == changes
        # Put together from the other end: each attribute by itself.
        known = {*any_event.data, *changes} - {name for name, change in changes.items() if "from" not in change}
        assert said["previousData"] == {
            name: changes[name]["from"] if name in changes else any_event.data[name] for name in known
        }
    assert said.keys() - {"event", "timestamp", "listKey", "operation", "data"} == rest
    assert said["data"] == any_event.data
    assert (headers["X-OpenFront-ListKey"], headers["X-OpenFront-Operation"]) == (said["listKey"], said["operation"])
    assert headers["X-OpenFront-Topic"].removesuffix("d") == said["event"].removesuffix("d")
    assert headers["X-OpenFront-Webhook-Signature"] == (
        f"sha256={hmac.digest(SECRETS[0].encode(), made.body, 'sha256').hex()}"
    )


@given(st.text() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=14, max_size=510) | st.none())
def test_a_secret_is_printable_ascii(secret: Any) -> None:
    printable = isinstance(secret, str) and all(" " <= one <= "~" for one in secret)
    if printable and 16 <= len(secret) <= 500 and secret == secret.strip():
        assert OpenFront().check_secret(secret) == secret
        return
    with pytest.raises(ConfigurationError) as caught:
        OpenFront().check_secret(secret)
    # A shorter one may be a word of the message.
    assert not isinstance(secret, str) or len(secret) < 16 or secret not in str(caught.value)


@pytest.mark.parametrize("secret", [HEX, *SECRETS, "x" * 16, "x" * 500])
def test_secrets_of_openfronts_receivers_and_ours_will_do(secret: str) -> None:
    assert OpenFront().check_secret(secret) == secret


@pytest.mark.parametrize("secret", ["", "x" * 15, "x" * 501, f" {HEX}", f"{HEX} ", f"{HEX}\n", f"{HEX}é", HEX.encode()])
def test_other_secrets_are_refused_and_not_repeated(secret: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpenFront().check_secret(secret)
    assert HEX not in str(caught.value)
