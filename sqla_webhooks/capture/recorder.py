"""
What is wanted of a session's transaction, and how it is recorded: for flushes and for bulk statements.

Runs in the application's thread, in its transaction. Nothing here may raise,
but for one reason: the database fails, and so it cannot be known whether, and
what, to write, or it cannot be written.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.orm import Mapper, Session, SessionTransaction, UOWTransaction

from sqla_webhooks._clock import Clock
from sqla_webhooks.capture import binds
from sqla_webhooks.capture.cascades import Cascaded
from sqla_webhooks.capture.interest import UNDATED, Interest
from sqla_webhooks.capture.notes import Notes
from sqla_webhooks.capture.plan import Plan
from sqla_webhooks.capture.references import References
from sqla_webhooks.capture.runs import Found
from sqla_webhooks.capture.unseen import Unseen
from sqla_webhooks.context import Circumstances
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import OutboxWriteError
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.write import take_write_lock, write
from sqla_webhooks.resources import Resources, Shape
from sqla_webhooks.subscriptions import Patterns

logger = logging.getLogger(__name__)


def _no_flush() -> None:
    return None


@dataclass(slots=True)
class Transaction:
    """What is remembered for one transaction of one session, and forgotten with it."""

    #: On the monotonic clock; undated if it began before we listened.
    begun_at: float = UNDATED
    #: The same in every outbox row of the transaction; empty before the first.
    id: str = ""
    #: The connection on which endpoints were written in this very transaction, which count in it at once.
    endpoints_on: Connection | None = None
    #: The flush that is about to begin its own part of it, or has; one that has nothing to do is gone at once.
    flushing: Callable[[], UOWTransaction | None] = _no_flush
    #: That part, what was noted when it began, and what the database may change in it by itself.
    noted: tuple[SessionTransaction, Notes, Cascaded | None] | None = None
    #: The shape of each class that was met; None for one that is not captured.
    shapes: dict[Mapper[Any], Shape | None] = field(default_factory=dict)

    def flushed(self) -> None:
        """The flush has been told of."""
        self.flushing = _no_flush


class Recorder:
    """
    The recorder of one installation.

    Args:
        database: Where our tables are. What is written to another is not captured here.
        served: Whether another installation captures what these sessions write there.
        encoding: How values are written as JSON.
        circumstances: What the application says of them.
    """

    def __init__(
        self,
        *,
        database: Database,
        served: Callable[[Engine | Connection], bool],
        resources: Resources,
        interest: Interest,
        clock: Clock,
        encoding: Encoding,
        circumstances: Circumstances,
    ) -> None:
        self.interest = interest
        self.resources = resources
        self.unseen = Unseen(lambda mapper: not resources.standing(mapper).why_not)
        self.references = References(self.unseen.tell)
        self._database = database
        self._served = served
        self._clock = clock
        self._encoding = encoding
        self._circumstances = circumstances
        #: Under which `Session.info` has our `Transaction`.
        self._key = f"sqla_webhooks.{secrets.token_hex(8)}"
        self._plans: dict[Shape, Plan] = {}
        #: Of what it was said that it is not captured.
        self._elsewhere: set[str] = set()

    # ------------------------------------------------------------------ the transaction

    def transaction(self, session: Session) -> Transaction:
        """What is remembered of the transaction that *session* is in."""
        current: Transaction | None = session.info.get(self._key)
        if current is None:
            current = session.info[self._key] = Transaction()
        return current

    def begin(self, session: Session) -> None:
        """A transaction has begun."""
        self.transaction(session).begun_at = self._clock.monotonic()

    def end(self, session: Session) -> bool:
        """
        Forget the transaction that has ended.

        Returns:
            Whether there may be something for the relay.
        """
        ended: Transaction | None = session.info.pop(self._key, None)
        if ended is None:
            return False
        if ended.endpoints_on is not None:
            self.interest.forget_age()
        return bool(ended.id) or ended.endpoints_on is not None

    def has_written(self, session: Session) -> bool:
        """Whether anything was recorded of the transaction that *session* is in."""
        current: Transaction | None = session.info.get(self._key)
        return current is not None and bool(current.id)

    # ------------------------------------------------------------------ what is wanted

    def subscribed(self, session: Session, mappers: Iterable[Mapper[Any]], *, first: bool = False) -> Patterns:
        """
        What is subscribed to in the eyes of the transaction; looked up, if it is not fresh, for what could be captured.

        Args:
            mappers: The classes that are being written.
            first: Whether the application's own statement is still to come, which on SQLite must not find that its
                transaction began with our read.

        Raises:
            OutboxWriteError: It cannot be known.
        """
        if (known := self.known(session)) is not None:
            return known
        touched = next((shape for mapper in mappers if (shape := self.shape(session, mapper)) is not None), None)
        if touched is None:
            return _NOTHING
        return self.look(session, binds.writing(session, touched.mapper), first=first)

    def known(self, session: Session) -> Patterns | None:
        """What is subscribed to in the eyes of the transaction, if that is known without a look."""
        fresh = self.transaction(session).endpoints_on is None and self.interest.fresh
        return self.interest.patterns if fresh else None

    def look(self, session: Session, bind_arguments: Mapping[str, Any], *, first: bool = False) -> Patterns:
        """
        What is subscribed to in the eyes of the transaction, looked up where the database says it.

        Args:
            bind_arguments: Of the bind on which is written.
            first: As for `subscribed()`.

        Raises:
            OutboxWriteError: It cannot be known.
        """
        transaction = self.transaction(session)
        connection, as_of = transaction.endpoints_on, UNDATED
        if connection is None:
            connection = session.connection(bind_arguments=dict(bind_arguments))
            # A session that was bound to a connection may have joined a transaction that is older than its own.
            if not isinstance(session.get_bind(**bind_arguments), Connection):
                as_of = transaction.begun_at
        if first:
            self.take_write_lock(connection)
        try:
            with self._database.schema_of_ours(connection):
                return self.interest.look(connection, as_of=as_of)
        except SQLAlchemyError as error:
            raise _unreadable(connection, error) from error

    def shape(self, session: Session, mapper: Mapper[Any]) -> Shape | None:
        """The shape of a class, if it is captured and its rows are in the database of our tables."""
        shapes = self.transaction(session).shapes
        try:
            return shapes[mapper]
        except KeyError:
            shape = self.resources.shape(mapper)
        if shape is not None and not self._is_here(session, mapper):
            shape = None
        shapes[mapper] = shape
        return shape

    def plan(self, shape: Shape) -> Plan:
        """Made when first asked for, in whichever thread that is; two are the same."""
        try:
            return self._plans[shape]
        except KeyError:
            return self._plans.setdefault(shape, Plan.of(shape, self._database.engine.dialect))

    def wanted(self, session: Session, mapper: Mapper[Any], patterns: Patterns) -> Plan | None:
        """How a class is captured; None if nobody wants it."""
        shape = self.shape(session, mapper)
        return self.plan(shape) if shape is not None and self.interest.wants(shape, patterns) else None

    def _is_here(self, session: Session, mapper: Mapper[Any]) -> bool:
        """Whether the rows of a class are in the database of our tables. Told once, if not."""
        try:
            bind = session.get_bind(**binds.writing(session, mapper))
        except Exception:  # noqa: BLE001  # a session's own routing: of shards, it goes by the row
            where = f"sessions of {type(session).__name__} that go to several databases by more than the class"
        else:
            if self._database.holds(bind):
                return True
            if self._served(bind):
                return False
            where = repr(bind.engine.url)
        if where not in self._elsewhere:
            self._elsewhere.add(where)
            logger.warning(
                "changes in %s are not captured: the webhook_ tables of this installation are in %r, and its relay "
                "looks nowhere else",
                *(where, self._database.engine.url),
            )
        return False

    # ------------------------------------------------------------------ what is written

    def write(self, session: Session, found: Iterable[Found]) -> None:
        """
        One outbox row on each connection that wrote: one, unless the session is bound to variants of one engine.

        Raises:
            OutboxWriteError: The database refused.
        """
        runs: dict[Connection, list[sheet.Run]] = {}
        of_shape: dict[Shape, list[sheet.Run]] = {}
        for shape, run in found:
            if shape not in of_shape:
                connection = session.connection(bind_arguments=binds.writing(session, shape.mapper))
                of_shape[shape] = runs.setdefault(connection, [])
            of_shape[shape].append(run)
        for connection, some in runs.items():
            self.write_on(connection, some, transaction=self.transaction(session))

    def write_on(self, connection: Connection, runs: Sequence[sheet.Run], *, transaction: Transaction) -> None:
        """
        One outbox row, with what is said of the circumstances.

        Raises:
            OutboxWriteError: The database refused.
        """
        transaction.id = transaction.id or secrets.token_hex(16)
        with self._database.schema_of_ours(connection):
            write(
                connection,
                runs,
                transaction=transaction.id,
                captured_at=self._clock.now(),
                encoding=self._encoding,
                context=self._circumstances.text,
            )

    def take_write_lock(self, connection: Connection) -> None:
        """On SQLite, before a transaction reads for us what it will write."""
        with self._database.schema_of_ours(connection):
            take_write_lock(connection)


_NOTHING = Patterns()


def _unreadable(connection: Connection, error: SQLAlchemyError) -> OutboxWriteError:
    if isinstance(error, StatementError):
        error.hide_parameters = True
    return OutboxWriteError(
        f"the subscriptions could not be read on {connection.engine.url!r}, so it is not known whether this flush must "
        "be recorded, and it has failed: roll back, see that the webhook_ tables exist there, and try again"
    )
