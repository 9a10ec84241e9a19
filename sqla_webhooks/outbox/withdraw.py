"""
What waits for an endpoint that takes nothing any more is cancelled in the table, as it is shown to be already.

So that nothing lies in the lanes for ever, and what is cancelled grows old (see
`retention`). In the relay's thread, a page at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from sqla_webhooks import models
from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.outbox import pages, queue, reopen
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.lanes import Lane

_delivery = models.delivery


def withdraw(database: Database, lane: Lane, *, now: datetime) -> int:
    """
    Cancel some of what waits in the lane of an endpoint that was deleted or disabled; how many.

    What is being sent is not among them. If the endpoint was disabled, what
    waits behind them goes on, for it may be enabled before all are cancelled.
    """
    # One whose lease has ended is being sent no more, and nobody will claim it.
    unsent = and_(
        _delivery.c.lane == lane.number,
        or_(_delivery.c.lease_token.is_(None), _delivery.c.next_attempt_at <= now),
    )
    some = select(_delivery.c.id).where(unsent).order_by(_delivery.c.next_attempt_at, _delivery.c.id).limit(pages.SIZE)
    with database.read() as connection:
        numbers = list(connection.execute(some).scalars())
    if not numbers:
        return 0
    if lane.deleted:
        outlive(partial(_cancel, database, and_(_delivery.c.id.in_(numbers), unsent), now=now))
        return len(numbers)
    return reopen.steadily(database, partial(_drop, numbers=numbers, unsent=unsent, now=now))


def _cancel(database: Database, which: ColumnElement[bool], *, now: datetime) -> None:
    with database.write() as connection:
        queue.finish(connection, which, state=DeliveryState.CANCELLED, keys=(), now=now)


def _drop(connection: Connection, *, numbers: Sequence[int], unsent: ColumnElement[bool], now: datetime) -> int:
    rows = [row for row in reopen.found(connection, numbers) if not row.enabled]
    return reopen.take_out(connection, rows, still=unsent, now=now)
