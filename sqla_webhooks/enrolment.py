"""Endpoints as they are written, each step in a transaction that is the caller's or its own; see `endpoints`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from sqla_webhooks._clock import Clock
from sqla_webhooks.custody import Custody
from sqla_webhooks.destination import Endpoint, NewEndpoint
from sqla_webhooks.errors import EndpointError
from sqla_webhooks.ids import endpoint_id
from sqla_webhooks.outbox import endpoints as stored
from sqla_webhooks.outbox import secrets, subscribed
from sqla_webhooks.terms import OVERLAP, Rules, Terms


class Enrolment:
    """Writes the endpoints of one installation. In the caller's thread."""

    def __init__(self, rules: Rules, custody: Custody, *, clock: Clock) -> None:
        self.rules = rules
        self.custody = custody
        self._clock = clock

    def new(
        self,
        asked: Terms,
        *,
        reach: dict[str, Any],
        secret: str | None,
        headers: Mapping[str, str],
        key: str | None = None,
    ) -> NewEndpoint:
        """An endpoint as it is asked for, which stands nowhere yet."""
        now, values = self._clock.now(), self.rules.checked(asked, whole=True)
        self.rules.check_together(dialect=values["dialect"], batch=values["batch"])
        new = NewEndpoint(
            id=endpoint_id(),
            enabled=True,
            created_at=now,
            updated_at=now,
            key=key,
            header_names=tuple(headers),
            secret=self.custody.secret(secret, dialect=values["dialect"]),
            **values,
            **reach,
        )
        self.rules.tell_unmet(new)
        return new

    def add(self, connection: Connection, new: NewEndpoint, *, headers: Mapping[str, str]) -> NewEndpoint:
        self.custody.check_vault(connection)
        sealed = self.custody.vault.seal(new.secret)
        stored.add(connection, new, secret=sealed, headers=self.custody.sealed(headers))
        return new

    def register(
        self, connection: Connection, new: NewEndpoint, *, secret: str | None, headers: Mapping[str, str]
    ) -> Endpoint:
        """Add *new*, or make the endpoint of its key what it is."""
        subscribed.count_write(connection)  # so that nobody else registers meanwhile
        there = None if new.key is None else stored.id_by_key(connection, new.key, new.tenant)
        if there is None:
            return self.add(connection, new, headers=headers)
        return self._declare(connection, there, new, secret=secret, headers=headers)

    def _declare(
        self, connection: Connection, id: str, new: NewEndpoint, *, secret: str | None, headers: Mapping[str, str]
    ) -> Endpoint:
        """Make of a registered endpoint what *new* is."""
        values = {name: getattr(new, name) for name in (*Terms.__annotations__, "header_names")}
        self.change(connection, id, **values, headers=self.custody.sealed(headers))
        now = self._clock.now()
        if secret is not None or headers:
            self.custody.check_vault(connection)
        if secret is not None and not self.custody.is_newest(connection, id, secret, now=now):
            self.custody.rotate(connection, id, secret, now=now, until=now + timedelta(seconds=OVERLAP))
        written = self._written(connection, id, secret_may_not_do=True)
        if written.scope is not new.scope:
            message = f"the endpoint of the key {new.key!r} has the scope {written.scope.value!r}, which is for good"
            raise EndpointError(message)
        return written

    def update(
        self, connection: Connection, id: str, values: dict[str, Any], *, headers: Mapping[str, str] | None
    ) -> Endpoint:
        if headers is not None:
            values |= {"headers": self.custody.sealed(headers), "header_names": tuple(headers)}
        if headers:
            self.custody.check_vault(connection)
        self.change(connection, id, **values)
        endpoint = self._written(connection, id, secret_may_not_do="dialect" in values)
        if "events" in values or "filter" in values:
            self.rules.tell_unmet(endpoint)
        return endpoint

    def _written(self, connection: Connection, id: str, *, secret_may_not_do: bool) -> Endpoint:
        """The endpoint as it is now, if it may be so; in the transaction that has written it."""
        endpoint = found(stored.find(connection, id), id)
        self.rules.check_together(dialect=endpoint.dialect, batch=endpoint.batch)
        if secret_may_not_do:
            self.custody.check_dialect(connection, id, dialect=endpoint.dialect, now=self._clock.now())
        return endpoint

    def rotate(self, connection: Connection, id: str, *, secret: str | None, overlap: float) -> NewEndpoint:
        now = self._clock.now()
        self.custody.check_vault(connection)
        self.change(connection, id)
        endpoint = found(stored.find(connection, id), id)
        new = self.custody.secret(secret, dialect=endpoint.dialect)
        self.custody.rotate(connection, id, new, now=now, until=now + timedelta(seconds=overlap))
        return NewEndpoint(**{one.name: getattr(endpoint, one.name) for one in fields(Endpoint)}, secret=new)

    def delete(self, connection: Connection, public_id: str) -> None:
        now = self._clock.now()
        self.change(
            connection, public_id, enabled=False, deleted_at=now, headers=None, header_names=(), key_digest=None
        )
        secrets.forget(connection, stored.number_of(connection, public_id))

    def change(self, connection: Connection, public_id: str, **values: Any) -> None:
        if not stored.change(connection, public_id, now=self._clock.now(), **values):
            raise stored.not_found(public_id)


def found(endpoint: Endpoint | None, public_id: str) -> Endpoint:
    """
    The endpoint, if there is one.

    Raises:
        NotFound: There is none.
    """
    if endpoint is None:
        raise stored.not_found(public_id)
    return endpoint
