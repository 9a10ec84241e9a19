"""Leases that were given by a clock that ran ahead, and was set back since: nobody else would ever take them over."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import select, update

from sqla_webhooks import models
from sqla_webhooks.outbox import pages
from sqla_webhooks.outbox.database import Database, chunks

_delivery = models.delivery


def recall(database: Database, lanes: Collection[int], *, later_than: datetime, now: datetime) -> int:
    """
    Let what is leased for longer than that be due now; some of it, and how many.

    In the relay's thread. A result that comes after all is not recorded, if it
    has been claimed by then.

    Args:
        lanes: Where to look.
        later_than: No lease that is given now ends so late.
    """
    too_late = (_delivery.c.next_attempt_at > later_than, _delivery.c.lease_token.is_not(None))
    found: list[int] = []
    with database.read() as connection:
        for some in chunks(sorted(lanes)):
            query = select(_delivery.c.id).where(_delivery.c.lane.in_(some), *too_late).limit(pages.SIZE)
            found += connection.execute(query).scalars()
    for some in chunks(found):
        with database.write() as connection:
            connection.execute(update(_delivery).where(_delivery.c.id.in_(some), *too_late).values(next_attempt_at=now))
    return len(found)
