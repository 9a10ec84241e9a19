"""
What each endpoint gets, made of the events that it is to get, after they were claimed and before they are sent.

An event is stored once, as the standard body of what happened. Nearly every
endpoint gets those bytes as they are. For one that asked for less, for the row
as it is now, or for another dialect, and wherever the application has a word in
it (`endpoint_enricher`, `transform`), the event is made again of its body, and
written anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sqla_webhooks.coalesce import resource_id
from sqla_webhooks.config import Transform
from sqla_webhooks.deliveries import Claim
from sqla_webhooks.delivery.dialects.known import Dialects
from sqla_webhooks.delivery.parcel import Piece
from sqla_webhooks.delivery.rendering import Rendering
from sqla_webhooks.delivery.restore import restored
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.destination import Destination, Endpoint
from sqla_webhooks.enrich.latest import Latest
from sqla_webhooks.enrich.run import Enrichment
from sqla_webhooks.errors import RenderingFailed
from sqla_webhooks.events import Event
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.endpoints import find_numbers
from sqla_webhooks.resources import Resources

logger = logging.getLogger(__name__)

#: Without the reason, which is for the log: tenants read it.
_FAILED = "what the endpoint is to get could not be made: see the log of the sender"


@dataclass(slots=True)
class Tailored:
    """
    What has become of some claims.

    Attributes:
        pieces: Those that can be sent.
        failed: Those of which nothing could be made, for now.
        dropped: Those that `transform` has dropped.
    """

    pieces: list[Piece] = field(default_factory=list)
    failed: list[tuple[Claim, RenderingFailed]] = field(default_factory=list)
    dropped: list[Claim] = field(default_factory=list)


class Tailor:
    """
    Of one installation. Used by one thread at a time: the relay's, or that of `drain()`.

    Reads, in short transactions that have ended when the application's code is
    called, but for its enrichers.
    """

    def __init__(
        self,
        database: Database,
        resources: Resources,
        *,
        latest: Latest,
        enrichments: tuple[Enrichment, Enrichment],
        transform: Transform | None,
        dialects: Dialects,
        rendering: Rendering,
    ) -> None:
        self._database = database
        self._resources = resources
        self._latest = latest
        #: Of all endpoints, for rows that are read again; and of each.
        self._enrichment, self._own_enrichment = enrichments
        self._transform = transform
        self._dialects = dialects
        self._rendering = rendering

    def tailor(self, claims: Sequence[Claim]) -> Tailored:
        """
        What each claim is to send. What cannot be made of one fails alone.

        Raises:
            SQLAlchemyError, DatabaseBusy: The database is away, or locked: nothing has come of any.
        """
        tailored = Tailored()
        fittings: list[_Fitting] = []
        for claim in claims:
            if self._is_plain(claim.destination):
                tailored.pieces.append(Piece(claim, claim.payload))
            else:
                fittings.append(_Fitting(claim))
        if fittings:
            self._fit(fittings, tailored)
            # In the order in which they were claimed, which is that of a batch.
            place = {one.delivery_id: number for number, one in enumerate(claims)}
            tailored.pieces.sort(key=lambda piece: place[piece.claim.delivery_id])
        return tailored

    def _is_plain(self, destination: Destination) -> bool:
        """Whether it gets what is stored; or cannot be sent to at all, which shows when its requests are signed."""
        if not self._dialects.has(destination.dialect):
            return True
        return (
            destination.payload == "full"
            and self._transform is None
            and self._own_enrichment.is_idle
            and self._dialects.is_stored(destination.dialect)
        )

    def _fit(self, fittings: Sequence[_Fitting], tailored: Tailored) -> None:
        self._each(fittings, self._restore)
        self._together(_open(fittings, payload="latest"), self._refresh)
        self._each(_open(fittings, payload="thin"), self._make_thin)
        if not (self._transform is None and self._own_enrichment.is_idle):
            self._together(_open(fittings), self._look_up)
            self._together(_open(fittings), self._enrich)
            self._each(_open(fittings), self._shape)
        self._each(_open(fittings), self._write)
        for one in fittings:
            if one.failed:
                tailored.failed.append((one.claim, RenderingFailed(_FAILED)))
            elif one.event is None:
                tailored.dropped.append(one.claim)
            else:
                tailored.pieces.append(Piece(one.claim, one.body, one.event))

    def _each(self, fittings: Sequence[_Fitting], step: Callable[[_Fitting], None]) -> None:
        """*step* on each; one on which it fails does so alone."""
        for one in fittings:
            try:
                step(one)
            except KeyboardInterrupt:
                raise  # somebody wants `drain()` to end
            except BaseException as error:  # the application's code, or its rows: nothing of it may stop the relay
                if self._database.is_away(error):
                    raise  # and no fault of the event's
                one.failed = True
                logger.exception(
                    "%s %s for endpoint %s could not be made",
                    *(one.claim.event_type, one.claim.event_id, one.claim.endpoint_id),
                    extra={"webhooks.endpoint": one.claim.endpoint_id},
                )

    def _together(self, fittings: Sequence[_Fitting], step: Callable[[Sequence[_Fitting]], None]) -> None:
        """*step* on all; if it fails, on each, so that one that cannot be read spoils no other."""
        if not fittings:
            return
        try:
            step(fittings)
        except Exception as error:  # of the database, or of the types of the application's columns
            if self._database.is_away(error):
                raise
            logger.debug("once more, each alone: %s", type(error).__name__)
            self._each(fittings, lambda one: step([one]))

    def _restore(self, one: _Fitting) -> None:
        # A resource is in the body, and its key's names are this process's to know.
        event = restored(one.claim, key_of=self._resources.key)
        # An enricher may have written something else into the key, and what was emitted has its own data: by that,
        # another row would be found.
        one.event = event if resource_id(event.identity) == event.resource_id else replace(event, identity=())

    def _refresh(self, fittings: Sequence[_Fitting]) -> None:
        fresh = self._latest.refreshed([one.made for one in fittings])
        for one, event in zip(fittings, self._enrichment.enrich(fresh), strict=True):
            one.event = event

    def _make_thin(self, one: _Fitting) -> None:
        event = one.made
        if not event.table:  # about no row: there is nothing that could be fetched instead
            return
        key = self._resources.key(event.resource, event.table)
        version = self._resources.version(event.resource, event.table)
        one.event = replace(thinned(event, (*key, *version)), truncated=event.truncated)

    def _look_up(self, fittings: Sequence[_Fitting]) -> None:
        with self._database.read() as connection:
            found = find_numbers(connection, {one.claim.endpoint for one in fittings})
        for one in fittings:
            one.endpoint = found[one.claim.endpoint]

    def _enrich(self, fittings: Sequence[_Fitting]) -> None:
        enriched = self._own_enrichment.enrich_for([(one.made, one.addressee) for one in fittings])
        for one, event in zip(fittings, enriched, strict=True):
            one.event = event

    def _shape(self, one: _Fitting) -> None:
        if self._transform is None:
            return
        event: object = self._transform(one.made, one.addressee)
        if event is not None and not isinstance(event, Event):
            message = f"transform returned {type(event).__name__}: it returns an Event, or None to send nothing"
            raise TypeError(message)
        # Its id is by what receivers know that they have it already.
        one.event = None if event is None else replace(event, id=one.claim.event_id)

    def _write(self, one: _Fitting) -> None:
        one.body = self._rendering.body(one.made, self._dialects.get(one.claim.destination.dialect))


@dataclass(slots=True)
class _Fitting:
    """One claim on its way."""

    claim: Claim
    #: None before it is restored, and once it is dropped.
    event: Event | None = None
    endpoint: Endpoint | None = None
    body: bytes = b""
    failed: bool = False

    @property
    def made(self) -> Event:
        """The event, which is there."""
        if self.event is None:
            raise LookupError(self.claim.event_id)
        return self.event

    @property
    def addressee(self) -> Endpoint:
        """The endpoint, which is there."""
        if self.endpoint is None:
            raise LookupError(self.claim.endpoint_id)
        return self.endpoint


def _open(fittings: Sequence[_Fitting], *, payload: str | None = None) -> list[_Fitting]:
    """Those that have not failed and were not dropped; those of which that much of the row is wanted."""
    return [
        one
        for one in fittings
        if not one.failed and one.event is not None and payload in (None, one.claim.destination.payload)
    ]
