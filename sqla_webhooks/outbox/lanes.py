"""
For whom there is something to send: one look at the lanes, however much waits in them.

Each endpoint has two lanes, of first attempts and of retries; what has gone in
a batch, and goes in another, stays in the first. What the look costs depends on
how many lanes there are in which anything waits, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CTE, Connection, Select, Subquery, func, select

from sqla_webhooks import models
from sqla_webhooks.breaker import as_of
from sqla_webhooks.destination import Health

_endpoint, _health = models.endpoint, models.health
_lane, _due = models.delivery.c.lane, models.delivery.c.next_attempt_at

HEALTH = (
    _health.c.failures,
    _health.c.failing_since,
    _health.c.last_failure_at,
    _health.c.last_success_at,
    _health.c.pauses,
    _health.c.paused_at,
    _health.c.paused_until,
    _health.c.warned,
)


@dataclass(frozen=True, slots=True)
class Lane:
    """
    A lane in which something waits.

    Attributes:
        number: See `models.lane_of`.
        due: When the first delivery of it may be taken; None if all wait behind others.
        open: Whether its endpoint is enabled, and there.
        deleted: Whether its endpoint is there no more.
        batch: How many deliveries one request may have, in a lane of first attempts; 0 for each by itself.
        dialect: That of its endpoint, which a relay may not know.
        enabled_since: Whether its endpoint was enabled after the last failure: what still waits for its retry need not.
    """

    number: int
    endpoint: int
    retry: bool
    due: datetime | None
    open: bool
    deleted: bool
    enabled_since: bool
    rate_limit: float | None
    rate_at: datetime | None
    health: Health
    batch: int = 0
    dialect: str = "standard"


def lanes(connection: Connection) -> list[Lane]:
    """Every lane in which something waits. A read, in one statement."""
    query = _GROUPED if connection.dialect.name in ("mysql", "mariadb") else _STEPPED
    return [_read(row) for row in connection.execute(query)]


def _by_steps() -> Subquery:
    """Each lane from the one before it: a step is one look into the index. SQLite and PostgreSQL."""
    steps: CTE = select(func.min(_lane).label("lane")).where(_lane.is_not(None)).cte("steps", recursive=True)
    beyond = select(func.min(_lane)).where(_lane > steps.c.lane).scalar_subquery()
    steps = steps.union_all(select(beyond).where(steps.c.lane.is_not(None)))
    due = (
        select(func.min(_due, type_=_due.type))
        .where(_lane == steps.c.lane, _due.is_not(None))
        .correlate(steps)
        .scalar_subquery()
    )
    return select(steps.c.lane, due.label("due")).where(steps.c.lane.is_not(None)).subquery("waiting")


def _by_group() -> Subquery:
    """MySQL and MariaDB step through an index by themselves to group by its first column, and not otherwise."""
    due = func.min(_due, type_=_due.type).label("due")
    return select(_lane.label("lane"), due).where(_lane.is_not(None)).group_by(_lane).subquery("waiting")


def _of(waiting: Subquery) -> Select[Any]:
    return (
        select(
            waiting.c.lane,
            waiting.c.due,
            _endpoint.c.id,
            _endpoint.c.enabled,
            _endpoint.c.enabled_at,
            _endpoint.c.deleted_at,
            _endpoint.c.rate_limit,
            _endpoint.c.batch,
            _endpoint.c.dialect,
            _health.c.rate_at,
            *HEALTH,
        )
        .join(_endpoint, _endpoint.c.id == waiting.c.lane // 2)
        .outerjoin(_health, _health.c.endpoint_id == _endpoint.c.id)
    )


#: Made once: a relay asks in each turn, and SQLAlchemy takes longer to make it than to execute it.
_STEPPED, _GROUPED = _of(_by_steps()), _of(_by_group())


def health_of(values: Sequence[Any], enabled_at: datetime) -> Health:
    """What the columns `HEALTH` say, of an endpoint that was enabled then."""
    failures, failing_since, last_failure_at, last_success_at, pauses, paused_at, paused_until, warned = values
    return as_of(
        Health(
            failures=failures or 0,
            failing_since=failing_since,
            last_failure_at=last_failure_at,
            last_success_at=last_success_at,
            pauses=pauses or 0,
            paused_at=paused_at,
            paused_until=paused_until,
            warned=warned or 0,
        ),
        enabled_at,
    )


def _read(row: Any) -> Lane:
    number, due, endpoint, enabled, enabled_at, deleted_at, rate_limit, batch, dialect, rate_at, *health = row
    known = health_of(health, enabled_at)
    return Lane(
        number=number,
        endpoint=endpoint,
        retry=bool(number % 2),
        due=due,
        open=enabled and deleted_at is None,
        deleted=deleted_at is not None,
        enabled_since=known.last_failure_at is not None and known.last_failure_at < enabled_at,
        rate_limit=rate_limit,
        rate_at=rate_at,
        batch=batch,
        dialect=dialect,
        health=known,
    )
