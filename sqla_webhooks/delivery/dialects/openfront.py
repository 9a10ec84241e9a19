"""
As Openfront sends its webhooks, an e-commerce platform on KeystoneJS: its receivers need no change.

Openfront calls a resource by its list key (`Order`), and an event by that in
lower case: `order.create` in the body, `order.created` in the topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from sqla_webhooks.delivery.dialects import hub
from sqla_webhooks.delivery.dialects.instants import milliseconds
from sqla_webhooks.dialect import Post
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event, Operation

_LIST_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True, slots=True)
class OpenFront:
    """
    Openfront's six keys of the body, and its five headers.

    Body keys: `event`, `timestamp`, `listKey`, `operation` and `data`, in
    updates `previousData` and `changes`. Ours is `truncated`, at the end, where
    the rest of the row is left out; the operations `read` and `emit` are ours
    too. For `links` and `context` its receivers have no place.

    `previousData` is `data` with the old values in it; an attribute whose old
    value is not known is left out. What an enricher has added stands in both.

    The newest secret alone signs, since the header holds one signature. So no
    receiver is found that knows only the one before: in a rotation, one that
    accepts both must have the new one first.

    Attributes:
        list_keys: Resources to what Openfront calls them, where that is not
            the resource in CamelCase: `{"order": "PurchaseOrder"}`.
    """

    # A dict has no hash.
    list_keys: Mapping[str, str] = field(default_factory=dict, hash=False)

    name: ClassVar[str] = "openfront"
    batches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for what is no list key."""
        given: object = self.list_keys
        if not isinstance(given, Mapping):
            message = f'list_keys is {given!r}: give a dict, as in list_keys={{"order": "PurchaseOrder"}}'
            raise ConfigurationError(message)
        for resource, key in given.items():
            if not isinstance(resource, str) or not isinstance(key, str) or not _LIST_KEY.fullmatch(key):
                message = (
                    f"list_keys has {resource!r}: {key!r}: give the name of a resource, and a list key of letters of "
                    'ASCII, digits and underscores, as in {"order": "PurchaseOrder"}'
                )
                raise ConfigurationError(message)
        object.__setattr__(self, "list_keys", MappingProxyType(dict(given)))  # frozen for everybody else

    def check_secret(self, secret: str) -> str:
        """
        The secret, if it is 16 to 500 printable characters of ASCII: the key is its text.

        Raises:
            ConfigurationError: It is not. The message does not repeat it.
        """
        return hub.check_secret(secret)

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        """The bytes that are signed and sent."""
        made: dict[str, Any] = {
            "event": self._named(event, event.operation.value),
            "timestamp": milliseconds(event.timestamp),
            "listKey": self._list_key(event),
            "operation": event.operation.value,
            "data": event.data,
        }
        if event.operation is Operation.UPDATE:
            made["previousData"] = _before(event)
            made["changes"] = event.changes or {}
        if event.truncated:
            made["truncated"] = True
        return dumps(made)

    def headers(self, post: Post) -> Mapping[str, str]:
        """Those of the only event."""
        event = post.event
        return {
            "Content-Type": "application/json",
            "X-OpenFront-Webhook-Signature": hub.signature(post.secrets[0], post.body),
            "X-OpenFront-Topic": self._named(event, event.operation.verb),
            "X-OpenFront-ListKey": self._list_key(event),
            "X-OpenFront-Operation": event.operation.value,
            "X-OpenFront-Delivery-ID": post.id,
        }

    def _named(self, event: Event, what: str) -> str:
        """A domain event has a name of its own."""
        return event.type if event.operation is Operation.EMIT else f"{self._list_key(event).lower()}.{what}"

    def _list_key(self, event: Event) -> str:
        if (given := self.list_keys.get(event.resource)) is not None:
            return given
        return "".join(word[:1].upper() + word[1:] for word in event.resource.split("_")) or event.resource


def _before(event: Event) -> dict[str, Any]:
    before = dict(event.data)
    for name, change in (event.changes or {}).items():
        if "from" in change:
            before[name] = change["from"]
        else:
            before.pop(name, None)
    return before
