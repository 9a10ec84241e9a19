"""Events are made public: they and their deliveries are inserted, in a transaction of the relay's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sqla_webhooks import encoding, filters, models, operational
from sqla_webhooks.audience import Reach, Scope
from sqla_webhooks.errors import InvalidFilter
from sqla_webhooks.events import Event
from sqla_webhooks.filters import Filter
from sqla_webhooks.outbox import queue, subscribed
from sqla_webhooks.outbox.database import chunks
from sqla_webhooks.outbox.sizes import BESIDE_ROW, by_bytes
from sqla_webhooks.subscriptions import Patterns

logger = logging.getLogger(__name__)

_event, _endpoint = models.event, models.endpoint

_ROUTE = (
    _endpoint.c.id,
    _endpoint.c.public_id,
    _endpoint.c.events,
    _endpoint.c.filter,
    _endpoint.c.scope,
    _endpoint.c.tenant,
    _endpoint.c.enabled,
    _endpoint.c.ordering,
)


@dataclass(frozen=True, slots=True)
class Message:
    """
    An event and the body that will be sent for it.

    Attributes:
        whole: The body that it would have had, were it not too large; None if it is whole.
    """

    event: Event
    body: bytes = field(repr=False)
    whole: bytes | None = field(default=None, repr=False)

    @property
    def full_size(self) -> int | None:
        """The bytes that the body would have had, were it not too large."""
        return None if self.whole is None else len(self.whole)


@dataclass(frozen=True, slots=True)
class _Route:
    endpoint_id: int
    public_id: str
    patterns: Patterns
    reach: Reach
    #: None lets everything pass.
    filter: Filter | None
    #: Whether its deliveries are given up before they begin.
    dropped: bool
    ordering: bool

    def wants(self, event: Event) -> bool:
        """Whether it may go to the endpoint, and is for it alone or has been asked for; its filter has a say yet."""
        asked = self.patterns.match(event.type) if event.endpoint is None else event.endpoint == self.public_id
        return asked and self.reach.covers(event.audience, event.tenant)


class Publication:
    """
    What one relay knows of where events go, between its turns.

    Used by one thread at a time: the relay's, or that of `drain()`.

    Args:
        keep_all: Whether events are kept for which nobody has asked.
        drop: Whether what a disabled endpoint should get is cancelled.
    """

    def __init__(self, *, keep_all: bool, drop: bool) -> None:
        self._keep_all = keep_all
        self._drop = drop
        self.forget()

    def forget(self) -> None:
        """Look again, whatever the revision says: it may be that of another database, restored say, or made anew."""
        self._revision = -1
        self._routes: list[_Route] = []

    def refresh(self, connection: Connection) -> None:
        """Know of the endpoints what has committed, as this transaction sees it."""
        revision = subscribed.revision(connection)
        if revision == self._revision:
            return
        found = connection.execute(select(*_ROUTE).where(_endpoint.c.deleted_at.is_(None)).order_by(_endpoint.c.id))
        self._routes = [self._route(row) for row in found]
        self._revision = revision

    def _routes_of(self, message: Message) -> list[_Route]:
        """
        Where an event goes; it is held against filters as it would be whole.

        What is told of the webhooks themselves is asked for by its name, and filters speak of rows.
        """
        routes = [route for route in self._routes if route.wants(message.event)]
        if message.event.type not in operational.TYPES and any(route.filter is not None for route in routes):
            body = encoding.loads(message.body if message.whole is None else message.whole)
            routes = [route for route in routes if route.filter is None or route.filter.match(body)]
        return routes

    def _route(self, row: Any) -> _Route:
        return _Route(
            row.id,
            row.public_id,
            patterns=Patterns.of(encoding.loads(row.events)),
            reach=Reach(Scope(row.scope), row.tenant),
            filter=stored_filter(row.filter, row.public_id),
            dropped=self._drop and not row.enabled,
            ordering=row.ordering,
        )

    def is_wanted(self, event_type: str) -> bool:
        """Whether anybody has asked for it; after `refresh()`."""
        return any(route.patterns.match(event_type) for route in self._routes)

    def keeps(self, event: Event) -> bool:
        """Whether it is made public: by its type, or as it is for one endpoint alone; after `refresh()`."""
        return self._keep_all or event.endpoint is not None or self.is_wanted(event.type)

    def insert(self, connection: Connection, messages: Sequence[Message], *, now: datetime) -> None:
        """Insert *messages* in their order, with a delivery for each endpoint that wants it; after `refresh()`."""
        routed = [(message, routes) for message in messages if (routes := self._routes_of(message)) or self._keep_all]
        if not routed:
            return
        rows = {message.event.id: _event_row(message) for message, _ in routed}
        numbers = _insert(connection, list(rows.values()))
        deliveries = [
            queue.delivery_row(
                route.endpoint_id,
                numbers[message.event.id],
                row=rows[message.event.id]["row_key"],
                former_row=rows[message.event.id]["former_key"],
                ordered=route.ordering,
                now=now,
                dropped=route.dropped,
            )
            for message, routes in routed
            for route in routes
        ]
        queue.enqueue(connection, deliveries, now=now)


def stored_filter(text: str | None, endpoint_id: str) -> Filter | None:
    """
    An endpoint's filter, made ready; None lets everything pass.

    One that cannot be read, of a newer version say, lets everything pass: what
    is too much can be left, what is lost cannot be had.
    """
    if text is None:
        return None
    try:
        return Filter.of(filters.read(text))
    except InvalidFilter as error:
        about = {"webhooks.endpoint": endpoint_id}
        logger.error("endpoint %s: its filter lets everything pass: %s", endpoint_id, error, extra=about)  # noqa: TRY400  # the message says all
        return None


def insert_events(connection: Connection, messages: Sequence[Message]) -> dict[str, int]:
    """Insert events and no deliveries; public id to number."""
    return _insert(connection, [_event_row(message) for message in messages])


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Insert in order, so that the database's numbers say the order; public id to number."""
    numbers: dict[str, int] = {}
    for some in by_bytes(connection, rows, size=_size):
        numbers |= _insert_some(connection, some)
    return numbers


