"""An event that one endpoint gets by itself, whether or not it has subscribed to it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from sqla_webhooks import models
from sqla_webhooks.outbox import endpoints, queue
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.publish import Message, insert_events

_delivery, _endpoint = models.delivery, models.endpoint


def give(database: Database, message: Message, *, endpoint_id: str, now: datetime) -> int:
    """
    Insert the event and its delivery, which stands in no queue; the delivery's number. One write transaction.

    Raises:
        NotFound: There is no such endpoint, or no longer.
    """

    def transaction() -> int:
        with database.write() as connection:
            return _give(connection, message, endpoint_id=endpoint_id, now=now)

    return outlive(transaction)


def _give(connection: Connection, message: Message, *, endpoint_id: str, now: datetime) -> int:
    there = (_endpoint.c.public_id == endpoint_id, _endpoint.c.deleted_at.is_(None))
    endpoint: int | None = connection.execute(select(_endpoint.c.id).where(*there)).scalar()
    if endpoint is None:
        raise endpoints.not_found(endpoint_id)
    (event,) = insert_events(connection, [message]).values()
    queue.enqueue(
        connection,
        [queue.delivery_row(endpoint, event, row=0, former_row=None, ordered=False, now=now)],
        now=now,
    )
    of_it = (_delivery.c.event_id == event, _delivery.c.endpoint_id == endpoint)
    return int(connection.execute(select(_delivery.c.id).where(*of_it)).scalar_one())
