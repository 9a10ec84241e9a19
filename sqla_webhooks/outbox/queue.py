"""
Which delivery of a row is due: the head of its queue, and no other.

The deliveries of one row to one endpoint share an `ordering_key` and go in the
order of their numbers. Only the head has a `next_attempt_at`. The state of a
delivery and its place in the queue are written here, but for a claim's lease
and a retry's time. Two steps move heads, each in its own transaction, and they
must not miss each other:

* `enqueue` (the fan-out) adds a delivery. If it finds an unfinished one before
  it, the new one waits; else it is the head.
* `finish` takes a delivery out, and makes the next one due.

So the first locks the last delivery of each queue before it looks. Either it
sees that one finished, or the transaction that finishes it waits, and then
sees the new delivery and makes it due. SQLite has one writer, and no such race.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from sqla_webhooks import models
from sqla_webhooks.events import DeliveryState, Event
from sqla_webhooks.outbox.database import chunks

_delivery = models.delivery

#: Queues that are looked at together.
_PAGE = 500


def ordering_key(endpoint_id: int, event: Event) -> int:
    """
    A number for (endpoint, row), the same in every process.

    64 bits of BLAKE2b. Two rows that share a number by chance wait for each
    other, and lose nothing by it.
    """
    name = "\0".join((str(endpoint_id), event.resource, event.table, event.resource_id)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def enqueue(connection: Connection, deliveries: Sequence[dict[str, Any]], *, now: datetime) -> None:
    """
    Insert *deliveries*, in their order; the first of each queue is due now.

    In the fan-out's transaction, in the relay's thread.
    """
    waiting = _unfinished(connection, [one["ordering_key"] for one in deliveries])
    for one in deliveries:
        head = one["ordering_key"] not in waiting
        waiting.add(one["ordering_key"])
        one["next_attempt_at"] = now if head and one["state"] is DeliveryState.PENDING else None
    if deliveries:
        connection.execute(insert(_delivery), deliveries)


def _unfinished(connection: Connection, keys: Sequence[int]) -> set[int]:
    """The queues that have an unfinished delivery; the last one of each is locked."""
    found: set[int] = set()
    for some in chunks(list(dict.fromkeys(keys))):
        last = select(func.max(_delivery.c.id)).where(_delivery.c.ordering_key.in_(some))
        locked = (
            select(_delivery.c.ordering_key)
            .where(_delivery.c.id.in_(last.group_by(_delivery.c.ordering_key).scalar_subquery()))
            .where(_delivery.c.ordering_key.is_not(None))
            .order_by(_delivery.c.id)
            .with_for_update()
        )
        found.update(connection.execute(locked).scalars())
    return found


def finish(
    connection: Connection,
    which: ColumnElement[bool],
    *,
    state: DeliveryState,
    keys: Iterable[int | None],
    now: datetime,
    attempted: bool = False,
) -> None:
    """
    Take deliveries out of their queues for good, and make due what waited behind them.

    Args:
        which: Those deliveries.
        state: What they came to.
        keys: Their queues; none, if nothing can wait in them.
        attempted: Whether another attempt was made.
    """
    connection.execute(
        update(_delivery)
        .where(which)
        .values(
            state=state,
            attempts=_delivery.c.attempts + (1 if attempted else 0),
            next_attempt_at=None,
            ordering_key=None,
            lease_token=None,
            finished_at=now,
        )
    )
    advance(connection, [key for key in keys if key is not None], now=now)


def hold(connection: Connection, which: ColumnElement[bool]) -> None:
    """Keep deliveries back, in their places, until their endpoint is enabled."""
    connection.execute(
        update(_delivery).where(which).values(state=DeliveryState.HELD, next_attempt_at=None, lease_token=None)
    )


def release(connection: Connection, of_endpoint: ColumnElement[bool], *, now: datetime) -> None:
    """Let what was kept back for an endpoint go on: the head of each queue at once, the others in turn."""
    held = and_(of_endpoint, _delivery.c.state == DeliveryState.HELD)
    connection.execute(update(_delivery).where(held).values(state=DeliveryState.PENDING))
    keys = select(_delivery.c.ordering_key).where(of_endpoint, _delivery.c.ordering_key.is_not(None)).distinct()
    page = keys.order_by(_delivery.c.ordering_key).limit(_PAGE)
    while found := list(connection.execute(page).scalars()):  # an endpoint may have been off for long
        advance(connection, found, now=now)
        page = page.where(_delivery.c.ordering_key > found[-1])


def advance(connection: Connection, keys: Sequence[int], *, now: datetime) -> None:
    """
    Make the head of each queue due now, if it waits.

    After the statement that took the former head out of its queue, or let it
    go on, in the same transaction.
    """
    if not keys:
        return
    heads = (
        select(func.min(_delivery.c.id)).where(_delivery.c.ordering_key.in_(keys)).group_by(_delivery.c.ordering_key)
    )
    numbers = sorted(connection.execute(heads).scalars())
    if numbers:
        connection.execute(
            update(_delivery)
            .where(
                _delivery.c.id.in_(numbers),
                _delivery.c.state == DeliveryState.PENDING,
                _delivery.c.next_attempt_at.is_(None),
            )
            .values(next_attempt_at=now)
        )
