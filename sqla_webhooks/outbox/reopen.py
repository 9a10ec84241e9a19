"""
Deliveries by hand: one that is finished waits again, one that waits is sent no more.

Each call is one short write transaction about a page of deliveries at most, in
the caller's thread. No fan-out and no other such call is in one meanwhile, so
nothing else comes into a queue; and the heads of the queues are locked first,
so nothing leaves one (see `queue`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, select, update

from sqla_webhooks import models
from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.errors import NotFound, WrongState
from sqla_webhooks.models import lane_of
from sqla_webhooks.outbox import lead, queue
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.health import hasten
from sqla_webhooks.outbox.pages import Pages
from sqla_webhooks.outbox.sought import JOINED, Sought

T = TypeVar("T")

_delivery, _event, _endpoint = models.delivery, models.event, models.endpoint

#: What can be retried: it is finished, and was not taken.
NOT_TAKEN = frozenset({DeliveryState.DEAD, DeliveryState.CANCELLED})

_FOUND = (
    select(
        _delivery.c.id,
        _delivery.c.event_id,
        _delivery.c.state,
        _delivery.c.endpoint_id,
        _delivery.c.ordering_key,
        _delivery.c.former_key,
        _event.c.row_key,
        _event.c.former_key.label("former_row_key"),
        _endpoint.c.public_id,
        _endpoint.c.ordering,
        _endpoint.c.enabled,
        _endpoint.c.deleted_at,
    )
    .select_from(JOINED)
    .order_by(_delivery.c.id)
)


def retriable(database: Database, sought: Sought) -> Pages:
    """Those of the deliveries sought that `retry_all` can be about."""
    query = select(_delivery.c.id).select_from(JOINED).where(*sought.conditions(), _endpoint.c.deleted_at.is_(None))
    return Pages.of(database, _delivery.c.id, query)


def cancellable(database: Database, sought: Sought) -> Pages:
    """Those of the deliveries sought that `cancel_all` can be about."""
    query = select(_delivery.c.id).select_from(JOINED).where(*sought.conditions())
    return Pages.of(database, _delivery.c.id, query)


def retry(database: Database, number: int, *, now: datetime) -> None:
    """
    Let one delivery wait again that was given up or cancelled; one that waits for a retry is due now.

    Raises:
        NotFound: There is no such delivery.
        WrongState: It was delivered, or its endpoint was deleted.
    """
    steadily(database, lambda connection: _retry(connection, number, now=now))


def retry_page(database: Database, numbers: Collection[int], *, now: datetime) -> None:
    """Let these wait again, of which those that are dead letters no longer are left alone."""
    steadily(
        database,
        lambda connection: put_back(connection, found(connection, numbers), states={DeliveryState.DEAD}, now=now),
    )


def cancel(database: Database, number: int, *, now: datetime) -> None:
    """
    Take one delivery out of its queues, unless it was cancelled already; a result that comes late is not recorded.

    Raises:
        NotFound: There is no such delivery.
        WrongState: It was delivered.
    """
    steadily(database, lambda connection: _cancel(connection, number, now=now))


def cancel_page(database: Database, numbers: Collection[int], *, dead: bool, now: datetime) -> None:
    """Take these out of their queues, if they are still *dead*, or still wait."""
    still = _delivery.c.state == (DeliveryState.DEAD if dead else DeliveryState.PENDING)
    steadily(database, lambda connection: take_out(connection, found(connection, numbers), still=still, now=now))


def steadily(database: Database, step: Callable[[Connection], T]) -> T:
    """*step* in a write transaction during which nothing else comes into a queue; anew, if a queue has moved."""

    def transaction() -> T:
        with database.write() as connection:
            lead.lock(connection)
            return step(connection)

    while True:
        with suppress(queue.Moved):
            return outlive(transaction)


def found(connection: Connection, numbers: Collection[int]) -> Sequence[Any]:
    """What there is of these deliveries, with what is said of them by their events and endpoints."""
    return connection.execute(_FOUND.where(_delivery.c.id.in_(sorted(numbers)))).all()


def put_back(connection: Connection, rows: Sequence[Any], *, states: Collection[DeliveryState], now: datetime) -> None:
    """
    Let finished deliveries wait again, each in its place, their attempts counted anew; pauses of endpoints end.

    In `steadily`. Left alone are those in none of *states*.
    """
    again = [
        {
            "id": row.id,
            "lane": lane_of(row.endpoint_id, retry=False),
            **_places(row),
        }
        for row in rows
        if row.state in states
    ]
    if again:
        queue.put_back(connection, again, now=now)
    hasten(connection, {row.endpoint_id for row in rows}, now=now)


def _places(row: Any) -> dict[str, int | None]:
    """What has never left its queues, and holds them, keeps its places, whatever order is wanted by now."""
    if row.ordering_key is not None:
        return {"ordering_key": row.ordering_key, "former_key": row.former_key}
    return queue.places(row.endpoint_id, row.row_key, row.former_row_key, ordered=row.ordering)


def take_out(connection: Connection, rows: Sequence[Any], *, still: ColumnElement[bool], now: datetime) -> int:
    """
    Cancel deliveries, and let go on what waits behind them; how many there were.

    In `steadily`.

    Args:
        still: What must be true of them; asked of their rows once these are locked, for a relay may claim or record
            them at this very moment.
    """
    keys = {key for row in rows for key in (row.ordering_key, row.former_key) if key is not None}
    queue.lock_heads(connection, keys)
    # By nothing but their numbers: MariaDB locks all that it looks at.
    locked = select(_delivery.c.id, still.label("still")).where(_delivery.c.id.in_([row.id for row in rows]))
    found = connection.execute(locked.order_by(_delivery.c.id).with_for_update())
    numbers = [row.id for row in found if row.still]
    if numbers:
        which = _delivery.c.id.in_(numbers)
        queue.finish(connection, which, state=DeliveryState.CANCELLED, keys=keys, now=now)
    return len(numbers)


def _retry(connection: Connection, number: int, *, now: datetime) -> None:
    row = _one(connection, number)
    if row.deleted_at is not None:
        message = f"delivery {number} cannot be retried: its endpoint {row.public_id!r} was deleted"
        raise WrongState(message)
    if row.state == DeliveryState.DELIVERED:
        message = (
            f"delivery {number} cannot be retried: it was delivered; "
            f"webhooks.events.replay(delivery.event_id, endpoint={row.public_id!r}) sends it again"
        )
        raise WrongState(message)
    if row.state == DeliveryState.PENDING:
        waits = (_delivery.c.id == number, _delivery.c.next_attempt_at > now, _delivery.c.lease_token.is_(None))
        connection.execute(update(_delivery).where(*waits).values(next_attempt_at=now))
    put_back(connection, [row], states=NOT_TAKEN, now=now)


def _cancel(connection: Connection, number: int, *, now: datetime) -> None:
    row = _one(connection, number)
    if row.state == DeliveryState.DELIVERED:
        message = f"delivery {number} cannot be cancelled: it was delivered"
        raise WrongState(message)
    still = _delivery.c.state == row.state
    if row.state != DeliveryState.CANCELLED and not take_out(connection, [row], still=still, now=now):
        raise queue.Moved  # a relay has just recorded it


def _one(connection: Connection, number: int) -> Any:
    for row in found(connection, [number]):
        return row
    message = f"no delivery has the number {number!r}; webhooks.deliveries.list() shows the newest"
    raise NotFound(message)
