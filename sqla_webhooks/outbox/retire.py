"""An endpoint is disabled since it is gone, or did nothing but fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, select, update

from sqla_webhooks import models, operational
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.events import Event
from sqla_webhooks.outbox import endpoints, subscribed
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.publish import Message, Publication
from sqla_webhooks.outbox.write import take_write_lock

_endpoint, _health = models.endpoint, models.health

GONE = "gone"
FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Retirement:
    """
    Why an endpoint is to be disabled.

    Attributes:
        url: That which was gone; the endpoint may have another by now.
        disable_after: For how many seconds it must have done nothing but fail, if it is not gone.
    """

    endpoint: int
    because: str
    url: str = ""
    disable_after: float = 0.0


class Busy(Exception):
    """Somebody is writing endpoints, in a transaction that may be long: to be tried again."""


def retire(
    database: Database,
    retirement: Retirement,
    *,
    publication: Publication,
    render: Callable[[Event], bytes],
    now: datetime,
) -> Endpoint | None:
    """
    Disable an endpoint, by one statement that asks again whether it must be; then it is told, once.

    One write transaction, in the relay's thread, which waits for nobody.

    Returns:
        The endpoint; None if it was disabled already, or deleted, or need not be any more.

    Raises:
        Busy: Nothing was done.
    """
    try:
        with database.write() as connection:
            return _disable(connection, retirement, publication=publication, render=render, now=now)
    except Busy:
        raise
    except BaseException:  # of whatever kind: the revision that was seen is rolled back, and will be another's
        publication.forget()
        raise


def _disable(
    connection: Connection,
    retirement: Retirement,
    *,
    publication: Publication,
    render: Callable[[Event], bytes],
    now: datetime,
) -> Endpoint | None:
    take_write_lock(connection)
    _lock(connection, retirement.endpoint)
    written = update(_endpoint).where(*_must_be(retirement, now=now))
    if not connection.execute(
        written.values(enabled=False, disabled_at=now, disabled_because=retirement.because, updated_at=now)
    ).rowcount:
        return None
    subscribed.count_write(connection)
    endpoint = endpoints.find_number(connection, retirement.endpoint)
    if endpoint is None:
        return None
    publication.refresh(connection)
    if publication.is_wanted(operational.DISABLED):
        event = operational.disabled(endpoint, now=now)
        publication.insert(connection, [Message(event, render(event))], now=now)
    return endpoint


def _lock(connection: Connection, endpoint: int) -> None:
    """In the order in which `endpoints` does."""
    wanted = (
        select(models.revision.c.number).where(models.revision.c.name == subscribed.NAME),
        select(_endpoint.c.id).where(_endpoint.c.id == endpoint),
    )
    for query in wanted:
        if connection.execute(query.with_for_update(skip_locked=True)).first() is None:
            raise Busy


def _must_be(retirement: Retirement, *, now: datetime) -> list[ColumnElement[bool]]:
    there = [_endpoint.c.id == retirement.endpoint, _endpoint.c.enabled.is_(True), _endpoint.c.deleted_at.is_(None)]
    if retirement.because == GONE:
        return [*there, _endpoint.c.url == retirement.url]
    failing = select(_health.c.endpoint_id).where(
        _health.c.endpoint_id == _endpoint.c.id,
        _health.c.failing_since <= now - timedelta(seconds=retirement.disable_after),
        _health.c.failing_since >= _endpoint.c.enabled_at,
    )
    return [*there, failing.exists()]
