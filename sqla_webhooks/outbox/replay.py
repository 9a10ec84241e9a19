"""
Events that are kept are given to an endpoint again, or for the first time.

In the caller's thread, a page of events at most in one short write transaction
(see `reopen.steadily`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from sqla_webhooks import encoding, models, operational
from sqla_webhooks.audience import Audience, Reach, Scope
from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.errors import NotFound
from sqla_webhooks.outbox import endpoints, queue, reopen
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.pages import Pages
from sqla_webhooks.outbox.publish import stored_filter
from sqla_webhooks.subscriptions import Patterns

_delivery, _event, _endpoint = models.delivery, models.event, models.endpoint

_ENDPOINT = select(
    _endpoint.c.id,
    _endpoint.c.public_id,
    _endpoint.c.events,
    _endpoint.c.filter,
    _endpoint.c.scope,
    _endpoint.c.tenant,
    _endpoint.c.ordering,
)
#: Events with whom they may reach.
_AIMED = select(_event.c.id, _event.c.audience, _event.c.tenant)

_FINISHED = frozenset(DeliveryState) - {DeliveryState.PENDING, DeliveryState.HELD}


def replay(database: Database, event_id: str, *, endpoint_id: str, now: datetime) -> int:
    """
    Give one event to an endpoint, unless it waits for it already; the number of its delivery.

    Raises:
        NotFound: There is no such event, or none that the endpoint may get, or no such endpoint.
    """
    return reopen.steadily(database, lambda connection: _replay(connection, event_id, endpoint_id=endpoint_id, now=now))


def replayable(
    database: Database,
    endpoint_id: str,
    *,
    type: str | None,
    since: datetime | None,
    until: datetime | None,
    again: datetime | None,
) -> Pages:
    """
    The events that `replay_all` can be about. Those that the endpoint may not get, and those that its filter keeps out,
    are left out page by page.

    Args:
        type: Only those of this type; by default those to which the endpoint has subscribed.
        since, until: When they happened: at or after the one, before the other.
        again: Also those that were delivered by then.

    Raises:
        NotFound: There is no such endpoint.
    """
    with database.read() as connection:
        endpoint = _find_endpoint(connection, endpoint_id)
        types = [type] if type is not None else _subscribed_types(connection, endpoint)
    query = _events_of(endpoint, again).where(_event.c.type.in_(types), *_about(_reach(endpoint)))
    if since is not None:
        query = query.where(_event.c.occurred_at >= since)
    if until is not None:
        query = query.where(_event.c.occurred_at < until)
    return Pages.of(database, _event.c.id, query)


def replay_page(
    database: Database, numbers: Sequence[int], *, endpoint_id: str, again: datetime | None, now: datetime
) -> None:
    """
    Give these events to an endpoint, but for those that it may not or does not want to get, or was given meanwhile.

    Raises:
        NotFound: The endpoint is not there, or no longer.
    """
    reopen.steadily(
        database, lambda connection: _give(connection, numbers, endpoint_id=endpoint_id, again=again, now=now)
    )


def _events_of(endpoint: Any, again: datetime | None) -> Select[Any]:
    """The events that an endpoint was not given, has not taken, or took so long ago; none that was another's alone."""
    of_it = and_(_delivery.c.event_id == _event.c.id, _delivery.c.endpoint_id == endpoint.id)
    for_it = or_(_event.c.only_for.is_(None), _event.c.only_for == endpoint.public_id)
    may: list[ColumnElement[bool]] = [_delivery.c.id.is_(None), _delivery.c.state.in_(reopen.NOT_TAKEN)]
    if again is not None:
        may.append(and_(_delivery.c.state == DeliveryState.DELIVERED, _delivery.c.finished_at <= again))
    return select(_event.c.id).select_from(_event.outerjoin(_delivery, of_it)).where(for_it, or_(*may))


def _subscribed_types(connection: Connection, endpoint: Any) -> list[str]:
    patterns = Patterns.of(encoding.loads(endpoint.events))
    return [one for one in connection.execute(select(_event.c.type).distinct()).scalars() if patterns.match(one)]


