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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from sqla_webhooks import given, terms
from sqla_webhooks import headers as own_headers
from sqla_webhooks._clock import Clock
from sqla_webhooks.asked import check_endpoint_id, check_texts
from sqla_webhooks.config import Several
from sqla_webhooks.deliveries import Delivery
from sqla_webhooks.destination import Endpoint, NewEndpoint, SecretState
from sqla_webhooks.enrolment import Enrolment, found
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.given import UNSAID, TenantName, Unsaid
from sqla_webhooks.outbox import endpoints as stored
from sqla_webhooks.outbox import secrets
from sqla_webhooks.outbox.database import Database, on_database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.reseal import reseal
from sqla_webhooks.progress import Reencrypted
from sqla_webhooks.terms import OVERLAP, Payload, Terms, Unlimited

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effects:
    """Who is told of a write."""

    #: An endpoint is being written on this connection, in the transaction of this session.
    being_written: Callable[[Session, Connection], None]
    #: An endpoint was written, in a transaction of our own.
    written: Callable[[], None]
    #: Deliveries may have become due.
    due: Callable[[], None]


class Endpoints:
    """
    `webhooks.endpoints`. Safe for any thread.

    Every method may raise `DatabaseBusy` on an in-memory SQLite database, and
    `ConfigurationError` for an id that is no text or a session of another
    database.
    """

    def __init__(
        self,
        database: Database,
        *,
        enrolment: Enrolment,
        effects: Effects,
        send_example: Callable[[str, str | None], Delivery],
        clock: Clock,
    ) -> None:
        self._send_example = send_example
        self._database = database
        self._enrolment = enrolment
        self._effects = effects
        self._clock = clock

    @on_database
    def create(
        self,
        url: str,
        events: Several[str],
        *,
        filter: Mapping[str, Any] | None = None,
        tenant: TenantName | Unsaid = UNSAID,
        scope: Literal["all", "shared"] | None = None,
        dialect: str = "standard",
        payload: Payload = "full",
        batch: int = 0,
        ordering: bool = True,
        rate_limit: float | None = None,
        headers: Mapping[str, str] | None = None,
        secret: str | None = None,
        description: str = "",
        session: Session | None = None,
    ) -> NewEndpoint:
        """
        Add an endpoint, which gets every matching change from now on.

        Args:
            url: Where to POST to: https, and a public address, unless settings allow more.
            events: Patterns: `*`, `order.*`, `*.created`, `order.created`.
            filter: What its events must be beside: `{"data.total": {"$gt": 100}}`. By default anything.
            tenant: Whose events it gets, a text, an int or a UUID; for good. By default it belongs to no tenant. None
                is refused, lest a tenant that is missing were everybody.
            scope: Of an endpoint without a tenant: "all" (the default), everybody's events, or "shared", those that
                belong to no tenant.
            dialect: Which headers, body and signature it gets: "standard", "openfront", "github", "cloudevents",
                "cloudevents-binary", or one of `install(dialects=[...])`.
            payload: What it gets of a row: "full", all as it was at the commit; "thin", only its key and version;
                "latest", the row as it is when sent.
            batch: How many events one request may have, to 100; the body is an array then. 0: one, by itself.
            ordering: Whether the events of one row come in the order of its changes; if not, a delivery that fails
                holds back no other.
            rate_limit: Requests a second, at most; None for any number.
            headers: What its requests have beside our headers, such as `{"Authorization": "Bearer …"}`; their values
                are secrets, and shown to nobody.
            secret: `whsec_` and the base64 of 24 to 64 bytes, or whatever the dialect takes; made if not given.
            description: For people.
            session: Write in this session's transaction; its own changes
                count for the new endpoint at once.

        Returns:
            The endpoint with its `secret`, which can be read here and never again.

        Raises:
            InvalidURL, InvalidSubscription, InvalidFilter, InvalidHeaders: The message says what to write instead.
            EndpointError: Another argument cannot be; the message says which, and never repeats a secret.
            ConfigurationError: *session* is one of another database.
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
        """
        asked: Terms = {
            "url": url,
            "events": events,
            "filter": filter,
            "dialect": dialect,
            "payload": payload,
            "batch": batch,
            "ordering": ordering,
            "rate_limit": rate_limit,
            "description": description,
        }
        added = own_headers.check({} if headers is None else headers)
        new = self._enrolment.new(asked, reach=terms.reach(tenant=tenant, scope=scope), secret=secret, headers=added)
        return self._write(session, lambda connection: self._enrolment.add(connection, new, headers=added))

    @on_database
    def register(
        self,
        key: str,
        *,
        url: str,
        events: Several[str],
        filter: Mapping[str, Any] | None = None,
        tenant: TenantName | Unsaid = UNSAID,
        scope: Literal["all", "shared"] | None = None,
        dialect: str = "standard",
        payload: Payload = "full",
        batch: int = 0,
        ordering: bool = True,
        rate_limit: float | None = None,
        headers: Mapping[str, str] | None = None,
        secret: str | None = None,
        description: str = "",
        session: Session | None = None,
    ) -> Endpoint:
        """
        Say what the endpoint of that key is to be: added if there is none, changed if there is.

        For endpoints that stand in a configuration: called at every start, by
        every process, twice at once too, it leaves one endpoint, which is what
        was said last; what is not said is as `create()` has it. Whether it is
        enabled is left as it is. A tenant has keys of its own: the same key of
        another tenant is another endpoint.

        Args:
            key: What the application calls it: a text of 1 to 500 characters.
            scope: As for `create()`, as are all that are not named here; for good, as the tenant.
            secret: As for `create()`. If it is given, and not the endpoint's newest already, it becomes so, and the
                older ones are valid for a day beside it.

        Returns:
            The endpoint; with its `secret`, as a `NewEndpoint`, if it was added.

        Raises:
            EndpointError: As for `create()`; or there is an endpoint of that key with another scope.
            ConfigurationError, DatabaseBusy: As for `create()`.
        """
        asked: Terms = {
            "url": url,
            "events": events,
            "filter": filter,
            "dialect": dialect,
            "payload": payload,
            "batch": batch,
            "ordering": ordering,
            "rate_limit": rate_limit,
            "description": description,
        }
        added = own_headers.check({} if headers is None else headers)
        reach = terms.reach(tenant=tenant, scope=scope)
        new = self._enrolment.new(asked, reach=reach, secret=secret, headers=added, key=given.check_key(key))

        def step(connection: Connection) -> Endpoint:
            return self._enrolment.register(connection, new, secret=secret, headers=added)

        return self._write(session, step)

    @on_database
    def get(self, id: str) -> Endpoint:
        """
        One endpoint, without its secret.

        Raises:
            NotFound: There is none of that id, or it was deleted.
        """
        check_endpoint_id(id)
        with self._database.read() as connection:
            return found(stored.find(connection, id), id)

    @on_database
    def list(self, *, tenant: TenantName | Unsaid = UNSAID) -> list[Endpoint]:
        """
        Every endpoint, oldest first, without secrets.

        Args:
            tenant: Only those of this tenant.
        """
        only = given.tenant_said(tenant)
        with self._database.read() as connection:
            return [one for one in stored.find_all(connection) if only is None or one.tenant == only]

    @on_database
    def update(
        self,
        id: str,
        *,
        url: str | None = None,
        events: Several[str] | None = None,
        filter: Mapping[str, Any] | None = None,
        dialect: str | None = None,
        payload: Payload | None = None,
        batch: int | None = None,
        ordering: bool | None = None,
        rate_limit: float | Unlimited | None = None,
        headers: Mapping[str, str] | None = None,
        description: str | None = None,
        session: Session | None = None,
    ) -> Endpoint:
        """
        Change what is given and leave the rest. Whose events it gets is for good: delete it, and create another.

        How it is sent (URL, dialect, payload, batch, rate limit, and headers,
        which replace all that there are) counts for the next attempt of what
        waits already; events, filter and ordering count for changes from now
        on. `filter={}`, `headers={}`, `batch=0` and `rate_limit="unlimited"`
        end what there was.

        Raises:
            InvalidURL, InvalidSubscription, InvalidFilter, InvalidHeaders, EndpointError, NotFound: As for `create()`
                and `get()`; the dialect does not go with the batch, or with a secret that the endpoint has.
            ConfigurationError, DatabaseBusy: As for `create()`.
        """
        check_endpoint_id(id)
        asked: Terms = {
            "url": url,
            "events": events,
            "filter": filter,
            "dialect": dialect,
            "payload": payload,
            "batch": batch,
            "ordering": ordering,
            "rate_limit": rate_limit,
            "description": description,
        }
        values = self._enrolment.rules.checked(asked)
        added = None if headers is None else own_headers.check(headers)
        return self._write(session, lambda connection: self._enrolment.update(connection, id, values, headers=added))

    @on_database
    def test(self, id: str, *, type: str | None = None) -> Delivery:
        """
        Send an endpoint an example of an event, so that its receiver can be tried.

        The example of `webhooks.catalogue()`, in the endpoint's dialect, signed
        and retried as any event, past its filter, and not past `transform`,
        which may drop it. Its id begins with
        `evt_test_`, by which a receiver can tell that nothing has happened. It
        waits for nothing, and nothing for it. One short write transaction.

        Args:
            type: Such as `order.created`; by default the first in the catalogue to which the endpoint has subscribed.

        Returns:
            The delivery, which waits to be sent: `webhooks.deliveries.get(delivery.id)` tells what came of it.

        Raises:
            NotFound: There is no such endpoint, or no such event.
            InvalidSubscription: Nothing that the endpoint has subscribed to can occur in this process.
        """
        check_endpoint_id(id)
        check_texts(type=type)
        return self._send_example(id, type)

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
            self._enrolment.change(
                connection, id, enabled=False, disabled_at=self._clock.now(), disabled_because="asked"
            )
            return found(stored.find(connection, id), id)

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
            self._enrolment.change(
                connection, id, enabled=True, enabled_at=now, disabled_at=None, disabled_because=None
            )
            enabled = found(stored.find(connection, id), id)
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
        self._write(session, lambda connection: self._enrolment.delete(connection, id))

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
        seconds = given.check_overlap(overlap)
        return self._write(
            session, lambda connection: self._enrolment.rotate(connection, id, secret=secret, overlap=seconds)
        )

    @on_database
    def secrets(self, id: str) -> builtins.list[SecretState]:
        """
        Since when the endpoint has each of its secrets, and until when it is valid; newest first.

        Raises:
            NotFound: There is none of that id.
        """
        check_endpoint_id(id)
        with self._database.read() as connection:
            found(stored.find(connection, id), id)
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
        if not self._enrolment.custody.vault.seals:
            message = "there is no key to encrypt by: give install() encryption_keys, the newest first"
            raise ConfigurationError(message)
        return reseal(self._database, self._enrolment.custody.vault)

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
