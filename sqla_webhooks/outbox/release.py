"""What waits for its retry, to an endpoint that was enabled since it failed, waits no longer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lanes import Lane


def release(database: Database, waiting: Sequence[Lane], *, now: datetime) -> bool:
    """
    Make due what need not wait in these lanes; whether there may be some.

    A relay does it, and not who enables the endpoint: that may be in a long
    transaction of the application's. One write transaction for each such lane,
    in the relay's thread.
    """
    retried = [one for one in waiting if one.retry or one.batch]
    in_vain = [one for one in retried if one.open and one.enabled_since and one.due and one.due > now]
    for lane in in_vain:
        with database.write() as connection:
            queue.make_due(connection, lane.number, now=now)
    return bool(in_vain)
