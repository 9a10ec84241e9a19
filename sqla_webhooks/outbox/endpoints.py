"""The endpoints' own rows, and what a change of them does to their deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from sqla_webhooks import encoding, models
from sqla_webhooks.events import DeliveryState, Endpoint, NewEndpoint
from sqla_webhooks.outbox import queue, subscribed

_endpoint, _delivery = models.endpoint, models.delivery

# Never the secret: it leaves the table only with a claim.
_SHOWN = (
    select(
        _endpoint.c.public_id,
        _endpoint.c.url,
        _endpoint.c.events,
        _endpoint.c.enabled,
        _endpoint.c.description,
        _endpoint.c.created_at,
        _endpoint.c.updated_at,
    )
    .where(_endpoint.c.deleted_at.is_(None))
    .order_by(_endpoint.c.id)
)


def add(connection: Connection, endpoint: NewEndpoint) -> None:
    """Insert *endpoint*."""
    subscribed.count_write(connection)
    connection.execute(
        insert(_endpoint).values(
            public_id=endpoint.id,
            url=endpoint.url,
            events=_pattern_list(endpoint.events),
            secret=endpoint.secret,
            enabled=endpoint.enabled,
            description=endpoint.description,
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
        )
    )


def find(connection: Connection, public_id: str) -> Endpoint | None:
    """The endpoint of that id, unless it was deleted."""
    row = connection.execute(_SHOWN.where(_endpoint.c.public_id == public_id)).first()
    return None if row is None else _shown(row)


def find_all(connection: Connection) -> list[Endpoint]:
    """Every endpoint that was not deleted, oldest first."""
    return [_shown(row) for row in connection.execute(_SHOWN)]


def change(connection: Connection, public_id: str, *, now: datetime, **values: Any) -> bool:
    """Write *values* to one endpoint; False if there is none of that id."""
    subscribed.count_write(connection)
    if "events" in values:
        values["events"] = _pattern_list(values["events"])
    written = connection.execute(
        update(_endpoint)
        .where(_endpoint.c.public_id == public_id, _endpoint.c.deleted_at.is_(None))
        .values(updated_at=now, **values)
    )
    return bool(written.rowcount)


def hold(connection: Connection, public_id: str) -> None:
    """Keep back what an endpoint still has to get; a request that runs is let finish."""
    queue.hold(
        connection,
        and_(_of(public_id), _delivery.c.state == DeliveryState.PENDING, _delivery.c.lease_token.is_(None)),
    )


def release(connection: Connection, public_id: str, *, now: datetime) -> None:
    """Let what was kept back go on: the first of each row's queue at once, the others in turn."""
    queue.release(connection, _of(public_id), now=now)


def cancel(connection: Connection, public_id: str, *, now: datetime) -> None:
    """Give up what an endpoint still has to get; a request that runs is let finish."""
    waiting = _delivery.c.state.in_((DeliveryState.PENDING, DeliveryState.HELD))
    queue.finish(
        connection,
        and_(_of(public_id), waiting, _delivery.c.lease_token.is_(None)),
        state=DeliveryState.CANCELLED,
        keys=(),  # all that waits in them is given up with them
        now=now,
    )


def _of(public_id: str) -> ColumnElement[bool]:
    number = select(_endpoint.c.id).where(_endpoint.c.public_id == public_id).scalar_subquery()
    return _delivery.c.endpoint_id == number


def _pattern_list(patterns: Sequence[str]) -> str:
    return encoding.dumps(list(patterns)).decode()


def _shown(row: Any) -> Endpoint:
    return Endpoint(
        id=row.public_id,
        url=row.url,
        events=tuple(encoding.loads(row.events)),
        enabled=row.enabled,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
