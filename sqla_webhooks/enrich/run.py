"""Each enricher on each event, in the stated order; one that fails does so alone."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Mapper
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from sqla_webhooks.destination import Endpoint
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.enrich.rows import MaySee, ReadOnlySession, Rows
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.resources import Resources
from sqla_webhooks.signals import Signal, enricher_failed

logger = logging.getLogger(__name__)

Receiver: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Case:
    """An event, and what its enrichers are told beside it."""

    event: Event
    more: Mapping[str, Any]


class Enrichment:
    """
    Runs the enrichers of one installation that are connected to some signals.

    In the relay's thread. A read transaction of our own is open meanwhile, no
    write transaction.

    Args:
        may_see: Whether a row, as it is by now, may be shown to those whom its event may reach; if not, the event is
            not enriched, as if the row were gone.
    """

    def __init__(
        self,
        database: Database,
        resources: Resources,
        *,
        signals: Sequence[Signal],
        encoding: Encoding,
        may_see: MaySee,
    ) -> None:
        self._may_see = may_see
        self._database = database
        self._resources = resources
        self._signals = signals
        self._encoding = encoding

    @property
    def is_idle(self) -> bool:
        """Whether there is no enricher."""
        return not any(signal.receivers for signal in self._signals)

    def enrich(self, events: Sequence[Event]) -> list[Event]:
        """The events with what the enrichers added; those nobody enriches as they are."""
        return self._run_all([_Case(event, {}) for event in events])

    def enrich_for(self, events: Sequence[tuple[Event, Endpoint]]) -> list[Event]:
        """The same for enrichers that are told of the endpoint that gets the event."""
        return self._run_all([_Case(event, {"endpoint": endpoint}) for event, endpoint in events])

    def _run_all(self, cases: Sequence[_Case]) -> list[Event]:
        enriched = [case.event for case in cases]
        if self.is_idle:
            return enriched
        by_class: dict[tuple[str, str], list[int]] = {}
        for place, event in enumerate(enriched):
            # Else its data is not that of a row, or nobody knows of which.
            if event.operation is not Operation.DELETE and event.row is None and event.identity:
                by_class.setdefault((event.resource, event.table), []).append(place)
        for (resource, table), places in by_class.items():
            mapper = self._resources.mapper(resource, table)
            receivers = [] if mapper is None else _receivers(mapper, self._signals)
            if mapper is not None and receivers:
                done = self._enrich(mapper, receivers, cases=[cases[place] for place in places])
                for place, case in zip(places, done, strict=True):
                    enriched[place] = case.event
        return enriched

    def _enrich(self, mapper: Mapper[Any], receivers: Sequence[Receiver], *, cases: Sequence[_Case]) -> list[_Case]:
        """
        Run *receivers* on the events of one class. Those whose rows cannot be loaded do nothing.

        Raises:
            DBAPIError: The database is away, or locked: the relay waits for it.
        """
        again = Retrying(retry=retry_if_exception_type(DBAPIError), stop=stop_after_attempt(2), reraise=True)
        try:
            return again(self._load_and_run, mapper, receivers, cases=cases)
        except Exception as error:  # an application's options and types: whatever is wrong with them, its events go on
            if self._database.is_away(error):
                raise
            if len(receivers) > 1:
                return self._each_alone(mapper, receivers, cases=cases)
            logger.exception("the rows of %s could not be loaded for %s", mapper.class_.__qualname__, receivers[0])
            for case in cases:
                enricher_failed.tell(mapper.class_, enricher=receivers[0], event=case.event, error=error)
            return list(cases)

    def _each_alone(self, mapper: Mapper[Any], receivers: Sequence[Receiver], *, cases: Sequence[_Case]) -> list[_Case]:
        """One of them named what cannot be loaded; the others shall not suffer for it."""
        enriched = list(cases)
        for receiver in receivers:
            enriched = self._enrich(mapper, [receiver], cases=enriched)
        return enriched

    def _load_and_run(
        self, mapper: Mapper[Any], receivers: Sequence[Receiver], *, cases: Sequence[_Case]
    ) -> list[_Case]:
        with self._database.read(theirs=True) as connection, ReadOnlySession(connection, autoflush=False) as session:
            events = [case.event for case in cases]
            rows = Rows(
                session, mapper, receivers=receivers, events=events, encoding=self._encoding, may_see=self._may_see
            )
            return [_run(receivers, case, rows=rows) for case in cases]


def is_enriched(mapper: Mapper[Any], *, signals: Sequence[Signal]) -> bool:
    """Whether an enricher that is connected to *signals* adds to the rows of a class."""
    return bool(_receivers(mapper, signals))


def _receivers(mapper: Mapper[Any], signals: Sequence[Signal]) -> list[Receiver]:
    """Base classes first, then in order of registration; each once."""
    classes = [base.class_ for base in reversed(list(mapper.iterate_to_root()))]
    found = [receiver for signal in signals for cls in classes for receiver in signal.receivers_in_order(cls)]
    return list({id(receiver): receiver for receiver in found}.values())


def _run(receivers: Sequence[Receiver], case: _Case, *, rows: Rows) -> _Case:
    """
    Call each enricher on a copy, which counts only if it returns; none, if the row is gone.

    Raises:
        DBAPIError: The database has failed under them.
    """
    model, event = rows.mapper.class_, case.event
    for receiver in receivers:
        row = rows.of(event)  # anew for each: it may have been loaded again
        if row is None:
            break
        try:
            data = copy.deepcopy(event.data)
            receiver(model, instance=row, payload=data, event=event, **case.more)
        except KeyboardInterrupt:
            raise  # somebody wants `drain()` to end
        except BaseException as error:  # the application's code: SystemExit or CancelledError must not stop events
            if isinstance(error, DBAPIError | PendingRollbackError):  # it may have spoilt all that comes after it
                rows.load_again()
            logger.exception("%s failed; %s %s goes on without it", receiver, event.type, event.id)
            enricher_failed.tell(model, enricher=receiver, event=event, error=error)
        else:
            event = replace(event, data=data)  # the next enricher sees what this one added
    return replace(case, event=event)
