"""A long work keeps behind live traffic: it waits while what it has made, or what others have, is not through yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass

from sqla_webhooks._clock import Clock
from sqla_webhooks.outbox import backfills
from sqla_webhooks.outbox.database import Database

logger = logging.getLogger(__name__)

#: Seconds between two looks.
GLANCE = 0.1

#: Seconds without any movement after which somebody should know.
PATIENCE = 60.0


class Patience:
    """
    Waits a moment, and says so once if nothing has moved for long. In the caller's thread.

    Args:
        glance: Seconds between two looks.
    """

    def __init__(self, clock: Clock, complaint: str, *, glance: float = GLANCE) -> None:
        self._clock = clock
        self._glance = glance
        self._complaint = complaint
        self._never = threading.Event()
        self._since: float | None = None
        self._seen: object = None
        self._told = False

    def moved(self) -> None:
        """It goes on."""
        self._since = None

    def wait(self, seen: object) -> None:
        """
        Wait a moment.

        Args:
            seen: What is waited for; another value than at the last time is a movement.
        """
        now = self._clock.monotonic()
        if self._since is None or seen != self._seen:
            self._since, self._seen = now, seen
        elif now - self._since >= PATIENCE and not self._told:
            self._told = True
            logger.warning(self._complaint)
        self._clock.wait(self._never, self._glance)


@dataclass(frozen=True, slots=True)
class Limits:
    """
    How much may wait.

    Attributes:
        deliveries: Of those to whom it goes.
        outbox: Rows of the outbox, whosever.
        page: How many deliveries, at least, come of one transaction that is not relayed yet.
    """

    deliveries: int
    outbox: int
    page: int


class Throttle:
    """
    Knows what one backfill has made, and waits for it. Used by one thread.

    Args:
        types: The types of its events.
        endpoint: The id of the one to which alone it goes.
    """

    def __init__(
        self, database: Database, limits: Limits, *, clock: Clock, types: Collection[str], endpoint: str | None
    ) -> None:
        self._database = database
        self._limits = limits
        self._clock = clock
        self._types = types
        self._endpoint = endpoint
        #: Transactions that may wait in the outbox.
        self._made: set[str] = set()
        self._patience = Patience(
            clock,
            "a backfill waits for what it has made to be delivered, and nothing has been for a minute: is a relay "
            "running?",
        )

    def note(self, transaction: str) -> None:
        """It has committed one more."""
        self._made.add(transaction)

    def wait(self) -> None:
        """
        Wait until there is room for more, as long as it takes.

        Raises:
            SQLAlchemyError: The database failed.
        """
        self._patience.moved()
        while seen := self._what_is_too_much():
            self._patience.wait(seen)

    def _what_is_too_much(self) -> tuple[int, int, int] | None:
        limits = self._limits
        most = limits.deliveries + 1
        with self._database.look() as connection:
            self._made = backfills.unrelayed(connection, self._made)
            lanes = backfills.first_lanes(connection, self._types, endpoint=self._endpoint, now=self._clock.now())
            waiting = backfills.count_waiting(connection, lanes, most=most)
            outbox = backfills.count_outbox(connection, most=limits.outbox + 1)
        made = len(self._made)
        too_much = waiting + made * limits.page > limits.deliveries or outbox > limits.outbox
        return (made, waiting, outbox) if too_much else None
