"""
Which delivery of a row is due: the head of its queue, and no other.

The deliveries of one row to one endpoint share an `ordering_key` and go in the
order of their numbers. A delivery of a change of the primary key stands in two
queues, of the old key and of the new one (its `former_key`), and is due as the
head of both. Only a head has a `next_attempt_at`. The state of a delivery and
its place in the queue are written here, but for a claim's lease and a retry's
time. Two steps move heads, each in its own transaction, and they must not miss
each other:

* `enqueue` (the fan-out) adds a delivery. If it finds an unfinished one before
  it, the new one waits; else it is the head.
* `finish` takes a delivery out, and makes the next one due.

So the first locks the head of each queue. Either it sees that one finished, and
looks again, or the transaction that finishes it waits, and then sees the new
delivery and makes it due. What is not a head is locked by none but those who
have its head, so that nobody locks two of a row in the other order. SQLite has
one writer, and no such race.

Who comes to the middle of a queue, to take a delivery out or to put one back,
locks the head first (`lock_heads`): no head is finished without its lock, so
nothing is made due meanwhile.

What waits for a disabled endpoint stays as it is: nobody looks at its lanes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Subquery, bindparam, func, insert, select, union_all, update

from sqla_webhooks import models
from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.outbox.database import chunks

_delivery = models.delivery
_KEYS = (_delivery.c.ordering_key, _delivery.c.former_key)


class Moved(Exception):
    """A queue has gone on since it was looked at: to be tried again, from the begin of the transaction."""


def row_key(resource: str, table: str, resource_id: str) -> int:
    """
    A number for a row, the same in every process.

    64 bits of BLAKE2b. Two rows that share a number by chance wait for each
    other, and lose nothing by it.
    """
    return _number(f"{resource}\0{table}\0{resource_id}".encode())


def places(endpoint_id: int, row: int, former_row: int | None, *, ordered: bool) -> dict[str, int | None]:
    """
    The keys of the queues in which a delivery stands.

    Args:
        row, former_row: The `row_key` and the `former_key` of its event.
    """
    return {
        "ordering_key": _key(endpoint_id, row) if ordered else None,
        "former_key": _key(endpoint_id, former_row) if ordered else None,
    }


def _key(endpoint_id: int, row: int | None) -> int | None:
    return None if row is None else _number(struct.pack(">qq", endpoint_id, row))


def _number(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def delivery_row(
    endpoint_id: int,
    event_id: int,
    *,
    row: int,
    former_row: int | None,
    ordered: bool,
    now: datetime,
    dropped: bool = False,
) -> dict[str, Any]:
    """
    A new delivery, for `enqueue`.

    Args:
        row, former_row: The `row_key` and the `former_key` of its event.
        ordered: Whether its endpoint wants the events of a row in their order.
        dropped: Whether it is given up before it begins.
    """
    return {
        "event_id": event_id,
        "endpoint_id": endpoint_id,
        "state": DeliveryState.CANCELLED if dropped else DeliveryState.PENDING,
        "attempts": 0,
        "lane": None if dropped else models.lane_of(endpoint_id, retry=False),
        **places(endpoint_id, row, former_row, ordered=ordered and not dropped),
        "created_at": now,
        "finished_at": now if dropped else None,
    }


def enqueue(connection: Connection, deliveries: Sequence[dict[str, Any]], *, now: datetime) -> None:
    """
    Insert *deliveries*, in their order; the first of each queue is due now.

    In the fan-out's transaction, in the relay's thread.
    """
    waiting = _unfinished(connection, {key for one in deliveries for key in keys_of(one)})
    for one in deliveries:
        keys = keys_of(one)
        head = waiting.isdisjoint(keys)
        waiting.update(keys)
        one["next_attempt_at"] = now if head and one["state"] is DeliveryState.PENDING else None
    if deliveries:
        connection.execute(insert(_delivery), deliveries)


def keys_of(delivery: Mapping[str, Any]) -> tuple[int, ...]:
    """The queues in which a delivery, a row of ours, stands."""
    return tuple(key for key in (delivery["ordering_key"], delivery["former_key"]) if key is not None)


def _unfinished(connection: Connection, keys: Collection[int]) -> set[int]:
    """The queues that have an unfinished delivery; the first of each is locked, and will not be finished meanwhile."""
    found: set[int] = set()
    while keys:
        first, keys = _lock_firsts(connection, keys)
        found.update(first)
    return found


def finish(
    connection: Connection,
    which: ColumnElement[bool],
    *,
    state: DeliveryState,
    keys: Iterable[int],
    now: datetime,
    attempted: bool = False,
    leave: bool = True,
) -> None:
    """
    Take deliveries out of their queues for good, and make due what waited behind them.

    Args:
        which: Those deliveries.
        state: What they came to.
        keys: Their queues; none, if nothing can wait in them.
        attempted: Whether another attempt was made.
        leave: Whether what waits behind them may go on; if not, they keep their places.
    """
    values: dict[str, Any] = {"ordering_key": None, "former_key": None} if leave else {}
    if attempted:
        values["attempts"] = _delivery.c.attempts + 1
    connection.execute(
        update(_delivery)
        .where(which)
        .values(state=state, lane=None, next_attempt_at=None, lease_token=None, finished_at=now, **values)
    )
    if leave:
        advance(connection, set(keys), now=now)


def advance(connection: Connection, keys: Collection[int], *, now: datetime) -> None:
    """
    Make the head of each queue due now, if it waits.

    After the statement that took the former head out of its queue, in the same
    transaction.
    """
    heads = _heads(connection, keys)
    for some in chunks(heads):
        connection.execute(
            update(_delivery)
            .where(
                _delivery.c.id.in_(some),
                _delivery.c.state == DeliveryState.PENDING,
                _delivery.c.next_attempt_at.is_(None),
            )
            .values(next_attempt_at=now)
        )


def lock_heads(connection: Connection, keys: Collection[int]) -> set[int]:
    """
    The first delivery of each queue, which is finished by nobody else before this transaction ends.

    Before anything but these is locked, for so does everybody.

    Raises:
        Moved: One of them was finished meanwhile.
    """
    first, moved = _lock_firsts(connection, keys)
    if moved:
        raise Moved
    return set(first.values())


def _lock_firsts(connection: Connection, keys: Collection[int]) -> tuple[dict[int, int], set[int]]:
    """The first delivery of each queue, locked; and the queues of which it was finished before it could be."""
    first: dict[int, int] = {}
    _firsts(connection, keys, first)
    places: dict[int, list[int | None]] = {}
    for some in chunks(sorted(set(first.values()))):
        locked = select(_delivery.c.id, *_KEYS).where(_delivery.c.id.in_(some)).order_by(_delivery.c.id)
        places.update((number, both) for number, *both in connection.execute(locked.with_for_update()))
    moved = {key for key, number in first.items() if key not in places.get(number, ())}
    return {key: number for key, number in first.items() if key not in moved}, moved


_PUT_BACK = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("number"))
    .values(
        state=DeliveryState.PENDING,
        attempts=0,
        first_attempt_at=None,
        finished_at=None,
        lease_token=None,
        lane=bindparam("to"),
        next_attempt_at=bindparam("due"),
        ordering_key=bindparam("key"),
        former_key=bindparam("former"),
    )
)


def put_back(connection: Connection, deliveries: Sequence[Mapping[str, Any]], *, now: datetime) -> None:
    """
    Let finished deliveries wait again, each in its place; the first of a queue is due now.

    What stands behind one of them and is due already is held back, and what
    waits for a retry loses its time, unless it is being sent. Nobody else may
    put anything into the queues meanwhile.

    Args:
        deliveries: Rows of ours, with their `id`, `lane` and keys.

    Raises:
        Moved: As for `lock_heads`; nothing was written.
    """
    keys = {key for one in deliveries for key in keys_of(one)}
    before = lock_heads(connection, keys)
    connection.execute(_PUT_BACK, [_put_back_row(one, now=now) for one in deliveries])
    _hold_back(connection, before.difference(_heads(connection, keys)))
    advance(connection, keys, now=now)


def _put_back_row(one: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    return {
        "number": one["id"],
        "to": one["lane"],
        "due": None if keys_of(one) else now,
        "key": one["ordering_key"],
        "former": one["former_key"],
    }


def _hold_back(connection: Connection, numbers: Collection[int]) -> None:
    for some in chunks(sorted(numbers)):
        unsent = (_delivery.c.id.in_(some), _delivery.c.next_attempt_at.is_not(None), _delivery.c.lease_token.is_(None))
        connection.execute(update(_delivery).where(*unsent).values(next_attempt_at=None))


def make_due(connection: Connection, lane: int, *, now: datetime) -> None:
    """Let what waits in a lane for its time wait no longer, but for what is being sent."""
    waiting = (_delivery.c.lane == lane, _delivery.c.next_attempt_at > now, _delivery.c.lease_token.is_(None))
    connection.execute(update(_delivery).where(*waiting).values(next_attempt_at=now))


def _heads(connection: Connection, keys: Collection[int]) -> list[int]:
    """The deliveries that stand first in each of their queues, of those in *keys*."""
    first: dict[int, int] = {}
    rows = _firsts(connection, keys, first)
    beyond = {key for _, *both in rows for key in both if key is not None} - set(keys)
    if beyond:  # of deliveries that stand in two queues
        _lock(connection, [number for number, *both in rows if not beyond.isdisjoint(both)])
        _firsts(connection, beyond, first)
    heads = (number for number, *both in rows if all(first.get(key) == number for key in both if key is not None))
    return sorted(set(heads))


def _lock(connection: Connection, numbers: Collection[int]) -> None:
    """Two relays may finish the two heads before such a delivery at once: the second to come here makes it due."""
    connection.execute(
        select(_delivery.c.id).where(_delivery.c.id.in_(sorted(numbers))).order_by(_delivery.c.id).with_for_update()
    )


def _firsts(connection: Connection, keys: Collection[int], first: dict[int, int]) -> list[Any]:
    """Note the first number of each queue; the deliveries that have them."""
    found: list[Any] = []
    for some in chunks(sorted(keys), width=len(_KEYS)):
        least = _least(some)
        rows = connection.execute(select(_delivery.c.id, *_KEYS).join(least, least.c.id == _delivery.c.id)).all()
        for number, *both in rows:
            for key in both:
                if key in keys:
                    first[key] = min(number, first.get(key, number))
        found += rows
    return found


#: Of so few queues each is asked for its first by itself, which is one look into the index, however long it is.
_FEW = 4


def _least(keys: Sequence[int]) -> Subquery:
    """The first number of each queue, once for each column in which its key may stand."""
    least = select(func.min(_delivery.c.id).label("id"))
    each: list[Select[Any]]
    if len(keys) <= _FEW:
        each = [least.where(column == key) for column in _KEYS for key in keys]
    else:
        each = [least.where(column.in_(keys)).group_by(column) for column in _KEYS]
    return union_all(*each).subquery("least")
