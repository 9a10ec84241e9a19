"""
In the habit of GitHub's webhooks, for receivers that are built on it.

https://docs.github.com/en/webhooks/webhook-events-and-payloads, section
"Delivery headers", and "Validating webhook deliveries".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID, uuid5

from sqla_webhooks.delivery.dialects import hub
from sqla_webhooks.dialect import Post
from sqla_webhooks.events import Event, Operation

_DELIVERIES = UUID("d8cbd3d7-d8a9-4354-b7f2-656c8f020f3e")
# Keys of the body that a resource may be called by, too.
_TAKEN = ("action", "changes", "truncated")


@dataclass(frozen=True, slots=True)
class GitHub:
    """
    GitHub's headers and signature, and a body in its manner.

    GitHub's are the names of the headers, the signature (`sha256=` and the
    HMAC-SHA256 of the body in hexadecimal, keyed with the secret's text), and
    in the body `action`, the object under its own name, and `changes` with
    `from` alone. Ours are the words: `action` is `created`, `updated`,
    `deleted` or `read`, where GitHub's vary; of a domain event
    `payment.captured`, `X-GitHub-Event` is `payment` and `action` is
    `captured`. Ours is `truncated`, at the end, where the rest of the row is
    left out. `X-GitHub-Hook-ID` is the endpoint's id, where GitHub has a
    number, and `User-Agent` is not GitHub's. There is no `sender` and no
    `repository`, and nothing of `links` and `context`.

    A resource that is called `action`, `changes` or `truncated` stands in the
    body with a `_` at its end.

    The newest secret alone signs, since the header holds one signature: as
    for `OpenFront`. The headers, as GitHub's, are not signed.
    """

    name: ClassVar[str] = "github"
    batches: ClassVar[bool] = False

    def check_secret(self, secret: str) -> str:
        """
        The secret, if it is 16 to 500 printable characters of ASCII: the key is its text.

        Raises:
            ConfigurationError: It is not. The message does not repeat it.
        """
        return hub.check_secret(secret)

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        """The bytes that are signed and sent."""
        _, action = _words(event)
        key = f"{event.resource}_" if event.resource in _TAKEN else event.resource
        made: dict[str, Any] = {"action": action, key: event.data}
        if event.changes is not None:
            made["changes"] = {name: _from(change) for name, change in event.changes.items()}
        if event.truncated:
            made["truncated"] = True
        return dumps(made)

    def headers(self, post: Post) -> Mapping[str, str]:
        """Those of the only event. `X-GitHub-Delivery` is a UUID made of its id, the same for every attempt."""
        name, _ = _words(post.event)
        return {
            "Content-Type": "application/json",
            "X-GitHub-Event": name,
            "X-GitHub-Delivery": str(uuid5(_DELIVERIES, post.id)),
            "X-GitHub-Hook-ID": post.endpoint_id,
            "X-Hub-Signature-256": hub.signature(post.secrets[0], post.body),
        }


def _words(event: Event) -> tuple[str, str]:
    """The event as GitHub would call it, and its action."""
    if event.operation is not Operation.EMIT:
        return event.resource, event.operation.verb
    name, _, action = event.type.partition(".")
    return name, action


def _from(change: Mapping[str, Any]) -> dict[str, Any]:
    return {"from": change["from"]} if "from" in change else {}
