"""One small look, whether there is anything for the relay at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, ScalarSelect, func, select

from sqla_webhooks import models
from sqla_webhooks.outbox import lead, subscribed


def _led(column: Column[Any]) -> ScalarSelect[Any]:
    return select(column).where(models.lease.c.name == lead.NAME).scalar_subquery()


_LOOK = select(
    select(models.revision.c.number).where(models.revision.c.name == subscribed.NAME).scalar_subquery(),
    select(func.min(models.outbox.c.id)).scalar_subquery(),
    _led(models.lease.c.token),
    _led(models.lease.c.expires_at),
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """
    What a look has found.

    Attributes:
        revision: How often the endpoints have been written.
        outbox: Whether there are outbox rows.
        leader: The token of the relay that leads, and until when it does; None if there is none.
    """

    revision: int
    outbox: bool
    leader: tuple[str, datetime] | None


def pulse(connection: Connection) -> Pulse:
    """Whether something has happened. A read, in one statement that costs the same whatever there is."""
    revision, oldest, token, expires_at = connection.execute(_LOOK).one()
    return Pulse(revision or 0, oldest is not None, None if token is None else (token, expires_at))
