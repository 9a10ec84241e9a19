"""What is kept of events, deliveries and attempts, for people to look at."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from sqla_webhooks import encoding, models
from sqla_webhooks.deliveries import Attempt, Delivery, DeliveryState
from sqla_webhooks.events import Operation, StoredEvent
from sqla_webhooks.outbox.sought import JOINED, STATE, Sought

_event, _endpoint, _delivery, _attempt = models.event, models.endpoint, models.delivery, models.attempt

_EVENTS = select(
    _event.c.id,
    _event.c.public_id,
    _event.c.type,
    _event.c.occurred_at,
    _event.c.resource,
    _event.c.resource_id,
    _event.c.operation,
    _event.c.payload,
    _event.c.context,
    _event.c.tenant,
)

_DELIVERIES = select(
    _delivery.c.id,
    _event.c.public_id.label("event_id"),
    _event.c.type,
    _endpoint.c.public_id.label("endpoint_id"),
    STATE.label("state"),
    _delivery.c.attempts,
    _delivery.c.next_attempt_at,
    _delivery.c.created_at,
    _delivery.c.finished_at,
).select_from(JOINED)


def events(
    connection: Connection, limit: int, *, type: str | None = None, tenant: str | None = None
) -> list[StoredEvent]:
    """The newest events, newest first."""
    query = _EVENTS.order_by(_event.c.id.desc()).limit(limit)
    if type is not None:
        query = query.where(_event.c.type == type)
    if tenant is not None:
        query = query.where(_event.c.tenant == tenant)
    found: list[StoredEvent] = []
    last: int | None = None
    while len(found) < limit:
        rows = connection.execute(query if last is None else query.where(_event.c.id < last)).all()
        # To the database another tenant may be called the same.
        found += [_stored_event(row) for row in rows if tenant is None or row.tenant == tenant]
        if len(rows) < limit:
            break
        last = rows[-1].id
    return found[:limit]


def event(connection: Connection, public_id: str) -> StoredEvent | None:
    row = connection.execute(_EVENTS.where(_event.c.public_id == public_id)).first()
    return None if row is None else _stored_event(row)


def deliveries(connection: Connection, limit: int, *, sought: Sought) -> list[Delivery]:
    """The newest of those deliveries, newest first."""
    query = _DELIVERIES.where(*sought.conditions()).order_by(_delivery.c.id.desc()).limit(limit)
    return [_shown(row) for row in connection.execute(query)]


def delivery(connection: Connection, number: int) -> Delivery | None:
    """The delivery of that number."""
    row = connection.execute(_DELIVERIES.where(_delivery.c.id == number)).first()
    return None if row is None else _shown(row)


def attempts(connection: Connection, number: int) -> list[Attempt]:
    """The attempts of one delivery, first first."""
    query = select(_attempt).where(_attempt.c.delivery_id == number).order_by(_attempt.c.id)
    return [
        Attempt(
            number=row.number,
            started_at=row.started_at,
            duration=row.duration_ms / 1000,
            status=row.status,
            response=row.response,
            reason=row.reason,
            detail=row.detail,
        )
        for row in connection.execute(query)
    ]


def _stored_event(row: Any) -> StoredEvent:
    return StoredEvent(
        id=row.public_id,
        type=row.type,
        timestamp=row.occurred_at,
        resource=row.resource,
        resource_id=row.resource_id,
        operation=Operation(row.operation),
        payload=bytes(row.payload),
        context=None if row.context is None else encoding.loads(row.context),
        tenant=row.tenant,
    )


def _shown(row: Any) -> Delivery:
    return Delivery(
        id=row.id,
        event_id=row.event_id,
        event_type=row.type,
        endpoint_id=row.endpoint_id,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
