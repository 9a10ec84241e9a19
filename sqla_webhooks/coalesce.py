"""
What the changes of a transaction came to, row by row, made into events.

No database and no clock. An application that flushes five times, or whose lazy loads flush for it,
made one change in the eyes of everybody else: the one between its transaction's
begin and end.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, TypeAlias

from sqla_webhooks import encoding
from sqla_webhooks.events import Change, Event, Operation, OutboxRow

#: A change and when it was captured.
Dated: TypeAlias = tuple[Change, datetime]
#: A resource, its table, and a primary key as JSON, which unlike its parts can always be looked up.
Place: TypeAlias = tuple[str, str, bytes]


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


def net(rows: Sequence[OutboxRow]) -> list[Dated]:
    """
    The net changes of one transaction.

    First old value, last new value; insert then delete is nothing; delete then
    insert of one key is an update; a value set and set back is no change.
    """
    story: dict[Place, Dated] = {}
    ended: list[Dated] = []
    for row in rows:
        for change in row.changes:
            was = _place(change, change.moved_from or change.identity)
            before = story.get(was)
            result = change if before is None else _merge(before[0], change)
            if before is not None and result is not None and _place(result, result.identity) == was:
                # In its place, and not at the end: the key that it had before may have been given again since.
                story[was] = (result, row.captured_at)
                continue
            story.pop(was, None)
            if result is not None:
                _put((result, row.captured_at), story, ended)
    return [(kept, at) for change, at in [*ended, *story.values()] if (kept := _without_reverted(change)) is not None]


def _place(change: Change, identity: tuple[Any, ...]) -> Place:
    return change.resource, change.table, encoding.dumps(identity)


def _put(now: Dated, story: dict[Place, Dated], ended: list[Dated]) -> None:
    """Write down what a row has come to, minding that its key may have been another's, or be one now."""
    here = _place(now[0], now[0].identity)
    there = story.pop(here, None)
    if there is None:
        story[here] = now
    elif now[0].operation is not Operation.DELETE:
        ended.append(there)  # the row that had the key before, and is deleted
        story[here] = now
    elif there[0].operation is Operation.CREATE:
        story[here] = (_replaced(now[0], there[0]), there[1])  # it moved and is deleted; a new row has its key
    else:
        ended.append(now)  # the same, and another row has moved to its key
        story[here] = there


def _merge(first: Change, then: Change) -> Change | None:  # noqa: PLR0911  # one for each pair
    """Two changes of one row as one; None if nothing is left. What SQL did in between we have not seen."""
    match first.operation, then.operation:
        case Operation.CREATE, Operation.DELETE:
            return None
        case Operation.CREATE, _:
            return replace(then, operation=Operation.CREATE, previous={}, changed=(), moved_from=None)
        case Operation.UPDATE, Operation.DELETE:
            return _deleted(first, then)
        case Operation.UPDATE, Operation.CREATE:
            return _replaced(_deleted(first, first), then)
        case Operation.DELETE, Operation.DELETE:
            return first
        case Operation.DELETE, _:
            return _replaced(first, then)
        case _:
            return _merge_updates(first, then)


def _deleted(first: Change, then: Change) -> Change:
    """An update and a delete: the row as it was before both; `changed` keeps what is not known of that."""
    return Change(
        resource=then.resource,
        table=then.table,
        operation=Operation.DELETE,
        identity=first.moved_from or first.identity,
        data={**then.data, **first.previous},
        changed=tuple(key for key in first.changed if key not in first.previous),
    )


def _replaced(first: Change, then: Change) -> Change:
    """A delete and what stands under its key now: an update."""
    unknown = first.changed
    changed = tuple(
        key for key in then.data if key in unknown or not _same(first.data.get(key, _ABSENT), then.data[key])
    )
    previous = {key: first.data[key] for key in changed if key in first.data and key not in unknown}
    return replace(then, operation=Operation.UPDATE, previous=previous, changed=changed)


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


def _without_reverted(change: Change) -> Change | None:
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
    return bool(old == new) and json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)


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
        table=change.table,
        identity=change.identity,
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_id(at: datetime) -> str:
    """
    A new public id: `evt_`, 48 bits of time and 80 random ones in hexadecimal.

    The time comes first so that the ids of a day are neighbours in an index.
    """
    return f"evt_{(at - _EPOCH) // timedelta(milliseconds=1):012x}{secrets.token_hex(10)}"


def resource_id(identity: Sequence[Any]) -> str:
    """A primary key as text: its parts in key order, joined by commas."""
    return ",".join(part if isinstance(part, str) else encoding.dumps(part).decode() for part in identity)
