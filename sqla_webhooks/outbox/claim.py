"""Deliveries that are due, taken by lease."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from sqla_webhooks import models
from sqla_webhooks.events import Claim, DeliveryState
from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database

_delivery, _event, _endpoint = models.delivery, models.event, models.endpoint

_CLAIMED = (
    select(
        _delivery.c.id,
        _delivery.c.attempts,
        _delivery.c.first_attempt_at,
        _delivery.c.created_at,
        _delivery.c.ordering_key,
        _event.c.public_id.label("event_id"),
        _event.c.type,
        _event.c.payload,
        _endpoint.c.public_id.label("endpoint_id"),
        _endpoint.c.url,
        _endpoint.c.secret,
        _endpoint.c.enabled,
        _endpoint.c.deleted_at,
    )
    .join(_event, _delivery.c.event_id == _event.c.id)
    .join(_endpoint, _delivery.c.endpoint_id == _endpoint.c.id)
    .order_by(_delivery.c.id)
)


def claim(database: Database, limit: int, *, now: datetime, lease: float) -> list[Claim]:
    """
    Up to *limit* deliveries that are due, now this relay's for *lease* seconds.

    A look that finds nothing writes nothing. What it finds is then taken by
    one UPDATE that asks again whether it is due, so no two relays get the same
    one. The endpoint is read here and not remembered: an edited URL or a
    disabled endpoint counts from the next claim on.

    Returns:
        Claims in the order of their numbers.
    """
    while limit > 0:
        with database.read() as connection:
            due = _due(connection, limit, now=now)
        if not due:
            break
        claims = _take(database, due, now=now, until=now + timedelta(seconds=lease))
        if claims:  # else they were another relay's, or for endpoints disabled or deleted since
            return claims
    return []


def _take(database: Database, due: Sequence[int], *, now: datetime, until: datetime) -> list[Claim]:
    token = secrets.token_hex(16)
    with database.write() as connection:
        connection.execute(
            update(_delivery)
            .where(_delivery.c.id.in_(due), _delivery.c.next_attempt_at <= now)
            .values(lease_token=token, next_attempt_at=until)
        )
        mine = connection.execute(_CLAIMED.where(_delivery.c.id.in_(due), _delivery.c.lease_token == token)).all()
        _set_aside(connection, mine, now=now)
    return [_claim(row, token) for row in mine if row.enabled and row.deleted_at is None]


def _due(connection: Connection, limit: int, *, now: datetime) -> Sequence[int]:
    oldest = (
        select(_delivery.c.id)
        .where(_delivery.c.next_attempt_at <= now)
        .order_by(_delivery.c.next_attempt_at, _delivery.c.id)
        .limit(limit)
    )
    return connection.execute(oldest).scalars().all()


def _set_aside(connection: Connection, rows: Sequence[Any], *, now: datetime) -> None:
    """
    Hold or cancel what turns out to be for an endpoint disabled or deleted since.

    One that is enabled meanwhile has been written, and so it is looked at
    again (see `release`).
    """
    held = [row.id for row in rows if not row.enabled and row.deleted_at is None]
    if held:
        queue.hold(connection, _delivery.c.id.in_(held))
    cancelled = [row for row in rows if row.deleted_at is not None]
    if cancelled:
        queue.finish(
            connection,
            _delivery.c.id.in_([row.id for row in cancelled]),
            state=DeliveryState.CANCELLED,
            keys=[row.ordering_key for row in cancelled],
            now=now,
        )


def _claim(row: Any, token: str) -> Claim:
    return Claim(
        delivery_id=row.id,
        token=token,
        attempt=row.attempts + 1,
        first_attempt_at=row.first_attempt_at,
        created_at=row.created_at,
        ordering_key=row.ordering_key,
        event_id=row.event_id,
        event_type=row.type,
        payload=bytes(row.payload),
        endpoint_id=row.endpoint_id,
        url=row.url,
        secret=row.secret,
    )