def _size(row: Mapping[str, Any]) -> int:
    return len(row["payload"]) + len(row["resource_id"]) + BESIDE_ROW


def _insert_some(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    if connection.dialect.name == "postgresql":  # elsewhere SQLAlchemy makes a statement for each row of this
        numbered = insert(_event).returning(_event.c.public_id, _event.c.id, sort_by_parameter_order=True)
        return {row.public_id: row.id for row in connection.execute(numbered, rows)}
    connection.execute(insert(_event), rows)
    numbers: dict[str, int] = {}
    for some in chunks([row["public_id"] for row in rows]):
        found = connection.execute(select(_event.c.public_id, _event.c.id).where(_event.c.public_id.in_(some)))
        numbers.update((row.public_id, row.id) for row in found)
    return numbers


def _event_row(message: Message) -> dict[str, Any]:
    event = message.event
    former = None if event.former_id is None else queue.row_key(event.resource, event.table, event.former_id)
    return {
        "public_id": event.id,
        "type": event.type,
        "resource": event.resource,
        "resource_id": event.resource_id,
        "operation": event.operation.value,
        "row_key": queue.row_key(event.resource, event.table, event.resource_id),
        "former_key": former,
        "occurred_at": event.timestamp,
        # By it the row is found again, of which emitted data has nothing, whatever stands in it under the key's name.
        "table_name": "" if event.row is not None else event.table,
        "audience": event.audience.value,
        "tenant": event.tenant,
        "only_for": event.endpoint,
        "context": None if event.context is None else encoding.dumps(event.context).decode(),
        "payload": message.body,
    }
