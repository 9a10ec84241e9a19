"""
What the changes of a transaction came to, row by row, made into events.

No database and no clock. An application that flushes five times, or whose lazy loads flush for it,
made one change in the eyes of everybody else: the one between its transaction's
begin and end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, TypeVar

from sqla_webhooks import encoding
from sqla_webhooks.audience import Audience
from sqla_webhooks.events import Around, Change, Event, Operation, OutboxRow
from sqla_webhooks.ids import event_id
from sqla_webhooks.net import net

T = TypeVar("T")


def coalesce(rows: Sequence[OutboxRow], *, together: bool = True) -> list[Event]:
    """
    The events that *rows* amount to, in the order of the changes.

    An event has as its context what was said at any of the flushes that changed
    its row, the last of two that say different things: a transaction may be
    about rows of several tenants, of which none shall hear what was said of
    another's.

    Args:
        rows: Whole transactions, ordered by their numbers.
        together: Whether the changes of one row in one transaction become one
            event; if not, each becomes its own.
    """
    if not together:
        return [_event(change, row.captured_at, row.context) for row in rows for change in row.changes]
    # Rows of one transaction need not be neighbours. Its last number says when it came (see `outbox.take`).
    last = {row.transaction: row.id for row in rows}
    whole = sorted(rows, key=lambda row: last[row.transaction])
    transactions = (list(group) for _, group in groupby(whole, key=lambda row: row.transaction))
    return [
        _event(one.change, one.at, one.said, around=None if one.row is None else _around(one.row))
        for some in transactions
        for one in net(some)
    ]


def _around(change: Change) -> Around:
    """A row before and after a change of it, as far as that is known."""
    unsure = {*change.changed, *change.previous}
    before = {key: value for key, value in change.data.items() if key not in unsure} | change.previous
    return Around(
        before=None if change.operation is Operation.CREATE else before,
        after=None if change.operation is Operation.DELETE else change.data,
    )


def _event(change: Change, at: datetime, context: Mapping[str, Any] | None, *, around: Around | None = None) -> Event:
    """What is hidden is put aside here, before anything else sees the event, whoever knows what it is for."""
    changes, is_update = {}, change.operation is Operation.UPDATE
    if is_update:
        changes = {
            key: {**({"from": change.previous[key]} if key in change.previous else {}), "to": change.data.get(key)}
            for key in change.changed
        }
    name, hidden = event_id(at), frozenset(change.hidden)
    was_updated = change.operation is Operation.DELETE and bool(change.previous or change.changed)
    return Event(
        id=name,
        type=change.type or f"{change.resource}.{change.operation.verb}",
        timestamp=at,
        resource=change.resource,
        # What is about no row is one of a kind: it waits for nothing, and nothing for it.
        resource_id=resource_id(change.identity) if change.identity else name,
        operation=change.operation,
        data=_without(hidden, change.data),
        changes=_without(hidden, changes) if is_update else None,
        links={name: _as_text(link) for name, link in change.links.items()} or None,
        table=change.table,
        identity=change.identity,
        former_id=None if change.moved_from is None else resource_id(change.moved_from),
        audience=Audience.ALL if change.tenant is None else Audience.TENANT,
        tenant=change.tenant,
        context=context,
        row=change.row,
        by_hand=change.by_hand,
        endpoint=change.endpoint,
        hidden={key: value for key, value in change.data.items() if key in hidden},
        hidden_changes={key: value for key, value in changes.items() if key in hidden},
        unsure=frozenset(change.changed) if was_updated else None,
        around=around,
    )


def _without(hidden: Collection[str], values: dict[str, T]) -> dict[str, T]:
    return {key: value for key, value in values.items() if key not in hidden} if hidden else values


def _as_text(link: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {key: [resource_id(identity) for identity in link.get(key, ())] for key in ("added", "removed")}


def resource_id(identity: Sequence[Any]) -> str:
    """A primary key as text: its parts in key order, joined by commas."""
    return ",".join(part if isinstance(part, str) else encoding.dumps(part).decode() for part in identity)
