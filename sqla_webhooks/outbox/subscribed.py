"""Which event types anybody asks for: read by capture and by the fan-out."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from sqla_webhooks import encoding, models

#: The row of `webhook_revision`.
NAME = "endpoints"

#: Seconds for which a process believes what it remembers of the subscriptions; then a new one counts there.
FRESH = 1.0

_REVISION = select(models.revision.c.number).where(models.revision.c.name == NAME)
_PATTERNS = select(models.endpoint.c.events).where(models.endpoint.c.deleted_at.is_(None)).distinct()


def revision(connection: Connection) -> int:
    """How often the endpoints have been written; 0 before the first."""
    return connection.execute(_REVISION).scalar() or 0


def patterns(connection: Connection) -> frozenset[str]:
    """
    Every pattern of every endpoint.

    Those of disabled endpoints too: what happens meanwhile is held for them.
    """
    lists: Iterable[str] = connection.execute(_PATTERNS).scalars()
    return frozenset(pattern for one in lists for pattern in encoding.loads(one))


def count_write(connection: Connection) -> None:
    """
    Say that the endpoints are being written, in the same transaction.

    First of its statements, so that writers of endpoints go one at a time.
    """
    counted = update(models.revision).where(models.revision.c.name == NAME).values(number=models.revision.c.number + 1)
    if connection.execute(counted).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(models.revision).values(name=NAME, number=1))
    except IntegrityError:  # another process wrote the first one meanwhile
        connection.execute(counted)
