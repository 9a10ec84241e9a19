"""
The relay's path, once through.

Take, coalesce, assign to tenants, leave out, enrich, derive, fan out, allot, claim, send, record;
and the upkeep.

No step calls the next; they are all called here. Each database step is one
short transaction of its own, and none is open while an enricher's code, a
receiver of a signal or a request runs, but for the enrichers' own reading.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from sqla_webhooks.coalesce import coalesce
from sqla_webhooks.config import Settings
from sqla_webhooks.deliveries import Claim, Result, Verdict
from sqla_webhooks.delivery.acknowledge import apart
from sqla_webhooks.delivery.announce import Announcer
from sqla_webhooks.delivery.credentials import Credentials, Opener
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.delivery.dialects.known import Dialects
from sqla_webhooks.delivery.parcel import Parcel, pack
from sqla_webhooks.delivery.rendering import Rendering
from sqla_webhooks.delivery.request import request
from sqla_webhooks.delivery.senders import Senders
from sqla_webhooks.errors import SigningFailed
from sqla_webhooks.events import Event
from sqla_webhooks.outbox.claim import claim
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.fan_out import fan_out
from sqla_webhooks.outbox.lanes import Lane, lanes
from sqla_webhooks.outbox.lead import Lead
from sqla_webhooks.outbox.publish import Message, Publication
from sqla_webhooks.outbox.pulse import pulse
from sqla_webhooks.outbox.record import Recorded, Recording
from sqla_webhooks.outbox.release import release
from sqla_webhooks.outbox.take import Batch, take
from sqla_webhooks.relay.allot import Allotment, allot
from sqla_webhooks.relay.retirements import Retirements
from sqla_webhooks.relay.tailor import Tailor
from sqla_webhooks.relay.upkeep import Upkeep
from sqla_webhooks.relay.windows import Windows

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
    #: Whether there may be more of the upkeep to do.
    upkeep: bool = False
    #: When more may be due, if nothing else happens.
    next_at: datetime | None = None

    @property
    def busy(self) -> bool:
        """Whether another turn may find work at once."""
        return self.backlog or bool(self.events or self.sent or self.recorded)


class KeepFresh(Protocol):
    """Reads on the connection of a look at the outbox what capture remembers of the endpoints."""

    def __call__(self, connection: Connection, *, revision: int, as_of: float) -> None:
        """As `Interest.keep_fresh`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """
    The steps that remember something, one of each for an installation.

    Attributes:
        assign: Says of events whom they may reach.
        wanted: Leaves out the events that were not asked for.
        enrich: Adds to events what the application's enrichers say.
        derive: Adds the events that follow from others, by the transitions that are declared.
    """

    keep_fresh: KeepFresh
    lead: Lead
    assign: Callable[[Sequence[Event]], list[Event]]
    wanted: Callable[[Iterable[Event]], list[Event]]
    enrich: Callable[[Sequence[Event]], list[Event]]
    derive: Callable[[Iterable[Event]], list[Event]]
    rendering: Rendering
    publication: Publication
    tailor: Tailor
    dialects: Dialects
    opener: Opener
    recording: Recording
    retirements: Retirements
    upkeep: Upkeep
    announcer: Announcer


