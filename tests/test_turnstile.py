"""In which order the rows of endpoints' health are locked, by a claim and by results that are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, insert, select
from support.clock import START
from support.databases import Database
from support.interleaving import waits
from support.threads import aside, until

from sqla_webhooks import models
from sqla_webhooks.outbox.turnstile import Share, admit

_health = models.health

LIMITED, PAUSED = 2, 1


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """Two endpoints: the first is paused, and may be tried; the second has a rate limit."""
    with database.patient.engine() as engine:
        models.metadata.create_all(engine)
        known = {"failures": 2, "pauses": 1, "warned": 0, "paused_until": START}
        with engine.begin() as connection:
            connection.execute(insert(_health), [{"endpoint_id": one, **known} for one in (PAUSED, LIMITED)])
        yield engine


def lock(connection: Connection, endpoint: int) -> None:
    connection.execute(select(_health.c.endpoint_id).where(_health.c.endpoint_id == endpoint).with_for_update())


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_claim_locks_all_of_them_in_one_order(engine: Engine) -> None:
    """As does who has locked the first, and comes to the second."""
    shares = [Share(LIMITED, retry=False, limit=1, rate_limit=1.0), Share(PAUSED, retry=True, limit=1, probe=True)]

    def claim() -> int:
        with engine.begin() as connection:
            return len(admit(connection, shares, now=START, until=START + timedelta(seconds=60)).shares)

    with engine.begin() as connection:
        lock(connection, PAUSED)
        thread, came = aside(claim)
        until(lambda: waits(engine))
        lock(connection, LIMITED)
    thread.join()
    assert came == [2]
