"""
Outbox rows become events and deliveries.

One relay at a time should do it: `hold_lease` says which. One relay at a time
*can* do it: the transaction first locks the lease's row, then removes the very
outbox rows it was given, and gives up if they are gone. So a relay whose lease
ran out while its enrichers worked does no harm, and is not made to fail either.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from sqla_webhooks import encoding, models
from sqla_webhooks.events import DeliveryState, Event, OutboxRow
from sqla_webhooks.outbox import subscribed
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.subscriptions import Patterns

LEASE = "fan_out"

#: Bound parameters in one IN list: SQLite before 3.32 takes 999.
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Message:
    """An event and the body that will be sent for it."""

    event: Event
    body: bytes


@dataclass(frozen=True, slots=True)
class _Route:
    endpoint_id: int
    patterns: Patterns
    enabled: bool


class _Gone(Exception):
    """The outbox rows are not there any more: another relay has relayed them."""


class FanOut:
    """
    The fan-out of one relay; keeps the endpoints it knows between turns.

    Used by one thread at a time: the relay's, or that of `drain()`.
    """

    def __init__(self, database: Database, *, keep_all: bool) -> None:
        self._database = database
        self._keep_all = keep_all
        self.forget()

    def forget(self) -> None:
        """Be another relay: in a forked child, the parent's lease is not ours."""
        self._token = secrets.token_hex(16)
        self._revision = -1
        self._routes: list[_Route] = []

    def hold_lease(self, now: datetime, seconds: float) -> bool:
        """
        Take the lease, or keep it; False if another relay has it.

        One write transaction, one statement, where the row exists.
        """
        table = models.lease
        expires_at = now + timedelta(seconds=seconds)
        # One that ends later than ours would was given by a clock that has been set back since.
        free = or_(table.c.token.is_(None), table.c.expires_at <= now, table.c.expires_at > expires_at)
        mine = update(table).where(table.c.name == LEASE, or_(table.c.token == self._token, free))
        with self._database.write() as connection:
            if connection.execute(mine.values(token=self._token, expires_at=expires_at)).rowcount:
                return True
            if connection.execute(select(table.c.name).where(table.c.name == LEASE)).first():
                return False
            try:
                with connection.begin_nested():
                    connection.execute(insert(table).values(name=LEASE, token=self._token, expires_at=expires_at))
            except IntegrityError:  # another process took the first one meanwhile
                return False
            return True

    def release_lease(self) -> None:
        """Let another relay go on at once. One write transaction."""
        table = models.lease
        mine = update(table).where(table.c.name == LEASE, table.c.token == self._token)
        with self._database.write() as connection:
            connection.execute(mine.values(token=None, expires_at=None))

    def __call__(self, rows: Sequence[OutboxRow], messages: Sequence[Message], *, now: datetime) -> bool:
        """
        Replace *rows* by *messages* and their deliveries, in one transaction.

        Returns:
            Whether it was done; if not, the rows were gone already.
        """
        try:
            with self._database.write() as connection:
                connection.execute(update(models.lease).where(models.lease.c.name == LEASE).values(name=LEASE))
                _remove(connection, rows)
                self._refresh(connection)
                self._insert(connection, messages, now)
        except _Gone:
            return False
        return True

    def _refresh(self, connection: Connection) -> None:
        revision = subscribed.revision(connection)
        if revision == self._revision:
            return
        table = models.endpoint
        found = connection.execute(
            select(table.c.id, table.c.events, table.c.enabled).where(table.c.deleted_at.is_(None)).order_by(table.c.id)
        )
        self._routes = [_Route(row.id, Patterns.of(encoding.loads(row.events)), row.enabled) for row in found]
        self._revision = revision

    def _insert(self, connection: Connection, messages: Sequence[Message], now: datetime) -> None:
        routed = [
            (message, routes)
            for message in messages
            if (routes := [route for route in self._routes if route.patterns.match(message.event.type)])
            or self._keep_all
        ]
        if not routed:
            return
        numbers = _insert_events(connection, [message for message, _ in routed])
        deliveries: list[dict[str, Any]] = [
            {
                "event_id": numbers[message.event.id],
                "endpoint_id": route.endpoint_id,
                "state": DeliveryState.PENDING if route.enabled else DeliveryState.HELD,
                "attempts": 0,
                "ordering_key": ordering_key(route.endpoint_id, message.event),
                "created_at": now,
            }
            for message, routes in routed
            for route in routes
        ]
        _queue(connection, deliveries, now)
        if deliveries:
            connection.execute(insert(models.delivery), deliveries)


def ordering_key(endpoint_id: int, event: Event) -> int:
    """
    A number for (endpoint, row), the same in every process.

    64 bits of BLAKE2b. Two rows that share a number by chance wait for each
    other, and lose nothing by it.
    """
    name = "\0".join((str(endpoint_id), event.resource, event.table, event.resource_id)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def _remove(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    numbers = [row.id for row in rows]
    removed = 0
    for start in range(0, len(numbers), _CHUNK):
        some = models.outbox.c.id.in_(numbers[start : start + _CHUNK])
        removed += connection.execute(delete(models.outbox).where(some)).rowcount
    if removed != len(numbers):
        raise _Gone


def _insert_events(connection: Connection, messages: Sequence[Message]) -> dict[str, int]:
    """Insert in order, so that the database's numbers say the order; public id to number."""
    table = models.event
    connection.execute(insert(table), [_event_row(message) for message in messages])
    names = [message.event.id for message in messages]
    numbers: dict[str, int] = {}
    for start in range(0, len(names), _CHUNK):
        some = select(table.c.public_id, table.c.id).where(table.c.public_id.in_(names[start : start + _CHUNK]))
        numbers.update((row.public_id, row.id) for row in connection.execute(some))
    return numbers


def _event_row(message: Message) -> dict[str, object]:
    event = message.event
    return {
        "public_id": event.id,
        "type": event.type,
        "resource": event.resource,
        "resource_id": event.resource_id,
        "operation": event.operation.value,
        "occurred_at": event.timestamp,
        "payload": message.body,
    }


def _queue(connection: Connection, deliveries: Sequence[dict[str, Any]], now: datetime) -> None:
    """
    Make the first of each row's queue due now; the others wait for their predecessor to settle.

    The last of each queue is locked, so that it cannot settle between our look
    and our insert: either we see it finished, or it sees us and passes the
    turn on (see `settle`). Where there are no row locks there is one writer.
    """
    keys = list({one["ordering_key"] for one in deliveries})
    waiting: set[object] = set()
    for start in range(0, len(keys), _CHUNK):
        waiting.update(row["ordering_key"] for row in _tails(connection, keys[start : start + _CHUNK]))
    for one in deliveries:
        first = one["ordering_key"] not in waiting
        waiting.add(one["ordering_key"])
        one["next_attempt_at"] = now if first and one["state"] is DeliveryState.PENDING else None


def _tails(connection: Connection, keys: Sequence[object]) -> Sequence[RowMapping]:
    table = models.delivery
    last = select(func.max(table.c.id)).where(table.c.ordering_key.in_(keys)).group_by(table.c.ordering_key)
    locked = (
        select(table.c.ordering_key)
        .where(table.c.id.in_(last.scalar_subquery()), table.c.ordering_key.is_not(None))
        .order_by(table.c.id)
        .with_for_update()
    )
    return connection.execute(locked).mappings().all()
