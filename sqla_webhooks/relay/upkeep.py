"""
What has to be done now and then, by one relay at a time, beside the deliveries.

What waits for an endpoint that is gone is cancelled, what is old is removed,
and what a clock that was set back has leased for too long is made due. A little
each time, so that no delivery waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from sqla_webhooks.config import Settings
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lanes import Lane, lanes
from sqla_webhooks.outbox.lease import UPKEEP, Lease
from sqla_webhooks.outbox.recall import recall
from sqla_webhooks.outbox.retention import prune
from sqla_webhooks.outbox.withdraw import withdraw
from sqla_webhooks.progress import Pruned

logger = logging.getLogger(__name__)

#: Seconds from one look to the next, if there is nothing to do; and between two batches, if there is.
EVERY, PACE = 5.0, 0.1

#: Seconds from one look for what is old, or leased for too long, to the next.
RARELY = 60.0

#: A lease that ends later than so many leases from now was given by another clock.
_TOO_LONG = 10


class Upkeep:
    """
    The upkeep, as one relay does it.

    Used by one thread at a time: the relay's, or that of `drain()`.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._clock = settings.clock
        self._lease = Lease(database, UPKEEP)
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a forked child too."""
        self._lease.forget()
        #: On the monotonic clock: when to look next, for all, and for what is looked for rarely.
        self._due = self._rarely_due = 0.0
        #: Whether there was something to do, so that there may be more.
        self._more = False
        #: Removes what is old, if that is under way.
        self._pruning: Iterator[Pruned] | None = None

    def go_on(self, *, hurry: bool) -> bool:
        """
        Do a little, if it is time, and no other relay does; whether there may be more.

        If the database fails it is said in the log, and the next time will do:
        deliveries do not wait for this.

        Args:
            hurry: Not to wait between batches, since nobody waits for anything else.
        """
        at = self._clock.monotonic()
        if at < self._due and not (hurry and self._more):
            return self._more
        now = self._clock.now()
        try:
            self._more = self._lease.acquire(now=now) and self._round(at, now=now)
        except SQLAlchemyError:
            logger.warning("the upkeep could not go on, and is tried again in %s s", EVERY, exc_info=True)
            self._more, self._pruning = False, None
        self._due = at + (PACE if self._more else EVERY)
        return self._more

    def _round(self, at: float, *, now: datetime) -> bool:
        """One batch of each kind; whether there was any."""
        with self._database.read() as connection:
            waiting = lanes(connection)
        done = self._withdraw(waiting, now=now)
        if at >= self._rarely_due and self._pruning is None:
            self._rarely_due = at + RARELY
            self._pruning = prune(self._database, self._settings.kept, now=now)
            done = self._recall(waiting, now=now) or done
        return self._prune() or done

    def _prune(self) -> bool:
        if self._pruning is None:
            return False
        if next(self._pruning, None) is None:
            self._pruning = None
        return self._pruning is not None

    def _withdraw(self, waiting: Sequence[Lane], *, now: datetime) -> bool:
        drops = self._settings.while_disabled == "drop"
        given_up = [lane for lane in waiting if lane.deleted or (drops and not lane.open)]
        return any(withdraw(self._database, lane, now=now) for lane in given_up)

    def _recall(self, waiting: Sequence[Lane], *, now: datetime) -> bool:
        later_than = now + timedelta(seconds=_TOO_LONG * self._settings.lease)
        numbers = [lane.number for lane in waiting]
        return bool(recall(self._database, numbers, later_than=later_than, now=now))
