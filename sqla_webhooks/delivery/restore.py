"""Events again, of the bodies that are stored. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqla_webhooks.deliveries import Claim
from sqla_webhooks.encoding import loads
from sqla_webhooks.events import Event, Operation


def restored(claim: Claim, *, key_of: Callable[[str, str], Sequence[str]]) -> Event:
    """
    The event of a delivery, as it was made public.

    Args:
        key_of: The attributes of the primary key, in its order, of a resource and its table.

    Raises:
        ValueError, TypeError, LookupError: The body is none of ours.
    """
    body = loads(claim.payload)
    data, key = body["data"], key_of(body["resource"], claim.table)
    return Event(
        id=body["id"],
        type=body["type"],
        timestamp=datetime.fromisoformat(body["timestamp"]),
        resource=body["resource"],
        resource_id=body["resource_id"],
        operation=Operation(body["operation"]),
        data=data,
        changes=body.get("changes"),
        links=body.get("links"),
        table=claim.table,
        identity=tuple(data[name] for name in key if name in data),
        audience=claim.audience,
        tenant=claim.tenant,
        context=body.get("context"),
        truncated=body.get("truncated", False),
    )
