"""Where what was claimed goes: endpoints with their secrets and headers, sealed."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, select

from sqla_webhooks import models
from sqla_webhooks.audience import Reach, Scope
from sqla_webhooks.destination import Destination, Secret

_endpoint, _secret = models.endpoint, models.secret

_FOUND = (
    select(
        _endpoint.c.id,
        _endpoint.c.public_id,
        _endpoint.c.url,
        _endpoint.c.headers,
        _endpoint.c.dialect,
        _endpoint.c.payload,
        _endpoint.c.batch,
        _endpoint.c.scope,
        _endpoint.c.tenant,
        _secret.c.id.label("secret_id"),
        _secret.c.value,
        _secret.c.expires_at,
    )
    .outerjoin_from(_endpoint, _secret, _secret.c.endpoint_id == _endpoint.c.id)
    .where(_endpoint.c.id.in_(bindparam("numbers", expanding=True)))
    .where(_endpoint.c.enabled.is_(True), _endpoint.c.deleted_at.is_(None))
    .order_by(_endpoint.c.id, _secret.c.id.desc())
)


def destinations(connection: Connection, endpoints: Collection[int]) -> dict[int, Destination]:
    """Those of these endpoints that may be sent to, by their numbers. One statement, which locks nothing."""
    found = connection.execute(_FOUND, {"numbers": sorted(endpoints)})
    return {number: _destination(list(rows)) for number, rows in groupby(found, key=lambda row: row.id)}


def _destination(rows: list[Any]) -> Destination:
    """Of the rows of one endpoint, one for each secret."""
    first = rows[0]
    return Destination(
        endpoint=first.id,
        endpoint_id=first.public_id,
        url=first.url,
        secrets=tuple(Secret(row.value, row.expires_at) for row in rows if row.secret_id is not None),
        headers=first.headers,
        dialect=first.dialect,
        payload=first.payload,
        batch=first.batch,
        reach=Reach(Scope(first.scope), first.tenant),
    )
