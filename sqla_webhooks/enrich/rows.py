"""The rows of a batch of events, loaded in one query for each class, with the options that its enrichers name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Mapper, Session

from sqla_webhooks import keys
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event
from sqla_webhooks.outbox.database import among, chunks

#: Whether a row as it is loaded may be shown to those whom an event may reach.
MaySee: TypeAlias = Callable[[Mapper[Any], Any, Event], bool]


class ReadOnlySession(Session):
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


class Rows:
    """The rows of some events, loaded in one query (or a few, if they are very many)."""

    def __init__(
        self,
        session: Session,
        mapper: Mapper[Any],
        *,
        receivers: Sequence[Callable[..., Any]],
        events: Sequence[Event],
        encoding: Encoding,
        may_see: MaySee,
    ) -> None:
        self.mapper = mapper
        self._may_see = may_see
        self._session = session
        self._options = [option for receiver in receivers for option in getattr(receiver, "options", ())]
        self._found = ByKey(mapper.primary_key, events, encoding=encoding)
        self._load()

    def load_again(self) -> None:
        """
        After a statement of an enricher's has failed, which may have spoilt the transaction.

        Raises:
            DBAPIError: The database has failed.
        """
        self._session.rollback()
        self._load()

    def _load(self) -> None:
        columns = self.mapper.primary_key
        for some in chunks(self._found.wanted, width=len(columns)):
            query = select(self.mapper.class_).where(among(columns, some)).options(*self._options)
            for row in self._session.scalars(query).unique():
                self._found.keep(self.mapper.primary_key_from_instance(row), row)

    def of(self, event: Event) -> Any:
        """The row of *event*; None if it is gone, be it to another tenant than the event's."""
        found = self._found.of(event)
        return found if found is not None and self._may_see(self.mapper, found, event) else None


class ByKey:
    """
    What was found of the rows of some events, by their primary keys.

    Attributes:
        wanted: The keys that are to be looked for, as Python values, each once.
    """

    wanted: list[tuple[Any, ...]]

    def __init__(self, columns: Sequence[ColumnElement[Any]], events: Iterable[Event], *, encoding: Encoding) -> None:
        self._encoding = encoding
        #: The primary key of each event's row: as JSON, and as Python values.
        self._keys: dict[str, bytes] = {}
        self._identities: dict[str, tuple[Any, ...]] = {}
        for event in events:
            self._keys[event.id] = self._key(event.identity)
            self._identities[event.id] = keys.identity(columns, event.identity)
        self.wanted = list({self._keys[name]: identity for name, identity in self._identities.items()}.values())
        self._by_value: dict[tuple[Any, ...], Any] = {}
        self._by_json: dict[bytes, Any] = {}

    def keep(self, identity: Sequence[Any], row: Any) -> None:
        """What was found under a primary key, as the database has it."""
        self._by_json[self._key(identity)] = row
        if _hashable(tuple(identity)):
            self._by_value[tuple(identity)] = row

    def of(self, event: Event) -> Any:
        """What was found for *event*, None if nothing was."""
        found = self._by_json.get(self._keys[event.id])
        if found is None and _hashable(identity := self._identities[event.id]):
            found = self._by_value.get(identity)  # the database may write a key otherwise: 5 as 5.00
        return found

    def _key(self, identity: Iterable[Any]) -> bytes:
        """A primary key as JSON, whether it comes from a row or from an event."""
        return self._encoding.dumps([self._encoding.key_part(one) for one in identity])


def _hashable(identity: tuple[Any, ...]) -> bool:
    try:
        hash(identity)
    except TypeError:
        return False
    return True
