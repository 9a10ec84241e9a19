"""Events become bodies, of which none is larger than may be."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import replace

from sqla_webhooks import context
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.dialect import Dialect
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.events import Event
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.publish import Message
from sqla_webhooks.resources import Resources


class Rendering:
    """
    Makes the bodies of one installation's events.

    One that would be too large is made thin, whatever is left of it: its
    receivers learn which row it is about, and what the database cannot take
    does not hold up all other events.

    In the relay's thread, while no transaction of ours is open. What is made
    does not depend on who gets it, nor on what was made before.

    Args:
        limit: Bytes that a body may have; None for as many as the database takes.
        send_context: What of an event's context is in its body, by name.
    """

    def __init__(
        self,
        database: Database,
        resources: Resources,
        *,
        encoding: Encoding,
        limit: int | None,
        send_context: Collection[str] = (),
    ) -> None:
        self._database = database
        self._resources = resources
        self._encoding = encoding
        self._limit = sys.maxsize if limit is None else limit
        self._send_context = send_context

    @property
    def limit(self) -> int:
        """
        Bytes that a body may have.

        Raises:
            DBAPIError: The database was to be asked, and failed.
        """
        return min(self._limit, self._database.largest_value)

    def messages(self, events: Iterable[Event]) -> list[Message]:
        """
        *events* with their bodies.

        Raises:
            DBAPIError: As for `limit`.
        """
        limit = self.limit
        return [self._message(event, limit) for event in events]

    def body(self, event: Event, dialect: Dialect) -> bytes:
        """
        The body of *event* in another dialect, which is not stored.

        Raises:
            DBAPIError: As for `limit`.
            Exception: Whatever a dialect of the application's raises.
        """
        body = self._body(event, dialect)
        return body if len(body) <= self.limit else self._thin(event, dialect)

    def _body(self, event: Event, dialect: Dialect) -> bytes:
        body: object = dialect.body(event, dumps=self._encoding.dumps)
        if not isinstance(body, bytes):
            message = f"body() of the dialect {dialect.name!r} returned {type(body).__name__}: return bytes"
            raise TypeError(message)
        return body

    def _message(self, event: Event, limit: int) -> Message:
        shown = replace(event, context=context.sent(event.context, self._send_context))
        body = _STANDARD.body(shown, dumps=self._encoding.dumps)
        if len(body) <= limit:
            return Message(event, body)
        return Message(event, self._thin(shown, _STANDARD), whole=body)

    def _thin(self, event: Event, dialect: Dialect) -> bytes:
        key = self._resources.key(event.resource, event.table)
        body = self._body(thinned(event, key), dialect)
        if len(body) <= self._database.largest_value:
            return body
        # An enricher has put something else into the key, or the context is no small thing.
        return self._body(replace(thinned(event, ()), context=None), dialect)


_STANDARD = Standard()
