"""Messages that are made and signed by hand, as the documents of their dialect say, and what may be done to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from receivers.checks import Refused
from receivers.served import Receives

SECRET, OTHER, STRANGE = ("whsec_" + base64.b64encode(bytes([one]) * 32).decode() for one in (1, 2, 3))


@dataclass(frozen=True)
class Message:
    headers: dict[str, str]
    body: bytes


Step = Callable[[Message], Message]


def compact(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


ORDER = {"id": 1, "status": "bezahlt – 支払い", "total": "99.50", "note": None}
PLAIN, STRUCTURED = ("Content-Type", "application/json"), ("Content-Type", "application/cloudevents+json")
JSON = dict([PLAIN])
OPENFRONT = {
    "event": "order.update",
    "timestamp": "2026-03-01T12:00:00.000Z",
    "listKey": "Order",
    "operation": "update",
    "data": ORDER,
    "previousData": ORDER | {"status": "pending"},
    "changes": {"status": {"from": "pending", "to": ORDER["status"]}},
}
OPENFRONT_HEADERS = {
    **JSON,
    "X-OpenFront-Topic": "order.updated",
    "X-OpenFront-ListKey": "Order",
    "X-OpenFront-Operation": "update",
    "X-OpenFront-Delivery-ID": "d1",
}
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/shop",
    "type": "order.updated",
    "time": "2026-03-01T12:00:00.000Z",
}

UNSIGNED = {
    "standard": Message(JSON, compact({"type": "order.updated", "timestamp": ATTRIBUTES["time"], "data": ORDER})),
    "cloudevents": Message(
        dict([STRUCTURED]),
        compact({**ATTRIBUTES, "datacontenttype": "application/json", "data": ORDER}),
    ),
    "cloudevents-binary": Message(
        {**JSON, **{f"ce-{name}": value for name, value in ATTRIBUTES.items()}}, compact(ORDER)
    ),
    "github": Message({**JSON, "X-GitHub-Event": "order", "X-GitHub-Delivery": "d1"}, compact({"action": "updated"})),
    "openfront": Message(OPENFRONT_HEADERS, compact(OPENFRONT)),
}


def now() -> int:
    return int(datetime.now(UTC).timestamp())  # noqa: TID251  # the packages look at it too


def signed(dialect: str, message: Message, *, secret: str = SECRET, at: int | None = None) -> Message:
    """By hand, as the dialect's documents say."""
    if dialect in {"github", "openfront"}:
        name = {"github": "X-Hub-Signature-256", "openfront": "X-OpenFront-Webhook-Signature"}[dialect]
        digest = hmac.digest(secret.encode(), message.body, hashlib.sha256).hex()
        return header(name, f"sha256={digest}")(message)
    timestamp = str(at or now())
    content = b".".join([b"m1", timestamp.encode(), message.body])
    signature = base64.b64encode(hmac.digest(base64.b64decode(secret[len("whsec_") :]), content, hashlib.sha256))
    headers = {"webhook-id": "m1", "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature.decode()}"}
    return replace(message, headers=message.headers | headers)


# --------------------------------------------------------------------------- what may be done to a message


def header(name: str, value: str | None) -> Step:
    """Set it, or take it away."""

    def step(message: Message) -> Message:
        assert value is not None or name in message.headers
        headers = {one: text for one, text in message.headers.items() if one != name}
        return replace(message, headers=headers if value is None else {**headers, name: value})

    return step


def header_as(name: str, change: Callable[[str], str]) -> Step:
    return lambda message: header(name, change(message.headers[name]))(message)


def body(change: Callable[[dict[str, Any]], object]) -> Step:
    """As the change of its content leaves it."""

    def step(message: Message) -> Message:
        content = json.loads(message.body)
        change(content)
        return replace(message, body=compact(content))

    return step


def key(name: str, value: Any) -> Step:
    return body(lambda content: content.update({name: value}))


def without(name: str) -> Step:
    return body(lambda content: content.pop(name))


def item(of: str, name: str, value: Any) -> Step:
    return body(lambda content: content[of].update({name: value}))


def raw(change: Callable[[bytes], bytes]) -> Step:
    return lambda message: replace(message, body=change(message.body))


def in_turn(*steps: Step) -> Step:
    def every(message: Message) -> Message:
        for step in steps:
            message = step(message)
        return message

    return every


def openfront(operation: str, list_key: str, verb: str) -> Step:
    """Headers and body say the same, and nothing of an update."""
    return in_turn(
        without("previousData"),
        without("changes"),
        key("event", f"{list_key.lower()}.{operation}"),
        key("operation", operation),
        key("listKey", list_key),
        header("X-OpenFront-Topic", f"{list_key.lower()}.{verb}"),
        header("X-OpenFront-ListKey", list_key),
        header("X-OpenFront-Operation", operation),
    )


def refusal_of(receiver: Receives, message: Message) -> str | None:
    try:
        receiver.receive(message.headers, message.body)
    except Refused as refused:
        return str(refused)
    return None
