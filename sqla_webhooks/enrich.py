"""
What the application adds to its payloads: enrichers.

An enricher is a receiver of the signal `enriching`. The rows of a batch are
loaded in one query for each class, with the options that its enrichers name,
so enriching costs queries per class and not per event.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from itertools import product
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.base import ExecutableOption

from sqla_webhooks import encoding
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.outbox.database import Database, chunks
from sqla_webhooks.resources import Resources
from sqla_webhooks.signals import Signal, enricher_failed, enriching

logger = logging.getLogger(__name__)

T = TypeVar("T")
#: What an enricher is: given the row and the payload, it changes the payload in place.
Function: TypeAlias = Callable[[T, dict[str, Any]], None]


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Enricher:
    """A function as a receiver of `enriching`, with what it wants loaded."""

    function: Function[Any]
    options: tuple[ExecutableOption, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"the enricher {self.function.__module__}.{self.function.__qualname__}"

    def __call__(self, _model: type, *, instance: Any, payload: dict[str, Any], event: Event) -> None:  # noqa: ARG002  # the signal's arguments
        returned: object = self.function(instance, payload)  # type: ignore[func-returns-value]  # not every caller has a type checker
        if returned is not None:
            message = f"it returned {type(returned).__name__}; an enricher changes the payload in place"
            raise TypeError(message)


def enricher(
    model: type[T], *, options: Iterable[ExecutableOption] = (), signal: Signal = enriching
) -> Callable[[Function[T]], Function[T]]:
    """
    Register a function that adds to the payloads of *model*'s events.

        @enricher(Order, options=[selectinload(Order.lines)])
        def with_lines(order, payload):
            payload["lines"] = [line.sku for line in order.lines]

    The function gets the row, as it is when the relay comes to it, and the
    event's `data`, a dict of JSON values to be changed in place. It runs in the
    relay's thread, for `created` and `updated` events whose row still exists;
    a deleted row cannot be loaded. The row's session is for reading, and is
    thrown away: an enricher that flushes or commits it fails.

    Several enrichers of a class run in this order: those of its base classes
    first, then in the order of registration; those of the module's `@enricher`
    before those of `@webhooks.enricher`. One that raises leaves no trace in
    the payload, is logged, and is told to `enricher_failed`; the others run.

    Args:
        model: A mapped class; its subclasses' events are enriched too.
        options: Loader options for the query that loads the rows.
        signal: The signal to connect to.

    Raises:
        ConfigurationError: *model* is not mapped, or the function is `async`.
    """
    if not isinstance(sa_inspect(model, raiseerr=False), Mapper):
        message = f"@enricher({model!r}): name a mapped class"
        raise ConfigurationError(message)

    def register(function: Function[T]) -> Function[T]:
        if inspect.iscoroutinefunction(function):
            message = (
                f"the enricher {function.__qualname__} is async; it runs in a plain thread: write a plain function"
            )
            raise ConfigurationError(message)
        signal.connect(Enricher(function, tuple(options)), sender=model, weak=False)
        return function

    return register


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

    def _receivers(self, mapper: Mapper[Any]) -> list[Callable[..., Any]]:
        """Base classes first, then in order of registration; each once."""
        classes = [base.class_ for base in reversed(list(mapper.iterate_to_root()))]
        found = [receiver for signal in self._signals for cls in classes for receiver in signal.receivers_in_order(cls)]
        return list({id(receiver): receiver for receiver in found}.values())

    def _enrich(
        self, mapper: Mapper[Any], receivers: Sequence[Callable[..., Any]], events: Sequence[Event]
    ) -> list[Event]:
        try:
            with self._database.read() as connection, _Reading(connection, autoflush=False) as session:
                rows = _load(session, mapper, receivers, events)
                return [
                    _run(mapper.class_, receivers, event, instance)
                    if (instance := rows.get(_key(event.identity))) is not None
                    else event
                    for event in events
                ]
        except Exception as error:  # an application's options: whatever is wrong with them, its events go on
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise  # the database has gone away: the relay waits for it
            logger.exception("the rows of %s could not be loaded; their events go on plain", mapper.class_.__qualname__)
            for event, receiver in product(events, receivers):
                enricher_failed.tell(mapper.class_, enricher=receiver, event=event, error=error)
            return list(events)


class _Reading(Session):
    """
    The session of enrichers: one that would write fails, and does so alone.

    What it wrote would be no event, or, where `Session` itself is listened to,
    one that is enriched again, and so on without end.
    """

    def flush(self, objects: Sequence[Any] | None = None) -> None:  # noqa: ARG002  # SQLAlchemy's signature
        if self.new or self.dirty or self.deleted:
            self._refuse()

    def commit(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        message = (
            "an enricher wrote to the session of its row, which is for reading and is thrown away: change the payload "
            "instead, or write in a session of your own"
        )
        raise ConfigurationError(message)


def _load(
    session: Session, mapper: Mapper[Any], receivers: Sequence[Callable[..., Any]], events: Sequence[Event]
) -> dict[bytes, Any]:
    """The rows of *events* by identity, in one query (or a few, if they are very many)."""
    columns = mapper.primary_key
    identities = list({_key(event.identity): _identity(columns, event) for event in events}.values())
    options = [option for receiver in receivers for option in getattr(receiver, "options", ())]
    rows: dict[bytes, Any] = {}
    for some in chunks(identities):
        key = columns[0].in_([one[0] for one in some]) if len(columns) == 1 else tuple_(*columns).in_(some)
        found = session.scalars(select(mapper.class_).where(key).options(*options)).unique()
        rows.update((_key(mapper.primary_key_from_instance(row)), row) for row in found)
    return rows


def _key(identity: Iterable[Any]) -> bytes:
    """A primary key as JSON, whether it comes from a row or from an event."""
    return encoding.dumps([encoding.part(one) for one in identity])


def _run(model: type, receivers: Sequence[Callable[..., Any]], event: Event, instance: Any) -> Event:
    """Call each enricher on a copy, which counts only if it returns."""
    for receiver in receivers:
        try:
            data = copy.deepcopy(event.data)
            receiver(model, instance=instance, payload=data, event=event)
        except Exception as error:  # the application's code: one enricher must not stop an event
            logger.exception("%s failed; %s %s goes on without it", receiver, event.type, event.id)
            enricher_failed.tell(model, enricher=receiver, event=event, error=error)
        else:
            event = replace(event, data=data)  # the next enricher sees what this one added
    return event


def _identity(columns: Sequence[ColumnElement[Any]], event: Event) -> tuple[Any, ...]:
    """The primary key as Python values, out of JSON."""
    return tuple(_value(column, part) for column, part in zip(columns, event.identity, strict=True))


def _value(column: ColumnElement[Any], part: Any) -> Any:
    try:
        kind = column.type.python_type
    except NotImplementedError:
        return part
    if isinstance(part, kind) or not isinstance(part, str):
        return part
    if issubclass(kind, datetime):
        aware = datetime.fromisoformat(part)
        return aware if getattr(column.type, "timezone", False) else aware.replace(tzinfo=None)
    if issubclass(kind, bytes):
        return encoding.unbase64(part)
    if issubclass(kind, Enum) or not hasattr(kind, "fromisoformat"):
        return kind(part)
    return kind.fromisoformat(part)
