"""
What the changes of a transaction came to, row by row, made into events.

No database and no clock. An application that flushes five times, or whose lazy loads flush for it,
made one change in the eyes of everybody else: the one between its transaction's
begin and end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqla_webhooks import encoding
from sqla_webhooks.events import Change, Event, Operation, OutboxRow
from sqla_webhooks.ids import event_id
from sqla_webhooks.net import Dated, net


def coalesce(rows: Sequence[OutboxRow], *, together: bool = True) -> list[Event]:
    """
    The events that *rows* amount to, in the order of the changes.

    Args:
        rows: Whole transactions, ordered by their numbers.
        together: Whether the changes of one row in one transaction become one
            event; if not, each becomes its own.
    """
    if not together:
        dated: Iterable[Dated] = ((change, row.captured_at) for row in rows for change in row.changes)
        return [_event(change, at) for change, at in dated]
    # Rows of one transaction need not be neighbours. Its last number says when it came (see `outbox.take`).
    last = {row.transaction: row.id for row in rows}
    whole = sorted(rows, key=lambda row: last[row.transaction])
    return [
        _event(change, at)
        for _, group in groupby(whole, key=lambda row: row.transaction)
        for change, at in net(list(group))
    ]


def _event(change: Change, at: datetime) -> Event:
    changes = None
    if change.operation is Operation.UPDATE:
        changes = {
            key: {**({"from": change.previous[key]} if key in change.previous else {}), "to": change.data.get(key)}
            for key in change.changed
        }
    return Event(
        id=event_id(at),
        type=f"{change.resource}.{change.operation.verb}",
        timestamp=at,
        resource=change.resource,
        resource_id=resource_id(change.identity),
        operation=change.operation,
        data=change.data,
        changes=changes,
        links={name: _as_text(link) for name, link in change.links.items()} or None,
        table=change.table,
        identity=change.identity,
        former_id=None if change.moved_from is None else resource_id(change.moved_from),
    )


def _as_text(link: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {key: [resource_id(identity) for identity in link.get(key, ())] for key in ("added", "removed")}


def resource_id(identity: Sequence[Any]) -> str:
    """A primary key as text: its parts in key order, joined by commas."""
    return ",".join(part if isinstance(part, str) else encoding.dumps(part).decode() for part in identity)
