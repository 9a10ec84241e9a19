"""
Rows that are there already, told of as `order.read`.

In the caller's thread, a page of rows at a time, each in one short write
transaction of ours. It locks the rows and waits for none of them, reads them,
and writes one outbox row: so every change that it has read has a smaller number
there, and every later one a larger. Rows that others hold come later.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from sqla_webhooks import asked, keys
from sqla_webhooks.config import Settings
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Change, Operation
from sqla_webhooks.existing import Existing, digest, existing
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox import backfills, sheet, subscribed
from sqla_webhooks.outbox.backfills import Asked, Job, Kind, Place
from sqla_webhooks.outbox.database import Database, on_database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.write import write
from sqla_webhooks.outbox.writers import OLD, writers
from sqla_webhooks.progress import Progress, Report
from sqla_webhooks.resources import Resources
from sqla_webhooks.throttle import Limits, Patience, Throttle

#: Rows that others hold, beyond which no new ones are come to.
MOST_AGAIN = 500

#: Rows of a page, and characters of a name.
LARGEST_PAGE, LONGEST_NAME = 1000, 255


class Backfills:
    """
    What `Webhooks.backfill()` does. Safe for any thread.

    Args:
        written: Told after each commit that wrote to the outbox.
    """

    def __init__(
        self,
        database: Database,
        resources: Resources,
        *,
        settings: Settings,
        encoding: Encoding,
        written: Callable[[], None],
    ) -> None:
        self._database = database
        self._resources = resources
        self._settings = settings
        self._clock = settings.clock
        self._encoding = encoding
        self._written = written

    @on_database
    def run(
        self,
        model: type[Any],
        *,
        where: Any,
        endpoint: str | None,
        name: str | None,
        page: int,
        waiting: int | None,
        progress: Report | None,
    ) -> Progress:
        """See `Webhooks.backfill`."""
        _check(endpoint=endpoint, name=name, page=page, waiting=waiting)
        rows = {_kind(one): one for one in existing(self._resources, model, where=where)}
        wanted = self._asked(list(rows.values()), endpoint=endpoint, name=name)
        job = self._begin(wanted, list(rows.values()))
        pages = _Pages(self._database, rows, size=page, encoding=self._encoding)
        throttle = self._throttle(rows, endpoint=endpoint, page=page, waiting=waiting)
        patience = Patience(self._clock, _HELD)
        while not job.finished:
            if throttle is not None:
                throttle.wait()
            transaction = secrets.token_hex(16)
            before, job = job, outlive(partial(pages.turn, wanted, transaction=transaction, now=self._clock.now))
            if (job.done, job.at) != (before.done, before.at):
                patience.moved()
                self._written()
                if throttle is not None:
                    throttle.note(transaction)
                if progress is not None:
                    progress(Progress(job.done, job.total))
            elif not job.finished:
                patience.wait(None)
        return Progress(job.done, job.total)

    def _asked(self, rows: Sequence[Existing], *, endpoint: str | None, name: str | None) -> Asked:
        kind = _kind(rows[0])
        criterion = digest(rows[0], self._database.engine.dialect)
        return Asked(name or f"{kind[0]}:{endpoint or '*'}", kind, endpoint, criterion)

    def _begin(self, wanted: Asked, rows: Sequence[Existing]) -> Job:
        """The job as it stands, begun if there is none, or none that is not finished."""
        with self._database.read() as connection:
            if wanted.endpoint is not None:
                backfills.check_endpoint(connection, wanted.endpoint)
            job = backfills.find(connection, wanted.name)
        if job is None or job.finished:
            self._wait_until_known({table.name for one in rows for table in one.tables})
            with self._database.read(theirs=True) as connection:
                total = sum(one.count(connection) for one in rows)
            with self._database.write() as connection:
                backfills.begin(connection, wanted, total=total, now=self._clock.now())
                job = backfills.find(connection, wanted.name)
        return _checked(job, wanted)

    def _wait_until_known(self, tables: Collection[str]) -> None:
        """
        Until every process captures for the endpoints that there are, and what was written before that has committed.

        Else what a transaction inserts now, and commits when its place was passed, would be told by nobody.
        """
        if self._database.in_memory or self._settings.capture == "all":
            return
        self._clock.wait(threading.Event(), subscribed.FRESH + OLD)
        patience = Patience(self._clock, _OPEN, glance=3 * OLD)
        left = self._writers(tables)
        while left:
            patience.wait(left)
            left &= self._writers(tables)

    def _writers(self, tables: Collection[str]) -> frozenset[str]:
        with self._database.read() as connection:
            return writers(connection, tables)

    def _throttle(
        self, rows: Iterable[Kind], *, endpoint: str | None, page: int, waiting: int | None
    ) -> Throttle | None:
        """None if it shall not wait, or nobody else can relay meanwhile."""
        if waiting is None or self._database.in_memory:
            return None
        limits = Limits(waiting, self._settings.batch_size, page)
        types = [f"{resource}.{Operation.READ.verb}" for resource, _ in rows]
        return Throttle(self._database, limits, clock=self._clock, types=types, endpoint=endpoint)


_OPEN = (
    "a backfill waits for transactions that had written to its tables before it began, and are open for a minute: are "
    "they still at work?"
)
_HELD = "a backfill waits for rows that another transaction holds, and has held for a minute: is it still at work?"


def _check(*, endpoint: object, name: object, page: object, waiting: object) -> None:
    if endpoint is not None:
        asked.check_endpoint_id(endpoint)
    if name is not None and not (isinstance(name, str) and name and len(name) <= LONGEST_NAME):
        message = f"name is {name!r}: give a text of up to {LONGEST_NAME} characters, by which to go on with it"
        raise ConfigurationError(message)
    if isinstance(name, str) and asked.NO_TEXT.search(name):
        message = f"name is {name!r}: no database takes such text"
        raise ConfigurationError(message)
    if not isinstance(page, int) or isinstance(page, bool) or not 1 <= page <= LARGEST_PAGE:
        message = f"page is {page!r}: give how many rows one transaction may read, from 1 to {LARGEST_PAGE}"
        raise ConfigurationError(message)
    if waiting is not None and (not isinstance(waiting, int) or isinstance(waiting, bool) or waiting < 0):
        message = f"waiting is {waiting!r}: give how many deliveries may wait, or None for any number"
        raise ConfigurationError(message)


def _checked(job: Job | None, wanted: Asked) -> Job:
    if job is None or job.asked != wanted:
        message = (
            f"the backfill {wanted.name!r} was begun for other rows or another endpoint, and has not finished: call it "
            "with the same class, where and endpoint to go on with it, or give this one a name of its own"
        )
        raise ConfigurationError(message)
    return job


def _kind(rows: Existing) -> Kind:
    return rows.shape.resource, rows.shape.table


@dataclass(frozen=True, slots=True, eq=False)
class _Pages:
    """The rows, a page at a time."""

    database: Database
    rows: Mapping[Kind, Existing]
    size: int
    encoding: Encoding

    def turn(self, wanted: Asked, *, transaction: str, now: Callable[[], datetime]) -> Job:
        """
        Tell of the next rows, and of some of those that were held before; the job as it stands then.

        Raises:
            NotFound: The endpoint was deleted.
            ConfigurationError: Their keys cannot be written down, or another has begun something else by this name.
        """
        with self.database.write() as connection:
            job = _checked(backfills.lock(connection, wanted.name, now=now()), wanted)
            if job.finished:
                return job
            if wanted.endpoint is not None:
                backfills.check_endpoint(connection, wanted.endpoint)
            told, after = self._told(connection, job)
            if told:
                runs = [sheet.run_of(change) for change in told]
                write(connection, runs, transaction=transaction, captured_at=now(), encoding=self.encoding)
            backfills.advance(connection, after, now=now())
        return after

    def _told(self, connection: Connection, job: Job) -> tuple[list[Change], Job]:
        """What is told of the rows that nobody holds, and how far that leads."""
        now, later = job.again[: self.size], job.again[self.size :]
        wanted: dict[Kind, list[Identity]] = {}
        for place in now:
            wanted.setdefault(place.kind, []).append(self._identity(place))
        at = job.at
        if at is not None and len(job.again) <= MOST_AGAIN:
            fresh = self._after(connection, at)
            wanted.setdefault(at.kind, []).extend(fresh[: self.size])
            at = self._beyond(at, fresh)
        changes, held = [], list(later)
        for kind, identities in wanted.items():
            rows = self.rows[kind]
            mine = rows.lock(connection, identities)
            read = rows.read(connection, mine)
            changes += [_change(rows, identity, values, endpoint=job.asked.endpoint) for identity, values in read]
            held += [self._place(kind, one) for one in _held(connection, rows, identities, mine)]
        done = job.done + sum(map(len, wanted.values())) - (len(held) - len(later))
        after = replace(job, at=at, again=tuple(held), done=done, finished=at is None and not held)
        return changes, after

    def _after(self, connection: Connection, at: Place) -> list[Identity]:
        """The keys of a page, and the next if there is one."""
        return self._rows(at).after(connection, None if at.key is None else self._identity(at), limit=self.size + 1)

    def _beyond(self, at: Place, fresh: Sequence[Identity]) -> Place | None:
        """The place that the next rows come after, when these have been come to."""
        if len(fresh) > self.size:
            return self._place(at.kind, fresh[self.size - 1])
        kinds = list(self.rows)
        rest = kinds[kinds.index(at.kind) + 1 :]
        return Place(rest[0], None) if rest else None

    def _rows(self, place: Place) -> Existing:
        if place.kind not in self.rows:
            message = (
                f"the backfill has come to rows of {place.kind[0]!r} in {place.kind[1]!r}, of which this process has "
                "no class: import the modules that map your classes, or give it another name to begin anew"
            )
            raise ConfigurationError(message)
        return self.rows[place.kind]

    def _identity(self, place: Place) -> Identity:
        return keys.identity(self._rows(place).shape.key_columns, place.key or ())

    def _place(self, kind: Kind, identity: Identity) -> Place:
        columns = self.rows[kind].shape.key_columns
        if not keys.can_be_had_again(columns, identity, self.database.engine.dialect):
            message = (
                f"the keys of {kind[0]!r} are of a type whose values cannot be had again out of JSON, so it cannot be "
                f"written down how far a backfill has come: {identity!r}"
            )
            raise ConfigurationError(message)
        return Place(kind, tuple(keys.parts(identity)))


def _held(
    connection: Connection, rows: Existing, identities: Sequence[Identity], mine: Sequence[Identity]
) -> list[Identity]:
    """Which of the rows another holds: those that are there, and not *mine*."""
    locked = set(map(keys.text, mine))
    others = [one for one in identities if keys.text(one) not in locked]
    return rows.there(connection, others) if others else []


def _change(rows: Existing, identity: Identity, values: dict[str, Any], *, endpoint: str | None) -> Change:
    shape = rows.shape
    return Change(
        shape.resource,
        Operation.READ,
        identity,
        values,
        table=shape.table,
        endpoint=endpoint,
        hidden=shape.hidden,
    )
