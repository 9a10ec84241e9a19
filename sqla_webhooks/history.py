"""What happened: `webhooks.events` and `webhooks.deliveries`, for people and programs to look at."""

from __future__ import annotations

import builtins
import dataclasses
from typing import Literal

from sqla_webhooks.errors import ConfigurationError, NotFound
from sqla_webhooks.events import Attempt, Delivery, DeliveryState, StoredEvent
from sqla_webhooks.outbox import history as stored
from sqla_webhooks.outbox.database import Database, on_database


class Events:
    """`webhooks.events`. Each call is one short read, in the caller's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @on_database
    def list(self, *, type: str | None = None, limit: int = 100) -> list[StoredEvent]:
        """
        The newest events, newest first.

        Args:
            type: Only those of this type, such as `order.created`.
            limit: How many at most.

        Raises:
            ConfigurationError: An argument is of a kind that cannot be looked for.
        """
        _check(limit=limit, type=type)
        with self._database.read() as connection:
            return stored.events(connection, limit, type=type)

    @on_database
    def get(self, id: str) -> StoredEvent:
        """
        The event of that id (`evt_…`), with the bytes that are sent.

        Raises:
            NotFound: There is none.
        """
        _check_id(id)
        with self._database.read() as connection:
            event = stored.event(connection, id)
        if event is None:
            message = f"no event has the id {id!r}; webhooks.events.list() shows the newest"
            raise NotFound(message)
        return event


class Deliveries:
    """`webhooks.deliveries`. Each call is one short read, in the caller's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @on_database
    def list(
        self,
        *,
        state: DeliveryState | Literal["pending", "delivered", "dead", "held", "cancelled"] | None = None,
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

        Raises:
            ConfigurationError: An argument is of a kind that cannot be looked for.
        """
        wanted = None if state is None else _state(state)
        _check(limit=limit, event=event, endpoint=endpoint)
        with self._database.read() as connection:
            return stored.deliveries(connection, limit, state=wanted, event_id=event, endpoint_id=endpoint)

    @on_database
    def get(self, id: int) -> Delivery:
        """
        The delivery of that number.

        Raises:
            NotFound: There is none.
        """
        _check_number(id)
        with self._database.read() as connection:
            delivery = stored.delivery(connection, id)
        if delivery is None:
            message = f"no delivery has the number {id!r}; webhooks.deliveries.list() shows the newest"
            raise NotFound(message)
        return delivery

    @on_database
    def attempts(self, id: int) -> builtins.list[Attempt]:
        """
        Every attempt of one delivery, in order.

        Raises:
            NotFound: There is no such delivery.
        """
        self.get(id)
        with self._database.read() as connection:
            return stored.attempts(connection, id)


#: More rows than anybody can want at once, and few enough for every database's LIMIT.
_MOST = 2**31 - 1


def _state(given: DeliveryState | str) -> DeliveryState:
    try:
        return DeliveryState(given)
    except ValueError:
        message = f"no delivery is in the state {given!r}: the states are {', '.join(DeliveryState)}"
        raise ConfigurationError(message) from None


def _check_number(given: object) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 2**63:
        message = f"a delivery is named by its number, not by {_kind(given)}: write delivery.id"
        raise ConfigurationError(message)


def _check_id(given: object) -> None:
    if not isinstance(given, str):
        message = f"an event is named by its id, a text like 'evt_…', not by {_kind(given)}"
        raise ConfigurationError(message)


def _check(*, limit: object = 1, **texts: object) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MOST:
        message = f"limit is {limit!r}: give a whole number from 1 to {_MOST}"
        raise ConfigurationError(message)
    for name, given in texts.items():
        if given is not None and not isinstance(given, str):
            message = f"{name} is {_kind(given)}: give a text like {_EXAMPLES[name]!r}"
            raise ConfigurationError(message)


_EXAMPLES = {"event": "evt_…", "endpoint": "ep_…", "type": "order.created"}


def _kind(given: object) -> str:
    """Short: the repr of a value of ours is not."""
    return type(given).__name__ if dataclasses.is_dataclass(given) else f"{type(given).__name__} {given!r}"
