"""
Where events go: the endpoints, by Python API.

Each call is one short transaction of its own on the application's database,
in the caller's thread; with `session=` it is part of that session's
transaction instead, and of its fate. Inside a transaction that has written on
SQLite, which has one writer, give `session=`: without it the call would wait
for the transaction that waits for the call, and fail with "database is locked".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from sqla_webhooks._clock import Clock
from sqla_webhooks.config import Several
from sqla_webhooks.errors import ConfigurationError, EndpointError
from sqla_webhooks.events import Endpoint, NewEndpoint
from sqla_webhooks.ids import endpoint_id
from sqla_webhooks.outbox import endpoints as stored
from sqla_webhooks.outbox.database import Database, on_database


@dataclass(frozen=True, slots=True)
class Rules:
    """What an endpoint must be. Each check returns what is stored, or raises an `EndpointError`."""

    check_url: Callable[[str], str]
    check_events: Callable[[Iterable[str]], tuple[str, ...]]
    check_secret: Callable[[str], str]
    make_secret: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Effects:
    """Who is told of a write."""

    #: An endpoint is being written on this connection, in the transaction of this session.
    being_written: Callable[[Session, Connection], None]
    #: An endpoint was written, in a transaction of our own.
    written: Callable[[], None]
    #: Deliveries may have become due.
    due: Callable[[], None]


#: What `update(rate_limit=...)` calls no limit, as None leaves it as it is.
UNLIMITED = "unlimited"
Unlimited: TypeAlias = Literal["unlimited"]

_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class Endpoints:
    """
    `webhooks.endpoints`. Safe for any thread.

    Every method may raise `DatabaseBusy` on an in-memory SQLite database, and
    `ConfigurationError` for an id that is no text or a session of another
    database.
    """

    def __init__(self, database: Database, *, rules: Rules, effects: Effects, clock: Clock) -> None:
        self._database = database
        self._rules = rules
        self._effects = effects
        self._clock = clock

    @on_database
    def create(
        self,
        url: str,
        events: Several[str],
        *,
        secret: str | None = None,
        description: str = "",
        ordering: bool = True,
        rate_limit: float | None = None,
        session: Session | None = None,
    ) -> NewEndpoint:
        """
        Add an endpoint, which gets every matching change from now on.

        Args:
            url: Where to POST to: https, and a public address, unless settings allow more.
            events: Patterns: `*`, `order.*`, `*.created`, `order.created`.
            secret: `whsec_` and the base64 of 24 to 64 bytes; made if not given.
            description: For people.
            ordering: Whether the events of one row come in the order of its changes; if not, a delivery that fails
                holds back no other.
            rate_limit: Requests a second, at most; None for any number.
            session: Write in this session's transaction; its own changes
                count for the new endpoint at once.

        Returns:
            The endpoint with its `secret`, which can be read here and never again.

        Raises:
            InvalidURL, InvalidSubscription: The message says what to write instead.
            EndpointError: The secret is not one.
            ConfigurationError: *session* is one of another database.
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
        """
        _check_description(description)
        _check_ordering(ordering)
        _check_rate_limit(rate_limit)
        now = self._clock.now()
        endpoint = NewEndpoint(
            id=endpoint_id(),
            url=self._rules.check_url(url),
            events=self._rules.check_events(events),
            enabled=True,
            description=description,
            created_at=now,
            updated_at=now,
            ordering=ordering,
            rate_limit=rate_limit,
            secret=self._rules.make_secret() if secret is None else self._check_secret(secret),
        )
        with self._transaction(session) as connection:
            stored.add(connection, endpoint)
        return endpoint

    @on_database
    def get(self, id: str) -> Endpoint:
        """
        One endpoint, without its secret.

        Raises:
            NotFound: There is none of that id, or it was deleted.
        """
        _check_id(id)
        with self._database.read() as connection:
            return _found(stored.find(connection, id), id)

    @on_database
    def list(self) -> list[Endpoint]:
        """Every endpoint, oldest first, without secrets."""
        with self._database.read() as connection:
            return stored.find_all(connection)

    @on_database
    def update(
        self,
        id: str,
        *,
        url: str | None = None,
        events: Several[str] | None = None,
        description: str | None = None,
        ordering: bool | None = None,
        rate_limit: float | Unlimited | None = None,
        session: Session | None = None,
    ) -> Endpoint:
        """
        Change what is given and leave the rest.

        A new URL or rate limit (`"unlimited"` for none) counts for the next
        attempt of what waits already; new events and ordering count for changes
        from now on.

        Raises:
            InvalidURL, InvalidSubscription, NotFound: As for `create()` and `get()`.
            ConfigurationError, DatabaseBusy: As for `create()`.
        """
        _check_id(id)
        values: dict[str, Any] = {}
        if url is not None:
            values["url"] = self._rules.check_url(url)
        if events is not None:
            values["events"] = self._rules.check_events(events)
        if description is not None:
            _check_description(description)
            values["description"] = description
        if ordering is not None:
            _check_ordering(ordering)
            values["ordering"] = ordering
        if rate_limit is not None:
            values["rate_limit"] = None if rate_limit == UNLIMITED else _check_rate_limit(rate_limit)
        with self._transaction(session) as connection:
            self._change(connection, id, **values)
            return _found(stored.find(connection, id), id)

    @on_database
    def disable(self, id: str, *, session: Session | None = None) -> Endpoint:
        """
        Send nothing more. What waits, and what happens meanwhile, is held until `enable()`.

        With `while_disabled="drop"` it is cancelled instead. A request that
        runs is let finish.

        Raises:
            NotFound: There is none of that id.
        """
        _check_id(id)
        with self._transaction(session) as connection:
            self._change(connection, id, enabled=False, disabled_at=self._clock.now(), disabled_because="asked")
            return _found(stored.find(connection, id), id)

    @on_database
    def enable(self, id: str, *, session: Session | None = None) -> Endpoint:
        """
        Send again, and first what was held, in the order of its changes. How it failed before is forgotten.

        Raises:
            NotFound: There is none of that id.
        """
        _check_id(id)
        now = self._clock.now()
        with self._transaction(session) as connection:
            self._change(connection, id, enabled=True, enabled_at=now, disabled_at=None, disabled_because=None)
            enabled = _found(stored.find(connection, id), id)
        if session is None:
            self._effects.due()
        return enabled

    @on_database
    def delete(self, id: str, *, session: Session | None = None) -> None:
        """
        Remove an endpoint and forget its secret. What still waits for it is cancelled; its history stays.

        Raises:
            NotFound: There is none of that id.
        """
        _check_id(id)
        now = self._clock.now()
        with self._transaction(session) as connection:
            self._change(connection, id, enabled=False, deleted_at=now, secret="")

    def _change(self, connection: Connection, public_id: str, **values: Any) -> None:
        if not stored.change(connection, public_id, now=self._clock.now(), **values):
            raise stored.not_found(public_id)

    def _check_secret(self, secret: str) -> str:
        try:
            return self._rules.check_secret(secret)
        except ConfigurationError as error:
            raise EndpointError(str(error)) from None

    @contextmanager
    def _transaction(self, session: Session | None) -> Iterator[Connection]:
        """The caller's transaction if a session is given, one of our own if not."""
        if session is not None:
            session = _own(session)
            connection = self._database.of_session(session)
            self._effects.being_written(session, connection)
            with self._database.schema_of_ours(connection):
                yield connection
            return
        with self._database.write() as connection:
            yield connection
        self._effects.written()


