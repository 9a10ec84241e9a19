"""
Which relay leads: the one that turns outbox rows into events.

A lease on the one row of `webhook_lease`. It only avoids double work, and is
taken only where there is any to avoid: while there is a backlog, or after two
relays have met. What makes double work harmless is the fan-out's own
transaction (see `fan_out`).
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from sqla_webhooks import models
from sqla_webhooks.outbox.database import Database

#: Seconds for which one relay leads. Short: should it be killed, that is how long the others wait.
LEAD = 10.0
_LEAD = timedelta(seconds=LEAD)

_lease = models.lease
NAME = "fan_out"
_ROW = _lease.c.name == NAME


class Lead:
    """The lead, as one relay holds it or not. Used by one thread at a time: the relay's, or that of `drain()`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.forget()

    def forget(self) -> None:
        """Be another relay: in a forked child, the parent's lease is not ours."""
        self._token = secrets.token_hex(16)
        self._until: datetime | None = None
        #: Until when it is likely that another relay comes in between.
        self._contended: datetime | None = None

    def acquire(self, leader: tuple[str, datetime] | None, *, backlog: bool, now: datetime) -> bool:
        """
        Whether this relay may go on; False if another one leads.

        One write transaction, where a lease is worth it, and only when half of
        it is gone.

        Args:
            leader: Who leads, by a look at the database just now.
            backlog: Whether there is more than one turn's work.
        """
        if leader is not None and leader[0] != self._token and now < leader[1] <= now + _LEAD:
            self._until = None
            return False
        if not backlog and self._until is None and (self._contended is None or self._contended <= now):
            return True
        if self._until is None or self._until - now < _LEAD / 2:
            self._until = now + _LEAD if self._take(now, now + _LEAD) else None
        return self._until is not None

    def contend(self, *, now: datetime) -> None:
        """Another relay was faster."""
        self._contended = now + _LEAD

    def release(self) -> None:
        """
        Let another relay lead at once. One write transaction, if this one does.

        Raises:
            SQLAlchemyError: The database failed; the lease ends by itself.
        """
        if self._until is None:
            return
        self._until = None
        with self._database.write() as connection:
            connection.execute(
                update(_lease).where(_ROW, _lease.c.token == self._token).values(token=None, expires_at=None)
            )

    def _take(self, now: datetime, until: datetime) -> bool:
        # One that ends later than ours would was given by a clock that has been set back since.
        free = or_(_lease.c.token.is_(None), _lease.c.expires_at <= now, _lease.c.expires_at > until)
        mine = update(_lease).where(_ROW, or_(_lease.c.token == self._token, free))
        with self._database.write() as connection:
            if connection.execute(mine.values(token=self._token, expires_at=until)).rowcount:
                return True
            if connection.execute(select(_lease.c.name).where(_ROW)).first():
                return False
            return self._take_first(connection, until)

    def _take_first(self, connection: Connection, until: datetime) -> bool:
        """Write the row, which is missing; False if another process does so at the same time."""
        try:
            with connection.begin_nested():
                connection.execute(insert(_lease).values(name=NAME, token=self._token, expires_at=until))
        except IntegrityError:
            return False
        return True


def lock(connection: Connection) -> None:
    """Let no two fan-outs run at once, whoever leads: the first statement of each."""
    connection.execute(update(_lease).where(_ROW).values(name=_lease.c.name))
