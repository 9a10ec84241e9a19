"""Rows as they are now, for endpoints that want to be sent those."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqla_webhooks import reading
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.enrich.rows import ByKey
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.outbox.database import Database, chunks
from sqla_webhooks.resources import Resources, Shape

#: What tells of a row that is there.
_OF_ROWS = frozenset({Operation.CREATE, Operation.UPDATE, Operation.READ})


class Latest:
    """
    Reads the rows of events again.

    In the relay's thread, in a read transaction of its own, before the events
    are sent.

    Args:
        may_have: Whether a row, of some shape, with some values, is of those whom its event may reach: one that has
            gone to another tenant is gone.
    """

    def __init__(
        self, database: Database, resources: Resources, *, encoding: Encoding, may_have: Callable[..., bool]
    ) -> None:
        self._may_have = may_have
        self._database = database
        self._resources = resources
        self._encoding = encoding

    def refreshed(self, events: Sequence[Event]) -> list[Event]:
        """
        The events with their rows' attributes as they are now; of a row that is gone with its key alone, which says so.

        Those that are about no row, or about one that was deleted, are left as
        they are, and those of classes that this process does not map, or of
        whose key their data no longer tells.

        Raises:
            DBAPIError: The database failed.
        """
        fresh = list(events)
        by_class: dict[tuple[str, str], list[int]] = {}
        for place, event in enumerate(events):
            if event.operation in _OF_ROWS and event.identity:
                by_class.setdefault((event.resource, event.table), []).append(place)
        for (resource, table), places in by_class.items():
            mapper = self._resources.mapper(resource, table)
            shape = None if mapper is None else self._resources.shape(mapper)
            if shape is not None:
                for place, event in zip(places, self._of_shape(shape, [events[one] for one in places]), strict=True):
                    fresh[place] = event
        return fresh

    def _of_shape(self, shape: Shape, events: Sequence[Event]) -> list[Event]:
        found = ByKey(shape.key_columns, events, encoding=self._encoding)
        with self._database.read(theirs=True) as connection:
            for some in chunks(found.wanted, width=len(shape.key_columns)):
                for identity, values in reading.read(connection, shape, identities=some):
                    found.keep(identity, values)
        return [self._as_now(event, found.of(event), shape) for event in events]

    def _as_now(self, event: Event, row: dict[str, Any] | None, shape: Shape) -> Event:
        if row is not None and self._may_have(shape, row, event):
            # Its own: what `transform` does to one endpoint's event, no other's shows.
            sent = {name: value for name, value in row.items() if name not in shape.hidden}
            return replace(event, data=copy.deepcopy(sent), truncated=False)
        return _gone(event, shape)


def _gone(event: Event, shape: Shape) -> Event:
    return replace(event, data={name: event.data[name] for name in shape.key if name in event.data}, gone=True)
