"""
The relay's path, once through: take, coalesce, leave out, enrich, fan out, claim, send, record.

No step calls the next; they are all called here. Each database step is one
short transaction of its own, and none is open while an enricher's code, a
receiver of a signal or a request runs, but for the enrichers' own reading.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from sqla_webhooks.coalesce import coalesce
from sqla_webhooks.config import Settings
from sqla_webhooks.delivery.announce import announce
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.delivery.dialects import Standard
from sqla_webhooks.delivery.senders import Senders
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import DeliveryError, WebhooksError
from sqla_webhooks.events import Claim, Event, Result
from sqla_webhooks.outbox.claim import claim
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.fan_out import FanOut, Message
from sqla_webhooks.outbox.lead import Lead
from sqla_webhooks.outbox.reconsider import Reconsideration
from sqla_webhooks.outbox.record import record
from sqla_webhooks.outbox.take import Batch, take

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did."""

    #: Events made public.
    events: int = 0
    #: Requests handed to the senders.
    sent: int = 0
    #: Results dealt with: recorded, or dropped since their lease was lost.
    recorded: int = 0
    #: Whether the outbox may hold more than was taken.
    backlog: bool = False
    #: Whether the outbox waits for another relay, which leads.
    led_elsewhere: bool = False
    #: The next retry that this process knows of.
    next_retry_at: datetime | None = None

    @property
    def busy(self) -> bool:
        """Whether another turn may find work at once."""
        return self.backlog or bool(self.events or self.sent or self.recorded)


class Relay:
    """
    The path of one installation.

    Used by one thread at a time: the relay's, or the one that drains.

    Args:
        wanted: Leaves out the events that were not asked for.
        enrich: Adds to events what the application's enrichers say.
        keep_fresh: Called with the connection of each look at the outbox; reads there what capture remembers, and
            returns the revision of the endpoints.
        encoding: How values of bodies are written as JSON.
        webhooks: The sender of the signals.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        lead: Lead,
        wanted: Callable[[Iterable[Event]], list[Event]],
        fan_out: FanOut,
        enrich: Callable[[Sequence[Event]], list[Event]],
        reconsideration: Reconsideration,
        keep_fresh: Callable[[Connection], int],
        encoding: Encoding,
        webhooks: object,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = settings.clock
        self._lead = lead
        self._wanted = wanted
        self._fan_out = fan_out
        self._reconsideration = reconsideration
        self._enrich = enrich
        self._keep_fresh = keep_fresh
        self._encoding = encoding
        self._webhooks = webhooks
        self._dialect = Standard()
        #: Results not yet recorded: just collected, refused by the database at the last try, or of requests that
        #: could not be made.
        self._results: list[Result] = []
        #: Outbox rows that were logged as unreadable.
        self._unreadable: frozenset[int] = frozenset()
        # A heap of when the retries are due that this process knows of: hints, the poll finds the rest.
        self._retries: list[datetime] = []

    def run_once(self, senders: Senders, *, taking: bool = True) -> Turn:
        """
        One turn.

        Args:
            senders: Where requests go, and results come from.
            taking: Whether to look at the outbox, or only at what is due.

        Raises:
            SQLAlchemyError: The database failed. Nothing is lost: call again.
        """
        try:
            batch = self._take() if taking else _NOTHING
            leads = bool(batch.rows) and self._lead.acquire(now=self._clock.now())
            changed = coalesce(batch.rows, together=self._settings.coalesce) if leads else []
            events = self._enrich(self._wanted(changed)) if changed else []
            messages = [Message(event, self._dialect.body(event, encoding=self._encoding)) for event in events]
            published = leads and self._fan_out.publish(batch.rows, messages, now=self._clock.now())
        except Exception:
            self._deliver(senders)  # what is due goes on, whatever is wrong with the outbox
            raise
        sent, recorded = self._deliver(senders)
        return Turn(
            events=len(events) if published else 0,
            sent=sent,
            recorded=recorded,
            backlog=leads and batch.more,
            led_elsewhere=bool(batch.rows) and not leads,
            next_retry_at=self._retries[0] if self._retries else None,
        )

    def _deliver(self, senders: Senders) -> tuple[int, int]:
        """Claim what is due and hand it over; how many were, and how many results were dealt with."""
        # Before anything is claimed, so that nothing is claimed again whose result is in hand.
        recorded = self.record(senders)
        now = self._clock.now()
        claims = claim(self._database, senders.free, now=now, lease=self._settings.lease)
        while self._retries and self._retries[0] <= now and senders.free > len(claims):
            heapq.heappop(self._retries)  # it was due, and is claimed
        for one in claims:
            self._submit(one, senders)
        return len(claims), recorded + self.record(senders)

    @property
    def unrecorded(self) -> int:
        """How many results are in hand."""
        return len(self._results)

    def record(self, senders: Senders) -> int:
        """
        Write down what came of the requests that have ended, and say so; how many.

        Raises:
            SQLAlchemyError: The database failed; the next call tries again.
        """
        self._results += senders.collect()
        if not self._results:
            return 0
        now = self._clock.now()
        recorded = record(self._database, [decide(one, self._settings.retries) for one in self._results], now=now)
        count = len(self._results)
        self._results.clear()
        for due in [one.next_attempt_at for one in recorded if one.next_attempt_at is not None]:
            heapq.heappush(self._retries, due)
        for one in recorded:
            announce(self._webhooks, one, now=now)
        return count

    def forget(self) -> None:
        """Begin anew in a forked child: what was remembered is the parent's."""
        self._results.clear()
        self._retries.clear()
        self._lead.forget()
        self._reconsideration.forget()

    def step_down(self) -> None:
        """
        Let another relay lead at once.

        Raises:
            SQLAlchemyError: The database failed; the lease ends by itself.
        """
        self._lead.release()

    def _submit(self, claim: Claim, senders: Senders) -> None:
        """Hand over one request. One that cannot be made (its secret is spoilt, say) counts as a failed attempt."""
        now = self._clock.now()
        try:
            request = self._dialect.request(claim, now=now)
        except WebhooksError as error:
            self._results.append(Result(claim, now, 0.0, DeliveryError(str(error))))
        else:
            senders.submit(request)

    def _take(self) -> Batch:
        with self._database.read() as connection:
            revision = self._keep_fresh(connection)
            batch = take(connection, self._settings.batch_size)
        self._reconsideration.look(revision, now=self._clock.now())
        if new := batch.unreadable - self._unreadable:
            logger.error("outbox rows are left for a version that can read them: %s", sorted(new))
        self._unreadable = batch.unreadable
        if not batch.rows:
            self.step_down()
        return batch


_NOTHING = Batch((), more=False)
