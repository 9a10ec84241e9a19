"""
Outbox rows become events and deliveries, in one transaction.

One relay at a time should do it (see `lead`), and one relay at a time can: the
transaction locks the lease's row, then removes the very outbox rows it was
given, and gives up if they are gone. So a relay whose lease ran out while its
enrichers worked does no harm, and is not made to fail either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from sqla_webhooks import encoding, models
from sqla_webhooks.events import DeliveryState, Event, OutboxRow
from sqla_webhooks.outbox import lead, queue, subscribed
from sqla_webhooks.outbox.database import Database, chunks
from sqla_webhooks.subscriptions import Patterns

_event, _endpoint = models.event, models.endpoint


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
    The fan-out of one relay; remembers the endpoints between turns.

    Used by one thread at a time: the relay's, or that of `drain()`.
    """

    def __init__(self, database: Database, *, keep_all: bool) -> None:
        self._database = database
        self._keep_all = keep_all
        self._revision = -1
        self._routes: list[_Route] = []

    def publish(self, rows: Sequence[OutboxRow], messages: Sequence[Message], *, now: datetime) -> bool:
        """
        Replace *rows* by *messages* and their deliveries, in one write transaction.

        Returns:
            Whether it was done; if not, the rows were gone already.
        """
        try:
            with self._database.write() as connection:
                lead.lock(connection)
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
        found = connection.execute(
            select(_endpoint.c.id, _endpoint.c.events, _endpoint.c.enabled)
            .where(_endpoint.c.deleted_at.is_(None))
            .order_by(_endpoint.c.id)
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
                "ordering_key": queue.ordering_key(route.endpoint_id, message.event),
                "created_at": now,
            }
            for message, routes in routed
            for route in routes
        ]
        queue.enqueue(connection, deliveries, now=now)


_ONE = delete(models.outbox).where(models.outbox.c.id == bindparam("number"))


def _remove(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    if connection.dialect.name in ("mysql", "mariadb"):
        # One after the other, each by its key. For several it may go through the table, and wait for every row on its
        # way that an open transaction of the application has written.
        removed = connection.execute(_ONE, [{"number": row.id} for row in rows]).rowcount
    else:
        removed = 0
        for some in chunks([row.id for row in rows]):
            removed += connection.execute(delete(models.outbox).where(models.outbox.c.id.in_(some))).rowcount
    if removed != len(rows):
        raise _Gone


def _insert_events(connection: Connection, messages: Sequence[Message]) -> dict[str, int]:
    """Insert in order, so that the database's numbers say the order; public id to number."""
    connection.execute(insert(_event), [_event_row(message) for message in messages])
    numbers: dict[str, int] = {}
    for some in chunks([message.event.id for message in messages]):
        found = connection.execute(select(_event.c.public_id, _event.c.id).where(_event.c.public_id.in_(some)))
        numbers.update((row.public_id, row.id) for row in found)
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
