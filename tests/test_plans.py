"""However much lies in the tables, what the relay looks for now and then is found by an index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, update
from support.clock import START
from support.databases import NAMES, database_named
from support.heard import heard

from sqla_webhooks import DeliveryState, Pruned, Retention, models
from sqla_webhooks.outbox import pages
from sqla_webhooks.outbox.database import Database as Door
from sqla_webhooks.outbox.destinations import destinations
from sqla_webhooks.outbox.lanes import lanes
from sqla_webhooks.outbox.recall import recall
from sqla_webhooks.outbox.retention import prune
from sqla_webhooks.outbox.withdraw import withdraw

pytestmark = pytest.mark.stress

COUNT = 100_000
#: Of these, so many are old, dead, or wait.
OLD, DEAD, WAITING = 700, 500, 1000
SECRETS = 20_000

Statement = tuple[str, Any]


@pytest.fixture(scope="module", params=NAMES)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """100,000 events, deliveries and attempts, a second apart; the last have not been sent yet."""
    with database_named(request.param, tmp_path_factory.mktemp("full")) as database, database.engine() as engine:
        models.metadata.create_all(engine)
        with engine.begin() as connection:
            _fill(connection)
        _analyse(engine)
        yield engine


def _fill(connection: Connection) -> None:
    endpoint = {
        "id": 1,
        "public_id": "ep_1",
        "url": "",
        "events": "[]",
        "scope": "all",
        "dialect": "standard",
        "payload": "full",
        "batch": 0,
        "enabled": False,
        "enabled_at": START,
        "ordering": True,
        "description": "",
        "created_at": START,
        "updated_at": START,
        "deleted_at": START,
    }
    connection.execute(insert(models.endpoint), [endpoint])
    for first in range(0, COUNT, 10_000):
        numbers = range(first, first + 10_000)
        connection.execute(insert(models.event), [_event(number) for number in numbers])
        connection.execute(insert(models.delivery), [_delivery(number) for number in numbers])
        connection.execute(insert(models.attempt), [_attempt(number) for number in numbers])
    connection.execute(insert(models.secret), [_secret(number) for number in range(SECRETS)])


def _secret(number: int) -> dict[str, Any]:
    """Of one endpoint each, most of which were never rotated."""
    expired = number - (SECRETS - OLD)
    expires_at = START + timedelta(seconds=expired) if expired >= 0 else None
    return {"endpoint_id": number + 1, "value": "", "created_at": START, "expires_at": expires_at}


def _event(number: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "public_id": f"evt_{number}",
        "type": "product.created",
        "resource": "product",
        "table_name": "product",
        "audience": "all",
        "resource_id": str(number),
        "operation": "create",
        "row_key": number,
        "occurred_at": START + timedelta(seconds=number),
        "payload": b"{}",
    }


def _delivery(number: int) -> dict[str, Any]:
    waits = number >= COUNT - WAITING
    state = DeliveryState.DEAD if number % (COUNT // DEAD) == 0 else DeliveryState.DELIVERED
    return {
        "id": number + 1,
        "event_id": number + 1,
        "endpoint_id": 1,
        "state": DeliveryState.PENDING if waits else state,
        "attempts": 1,
        "created_at": START + timedelta(seconds=number),
        "finished_at": None if waits else START + timedelta(seconds=number),
        "lane": 2 if waits else None,
        "next_attempt_at": START + timedelta(seconds=number) if waits else None,
        "ordering_key": number if waits else None,
    }


def _attempt(number: int) -> dict[str, Any]:
    return {
        "id": number + 1,
        "delivery_id": number + 1,
        "number": 1,
        "started_at": START + timedelta(seconds=number),
        "duration_ms": 1,
        "response": "",
        "detail": "",
    }


def _analyse(engine: Engine) -> None:
    tables = ", ".join(models.metadata.tables)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ANALYZE TABLE {tables}" if engine.dialect.name == "mysql" else "ANALYZE")


@contextmanager
def looks(engine: Engine) -> Iterator[list[Statement]]:
    """What is read meanwhile."""
    made: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "WITH")):
            made.append((statement, parameters))

    with heard(engine, "before_cursor_execute", note):
        yield made


def scans(engine: Engine, made: list[Statement]) -> list[str]:
    """The plans of statements that go through a whole table, or sort many rows."""
    found: list[str] = []
    with engine.connect() as connection:
        for statement, parameters in made:
            plan = _plan(connection, statement, parameters)
            if re.search(_SCAN[engine.dialect.name], plan):
                found.append(f"{statement}\n{plan}")
    return found


def _plan(connection: Connection, statement: str, parameters: Any) -> str:
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    rows = connection.exec_driver_sql(explain + statement, parameters)
    return "\n".join(" | ".join(f"{name}={value}" for name, value in row.items()) for row in rows.mappings())


_SCAN = {
    "sqlite": r"SCAN webhook_(event|delivery|secret)|TEMP B-TREE",  # attempts are looked at by their numbers, a few
    "postgresql": r"Seq Scan on webhook_(event|delivery|attempt|secret)",
    "mysql": r"table=webhook_(event|delivery|attempt|secret) .*type=ALL|filesort",
}


def test_what_is_old_is_found_by_indexes(full: Engine) -> None:
    now = START + timedelta(seconds=86_400 + OLD)
    kept = Retention(attempts=86_400, delivered=86_400, dead=86_400, events=86_400)
    removed = Pruned()
    with looks(full) as made:
        for batch in prune(Door(full), kept, now=now):
            removed += batch
    assert removed == Pruned(OLD, OLD, OLD, OLD)
    assert scans(full, made) == []


def test_what_waits_for_an_endpoint_that_is_gone_is_found_by_an_index(full: Engine) -> None:
    now = START + timedelta(seconds=2 * COUNT)
    door = Door(full)
    with door.read() as connection:
        [lane] = lanes(connection)
    with looks(full) as made:
        assert recall(door, [lane.number], later_than=now, now=now) == 0
        assert withdraw(door, lane, now=now) == pages.SIZE
    assert scans(full, made) == []


def test_what_is_claimed_finds_its_secrets_by_an_index(full: Engine) -> None:
    with full.begin() as connection:
        connection.execute(update(models.endpoint).values(enabled=True, deleted_at=None))
    with looks(full) as made, Door(full).read() as connection:
        found = destinations(connection, [1])
    assert [(one.endpoint, len(one.secrets)) for one in found.values()] == [(1, 1)]
    # The secrets of the few endpoints of a claim are sorted.
    assert [one for one in scans(full, made) if "filesort" not in one or "type=ALL" in one] == []
