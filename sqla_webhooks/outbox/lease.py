"""Rows of `webhook_lease`: what only one relay should do at a time, and which one does."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from sqla_webhooks import models
from sqla_webhooks.outbox.database import Database

#: Seconds. Short: should its holder be killed, that is how long the others wait.
LENGTH = timedelta(seconds=10)

#: Who does the upkeep.
UPKEEP = "upkeep"

_lease = models.lease


class Lease:
    """
    One of them, as one relay holds it or not.

    Used by one thread at a time: the relay's, or that of `drain()`.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._row = _lease.c.name == name
        self.forget()

    def forget(self) -> None:
        """Be another relay: in a forked child, the parent's lease is not ours."""
        self.token = secrets.token_hex(16)
        self._until: datetime | None = None

    @property
    def held(self) -> bool:
        """Whether this relay has it, as far as it knows."""
        return self._until is not None

    def acquire(self, *, now: datetime) -> bool:
        """
        Take it, or keep it; False if another relay has it.

        One write transaction, but only when half of it is gone, so that much
        work costs few of them.
        """
        if self._until is None or self._until - now < LENGTH / 2:
            self._until = now + LENGTH if self._take(now, now + LENGTH) else None
        return self.held

    def lose(self) -> None:
        """Another relay has it."""
        self._until = None

    def release(self) -> None:
        """
        Let another relay have it at once. One write transaction, if this one has.

        Raises:
            SQLAlchemyError: The database failed; the lease ends by itself.
        """
        if not self.held:
            return
        self.lose()
        with self._database.write() as connection:
            mine = (self._row, _lease.c.token == self.token)
            connection.execute(update(_lease).where(*mine).values(token=None, expires_at=None))

    def _take(self, now: datetime, until: datetime) -> bool:
        # One that ends later than ours would was given by a clock that has been set back since.
        free = or_(_lease.c.token.is_(None), _lease.c.expires_at <= now, _lease.c.expires_at > until)
        mine = update(_lease).where(self._row, or_(_lease.c.token == self.token, free))
        with self._database.write() as connection:
            if connection.execute(mine.values(token=self.token, expires_at=until)).rowcount:
                return True
            if connection.execute(select(_lease.c.name).where(self._row)).first():
                return False
            return add(connection, self._name, token=self.token, expires_at=until)


def add(connection: Connection, name: str, *, token: str | None = None, expires_at: datetime | None = None) -> bool:
    """Write a row that is missing; False if another process does so at the same time."""
    try:
        with connection.begin_nested():
            connection.execute(insert(_lease).values(name=name, token=token, expires_at=expires_at))
    except IntegrityError:
        return False
    return True
