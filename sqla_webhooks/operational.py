"""
What is told of the webhooks themselves, as events: a dead letter, an endpoint that was disabled. Pure.

Whoever wants them subscribes to them by their full names: no wildcard means
them, since they speak of other endpoints; of those of a tenant to its own, and
to endpoints of everybody's events.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqla_webhooks.audience import Reach
from sqla_webhooks.deliveries import Verdict
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.ids import event_id
from sqla_webhooks.subscriptions import OPERATIONAL

TYPES = frozenset(OPERATIONAL)
DISABLED, DEAD = OPERATIONAL


def dead(verdict: Verdict, *, now: datetime) -> Event:
    """`delivery.dead`: a delivery was given up."""
    claim, attempt = verdict.claim, verdict.attempt
    data = {
        "id": claim.delivery_id,
        "event_id": claim.event_id,
        "event_type": claim.event_type,
        "endpoint_id": claim.endpoint_id,
        "attempts": attempt.number,
        "reason": attempt.reason,
        "status": attempt.status,
    }
    return _event(DEAD, str(claim.delivery_id), data=data, reach=claim.destination.reach, now=now)


def disabled(endpoint: Endpoint, *, now: datetime) -> Event:
    """`endpoint.disabled`: not by anybody's call, but since it was gone, or did nothing but fail."""
    since = endpoint.health.failing_since
    data = {
        "id": endpoint.id,
        "reason": endpoint.disabled_because,
        "failures": endpoint.health.failures,
        "failing_since": None if since is None else since.isoformat(),
    }
    return _event(DISABLED, endpoint.id, data=data, reach=Reach(endpoint.scope, endpoint.tenant), now=now)


def _event(type_: str, resource_id: str, *, data: dict[str, Any], reach: Reach, now: datetime) -> Event:
    """
    Told to those who may get what the endpoint gets.

    Args:
        reach: Whose events the endpoint gets that it speaks of.
    """
    return Event(
        id=event_id(now),
        type=type_,
        timestamp=now,
        resource=type_.partition(".")[0],
        resource_id=resource_id,
        operation=Operation.EMIT,
        data=data,
        audience=reach.audience,
        tenant=reach.tenant,
    )
