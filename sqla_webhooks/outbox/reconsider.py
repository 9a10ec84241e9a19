"""
What a relay decided by an endpoint as it was, when it has been written meanwhile.

A relay holds a delivery because its endpoint is disabled; or it passes over
one that is held. If the endpoint is enabled by a transaction that ends at the
same time, neither of the two sees what the other does, and the delivery would
wait for ever. No lock is taken against that: whoever enables an endpoint may do
so in a long transaction of the application's. Instead each relay looks at the
endpoints that have been written since its last look, after what it did itself.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from sqla_webhooks import models
from sqla_webhooks.events import DeliveryState
from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database

_endpoint, _delivery = models.endpoint, models.delivery

_ENABLED = select(_endpoint.c.id, _endpoint.c.updated_at).where(
    _endpoint.c.enabled.is_(True), _endpoint.c.deleted_at.is_(None)
)
_HELD = (
    select(_delivery.c.endpoint_id)
    .where(_delivery.c.ordering_key.is_not(None), _delivery.c.state == DeliveryState.HELD)
    .distinct()
)


class Reconsideration:
    """What one relay remembers of the endpoints. Used by one thread at a time: the relay's, or that of `drain()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.forget()

    def forget(self) -> None:
        """Look at everything anew."""
        self._revision: int | None = None
        self._written: dict[int, datetime] = {}

    def look(self, revision: int, *, now: datetime) -> None:
        """
        Let go on what waits for an endpoint that is enabled.

        A read, if *revision* is not that of the last look; and a write
        transaction for each endpoint for which something may wait.
        """
        if revision == self._revision:
            return
        with self._database.read() as connection:
            enabled = {row.id: row.updated_at for row in connection.execute(_ENABLED)}
            waited_for = self._waited_for(connection, enabled)
        for number in waited_for:
            with self._database.write() as connection:
                queue.release(connection, _delivery.c.endpoint_id == number, now=now)
        self._revision, self._written = revision, enabled

    def _waited_for(self, connection: Connection, enabled: dict[int, datetime]) -> list[int]:
        held = set(connection.execute(_HELD).scalars())
        known = self._revision is not None
        return [
            number
            for number, written in enabled.items()
            if number in held or (known and self._written.get(number) != written)
        ]
