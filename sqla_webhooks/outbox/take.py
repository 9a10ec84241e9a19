"""The relay's side of the outbox: what has committed and waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from sqla_webhooks import encoding, models
from sqla_webhooks.events import Change, Operation, OutboxRow

_outbox = models.outbox

_ROWS = select(_outbox.c.id, _outbox.c.transaction_id, _outbox.c.captured_at, _outbox.c.changes).order_by(_outbox.c.id)


@dataclass(frozen=True, slots=True)
class Batch:
    """Outbox rows to relay together, ordered by their numbers."""

    rows: Sequence[OutboxRow]
    #: Whether the outbox may hold more.
    more: bool
    #: Numbers of rows that this version of the library cannot read; they stay for one that can.
    unreadable: frozenset[int] = frozenset()


def take(connection: Connection, limit: int) -> Batch:
    """
    The rows to relay next, about *limit* of them.

    Whole transactions, since what a row came to is known only at the end of
    its transaction; and none before another that came first. Two transactions
    that changed the same row did so one after the other, each taking its
    numbers while it held the row's lock. So the one that committed first has
    the smaller *last* number, and that is the order in which they are taken;
    one that goes on beyond the oldest *limit* rows waits for the next turn.
    """
    rows = connection.execute(_ROWS.limit(limit)).all()
    more = len(rows) == limit
    if more:
        unfinished = _last_numbers(connection, rows)
        whole = [row for row in rows if row.transaction_id not in unfinished]
        rows = whole or _up_to(connection, min(unfinished.values()))
    read = {row.id: _outbox_row(row) for row in rows}
    spoilt = {row.transaction_id for row in rows if read[row.id] is None}
    return Batch(
        [one for one in read.values() if one is not None and one.transaction not in spoilt],
        more,
        frozenset(row.id for row in rows if row.transaction_id in spoilt),
    )


def _last_numbers(connection: Connection, rows: Sequence[Any]) -> dict[str, int]:
    """The transactions that go on beyond *rows*, each to its last number."""
    last = (
        select(_outbox.c.transaction_id, func.max(_outbox.c.id).label("last"))
        .where(_outbox.c.transaction_id.in_({row.transaction_id for row in rows}))
        .group_by(_outbox.c.transaction_id)
        .having(func.max(_outbox.c.id) > rows[-1].id)
    )
    return {row.transaction_id: row.last for row in connection.execute(last)}


def _up_to(connection: Connection, number: int) -> Sequence[Any]:
    """The rows of every transaction that ends with *number* or before, where each is larger than a batch."""
    rows = connection.execute(_ROWS.where(_outbox.c.id <= number)).all()
    unfinished = _last_numbers(connection, rows)
    return [row for row in rows if row.transaction_id not in unfinished]


def _outbox_row(row: Any) -> OutboxRow | None:
    """A row as `write` wrote it; None if it is of another version, and cannot be read."""
    try:
        changes = tuple(_unpacked(one) for one in encoding.loads(row.changes))
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return OutboxRow(id=row.id, transaction=row.transaction_id, captured_at=row.captured_at, changes=changes)


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
