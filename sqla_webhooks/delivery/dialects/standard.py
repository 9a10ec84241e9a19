"""
Standard Webhooks 1.0, the dialect of an endpoint that names none.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
sections "Payload structure" and "Webhook headers (sending metadata to consumers)".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sqla_webhooks.delivery import sign
from sqla_webhooks.delivery.dialects.instants import milliseconds
from sqla_webhooks.dialect import Post
from sqla_webhooks.events import Event


@dataclass(frozen=True, slots=True)
class Standard:
    """
    Standard Webhooks 1.0: its three headers, and its three keys in the body.

    Body keys: `type`, `timestamp` and `data` by the specification, section
    "Payload structure"; `id`, `resource`, `resource_id`, `operation`, in
    updates `changes`, `links` where some were made or cut, `context` where
    there is one, `truncated` where the rest is left out, and `gone` where the
    row as it is now was to be sent, and there is none, are ours.
    """

    name: ClassVar[str] = "standard"
    batches: ClassVar[bool] = True

    def check_secret(self, secret: str) -> str:
        """
        The secret, if it is `whsec_` and the base64 of 24 to 64 bytes.

        Raises:
            ConfigurationError: It is not. The message does not repeat it.
        """
        return sign.check_secret(secret)

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        """The bytes that are stored, signed and sent."""
        return dumps(content(event))

    def headers(self, post: Post) -> Mapping[str, str]:
        """A signature by each secret, the newest one's first."""
        return {"Content-Type": "application/json", **signature_headers(post)}


def content(event: Event) -> dict[str, Any]:
    """The body as a tree of values."""
    made: dict[str, Any] = {
        "type": event.type,
        "timestamp": milliseconds(event.timestamp),
        "id": event.id,
        "resource": event.resource,
        "resource_id": event.resource_id,
        "operation": event.operation.value,
        "data": event.data,
    }
    if event.changes is not None:
        made["changes"] = event.changes
    if event.links is not None:
        made["links"] = event.links
    if event.context:
        made["context"] = event.context
    if event.truncated:
        made["truncated"] = True
    if event.gone:
        made["gone"] = True
    return made


def signature_headers(post: Post) -> dict[str, str]:
    """The three headers of the specification."""
    timestamp = int(post.now.timestamp())
    return {
        sign.ID: post.id,
        sign.TIMESTAMP: str(timestamp),
        sign.SIGNATURE: sign.sign(post.secrets, post.id, timestamp=timestamp, body=post.body),
    }