class Relay:
    """
    The path of one installation.

    Used by one thread at a time: the relay's, or the one that drains.
    """

    def __init__(self, database: Database, settings: Settings, *, steps: Steps) -> None:
        self._database = database
        self._settings = settings
        self._clock = settings.clock
        self._steps = steps
        self._windows = Windows(most=settings.max_in_flight)
        #: What is to be recorded: just decided, or refused by the database at the last try.
        self._verdicts: list[Verdict] = []
        #: What is to be cancelled, since the application has dropped it.
        self._dropped: list[Claim] = []
        #: What was claimed and not handed over, since something broke: it need not wait for the end of its lease.
        self._unsent: list[Claim] = []
        #: Outbox rows that were logged as unreadable.
        self._unreadable: frozenset[int] = frozenset()
        #: Dialects of which was said that they are not known here.
        self._unknown: set[str] = set()

    def run_once(self, senders: Senders, *, taking: bool = True) -> Turn:
        """
        One turn.

        Args:
            senders: Where requests go, and results come from.
            taking: Whether to look at the outbox, or only at what is due.

        Raises:
            SQLAlchemyError: The database failed. Nothing is lost: call again.
        """
        steps = self._steps
        try:
            batch, leads = self._take() if taking else (_NOTHING, False)
            changed = coalesce(batch.rows, together=self._settings.coalesce) if leads else []
            events = steps.derive(steps.enrich(steps.wanted(steps.assign(changed)))) if changed else []
            messages = steps.rendering.messages(events)
            published = leads and fan_out(
                self._database,
                batch.rows,
                messages=messages,
                publication=steps.publication,
                now=self._clock.now(),
            )
            if leads and not published:
                steps.lead.contend(now=self._clock.now())
        except Exception:
            steps.publication.forget()
            self._deliver(senders)  # what is due goes on, whatever is wrong with the outbox
            raise
        if published:
            self._tell_of_oversized(messages)
        sent, recorded, next_at = self._deliver(senders)
        upkeep = steps.upkeep.go_on(hurry=senders.one_by_one)
        return Turn(
            events=len(events) if published else 0,
            sent=sent,
            recorded=recorded,
            backlog=leads and batch.more,
            led_elsewhere=bool(batch.rows) and not leads,
            upkeep=upkeep,
            next_at=next_at,
        )

    def _tell_of_oversized(self, messages: Sequence[Message]) -> None:
        """After the commit, and so once, however often the fan-out was tried."""
        for one in messages:
            if one.full_size is not None and self._steps.publication.keeps(one.event):
                self._steps.announcer.oversized(one.event, size=one.full_size, limit=self._steps.rendering.limit)

    def _deliver(self, senders: Senders) -> tuple[int, int, datetime | None]:
        """
        Claim what is due and hand it over.

        Returns:
            How many requests were made, how many results dealt with, and when more may be due.
        """
        # Before anything is claimed, so that nothing is claimed again whose result is in hand.
        recorded = self.record(senders)
        now = self._clock.now()
        allotment = self._allot(senders, now=now)
        if allotment.shares:
            senders.get_ready()
        claims = claim(self._database, allotment.shares, now=now, lease=self._settings.lease)
        sent = self._send(claims, senders)
        return sent, recorded + self.record(senders), allotment.next_at

    def _allot(self, senders: Senders, *, now: datetime) -> Allotment:
        if not senders.free:
            return Allotment((), None)
        waiting = self._look()
        if release(self._database, waiting, now=now):
            waiting = self._look()
        return allot(
            waiting,
            free=senders.free,
            under_way=senders.under_way,
            windows=self._windows,
            concurrency=self._settings.concurrency,
            one_by_one=senders.one_by_one,
            now=now,
        )

    def _look(self) -> list[Lane]:
        """The lanes that this relay can send: what is of a dialect that it does not know waits for one that does."""
        with self._database.look() as connection:
            waiting = lanes(connection)
        known = [lane for lane in waiting if self._steps.dialects.has(lane.dialect)]
        if len(known) < len(waiting):
            self._tell_of_unknown({lane.dialect for lane in waiting if lane.open} - set(self._steps.dialects.names))
        return known

    def _tell_of_unknown(self, dialects: set[str]) -> None:
        for one in sorted(dialects - self._unknown):
            logger.error(
                "no dialect is called %r here: what goes to its endpoints waits for a process that has it in "
                "install(dialects=[...])",
                one,
            )
        self._unknown |= dialects

    @property
    def unrecorded(self) -> int:
        """How many deliveries are in hand of which is to be written what has become of them."""
        return len(self._verdicts) + len(self._dropped) + len(self._unsent)

    def record(self, senders: Senders) -> int:
        """
        Write down what came of the requests that have ended, and say so; how many.

        Raises:
            SQLAlchemyError: The database failed; the next call tries again.
        """
        for result in senders.collect():
            self._decide(result)
        count = self.unrecorded
        recorded = self._steps.recording.record(self._verdicts, now=self._clock.now())
        self._verdicts.clear()
        self._say(recorded)  # at once: it is said once, whatever fails after it
        self._steps.recording.drop(self._dropped, now=self._clock.now())
        self._dropped.clear()
        self._steps.recording.give_back(self._unsent, now=self._clock.now())
        self._unsent.clear()
        return count

    def _decide(self, result: Result) -> None:
        verdicts = [decide(one, self._settings.retries) for one in apart(result)]
        self._windows.note(min(verdicts, key=lambda one: one.strain))  # once for a request, of which some may be taken
        self._verdicts += verdicts

    def _say(self, recorded: Recorded) -> None:
        """After the commit: signals, and what follows for the endpoints, in transactions of its own."""
        now = self._clock.now()
        for verdict in recorded.verdicts:
            self._steps.announcer.attempt(verdict, now=now)
        self._steps.retirements.add(recorded)
        self._steps.retirements.go_on(now=now)

    def forget(self) -> None:
        """Begin anew in a forked child: what was remembered is the parent's."""
        self._verdicts.clear()
        self._dropped.clear()
        self._unsent.clear()
        self._steps.lead.forget()
        self._steps.retirements.forget()
        self._steps.upkeep.forget()

    def step_down(self) -> None:
        """
        Let another relay lead at once.

        Raises:
            SQLAlchemyError: The database failed; the lease ends by itself.
        """
        self._steps.lead.release()

    def _send(self, claims: Sequence[Claim], senders: Senders) -> int:
        """Hand over the requests that carry them, and say how many; what is not, since something broke, goes back."""
        waiting = {one.delivery_id: one for one in claims}
        try:
            parcels = self._parcels(claims, waiting)
            opened: dict[int, Credentials | SigningFailed] = {}  # what is needed of each endpoint, once
            for parcel in parcels:
                destination = parcel.claims[0].destination
                if destination.endpoint not in opened:
                    opened[destination.endpoint] = self._steps.opener.open(destination, now=self._clock.now())
                for one in parcel.claims:  # before: what breaks in between may have been sent
                    del waiting[one.delivery_id]
                self._submit(parcel, opened[destination.endpoint], senders)
        except BaseException:  # a KeyboardInterrupt in `drain()`, the database away
            self._unsent += waiting.values()
            raise
        return len(parcels)

    def _parcels(self, claims: Sequence[Claim], waiting: dict[int, Claim]) -> list[Parcel]:
        """What is to be sent; what is not leaves *waiting*."""
        tailored = self._steps.tailor.tailor(claims)
        parcels = list(pack(tailored.pieces))
        for one, error in tailored.failed:
            self._decide(Result(one, self._clock.now(), 0.0, error))
            del waiting[one.delivery_id]
        for one in tailored.dropped:
            self._dropped.append(one)
            del waiting[one.delivery_id]
        return parcels

    def _submit(self, parcel: Parcel, credentials: Credentials | SigningFailed, senders: Senders) -> None:
        """Hand over one request. One that cannot be made, since nothing signs it, counts as a failed attempt."""
        now = self._clock.now()
        claim, *others = parcel.claims
        try:
            if isinstance(credentials, SigningFailed):
                raise credentials
            made = request(parcel, credentials, dialect=self._steps.dialects.get(claim.destination.dialect), now=now)
        except SigningFailed as error:
            failed = SigningFailed(str(error))  # which leads to nothing that is secret
            self._decide(Result(claim, now, 0.0, failed, tuple(others)))
        else:
            senders.submit(made)

    def _take(self) -> tuple[Batch, bool]:
        """What there is to relay, and whether it is this relay's to do."""
        as_of = self._clock.monotonic()
        with self._database.look() as connection:
            look = pulse(connection)
            self._steps.keep_fresh(connection, revision=look.revision, as_of=as_of)
            batch = take(connection, self._settings.batch_size) if look.outbox else _NOTHING
        if new := batch.unreadable - self._unreadable:
            logger.error("outbox rows are left for a version that can read them: %s", sorted(new))
        self._unreadable = batch.unreadable
        if not batch.rows:
            self.step_down()
        now = self._clock.now()
        return batch, bool(batch.rows) and self._steps.lead.acquire(look.leader, backlog=batch.more, now=now)


_NOTHING = Batch((), more=False)
