"""One small look, whether there is anything for the relay at all."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from sqla_webhooks import models
from sqla_webhooks.outbox import subscribed

_LOOK = select(
    select(models.revision.c.number).where(models.revision.c.name == subscribed.NAME).scalar_subquery(),
    select(func.min(models.outbox.c.id)).scalar_subquery(),
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """
    What a look has found.

    Attributes:
        revision: How often the endpoints have been written.
        outbox: Whether there are outbox rows.
    """

    revision: int
    outbox: bool


def pulse(connection: Connection) -> Pulse:
    """Whether something has happened. A read, in one statement that costs the same whatever there is."""
    revision, oldest = connection.execute(_LOOK).one()
    return Pulse(revision or 0, oldest is not None)
