"""
How far backfills have come, and how much of what they have told waits.

A row of `webhook_backfill` is locked by the first statement of each page's
transaction: who backfills under one name does so a page at a time, together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from sqla_webhooks import encoding, models
from sqla_webhooks.models import lane_of
from sqla_webhooks.outbox import endpoints
from sqla_webhooks.outbox.database import chunks
from sqla_webhooks.subscriptions import Patterns

_backfill, _endpoint, _delivery, _health = models.backfill, models.endpoint, models.delivery, models.health

#: The resource and the table of a class.
Kind: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a backfill is about.

    Attributes:
        kind: Its class, in whose place there may be rows of classes derived from it.
        endpoint: The id of the one to which alone it goes.
        criterion: A digest of the condition.
    """

    name: str
    kind: Kind
    endpoint: str | None
    criterion: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """
    A row.

    Attributes:
        key: Its primary key as JSON has it; None for the place before the first row of its class.
    """

    kind: Kind
    key: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Job:
    """
    How far a backfill has come.

    Attributes:
        at: The row beyond which it goes on; None beyond the last.
        again: Rows before it that others held, for another try.
        done: How many rows are dealt with.
        total: How many there were when it began.
    """

    asked: Asked
    at: Place | None
    again: tuple[Place, ...]
    done: int
    total: int
    finished: bool = False


def find(connection: Connection, name: str) -> Job | None:
    """The backfill of that name. A read."""
    row = connection.execute(select(_backfill).where(_backfill.c.name == name)).first()
    return None if row is None else _read(row)


def begin(connection: Connection, asked: Asked, *, total: int, now: datetime) -> None:
    """Begin it, unless one of its name has begun meanwhile, and has not finished."""
    values = _values(Job(asked, Place(asked.kind, None), (), 0, total)) | {
        "resource": asked.kind[0],
        "table_name": asked.kind[1],
        "endpoint": asked.endpoint,
        "criterion": asked.criterion,
        "started_at": now,
        "updated_at": now,
        "finished_at": None,
    }
    over = (_backfill.c.name == asked.name, _backfill.c.finished_at.is_not(None))
    if connection.execute(update(_backfill).where(*over).values(values)).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(_backfill).values(name=asked.name, **values))
    except IntegrityError:
        return  # another has been faster, and its backfill is gone on with


def lock(connection: Connection, name: str, *, now: datetime) -> Job | None:
    """The backfill of that name, for this transaction alone: its first statement."""
    connection.execute(update(_backfill).where(_backfill.c.name == name).values(updated_at=now))
    return find(connection, name)


def advance(connection: Connection, job: Job, *, now: datetime) -> None:
    """Write how far *job* has come, which this transaction has locked."""
    finished_at = now if job.finished else None
    values = _values(job) | {"updated_at": now, "finished_at": finished_at}
    connection.execute(update(_backfill).where(_backfill.c.name == job.asked.name).values(values))


def _values(job: Job) -> dict[str, Any]:
    return {
        "place": None if job.at is None else _written(job.at),
        "again": encoding.dumps([[*one.kind, one.key] for one in job.again]).decode(),
        "done": job.done,
        "total": job.total,
    }


def _written(place: Place) -> str:
    return encoding.dumps([*place.kind, place.key]).decode()


def _read(row: Any) -> Job:
    return Job(
        Asked(row.name, (row.resource, row.table_name), row.endpoint, row.criterion),
        at=None if row.place is None else _place(encoding.loads(row.place)),
        again=tuple(map(_place, encoding.loads(row.again))),
        done=row.done,
        total=row.total,
        finished=row.finished_at is not None,
    )


def _place(written: Sequence[Any]) -> Place:
    resource, table, key = written
    return Place((resource, table), None if key is None else tuple(key))


# ---------------------------------------------------------------------------- endpoints


def check_endpoint(connection: Connection, public_id: str) -> None:
    """
    Whether there is an endpoint of that id.

    Raises:
        NotFound: There is none, or no more.
    """
    there = (_endpoint.c.public_id == public_id, _endpoint.c.deleted_at.is_(None))
    if connection.execute(select(_endpoint.c.id).where(*there)).first() is None:
        raise endpoints.not_found(public_id)


# ---------------------------------------------------------------------------- what waits


def first_lanes(connection: Connection, types: Collection[str], *, endpoint: str | None, now: datetime) -> list[int]:
    """
    The lanes of first attempts of the endpoints that get events of these types; of one that is named, its own.

    But for those that are disabled, or paused: what is for them is kept, and nobody waits for it.
    """
    found = connection.execute(
        select(_endpoint.c.id, _endpoint.c.public_id, _endpoint.c.events, _health.c.paused_until)
        .outerjoin(_health, _health.c.endpoint_id == _endpoint.c.id)
        .where(_endpoint.c.deleted_at.is_(None), _endpoint.c.enabled)
    )
    return [
        lane_of(row.id, retry=False)
        for row in found
        if (row.paused_until is None or row.paused_until <= now)
        and (_wants(row.events, types) if endpoint is None else row.public_id == endpoint)
    ]


def _wants(events: str, types: Collection[str]) -> bool:
    patterns = Patterns.of(encoding.loads(events))
    return any(map(patterns.match, types))


def count_waiting(connection: Connection, lanes: Collection[int], *, most: int) -> int:
    """How many deliveries wait in these lanes, or *most* and more: by the index, whatever else there is."""
    found = 0
    for some in chunks(list(lanes)):
        if found < most:
            found += _count(connection, select(_delivery.c.id).where(_delivery.c.lane.in_(some)), most=most)
    return found


def unrelayed(connection: Connection, transactions: Collection[str]) -> set[str]:
    """Which of these transactions wait in the outbox."""
    waiting = models.outbox.c.transaction_id
    found: set[str] = set()
    for some in chunks(sorted(transactions)):
        found.update(connection.execute(select(waiting).where(waiting.in_(some))).scalars())
    return found


def count_outbox(connection: Connection, *, most: int) -> int:
    """How many rows the outbox has, or *most*."""
    return _count(connection, select(models.outbox.c.id), most=most)


def _count(connection: Connection, query: Select[Any], *, most: int) -> int:
    return int(connection.execute(select(func.count()).select_from(query.limit(most).subquery())).scalar_one())