def _replay(connection: Connection, event_id: str, *, endpoint_id: str, now: datetime) -> int:
    endpoint = _find_endpoint(connection, endpoint_id)
    found = _covered(connection, _AIMED.where(_event.c.public_id == event_id), endpoint)
    if not found:
        message = (
            f"no event that may reach {endpoint_id} has the id {event_id!r}: webhooks.events.list() shows the newest, "
            "and whose they are"
        )
        raise NotFound(message)
    _give_to(connection, endpoint, found, now=now)
    number: int | None = connection.execute(_numbers(found, endpoint.id)).scalar()
    if number is None:
        raise queue.Moved  # the event has just been removed, for its age
    return number


def _give(
    connection: Connection, numbers: Sequence[int], *, endpoint_id: str, again: datetime | None, now: datetime
) -> None:
    endpoint = _find_endpoint(connection, endpoint_id)
    still = connection.execute(_events_of(endpoint, again).where(_event.c.id.in_(numbers))).scalars().all()
    covered = _covered(connection, _AIMED.where(_event.c.id.in_(still)), endpoint)
    _give_to(connection, endpoint, _passing(connection, covered, endpoint), now=now)


def _reach(endpoint: Any) -> Reach:
    return Reach(Scope(endpoint.scope), endpoint.tenant)


def _about(reach: Reach) -> list[ColumnElement[bool]]:
    """What no event lacks that an endpoint may get; to a database others may seem to have it."""
    audiences = [one for one in Audience if reach.covers(one, reach.tenant)]
    return [_event.c.audience.in_(audiences), *([] if reach.tenant is None else [_event.c.tenant == reach.tenant])]


def _covered(connection: Connection, aimed: Select[Any], endpoint: Any) -> list[int]:
    """Those of these events that the endpoint may get, compared as the fan-out does."""
    reach = _reach(endpoint)
    return [row.id for row in connection.execute(aimed) if reach.covers(Audience(row.audience), row.tenant)]


def _passing(connection: Connection, events: Sequence[int], endpoint: Any) -> Sequence[int]:
    """Those that the endpoint's filter lets through; what is not whole any more, it cannot be held against."""
    if (held_against := stored_filter(endpoint.filter, endpoint.public_id)) is None:
        return events
    passing: list[int] = []
    for row in connection.execute(select(_event.c.id, _event.c.type, _event.c.payload).where(_event.c.id.in_(events))):
        body = encoding.loads(row.payload)
        if row.type in operational.TYPES or body.get("truncated") or held_against.match(body):
            passing.append(row.id)
    return passing


def _find_endpoint(connection: Connection, public_id: str) -> Any:
    there = (_endpoint.c.public_id == public_id, _endpoint.c.deleted_at.is_(None))
    for row in connection.execute(_ENDPOINT.where(*there)):
        return row
    raise endpoints.not_found(public_id)


def _give_to(connection: Connection, endpoint: Any, events: Sequence[int], *, now: datetime) -> None:
    """A delivery for each event that has none; one that is finished waits again, in its old place."""
    rows = reopen.found(connection, connection.execute(_numbers(events, endpoint.id)).scalars().all())
    reopen.put_back(connection, rows, states=_FINISHED, now=now)
    given = {row.event_id for row in rows}
    fresh = (
        select(_event.c.id, _event.c.row_key, _event.c.former_key)
        .where(_event.c.id.in_([one for one in events if one not in given]))
        .order_by(_event.c.id)
        .with_for_update(read=True)  # or they may be removed, for their age
    )
    deliveries = [
        queue.delivery_row(
            endpoint.id, row.id, row=row.row_key, former_row=row.former_key, ordered=endpoint.ordering, now=now
        )
        for row in connection.execute(fresh)
    ]
    queue.enqueue(connection, deliveries, now=now)


def _numbers(events: Collection[int], endpoint: int) -> Select[Any]:
    return select(_delivery.c.id).where(_delivery.c.event_id.in_(sorted(events)), _delivery.c.endpoint_id == endpoint)
