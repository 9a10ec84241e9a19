"""
Where events go: the endpoints, by Python API.

Each call is one short transaction of its own on the application's database,
in the caller's thread; with `session=` it is part of that session's
transaction instead, and of its fate. Inside a transaction that has written on
SQLite, which has one writer, give `session=`: without it the call would wait
for the transaction that waits for the call, and fail with "database is locked".
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from sqla_webhooks import given
from sqla_webhooks import headers as own_headers
from sqla_webhooks._clock import Clock
from sqla_webhooks.asked import check_endpoint_id
from sqla_webhooks.config import Several
from sqla_webhooks.errors import ConfigurationError, EndpointError
from sqla_webhooks.events import Endpoint, NewEndpoint, SecretState
from sqla_webhooks.ids import endpoint_id
from sqla_webhooks.outbox import endpoints as stored
from sqla_webhooks.outbox import secrets
from sqla_webhooks.outbox.database import Database, on_database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.reseal import reseal
from sqla_webhooks.progress import Reencrypted
from sqla_webhooks.vault import Vault

T = TypeVar("T")


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

#: Seconds for which an old secret is valid beside the new one, unless the caller says otherwise.
OVERLAP = 86400.0


class Endpoints:
    """
    `webhooks.endpoints`. Safe for any thread.

    Every method may raise `DatabaseBusy` on an in-memory SQLite database, and
    `ConfigurationError` for an id that is no text or a session of another
    database.
    """

    def __init__(self, database: Database, *, rules: Rules, vault: Vault, effects: Effects, clock: Clock) -> None:
        self._database = database
        self._rules = rules
        self._vault = vault
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
        headers: Mapping[str, str] | None = None,
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
            headers: What its requests have beside our headers, such as `{"Authorization": "Bearer …"}`; their values
                are secrets, and shown to nobody.
            session: Write in this session's transaction; its own changes
                count for the new endpoint at once.

        Returns:
            The endpoint with its `secret`, which can be read here and never again.

        Raises:
            InvalidURL, InvalidSubscription, InvalidHeaders: The message says what to write instead.
            EndpointError: Another argument cannot be; the message says which, and never repeats a secret.
            ConfigurationError: *session* is one of another database.
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
        """
        given.check_description(description)
        given.check_ordering(ordering)
        given.check_rate_limit(rate_limit)
        added = own_headers.check({} if headers is None else headers)
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
            header_names=tuple(added),
            secret=self._new_secret(secret),
        )
        sealed = self._vault.seal(endpoint.secret)
        with self._transaction(session) as connection:
            self._check_vault(connection)
            stored.add(connection, endpoint, secret=sealed, headers=self._sealed(added))
        return endpoint

    @on_database
    def get(self, id: str) -> Endpoint:
        """
        One endpoint, without its secret.

        Raises:
            NotFound: There is none of that id, or it was deleted.
        """
        check_endpoint_id(id)
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
        headers: Mapping[str, str] | None = None,
        session: Session | None = None,
    ) -> Endpoint:
        """
        Change what is given and leave the rest.

        A new URL or rate limit (`"unlimited"` for none), and new headers, which
        replace all that there are (`{}` for none), count for the next attempt
        of what waits already; new events and ordering count for changes from
        now on.

        Raises:
            InvalidURL, InvalidSubscription, InvalidHeaders, EndpointError, NotFound: As for `create()` and `get()`.
            ConfigurationError, DatabaseBusy: As for `create()`.
        """
        check_endpoint_id(id)
        values: dict[str, Any] = {}
        if url is not None:
            values["url"] = self._rules.check_url(url)
        if events is not None:
            values["events"] = self._rules.check_events(events)
        if description is not None:
            given.check_description(description)
            values["description"] = description
        if ordering is not None:
            given.check_ordering(ordering)
            values["ordering"] = ordering
        if rate_limit is not None:
            values["rate_limit"] = None if rate_limit == UNLIMITED else given.check_rate_limit(rate_limit)
        if headers is not None:
            added = own_headers.check(headers)
            values |= {"headers": self._sealed(added), "header_names": tuple(added)}
        with self._transaction(session) as connection:
            if headers:
                self._check_vault(connection)
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
        check_endpoint_id(id)
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
        check_endpoint_id(id)
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
        Remove an endpoint and forget its secrets and headers. What still waits for it is cancelled; its history stays.

        Raises:
            NotFound: There is none of that id.
        """
        check_endpoint_id(id)
        self._write(session, lambda connection: self._delete(connection, id))

    @on_database
    def rotate_secret(
        self, id: str, *, secret: str | None = None, overlap: float = OVERLAP, session: Session | None = None
    ) -> NewEndpoint:
        """
        Give an endpoint a new secret; those that it had go on signing beside it for a while, and then expire.

        A request has a signature by each, the new one's first, so a receiver
        that knows any of them accepts it: change it there within the overlap.
        A secret that the endpoint has already becomes the first again.

        Args:
            secret: As for `create()`.
            overlap: Seconds for which the older ones stay valid, unless they expire earlier; 0 ends them at once, as
                when one has become known.
            session: As for `create()`.

        Returns:
            The endpoint with its new `secret`, which can be read here and never again.

        Raises:
            NotFound: There is none of that id.
            EndpointError: The secret is not one, the overlap cannot be, or the endpoint has too many secrets already.
            ConfigurationError, DatabaseBusy: As for `create()`.
        """
        check_endpoint_id(id)
        seconds, new = given.check_overlap(overlap), self._new_secret(secret)
        return self._write(session, lambda connection: self._rotate(connection, id, secret=new, overlap=seconds))

    @on_database
    def secrets(self, id: str) -> builtins.list[SecretState]:
        """
        Since when the endpoint has each of its secrets, and until when it is valid; newest first.

        Raises:
            NotFound: There is none of that id.
        """
        check_endpoint_id(id)
        with self._database.read() as connection:
            _found(stored.find(connection, id), id)
            return secrets.states(connection, id, now=self._clock.now())

    @on_database
    def reencrypt(self) -> Reencrypted:
        """
        Encrypt by the first of `encryption_keys` all secrets and headers that are not: after a key was put before it.

        In short transactions, beside all else that is done meanwhile; broken
        off and called again, it goes on. What none of the keys opens is left,
        counted, and said in the log.

        Returns:
            How many rows were rewritten, and how many cannot be read. When both are 0, the older keys are needed no
            more.

        Raises:
            ConfigurationError: There are no keys.
            DatabaseBusy: As for `create()`.
        """
        if not self._vault.seals:
            message = "there is no key to encrypt by: give install() encryption_keys, the newest first"
            raise ConfigurationError(message)
        return reseal(self._database, self._vault)

    def _rotate(self, connection: Connection, public_id: str, *, secret: str, overlap: float) -> NewEndpoint:
        now = self._clock.now()
        self._check_vault(connection)
        self._change(connection, public_id)
        secrets.rotate(
            connection,
            stored.number_of(connection, public_id),
            self._vault.seal(secret),
            is_same=partial(self._holds, secret),
            now=now,
            until=now + timedelta(seconds=overlap),
        )
        endpoint = _found(stored.find(connection, public_id), public_id)
        return NewEndpoint(**{one.name: getattr(endpoint, one.name) for one in fields(Endpoint)}, secret=secret)

    def _check_vault(self, connection: Connection) -> None:
        """Raises `ConfigurationError` rather than lay a secret that anybody can read beside others that are sealed."""
        if not self._vault.seals and secrets.any_sealed(connection):
            message = (
                "the database holds secrets that are encrypted, and install() got no encryption_keys: give it those of "
                "the other processes"
            )
            raise ConfigurationError(message)

    def _holds(self, secret: str, sealed: str) -> bool:
        """Whether that is what was sealed; one that cannot be opened is taken for another."""
        try:
            return self._vault.open(sealed) == secret
        except ConfigurationError:
            return False

    def _delete(self, connection: Connection, public_id: str) -> None:
        now = self._clock.now()
        self._change(connection, public_id, enabled=False, deleted_at=now, headers=None, header_names=())
        secrets.forget(connection, stored.number_of(connection, public_id))

    def _change(self, connection: Connection, public_id: str, **values: Any) -> None:
        if not stored.change(connection, public_id, now=self._clock.now(), **values):
            raise stored.not_found(public_id)

    def _new_secret(self, secret: str | None) -> str:
        """That which was given, checked, or one that is made."""
        if secret is None:
            return self._rules.make_secret()
        try:
            return self._rules.check_secret(secret)
        except ConfigurationError as error:
            raise EndpointError(str(error)) from None

    def _sealed(self, headers: Mapping[str, str]) -> str | None:
        return self._vault.seal(own_headers.written(headers)) if headers else None

    def _write(self, session: Session | None, step: Callable[[Connection], T]) -> T:
        """*step* in a transaction; in one of our own again, if it had to give way."""

        def transaction() -> T:
            with self._transaction(session) as connection:
                return step(connection)

        return outlive(transaction) if session is None else transaction()

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