def _own(session: Any) -> Any:
    """The thread's own session, of a `scoped_session`."""
    return session() if isinstance(session, scoped_session) else session


def _found(endpoint: Endpoint | None, public_id: str) -> Endpoint:
    if endpoint is None:
        raise stored.not_found(public_id)
    return endpoint


def _check_description(given: Any) -> None:
    if not isinstance(given, str) or _NO_TEXT.search(given):
        message = f"description is {given!r}: give a text, without NUL and lone surrogates, which no database takes"
        raise ConfigurationError(message)


def _check_ordering(given: Any) -> None:
    if not isinstance(given, bool):
        message = f"ordering is {given!r}: give True or False"
        raise ConfigurationError(message)


def _check_rate_limit(given: Any) -> float | None:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if given is not None and not (is_number and _SLOWEST <= given <= _FASTEST):
        message = f"rate_limit is {given!r}: give requests a second, from {_SLOWEST} to {_FASTEST:,}, such as 10 or 0.5"
        raise EndpointError(message)
    return None if given is None else float(given)


#: One request in some 28 hours; and more than any relay sends.
_SLOWEST, _FASTEST = 0.00001, 1_000_000


def _check_id(given: Any) -> None:
    if not isinstance(given, str):
        hint = ": write endpoint.id" if isinstance(given, Endpoint) else f" {given!r}"
        message = f"an endpoint is named by its id, a text like 'ep_…', not by {type(given).__name__}{hint}"
        raise ConfigurationError(message)
