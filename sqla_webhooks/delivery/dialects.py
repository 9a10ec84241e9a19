"""
What an endpoint gets: the body and the headers.

The body is made once, when an event is made public, and stored; the headers
are made anew for every attempt, since the timestamp is that of the attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqla_webhooks._version import __version__
from sqla_webhooks.delivery import sign
from sqla_webhooks.delivery.credentials import Credentials
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.events import Claim, Event

USER_AGENT = f"sqla-webhooks/{__version__}"


@dataclass(frozen=True, slots=True)
class Request:
    """One POST, ready to go."""

    claim: Claim
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Standard:
    """
    Standard Webhooks 1.0: its three headers, and its three keys in the body.

    Body keys: `type`, `timestamp` and `data` by the specification, section
    "Payload structure"; `id`, `resource`, `resource_id`, `operation`, in
    updates `changes`, `links` where some were made or cut, and `truncated`
    where the body would have been too large, are ours.
    """

    def body(self, event: Event, *, encoding: Encoding) -> bytes:
        """The bytes that are stored, signed and sent."""
        content = _envelope(event, event.data)
        if event.changes is not None:
            content["changes"] = event.changes
        if event.links is not None:
            content["links"] = event.links
        return encoding.dumps(content)

    def thin_body(self, event: Event, *, key: Collection[str], encoding: Encoding) -> bytes:
        """The same without what is in the row, but for the attributes of its *key*, and what they were before."""
        content = _envelope(event, _only(key, event.data))
        if changes := _only(key, event.changes or {}):  # or nobody could tell which row has another key now
            content["changes"] = changes
        return encoding.dumps({**content, "truncated": True})

    def request(self, claim: Claim, credentials: Credentials, *, now: datetime) -> Request:
        """
        The request of one attempt that starts *now*: our headers, and those of the endpoint that have no name of ours.

        Raises:
            SigningFailed: No secret is valid now.
        """
        timestamp = int(now.timestamp())
        ours = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            # A compressed answer could be far larger than it looks; nobody needs its body anyway.
            "Accept-Encoding": "identity",
            sign.ID: claim.event_id,
            sign.TIMESTAMP: str(timestamp),
            sign.SIGNATURE: sign.sign(credentials.live(now), claim.event_id, timestamp=timestamp, body=claim.payload),
        }
        taken = {name.lower() for name in ours}
        theirs = {name: value for name, value in credentials.headers.items() if name.lower() not in taken}
        return Request(claim, ours | theirs, claim.payload)


def _only(names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _envelope(event: Event, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": event.type,
        "timestamp": _milliseconds(event.timestamp),
        "id": event.id,
        "resource": event.resource,
        "resource_id": event.resource_id,
        "operation": event.operation.value,
        "data": data,
    }


def _milliseconds(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
