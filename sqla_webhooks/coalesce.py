"""
What the changes of a transaction came to, row by row, made into events.

Pure. An application that flushes five times, or whose lazy loads flush for it,
made one change in the eyes of everybody else: the one between its transaction's
begin and end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any, TypeAlias

from sqla_webhooks import encoding
from sqla_webhooks.events import Change, Event, Operation, OutboxRow

#: A change and when it was captured.
Dated: TypeAlias = tuple[Change, datetime]


def coalesce(rows: Sequence[OutboxRow], *, together: bool = True) -> list[Event]:
    """
    The events that *rows* amount to, in the order of the changes.

    Args:
        rows: Whole transactions, in the order of their numbers.
        together: Whether the changes of one row in one transaction become one
            event; if not, each becomes its own.
    """
    if not together:
        dated: Iterable[Dated] = ((change, row.captured_at) for row in rows for change in row.changes)
        return [_event(change, at) for change, at in dated]
    # Rows of one transaction need not be neighbours; the sort is stable.
    first = {row.transaction: row.id for row in reversed(rows)}
    whole = sorted(rows, key=lambda row: first[row.transaction])
    return [
        _event(change, at)
        for _, group in groupby(whole, key=lambda row: row.transaction)
        for change, at in net(list(group))
    ]


def net(rows: Sequence[OutboxRow]) -> list[Dated]:
    """
    The net changes of one transaction.

    First old value, last new value; insert then delete is nothing; delete then
    insert of one key is an update; a value set and set back is no change.
    """
    story: dict[tuple[str, tuple[Any, ...]], Dated] = {}
    ended: list[Dated] = []
    for row in rows:
        for change in row.changes:
            before = story.pop((change.resource, change.moved_from or change.identity), None)
            result = change if before is None else _merge(before[0], change)
            here = (change.resource, change.identity)
            if change.moved_from is not None and here in story:
                ended.append(story.pop(here))  # the row that had the key before
            if result is not None:
                story[here] = (result, row.captured_at)
    return [(kept, at) for change, at in [*ended, *story.values()] if (kept := _really(change)) is not None]


def _merge(first: Change, then: Change) -> Change | None:
    """Two changes of one row as one; None if nothing is left."""
    match first.operation, then.operation:
        case Operation.CREATE, Operation.DELETE:
            return None
        case Operation.CREATE, _:
            return replace(then, operation=Operation.CREATE, previous={}, changed=(), moved_from=None)
        case Operation.UPDATE, Operation.DELETE:
            return replace(then, identity=first.moved_from or first.identity, data={**then.data, **first.previous})
        case Operation.DELETE, _:
            changed = tuple(key for key in then.data if not _same(first.data.get(key, _ABSENT), then.data[key]))
            previous = {key: first.data[key] for key in changed if key in first.data}
            return replace(then, operation=Operation.UPDATE, previous=previous, changed=changed)
        case _:
            return _merge_updates(first, then)


def _merge_updates(first: Change, then: Change) -> Change:
    unknown = set(first.changed) - first.previous.keys()
    previous = {key: old for key, old in then.previous.items() if key not in unknown} | first.previous
    moved_from = first.moved_from or then.moved_from
    return replace(
        then,
        previous=previous,
        changed=tuple(dict.fromkeys((*first.changed, *then.changed))),
        moved_from=None if moved_from == then.identity else moved_from,
    )


def _really(change: Change) -> Change | None:
    """An update without the values that came back to what they were; None if none is left."""
    if change.operation is not Operation.UPDATE:
        return change
    changed = tuple(key for key in change.changed if not _same(change.previous.get(key, _ABSENT), change.data.get(key)))
    if not changed and change.moved_from is None:
        return None
    previous = {key: old for key, old in change.previous.items() if key in changed}
    return replace(change, changed=changed, previous=previous)


_ABSENT = object()


def _same(old: Any, new: Any) -> bool:
    """Equal as JSON: Python alone would call 1 and true equal."""
    return bool(old == new) and encoding.dumps(old) == encoding.dumps(new)


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
        identity=change.identity,
    )


def event_id(at: datetime) -> str:
    """
    A new public id: `evt_`, 48 bits of time and 80 random ones in hexadecimal.

    The time comes first so that the ids of a day are neighbours in an index.
    """
    return f"evt_{int(at.timestamp() * 1000):012x}{secrets.token_hex(10)}"


def resource_id(identity: Sequence[Any]) -> str:
    """A primary key as text: its parts in key order, joined by commas."""
    return ",".join(part if isinstance(part, str) else encoding.dumps(part).decode() for part in identity)
