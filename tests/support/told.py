"""What an installation has told: every event, whole, in one line each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqla_webhooks import Webhooks

#: An event's type, its row, and its data: of an attribute that changed, the pair of its old and its new value; and
#: links, by the names of their relationships.
Line = tuple[str, str, dict[str, Any]]

#: In a pair whose old value the event does not tell.
NOT_TOLD = "(not told)"


@dataclass
class Told:
    """Relays, and gives the events since the last call; for an installation with `capture="all"`."""

    webhooks: Webhooks
    seen: int = 0

    def __call__(self) -> list[Line]:
        self.webhooks.drain()
        events = self.webhooks.events.list(limit=1000)[::-1]
        new, self.seen = events[self.seen :], len(events)
        return [_line(json.loads(one.payload)) for one in new]

    def names(self) -> list[str]:
        """As a call, but each is only its type and its row: `"order.created 42"`."""
        return [f"{type_} {row}" for type_, row, _ in self()]


def _line(event: dict[str, Any]) -> Line:
    changes: dict[str, Any] = event.get("changes") or {}
    pairs = {name: (change.get("from", NOT_TOLD), change["to"]) for name, change in changes.items()}
    return event["type"], event["resource_id"], {**event["data"], **pairs, **(event.get("links") or {})}
