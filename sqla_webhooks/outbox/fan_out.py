"""
Outbox rows become events and deliveries, in one transaction.

One relay at a time should do it (see `lead`), and one relay at a time can: the
transaction locks the lease's row, then removes the very outbox rows it was
given, and gives up if they are gone. So a relay whose lease ran out while its
enrichers worked does no harm, and is not made to fail either.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete

from sqla_webhooks import models
from sqla_webhooks.events import OutboxRow
from sqla_webhooks.outbox import lead
from sqla_webhooks.outbox.database import Database, chunks
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.publish import Message, Publication


class _Gone(Exception):
    """The outbox rows are not there any more: another relay has relayed them."""


def fan_out(
    database: Database,
    rows: Sequence[OutboxRow],
    *,
    messages: Sequence[Message],
    publication: Publication,
    now: datetime,
) -> bool:
    """
    Replace *rows* by *messages* and their deliveries, in one write transaction.

    Returns:
        Whether it was done; if not, the rows were gone already.
    """

    def transaction() -> None:
        with database.write() as connection:
            lead.lock(connection)
            _remove(connection, rows)
            publication.refresh(connection)
            publication.insert(connection, messages, now=now)

    try:
        outlive(transaction)
    except _Gone:
        return False
    return True


_ONE = delete(models.outbox).where(models.outbox.c.id == bindparam("number"))


def _remove(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    if connection.dialect.name in ("mysql", "mariadb"):
        # One after the other, each by its key. For several it may go through the table, and wait for every row on its
        # way that an open transaction of the application has written.
        removed = connection.execute(_ONE, [{"number": row.id} for row in rows]).rowcount
    else:
        removed = 0
        for some in chunks([row.id for row in rows]):
            removed += connection.execute(delete(models.outbox).where(models.outbox.c.id.in_(some))).rowcount
    if removed != len(rows):
        raise _Gone
