"""Each enricher on each event, in the stated order; one that fails does so alone."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Mapper
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from sqla_webhooks.encoding import Encoding
from sqla_webhooks.enrich.rows import ReadOnlySession, Rows
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.resources import Resources
from sqla_webhooks.signals import Signal, enricher_failed

logger = logging.getLogger(__name__)

Receiver: TypeAlias = Callable[..., Any]


class Enrichment:
    """
    Runs the enrichers of one installation.

    In the relay's thread. A read transaction of our own is open meanwhile, no
    write transaction.
    """

    def __init__(
        self, database: Database, resources: Resources, *, signals: Sequence[Signal], encoding: Encoding
    ) -> None:
        self._database = database
        self._resources = resources
        self._signals = signals
        self._encoding = encoding

    def enrich(self, events: Sequence[Event]) -> list[Event]:
        """The events with what the enrichers added; those nobody enriches as they are."""
        if not any(signal.receivers for signal in self._signals):
            return list(events)
        enriched: dict[str, Event] = {}
        by_class: dict[tuple[str, str], list[Event]] = {}
        for event in events:
            if event.operation is not Operation.DELETE:
                by_class.setdefault((event.resource, event.table), []).append(event)
        for (resource, table), some in by_class.items():
            mapper = self._resources.mapper(resource, table)
            receivers = [] if mapper is None else self._receivers(mapper)
            if mapper is not None and receivers:
                enriched.update((event.id, event) for event in self._enrich(mapper, receivers, events=some))
        return [enriched.get(event.id, event) for event in events]

    def _receivers(self, mapper: Mapper[Any]) -> list[Receiver]:
        """Base classes first, then in order of registration; each once."""
        classes = [base.class_ for base in reversed(list(mapper.iterate_to_root()))]
        found = [receiver for signal in self._signals for cls in classes for receiver in signal.receivers_in_order(cls)]
        return list({id(receiver): receiver for receiver in found}.values())

    def _enrich(self, mapper: Mapper[Any], receivers: Sequence[Receiver], *, events: Sequence[Event]) -> list[Event]:
        """
        Run *receivers* on the events of one class. Those whose rows cannot be loaded do nothing.

        Raises:
            DBAPIError: The database is away, or locked: the relay waits for it.
        """
        again = Retrying(retry=retry_if_exception_type(DBAPIError), stop=stop_after_attempt(2), reraise=True)
        try:
            return again(self._load_and_run, mapper, receivers, events=events)
        except Exception as error:  # an application's options and types: whatever is wrong with them, its events go on
            if isinstance(error, DBAPIError) and not self._database.answers():
                raise
            if len(receivers) > 1:
                return self._each_alone(mapper, receivers, events=events)
            logger.exception("the rows of %s could not be loaded for %s", mapper.class_.__qualname__, receivers[0])
            for event in events:
                enricher_failed.tell(mapper.class_, enricher=receivers[0], event=event, error=error)
            return list(events)

    def _each_alone(
        self, mapper: Mapper[Any], receivers: Sequence[Receiver], *, events: Sequence[Event]
    ) -> list[Event]:
        """One of them named what cannot be loaded; the others shall not suffer for it."""
        enriched = list(events)
        for receiver in receivers:
            enriched = self._enrich(mapper, [receiver], events=enriched)
        return enriched

    def _load_and_run(
        self, mapper: Mapper[Any], receivers: Sequence[Receiver], *, events: Sequence[Event]
    ) -> list[Event]:
        with self._database.read(theirs=True) as connection, ReadOnlySession(connection, autoflush=False) as session:
            rows = Rows(session, mapper, receivers=receivers, events=events, encoding=self._encoding)
            return [event if rows.of(event) is None else _run(receivers, event, rows=rows) for event in events]


def _run(receivers: Sequence[Receiver], event: Event, *, rows: Rows) -> Event:
    """
    Call each enricher on a copy, which counts only if it returns.

    Raises:
        DBAPIError: The database has failed under them.
    """
    model = rows.mapper.class_
    for receiver in receivers:
        try:
            data = copy.deepcopy(event.data)
            receiver(model, instance=rows.of(event), payload=data, event=event)
        except KeyboardInterrupt:
            raise  # somebody wants `drain()` to end
        except BaseException as error:  # the application's code: SystemExit or CancelledError must not stop events
            if isinstance(error, DBAPIError | PendingRollbackError):  # it may have spoilt all that comes after it
                rows.load_again()
            logger.exception("%s failed; %s %s goes on without it", receiver, event.type, event.id)
            enricher_failed.tell(model, enricher=receiver, event=event, error=error)
        else:
            event = replace(event, data=data)  # the next enricher sees what this one added
    return event
