"""The endpoints' own rows. What waits for them is not touched: nobody looks at the lanes of one that is disabled."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from sqla_webhooks import encoding, models
from sqla_webhooks.errors import NotFound
from sqla_webhooks.events import Endpoint, NewEndpoint
from sqla_webhooks.outbox import secrets, subscribed
from sqla_webhooks.outbox.lanes import HEALTH, health_of

_endpoint, _health = models.endpoint, models.health

# Neither secrets nor values of headers: they leave the tables only with a claim.
_SHOWN = (
    select(
        _endpoint.c.public_id,
        _endpoint.c.url,
        _endpoint.c.events,
        _endpoint.c.enabled,
        _endpoint.c.enabled_at,
        _endpoint.c.description,
        _endpoint.c.created_at,
        _endpoint.c.updated_at,
        _endpoint.c.ordering,
        _endpoint.c.rate_limit,
        _endpoint.c.header_names,
        _endpoint.c.disabled_at,
        _endpoint.c.disabled_because,
        *HEALTH,
    )
    .outerjoin(_health, _health.c.endpoint_id == _endpoint.c.id)
    .where(_endpoint.c.deleted_at.is_(None))
    .order_by(_endpoint.c.id)
)


def add(connection: Connection, endpoint: NewEndpoint, *, secret: str, headers: str | None = None) -> None:
    """
    Insert *endpoint*, of which nothing is known yet.

    Args:
        secret: Sealed, as are the *headers*.
    """
    subscribed.count_write(connection)
    written = connection.execute(
        insert(_endpoint).values(
            public_id=endpoint.id,
            url=endpoint.url,
            events=_as_list(endpoint.events),
            headers=headers,
            header_names=_as_list(endpoint.header_names),
            enabled=endpoint.enabled,
            enabled_at=endpoint.created_at,
            ordering=endpoint.ordering,
            rate_limit=endpoint.rate_limit,
            description=endpoint.description,
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
        )
    )
    (number,) = tuple(written.inserted_primary_key or ())
    secrets.add(connection, number, secret, now=endpoint.created_at)
    connection.execute(insert(_health).values(endpoint_id=number, failures=0, pauses=0, warned=0))


def find(connection: Connection, public_id: str) -> Endpoint | None:
    """The endpoint of that id, unless it was deleted."""
    row = connection.execute(_SHOWN.where(_endpoint.c.public_id == public_id)).first()
    return None if row is None else _shown(row)


def not_found(public_id: str) -> NotFound:
    """The error that there is none of that id."""
    return NotFound(
        f"no endpoint has the id {public_id!r}, or it was deleted; webhooks.endpoints.list() shows those there are"
    )


def find_number(connection: Connection, number: int) -> Endpoint | None:
    """The endpoint of that number, unless it was deleted."""
    row = connection.execute(_SHOWN.where(_endpoint.c.id == number)).first()
    return None if row is None else _shown(row)


def find_all(connection: Connection) -> list[Endpoint]:
    """Every endpoint that was not deleted, oldest first."""
    return [_shown(row) for row in connection.execute(_SHOWN)]


def number_of(connection: Connection, public_id: str) -> int:
    """The number of the endpoint of that id, which this transaction has written."""
    return int(connection.execute(select(_endpoint.c.id).where(_endpoint.c.public_id == public_id)).scalar_one())


def change(connection: Connection, public_id: str, *, now: datetime, **values: Any) -> bool:
    """Write *values* to one endpoint; False if there is none of that id."""
    subscribed.count_write(connection)
    for name in ("events", "header_names"):
        if name in values:
            values[name] = _as_list(values[name])
    written = connection.execute(
        update(_endpoint)
        .where(_endpoint.c.public_id == public_id, _endpoint.c.deleted_at.is_(None))
        .values(updated_at=now, **values)
    )
    return bool(written.rowcount)


def _as_list(texts: Sequence[str]) -> str:
    return encoding.dumps(list(texts)).decode()


def _shown(row: Any) -> Endpoint:
    return Endpoint(
        id=row.public_id,
        url=row.url,
        events=tuple(encoding.loads(row.events)),
        enabled=row.enabled,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        ordering=row.ordering,
        rate_limit=row.rate_limit,
        header_names=tuple(encoding.loads(row.header_names or "[]")),
        disabled_at=row.disabled_at,
        disabled_because=row.disabled_because,
        health=health_of(row[-len(HEALTH) :], row.enabled_at),
    )
