"""Deliveries that are due, taken by lease."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, func, literal_column, select, union_all, update

from sqla_webhooks import models
from sqla_webhooks.audience import Audience
from sqla_webhooks.deliveries import Claim
from sqla_webhooks.destination import Destination
from sqla_webhooks.outbox.bundle import Due, bundles
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.destinations import destinations
from sqla_webhooks.outbox.turnstile import Share, admit, pass_through
from sqla_webhooks.outbox.write import take_write_lock

_delivery, _event = models.delivery, models.event

#: What goes alone goes, however large it is. Made once: to SQLAlchemy each would be of another type.
_ANY_SIZE = literal_column("0", Integer)

_CLAIMED = (
    select(
        _delivery.c.id,
        _delivery.c.attempts,
        _delivery.c.first_attempt_at,
        _delivery.c.created_at,
        _delivery.c.ordering_key,
        _delivery.c.former_key,
        _delivery.c.endpoint_id,
        _event.c.public_id.label("event_id"),
        _event.c.type,
        _event.c.table_name,
        _event.c.audience,
        _event.c.tenant,
        _event.c.payload,
    )
    .join(_event, _delivery.c.event_id == _event.c.id)
    .where(_delivery.c.id.in_(bindparam("numbers", expanding=True)), _delivery.c.lease_token == bindparam("token"))
    .order_by(_delivery.c.id)
)


def claim(database: Database, shares: Sequence[Share], *, now: datetime, lease: float) -> list[Claim]:
    """
    What is due in the lane of each share, as much as its requests can have, now this relay's for *lease* seconds.

    One write transaction, in the relay's thread. No two relays get the same
    delivery: where the database can skip what another one has locked, they do;
    and what is found is taken by an UPDATE that asks again whether it is due.
    The endpoints are read here, each once, and not remembered: an edited URL, a
    rotated secret or a disabled endpoint counts from the next claim on.

    Returns:
        Claims in the order of their numbers.
    """
    if not shares:
        return []
    until = now + timedelta(seconds=lease)
    token = secrets.token_hex(16)
    return outlive(partial(_take, database, shares, token=token, now=now, until=until))


def _take(database: Database, shares: Sequence[Share], *, token: str, now: datetime, until: datetime) -> list[Claim]:
    with database.write() as connection:
        take_write_lock(connection)
        admission = admit(connection, shares, now=now, until=until)
        taken = bundles(_due(connection, admission.shares, now=now), admission.shares)
        pass_through(connection, admission, [some[0].lane for some in taken], now=now)
        if not taken:
            return []
        numbers = sorted(one.number for some in taken for one in some)
        connection.execute(
            update(_delivery)
            .where(_delivery.c.id.in_(numbers), _delivery.c.next_attempt_at <= now)
            .values(lease_token=token, next_attempt_at=until)
        )
        mine = connection.execute(_CLAIMED, {"numbers": numbers, "token": token}).all()
        found = _still(destinations(connection, {row.endpoint_id for row in mine}), admission.shares)
        _put_back(connection, [row.id for row in mine if row.endpoint_id not in found], now=now)
        batches = _batches(taken, admission.shares)
        return [
            _claim(row, found[row.endpoint_id], token, until, batch=batches.get(row.id))
            for row in mine
            if row.endpoint_id in found
        ]


def _still(found: dict[int, Destination], shares: Sequence[Share]) -> dict[int, Destination]:
    """Those that take as many in a request as was said when they were looked at."""
    batches = {share.endpoint: share.batch for share in shares}
    return {number: one for number, one in found.items() if one.batch == batches[number]}


def _batches(taken: Sequence[Sequence[Due]], shares: Sequence[Share]) -> dict[int, int]:
    """Of what may go with others: the number of the first delivery in its request."""
    together = {share.lane for share in shares if share.batch and not share.retry}
    return {one.number: some[0].number for some in taken if some[0].lane in together for one in some}


def _due(connection: Connection, shares: Sequence[Share], *, now: datetime) -> list[Due]:
    """What is due longest in each lane."""
    if not shares:
        return []
    each = [
        select(_delivery.c.id, _delivery.c.lane, _size(share).label("size"))
        .where(_delivery.c.lane == share.lane, _delivery.c.next_attempt_at <= now)
        .order_by(_delivery.c.next_attempt_at, _delivery.c.id)
        .limit(share.limit * share.each)
        .with_for_update(skip_locked=True)  # says nothing on SQLite, which has one writer
        .subquery(f"lane_{place}")
        for place, share in enumerate(shares)
    ]
    found = connection.execute(union_all(*(select(one.c.id, one.c.lane, one.c.size) for one in each)))
    return [Due(row.id, row.lane, row.size) for row in found]


def _size(share: Share) -> ColumnElement[int]:
    """Bytes of the stored body, where they matter."""
    if share.each == 1:
        return _ANY_SIZE
    return select(func.length(_event.c.payload)).where(_event.c.id == _delivery.c.event_id).scalar_subquery()


def _put_back(connection: Connection, numbers: Sequence[int], *, now: datetime) -> None:
    """Leave where it was what turns out to be for an endpoint disabled, deleted or changed since."""
    if numbers:
        connection.execute(
            update(_delivery).where(_delivery.c.id.in_(numbers)).values(lease_token=None, next_attempt_at=now)
        )


def _claim(row: Any, destination: Destination, token: str, until: datetime, *, batch: int | None) -> Claim:
    return Claim(
        delivery_id=row.id,
        token=token,
        until=until,
        attempt=row.attempts + 1,
        first_attempt_at=row.first_attempt_at,
        created_at=row.created_at,
        keys=tuple(key for key in (row.ordering_key, row.former_key) if key is not None),
        event_id=row.event_id,
        event_type=row.type,
        table=row.table_name,
        audience=Audience(row.audience),
        tenant=row.tenant,
        payload=bytes(row.payload),
        destination=destination,
        batch=batch,
    )
