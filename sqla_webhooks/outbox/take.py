"""The relay's side of the outbox: what has committed and waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from sqlalchemy import Connection, func, select

from sqla_webhooks import models
from sqla_webhooks.encoding import loads
from sqla_webhooks.events import OutboxRow
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.database import chunks

_outbox = models.outbox

#: Bytes that the rows of one turn may have, unless a transaction has more: they are in memory several times over.
BYTES = 16 * 1024 * 1024

_SIZES = select(_outbox.c.id, func.length(_outbox.c.changes).label("size")).order_by(_outbox.c.id)
_ROWS = select(
    _outbox.c.id, _outbox.c.transaction_id, _outbox.c.captured_at, _outbox.c.changes, _outbox.c.context
).order_by(_outbox.c.id)


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
    The rows to relay next, about *limit* of them, or as many as `BYTES` are.

    Whole transactions, since what a row came to is known only at the end of
    its transaction; and none before another that came first. Two transactions
    that changed the same row did so one after the other, each taking its
    numbers while it held the row's lock. So the one that committed first has
    the smaller *last* number, and that is the order in which they are taken;
    one that goes on beyond the oldest *limit* rows waits for the next turn.
    """
    reader = _Reader()
    after: int | None = None
    while True:  # beyond rows that cannot be read, if there is nothing else
        some = _fitting(connection, limit, after=after)
        query = _ROWS if after is None else _ROWS.where(_outbox.c.id > after)
        found = connection.execute(query.limit(some)).all()
        more = len(found) == some
        rows = looked = reader.read(found)
        if more and rows:
            rows = _whole(connection, rows, last=found[-1].id, reader=reader)
        if rows or not more:
            return Batch(rows, more, frozenset(reader.unreadable))
        if not looked:
            after = found[-1].id


def _fitting(connection: Connection, limit: int, *, after: int | None) -> int:
    """How many of the next *limit* rows are to be read at once, by their sizes; at least one."""
    query = _SIZES if after is None else _SIZES.where(_outbox.c.id > after)
    sizes = [row.size for row in connection.execute(query.limit(limit))]
    fitting = sum(total <= BYTES for total in accumulate(sizes))
    return limit if fitting == len(sizes) else max(fitting, 1)


def _whole(connection: Connection, rows: Sequence[OutboxRow], *, last: int, reader: _Reader) -> list[OutboxRow]:
    """Those of *rows*, which end with the number *last*, whose transactions do too; or else the first to end."""
    ends = _ends_beyond(connection, rows, last=last)
    whole = [row for row in rows if row.transaction not in ends]
    if whole or not ends:
        return whole
    first = min(ends.values())
    rows = reader.read(connection.execute(_ROWS.where(_outbox.c.id <= first)).all())
    ends = _ends_beyond(connection, rows, last=first)
    return [row for row in rows if row.transaction not in ends]


def _ends_beyond(connection: Connection, rows: Sequence[OutboxRow], *, last: int) -> dict[str, int]:
    """The transactions of *rows* that go on beyond the number *last*, each to its own last number."""
    ends: dict[str, int] = {}
    for some in chunks(list({row.transaction for row in rows})):
        found = connection.execute(
            select(_outbox.c.transaction_id, func.max(_outbox.c.id).label("last"))
            .where(_outbox.c.transaction_id.in_(some))
            .group_by(_outbox.c.transaction_id)
            .having(func.max(_outbox.c.id) > last)
        )
        ends.update({row.transaction_id: row.last for row in found})
    return ends


class _Reader:
    """Reads rows as `write` wrote them, and knows those of another version, whose whole transactions are left."""

    def __init__(self) -> None:
        self.unreadable: set[int] = set()
        self._spoilt: set[str] = set()

    def read(self, found: Sequence[Any]) -> list[OutboxRow]:
        rows = [row for one in found if (row := self._row(one)) is not None]
        return [row for row in rows if row.transaction not in self._spoilt]

    def _row(self, found: Any) -> OutboxRow | None:
        try:
            changes = tuple(sheet.read(found.changes))
            context = None if found.context is None else loads(found.context)
        except (ValueError, TypeError, LookupError, AttributeError):
            self.unreadable.add(found.id)
            self._spoilt.add(found.transaction_id)
            return None
        return OutboxRow(found.id, found.transaction_id, found.captured_at, changes, context)
