"""The relay's side of the outbox: what has committed and waits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from sqla_webhooks import encoding, models
from sqla_webhooks.events import Change, Operation, OutboxRow

_COLUMNS = (
    models.outbox.c.id,
    models.outbox.c.transaction_id,
    models.outbox.c.captured_at,
    models.outbox.c.changes,
)


def take(connection: Connection, limit: int) -> list[OutboxRow]:
    """
    The oldest *limit* rows, and the rest of the transaction that the last ones belong to.

    Whole transactions, since what a row came to is known only at the end of
    its transaction. The order is that of the database's own numbers: two
    transactions that changed the same row had to do so one after the other,
    each taking its number while it held the row's lock.
    """
    oldest = select(*_COLUMNS).order_by(models.outbox.c.id).limit(limit)
    rows = connection.execute(oldest).all()
    if len(rows) == limit:
        whole = models.outbox.c.transaction_id.in_({row.transaction_id for row in rows})
        rows = connection.execute(select(*_COLUMNS).where(whole).order_by(models.outbox.c.id)).all()
    return [
        OutboxRow(
            id=row.id,
            transaction=row.transaction_id,
            captured_at=row.captured_at,
            changes=tuple(_unpacked(one) for one in encoding.loads(row.changes)),
        )
        for row in rows
    ]


def _unpacked(packed: dict[str, Any]) -> Change:
    """A change as `write` packed it."""
    moved_from = packed.get("moved_from")
    return Change(
        resource=packed["resource"],
        table=packed["table"],
        operation=Operation(packed["operation"]),
        identity=tuple(packed["identity"]),
        data=packed["data"],
        previous=packed.get("previous", {}),
        changed=tuple(packed.get("changed", ())),
        moved_from=None if moved_from is None else tuple(moved_from),
    )
