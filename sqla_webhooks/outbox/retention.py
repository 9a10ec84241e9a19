"""
What is finished is removed once it is old enough: attempts, deliveries with their attempts, events without deliveries.

And secrets that have expired, whatever is to be kept.

Nothing that waits is touched, nor an event of which a delivery waits. What is
old is found by an index, in its order, and removed in short transactions that
wait for nobody: what another has locked is left for the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, Select, delete, or_, select

from sqla_webhooks import models
from sqla_webhooks.config import Retention, Settings
from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.write import take_write_lock
from sqla_webhooks.progress import Pruned

_event, _delivery, _attempt, _secret = models.event, models.delivery, models.attempt, models.secret

#: Rows that are looked at, and removed in one transaction.
SIZE = 500

#: Seconds for which an expired secret is left, lest a clock that runs ahead removes one that others still sign with.
LINGERS = 86400.0


def prune(database: Database, kept: Retention, *, now: datetime) -> Iterator[Pruned]:
    """
    Remove what is older than it is to be kept; a batch each time that the next value is asked for.

    In the caller's thread, in which no transaction is open between two values.

    Yields:
        What was removed; that may be nothing, of a batch of events that are still needed.
    """
    if kept.attempts is not None:
        yield from _attempts(database, _before(kept.attempts, now))
    for seconds, *states in (
        (kept.delivered, DeliveryState.DELIVERED, DeliveryState.CANCELLED),
        (kept.dead, DeliveryState.DEAD),
    ):
        for state in states:
            if seconds is not None:
                yield from _deliveries(database, state, _before(seconds, now), now=now)
    if kept.events is not None:
        yield from _events(database, _before(kept.events, now))
    yield from _secrets(database, _before(LINGERS, now))


def prune_all(database: Database, settings: Settings, *, progress: Callable[[Pruned], object] | None) -> Pruned:
    """All of it, and what was removed; *progress* is told after each batch, outside of transactions."""
    so_far = Pruned()
    for batch in prune(database, settings.kept, now=settings.clock.now()):
        so_far += batch
        if progress is not None:
            progress(so_far)
    return so_far


def _before(seconds: float, now: datetime) -> datetime:
    return now - timedelta(seconds=seconds)


def _attempts(database: Database, before: datetime) -> Iterator[Pruned]:
    """By their numbers, in which they are about as old as they say."""
    oldest = select(_attempt.c.id, _attempt.c.started_at).order_by(_attempt.c.id).limit(SIZE)
    while True:
        with database.read() as connection:
            old = [row.id for row in connection.execute(oldest) if row.started_at < before]
        if old:
            yield Pruned(attempts=outlive(partial(_remove_attempts, database, old)))
        if len(old) < SIZE:
            return


def _remove_attempts(database: Database, numbers: Collection[int]) -> int:
    with database.write() as connection:
        return connection.execute(delete(_attempt).where(_attempt.c.id.in_(numbers))).rowcount


def _deliveries(database: Database, state: DeliveryState, before: datetime, *, now: datetime) -> Iterator[Pruned]:
    columns = (_delivery.c.id, _delivery.c.finished_at, _delivery.c.ordering_key, _delivery.c.former_key)
    old = select(*columns).where(_delivery.c.state == state, _delivery.c.finished_at < before)
    for page in _pages(database, old, at=_delivery.c.finished_at, number=_delivery.c.id):
        try:
            removed = outlive(partial(_remove_deliveries, database, page, now=now))
        except queue.Moved:
            continue  # until the next time
        yield removed


def _remove_deliveries(database: Database, page: Sequence[Any], *, now: datetime) -> Pruned:
    """But for those that wait again."""
    # Of dead letters that hold their rows, which go on without them.
    keys = {key for row in page for key in (row.ordering_key, row.former_key) if key is not None}
    as_before = {(row.id, row.finished_at) for row in page}
    with database.write() as connection:
        take_write_lock(connection)
        queue.lock_heads(connection, keys)
        found = _lock(connection, _delivery.c.id, [row.id for row in page], _delivery.c.finished_at)
        mine = [row.id for row in found if (row.id, row.finished_at) in as_before]
        attempts = connection.execute(delete(_attempt).where(_attempt.c.delivery_id.in_(mine))).rowcount
        connection.execute(delete(_delivery).where(_delivery.c.id.in_(mine)))
        queue.advance(connection, keys, now=now)
    return Pruned(attempts=attempts, deliveries=len(mine))


def _events(database: Database, before: datetime) -> Iterator[Pruned]:
    used = select(_delivery.c.id).where(_delivery.c.event_id == _event.c.id).exists()
    query = select(_event.c.id, _event.c.occurred_at, used.label("used")).where(_event.c.occurred_at < before)
    for page in _pages(database, query, at=_event.c.occurred_at, number=_event.c.id):
        unused = [row.id for row in page if not row.used]
        yield Pruned(events=outlive(partial(_remove_events, database, unused)) if unused else 0)


def _remove_events(database: Database, numbers: Collection[int]) -> int:
    """But for those of which there is a delivery again; none can come while they are locked."""
    with database.write() as connection:
        take_write_lock(connection)
        mine = [row.id for row in _lock(connection, _event.c.id, numbers)]
        used = connection.execute(select(_delivery.c.event_id).where(_delivery.c.event_id.in_(mine))).scalars()
        unused = set(mine).difference(used)
        connection.execute(delete(_event).where(_event.c.id.in_(unused)))
    return len(unused)


def _secrets(database: Database, before: datetime) -> Iterator[Pruned]:
    expired = select(_secret.c.id, _secret.c.expires_at).where(_secret.c.expires_at < before)
    for page in _pages(database, expired, at=_secret.c.expires_at, number=_secret.c.id):
        yield Pruned(secrets=outlive(partial(_remove_secrets, database, [row.id for row in page])))


def _remove_secrets(database: Database, numbers: Collection[int]) -> int:
    """None is wanted again, once it has expired."""
    with database.write() as connection:
        take_write_lock(connection)
        mine = [row.id for row in _lock(connection, _secret.c.id, numbers)]
        return connection.execute(delete(_secret).where(_secret.c.id.in_(mine))).rowcount


def _lock(connection: Connection, number: Column[Any], numbers: Collection[int], *more: Column[Any]) -> Sequence[Any]:
    """
    The rows of these numbers, but for what another has locked.

    By nothing but their numbers: MariaDB locks all that it looks at.
    """
    rows = select(number, *more).where(number.in_(numbers)).order_by(number)
    return connection.execute(rows.with_for_update(skip_locked=True)).all()


def _pages(database: Database, query: Select[Any], *, at: Column[Any], number: Column[Any]) -> Iterator[Sequence[Any]]:
    """What *query* finds, in the order of an index on *at*; each row once, whatever becomes of it."""
    some = query.order_by(at, number).limit(SIZE)
    rest = some
    while True:
        with database.read() as connection:
            page = connection.execute(rest).all()
        if page:
            yield page
        if len(page) < SIZE:
            return
        last_at, last = getattr(page[-1], at.name), page[-1].id
        rest = some.where(at >= last_at, or_(at > last_at, number > last))
