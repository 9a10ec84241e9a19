"""Each enricher on each event, in the stated order; one that fails does so alone."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Mapper, object_session

from sqla_webhooks.enrich.rows import Reading, Rows
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

    def __init__(self, database: Database, resources: Resources, *, signals: Sequence[Signal]) -> None:
        self._database = database
        self._resources = resources
        self._signals = signals

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
                enriched.update((event.id, event) for event in self._enrich(mapper, receivers, some))
        return [enriched.get(event.id, event) for event in events]

    def _receivers(self, mapper: Mapper[Any]) -> list[Receiver]:
        """Base classes first, then in order of registration; each once."""
        classes = [base.class_ for base in reversed(list(mapper.iterate_to_root()))]
        found = [receiver for signal in self._signals for cls in classes for receiver in signal.receivers_in_order(cls)]
        return list({id(receiver): receiver for receiver in found}.values())

    def _enrich(
        self, mapper: Mapper[Any], receivers: Sequence[Receiver], events: Sequence[Event], *, again: bool = True
    ) -> Sequence[Event]:
        """
        Run *receivers* on the events of one class. If their rows cannot be loaded, its events go on plain.

        Raises:
            DBAPIError: The database is away, or locked: the relay waits for it.
        """
        try:
            with self._database.read() as connection, Reading(connection, autoflush=False) as session:
                rows = Rows(session, mapper, receivers, events)
                found = ((event, rows.of(event)) for event in events)
                return [event if row is None else _run(mapper.class_, receivers, event, row) for event, row in found]
        except Exception as error:  # an application's options and types: whatever is wrong with them, its events go on
            if isinstance(error, DBAPIError):
                if error.connection_invalidated or not self._answers(mapper):
                    raise
                if again:
                    return self._enrich(mapper, receivers, events, again=False)
            if len(receivers) > 1:  # one of them named what cannot be loaded; the others shall not suffer for it
                for receiver in receivers:
                    events = self._enrich(mapper, [receiver], events)
                return events
            logger.exception("the rows of %s could not be loaded for %s", mapper.class_.__qualname__, receivers[0])
            for event in events:
                enricher_failed.tell(mapper.class_, enricher=receivers[0], event=event, error=error)
            return events

    def _answers(self, mapper: Mapper[Any]) -> bool:
        """Whether the database lets the rows of a class be read, if one asks for nothing special."""
        try:
            with self._database.read() as connection:
                connection.execute(select(*mapper.primary_key).limit(1)).first()
        except DBAPIError:
            return False
        return True


def _run(model: type, receivers: Sequence[Receiver], event: Event, instance: Any) -> Event:
    """Call each enricher on a copy, which counts only if it returns."""
    for receiver in receivers:
        try:
            data = copy.deepcopy(event.data)
            receiver(model, instance=instance, payload=data, event=event)
        except KeyboardInterrupt:
            raise  # somebody wants `drain()` to end
        except (
            BaseException
        ) as error:  # the application's code: SystemExit and CancelledError must not stop events either
            if isinstance(error, SQLAlchemyError) and (session := object_session(instance)) is not None:
                session.rollback()  # or what it has spoilt fails all that comes after it
            logger.exception("%s failed; %s %s goes on without it", receiver, event.type, event.id)
            enricher_failed.tell(model, enricher=receiver, event=event, error=error)
        else:
            event = replace(event, data=data)  # the next enricher sees what this one added
    return event
