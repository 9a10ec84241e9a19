"""What happened: `webhooks.events` and `webhooks.deliveries`, for people and programs to look at."""

from __future__ import annotations

from sqla_webhooks.errors import NotFound
from sqla_webhooks.events import Attempt, Delivery, DeliveryState, StoredEvent
from sqla_webhooks.outbox import history as table
from sqla_webhooks.outbox.database import Database


class Events:
    """`webhooks.events`. Each call is one short read, in the caller's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, type: str | None = None, limit: int = 100) -> list[StoredEvent]:
        """
        The newest events, newest first.

        Args:
            type: Only those of this type, such as `order.created`.
            limit: How many at most.
        """
        with self._database.read() as connection:
            return table.events(connection, limit, type=type)

    def get(self, id: str) -> StoredEvent:
        """
        The event of that id (`evt_…`), with the bytes that are sent.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            event = table.event(connection, id)
        if event is None:
            message = f"no event has the id {id!r}; webhooks.events.list() shows the newest"
            raise NotFound(message)
        return event


class Deliveries:
    """`webhooks.deliveries`. Each call is one short read, in the caller's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        *,
        state: DeliveryState | str | None = None,
        event: str | None = None,
        endpoint: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """
        The newest deliveries, newest first.

        Args:
            state: Only those in this state: `pending`, `delivered`, `dead`, `held`, `cancelled`.
            event: Only those of the event of this id.
            endpoint: Only those for the endpoint of this id.
            limit: How many at most.
        """
        wanted = None if state is None else DeliveryState(state)
        with self._database.read() as connection:
            return table.deliveries(connection, limit, state=wanted, event_id=event, endpoint_id=endpoint)

    def get(self, id: int) -> Delivery:
        """
        The delivery of that number.

        Raises:
            NotFound: There is none.
        """
        with self._database.read() as connection:
            delivery = table.delivery(connection, id)
        if delivery is None:
            message = f"no delivery has the number {id!r}; webhooks.deliveries.list() shows the newest"
            raise NotFound(message)
        return delivery

    def attempts(self, id: int) -> tuple[Attempt, ...]:
        """
        Every attempt of one delivery, in order.

        Raises:
            NotFound: There is no such delivery.
        """
        self.get(id)
        with self._database.read() as connection:
            return tuple(table.attempts(connection, id))
