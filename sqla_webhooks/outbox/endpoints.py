"""The endpoints' own rows. What waits for them is not touched: nobody looks at the lanes of one that is disabled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from sqla_webhooks import encoding, models
from sqla_webhooks.audience import Scope
from sqla_webhooks.destination import Endpoint, NewEndpoint
from sqla_webhooks.errors import NotFound
from sqla_webhooks.outbox import secrets, subscribed
from sqla_webhooks.outbox.lanes import HEALTH, health_of

_endpoint, _health = models.endpoint, models.health

# Neither secrets nor values of headers: they leave the tables only with a claim.
_SHOWN = (
    select(
        _endpoint.c.id,
        _endpoint.c.public_id,
        _endpoint.c.url,
        _endpoint.c.events,
        _endpoint.c.filter,
        _endpoint.c.scope,
        _endpoint.c.tenant,
        _endpoint.c.key,
        _endpoint.c.dialect,
        _endpoint.c.payload,
        _endpoint.c.batch,
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
            headers=headers,
            scope=endpoint.scope.value,
            tenant=endpoint.tenant,
            key=endpoint.key,
            key_digest=None if endpoint.key is None else key_digest(endpoint.key, endpoint.tenant),
            dialect=endpoint.dialect,
            payload=endpoint.payload,
            batch=endpoint.batch,
            **{name: _as_json(getattr(endpoint, name)) for name in _JSON},
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


def id_by_key(connection: Connection, key: str, tenant: str | None) -> str | None:
    """
    The id of the endpoint that was registered by that key for that tenant; None if there is none, or no more.

    Locked: in an old transaction of the application's, it is seen whoever has
    registered it since that began.
    """
    registered = select(_endpoint.c.public_id).where(_endpoint.c.key_digest == key_digest(key, tenant))
    found: str | None = connection.execute(registered.with_for_update()).scalar()
    return found


def not_found(public_id: str) -> NotFound:
    """The error that there is none of that id."""
    return NotFound(
        f"no endpoint has the id {public_id!r}, or it was deleted; webhooks.endpoints.list() shows those there are"
    )


def find_number(connection: Connection, number: int) -> Endpoint | None:
    """The endpoint of that number, unless it was deleted."""
    row = connection.execute(_SHOWN.where(_endpoint.c.id == number)).first()
    return None if row is None else _shown(row)


def find_numbers(connection: Connection, numbers: Collection[int]) -> dict[int, Endpoint]:
    """Those of these numbers that were not deleted."""
    found = connection.execute(_SHOWN.where(_endpoint.c.id.in_(sorted(numbers))))
    return {row.id: _shown(row) for row in found}


def find_all(connection: Connection) -> list[Endpoint]:
    """Every endpoint that was not deleted, oldest first."""
    return [_shown(row) for row in connection.execute(_SHOWN)]


def number_of(connection: Connection, public_id: str) -> int:
    """The number of the endpoint of that id, which this transaction has written."""
    return int(connection.execute(select(_endpoint.c.id).where(_endpoint.c.public_id == public_id)).scalar_one())


def change(connection: Connection, public_id: str, *, now: datetime, **values: Any) -> bool:
    """Write *values* to one endpoint; False if there is none of that id."""
    subscribed.count_write(connection)
    values |= {name: _as_json(values[name]) for name in _JSON if name in values}
    written = connection.execute(
        update(_endpoint)
        .where(_endpoint.c.public_id == public_id, _endpoint.c.deleted_at.is_(None))
        .values(updated_at=now, **values)
    )
    return bool(written.rowcount)


def key_digest(key: str, tenant: str | None) -> str:
    """By which a key of a tenant's is found, letter by letter, in whatever way the database compares texts."""
    return hashlib.blake2b(encoding.dumps([tenant, key]), digest_size=32).hexdigest()


#: The columns that are JSON; NULL for None.
_JSON = ("events", "header_names", "filter")


def _as_json(value: Any) -> str | None:
    """In ASCII, which every database takes."""
    return None if value is None else json.dumps(value, separators=(",", ":"))


def _shown(row: Any) -> Endpoint:
    return Endpoint(
        id=row.public_id,
        url=row.url,
        events=tuple(encoding.loads(row.events)),
        filter=None if row.filter is None else encoding.loads(row.filter),
        scope=Scope(row.scope),
        tenant=row.tenant,
        key=row.key,
        dialect=row.dialect,
        payload=row.payload,
        batch=row.batch,
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
