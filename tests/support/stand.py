"""The library's steps on one database, called by hand: what a relay does, without its thread, its senders and HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, select
from tenacity import stop_after_attempt, stop_never, wait_fixed

from sqla_webhooks import Answer, Operation, models
from sqla_webhooks.deliveries import Claim, Result
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.destination import NewEndpoint
from sqla_webhooks.events import Event
from sqla_webhooks.outbox import endpoints, lanes
from sqla_webhooks.outbox.claim import claim
from sqla_webhooks.outbox.database import Database as Door
from sqla_webhooks.outbox.lanes import Lane
from sqla_webhooks.outbox.publish import Message, Publication
from sqla_webhooks.outbox.record import Recorded, Recording
from sqla_webhooks.outbox.turnstile import Share
from sqla_webhooks.retry import RetryPolicy, retry_standard
from support.clock import START
from support.databases import Database

#: Seconds.
LEASE, WAIT = 60.0, 5.0

_numbers = itertools.count(1)


def render(event: Event) -> bytes:
    return event.id.encode()


@dataclass
class Stand:
    """Each call is one transaction; several stands on one database are several relays."""

    engine: Engine
    hold: bool = False
    door: Door = field(init=False)
    publication: Publication = field(init=False)
    recording: Recording = field(init=False)

    def __post_init__(self) -> None:
        self.door = Door(self.engine)
        self.publication = Publication(keep_all=False, drop=False)
        self.recording = Recording(self.door, self.publication, hold=self.hold, disable_after=None, render=render)

    def twin(self) -> Stand:
        """Another relay."""
        return Stand(self.engine, self.hold)

    def endpoint(self, *, ordering: bool = True) -> int:
        """A new endpoint for everything; its number."""
        new = NewEndpoint(
            id=f"ep_{next(_numbers)}",
            url="https://partner.example/",
            events=("*",),
            enabled=True,
            description="",
            created_at=START,
            updated_at=START,
            ordering=ordering,
            secret="whsec_secret",
        )
        with self.door.write() as connection:
            endpoints.add(connection, new, secret=new.secret)
            number = select(models.endpoint.c.id).where(models.endpoint.c.public_id == new.id)
            return int(connection.execute(number).scalar_one())

    def publish(self, *rows: str, now: datetime = START) -> None:
        """An event of each row; one of `"old>new"` is a change of the row's key. One transaction."""
        with self.door.write() as connection:
            self.publish_on(connection, *rows, now=now)

    def publish_on(self, connection: Connection, *rows: str, now: datetime = START) -> None:
        """The same, in a transaction that there is."""
        self.publication.refresh(connection)
        self.publication.insert(connection, [_message(row) for row in rows], now=now)

    def claim(self, endpoint: int, limit: int = 100, *, retry: bool = False, now: datetime = START) -> list[Claim]:
        return claim(self.door, [Share(endpoint, retry, limit)], now=now, lease=LEASE)

    def record(
        self, claims: Sequence[Claim], status: int = 200, *, attempts: int | None = None, now: datetime = START
    ) -> Recorded:
        """Every claim was answered so; it is given up after so many attempts."""
        stop = stop_never if attempts is None else stop_after_attempt(attempts)
        policy = RetryPolicy(wait_fixed(WAIT), stop, retry_standard())
        return self.recording.record([decide(Result(one, now, 0.0, Answer(status)), policy) for one in claims], now=now)

    def lanes(self) -> list[Lane]:
        with self.door.read() as connection:
            return lanes.lanes(connection)

    def change(self, table: Any, *where: Any, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(table.update().where(*where).values(**values))


@contextmanager
def stand_on(database: Database) -> Iterator[Stand]:
    """On an engine that waits for others' locks, as an application's does."""
    with Database(database.name, database.url).engine() as engine:
        models.metadata.create_all(engine)
        yield Stand(engine)


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _message(row: str) -> Message:
    former, _, now_called = row.rpartition(">")
    event = Event(
        id=f"evt_{next(_numbers)}",
        type="product.updated",
        timestamp=START,
        resource="product",
        resource_id=now_called,
        operation=Operation.UPDATE,
        data={},
        table="product",
        identity=(now_called,),
        former_id=former or None,
    )
    return Message(event, render(event))


def claim_all(stand: Stand, endpoint: int, *, limit: int) -> list[list[int]]:
    """By claims of so many at most, until there is nothing left; the numbers of each."""
    found: list[list[int]] = []
    misses = 0
    while misses < _MISSES:
        claims = stand.claim(endpoint, limit)
        misses = 0 if claims else misses + 1
        found.append([one.delivery_id for one in claims])
    return found


def claim_in_process(database: Database, endpoint: int, limit: int) -> list[list[int]]:
    """The same, in a process that has nothing yet."""
    with stand_on(database) as stand:
        return claim_all(stand, endpoint, limit=limit)


#: What another has locked at this moment is skipped.
_MISSES = 3
