"""
The secrets of endpoints: each a row of `webhook_secret`, sealed.

They are written in the transactions that write endpoints, which go one at a
time (see `subscribed.count_write`). Relays read them, and remove what expired
long ago (see `retention`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from sqla_webhooks import models
from sqla_webhooks.destination import SecretState
from sqla_webhooks.errors import EndpointError
from sqla_webhooks.vault import PREFIX

_endpoint, _secret = models.endpoint, models.secret

#: Of one endpoint, at a time: each is one more signature in every request.
MOST = 10


def add(connection: Connection, endpoint: int, value: str, *, now: datetime) -> None:
    """Insert what signs first from now on."""
    connection.execute(insert(_secret).values(endpoint_id=endpoint, value=value, created_at=now))


def rotate(
    connection: Connection,
    endpoint: int,
    value: str,
    *,
    is_same: Callable[[str], bool],
    now: datetime,
    until: datetime,
) -> None:
    """
    Let *value* sign first, and those before it until then at the longest; what has expired is removed.

    In a transaction that has counted its write, so that there is no other.

    Args:
        is_same: Whether a value is the new one, sealed in whatever way: there is one row for a secret.

    Raises:
        EndpointError: There are too many already.
    """
    # Which also sees, in an old transaction of the application's, what has been committed since it began.
    query = select(_secret.c.id, _secret.c.value, _secret.c.expires_at).where(_secret.c.endpoint_id == endpoint)
    found = connection.execute(query.order_by(_secret.c.id).with_for_update()).all()
    left = [row.id for row in found if _outlives(row, now, until) and not is_same(row.value)]
    if len(left) >= MOST:
        message = (
            f"the endpoint has {len(left)} secrets that are still valid, which is the most: wait until the first of "
            "them expires (webhooks.endpoints.secrets() says when), or end them all with overlap=0"
        )
        raise EndpointError(message)
    _remove(connection, {row.id for row in found}.difference(left))
    if left:
        longer = or_(_secret.c.expires_at.is_(None), _secret.c.expires_at > until)
        connection.execute(update(_secret).where(_secret.c.id.in_(left), longer).values(expires_at=until))
    add(connection, endpoint, value, now=now)


def _outlives(row: Any, now: datetime, until: datetime) -> bool:
    """Whether it is valid after this transaction."""
    return until > now and (row.expires_at is None or row.expires_at > now)


def _remove(connection: Connection, numbers: Collection[int]) -> None:
    if numbers:
        connection.execute(delete(_secret).where(_secret.c.id.in_(sorted(numbers))))


def forget(connection: Connection, endpoint: int) -> None:
    """Remove all of an endpoint that is deleted."""
    connection.execute(delete(_secret).where(_secret.c.endpoint_id == endpoint))


def any_sealed(connection: Connection) -> bool:
    """Whether somebody who has keys writes here."""
    sealed = select(_secret.c.id).where(_secret.c.value.like(f"{PREFIX}%")).limit(1)
    return connection.execute(sealed).first() is not None


def values(connection: Connection, endpoint: int, *, now: datetime) -> list[str]:
    """
    Those of an endpoint that are valid now, sealed, newest first.

    In a transaction that has counted its write. Locked, so that in an old
    transaction of the application's what others have written since is seen.
    """
    query = (
        select(_secret.c.value)
        .where(_secret.c.endpoint_id == endpoint, or_(_secret.c.expires_at.is_(None), _secret.c.expires_at > now))
        .order_by(_secret.c.id.desc())
        .with_for_update()
    )
    return list(connection.execute(query).scalars())


def states(connection: Connection, public_id: str, *, now: datetime) -> list[SecretState]:
    """Those by which an endpoint's requests are signed now, without what they are, newest first."""
    query = (
        select(_secret.c.created_at, _secret.c.expires_at)
        .join_from(_secret, _endpoint, _endpoint.c.id == _secret.c.endpoint_id)
        .where(_endpoint.c.public_id == public_id)
        .where(or_(_secret.c.expires_at.is_(None), _secret.c.expires_at > now))
        .order_by(_secret.c.id.desc())
    )
    return [SecretState(row.created_at, row.expires_at) for row in connection.execute(query)]
