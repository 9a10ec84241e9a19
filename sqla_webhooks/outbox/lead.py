"""
Which relay leads: the one that turns outbox rows into events.

A lease, which only avoids double work, and is taken only where there is any to
avoid: while there is a backlog, or after two relays have met. What makes double
work harmless is the fan-out's own transaction (see `fan_out`).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, update

from sqla_webhooks import models
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lease import LENGTH, Lease, add

NAME = "fan_out"

_lease = models.lease


class Lead:
    """The lead, as one relay holds it or not. Used by one thread at a time: the relay's, or that of `drain()`."""

    def __init__(self, database: Database) -> None:
        self._lease = Lease(database, NAME)
        #: Until when it is likely that another relay comes in between.
        self._contended: datetime | None = None

    def forget(self) -> None:
        """Be another relay: in a forked child, the parent's lease is not ours."""
        self._lease.forget()
        self._contended = None

    def acquire(self, leader: tuple[str, datetime] | None, *, backlog: bool, now: datetime) -> bool:
        """
        Whether this relay may go on; False if another one leads.

        One write transaction, where a lease is worth it, and only when half of
        it is gone.

        Args:
            leader: Who leads, by a look at the database just now.
            backlog: Whether there is more than one turn's work.
        """
        if leader is not None and leader[0] != self._lease.token and now < leader[1] <= now + LENGTH:
            self._lease.lose()
            return False
        if not backlog and not self._lease.held and (self._contended is None or self._contended <= now):
            return True
        return self._lease.acquire(now=now)

    def contend(self, *, now: datetime) -> None:
        """Another relay was faster."""
        self._contended = now + LENGTH

    def release(self) -> None:
        """
        Let another relay lead at once. One write transaction, if this one does.

        Raises:
            SQLAlchemyError: The database failed; the lease ends by itself.
        """
        self._lease.release()


def lock(connection: Connection) -> None:
    """
    Let no two fan-outs run at once, whoever leads: the first statement of each.

    Nor anything else that puts deliveries into queues.
    """
    locked = update(_lease).where(_lease.c.name == NAME).values(name=_lease.c.name)
    if not connection.execute(locked).rowcount and not add(connection, NAME):
        connection.execute(locked)
