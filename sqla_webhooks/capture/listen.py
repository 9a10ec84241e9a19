"""
The session's events, and the outbox row they write.

Everything here runs in the application's thread, inside its flush and its
transaction. Nothing here may block, or speak to anything but that transaction's
connection; and nothing may raise, but for one reason: the database fails, and
so it cannot be known whether, and what, to write, or it cannot be written.
"""

from __future__ import annotations

import logging
import secrets
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError, StatementError
from sqlalchemy.orm import Mapper, Session, SessionTransaction, SessionTransactionOrigin, UOWTransaction

from sqla_webhooks import encoding
from sqla_webhooks._clock import Clock
from sqla_webhooks.capture import notes, unit_of_work
from sqla_webhooks.capture.factory import Listened
from sqla_webhooks.capture.interest import UNDATED, Interest
from sqla_webhooks.capture.listeners import Listeners
from sqla_webhooks.capture.notes import Notes, PlanOf
from sqla_webhooks.capture.plan import Plan, State
from sqla_webhooks.capture.unit_of_work import Found
from sqla_webhooks.errors import OutboxWriteError
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.write import take_write_lock, write
from sqla_webhooks.resources import Resources, Shape
from sqla_webhooks.subscriptions import Patterns

logger = logging.getLogger(__name__)

#: What a flush, or a bulk method, begins within the session's transaction.
_PART = SessionTransactionOrigin.SUBTRANSACTION


def _no_flush() -> None:
    return None


@dataclass(slots=True)
class _Transaction:
    """What is remembered for one transaction of one session, and forgotten with it."""

    #: On the monotonic clock; undated if it began before we listened.
    begun_at: float = UNDATED
    #: The same in every outbox row of the transaction; empty before the first.
    id: str = ""
    #: The connection on which endpoints were written in this very transaction, which count in it at once.
    endpoints_on: Connection | None = None
    #: The flush that is about to begin its own part of it, or has; one that has nothing to do is gone at once.
    flushing: Callable[[], UOWTransaction | None] = _no_flush
    #: That part, and what was noted when it began.
    noted: tuple[SessionTransaction, Notes] | None = None
    #: The shape of each class that was met; None for one that is not captured.
    shapes: dict[Mapper[Any], Shape | None] = field(default_factory=dict)


class Capture:
    """
    Capture of one installation: four listeners to its sessions.

    Args:
        listened: The session class, or the one session, to listen to.
        database: Where our tables are. What is written to another is not captured.
        wake: Called after a transaction that wrote to the outbox has ended.
        report: Told the type of each value that no rule can encode.
    """

    def __init__(
        self,
        listened: Listened,
        *,
        database: Database,
        resources: Resources,
        interest: Interest,
        clock: Clock,
        wake: Callable[[], None],
        report: encoding.Report,
    ) -> None:
        self._listened = listened
        self._database = database
        self._resources = resources
        self._interest = interest
        self._clock = clock
        self._wake = wake
        self._report = report
        #: Under which `Session.info` has our `_Transaction`.
        self._key = f"sqla_webhooks.{secrets.token_hex(8)}"
        self._listeners = Listeners(
            listened,
            {
                "before_flush": self._before_flush,
                "after_transaction_create": self._after_transaction_create,
                "after_flush": self._after_flush,
                "after_transaction_end": self._after_transaction_end,
            },
        )
        self._plans: dict[Shape, Plan] = {}
        #: Of what it was said that it is not captured.
        self._elsewhere: set[str] = set()

    def listen(self) -> None:
        """Start capturing, in sessions that are already open too."""
        self._listeners.add()

    def close(self, timeout: float) -> None:
        """Stop capturing; a flush that is with us is waited for, *timeout* seconds at most."""
        self._listeners.remove(timeout)

    def endpoints_being_written(self, session: Session, connection: Connection) -> None:
        """Endpoints are written on *connection*, in the transaction that *session* is in; they count in it at once."""
        heard = session is self._listened or (isinstance(self._listened, type) and isinstance(session, self._listened))
        if heard:
            self._transaction(session).endpoints_on = connection
        else:  # nobody tells us when it ends
            self._interest.forget_age()

    def _before_flush(self, session: Session, flush_context: UOWTransaction, _instances: object) -> None:
        """Know a flush from the bulk methods, which begin their part of the transaction in the same way."""
        self._transaction(session).flushing = weakref.ref(flush_context)

    def _after_transaction_create(self, session: Session, created: SessionTransaction) -> None:
        """
        Note when a transaction begins; and, as a flush begins its part of one, what that will forget.

        Which is after every listener to `before_flush`, and before the first
        statement. A part within a part is a bulk method's, in a listener to
        the flush.
        """
        transaction = self._transaction(session)
        if created.parent is None:
            transaction.begun_at = self._clock.monotonic()
            return
        is_part = created.origin is _PART and created.parent.origin is not _PART
        if is_part and transaction.flushing() is not None:
            try:
                transaction.noted = (created, self._note(session, transaction))
            except BaseException:  # whatever it is, leave the session as `Session._flush` leaves it
                created.rollback(_capture_exception=True)
                raise

    def _note(self, session: Session, transaction: _Transaction) -> Notes:
        """
        What the flush will forget.

        Does not look whether the subscriptions are fresh: a transaction that
        would begin with that look, and not with its own write, could on SQLite
        fail for a lock it would otherwise have waited for. What may have been
        subscribed meanwhile is noted too, but not read.
        """
        own = transaction.endpoints_on is not None
        fresh, patterns = self._interest.fresh, self._interest.patterns
        if fresh and not patterns and not own:
            return {}

        def wanted(shape: Shape) -> bool:
            return own or patterns.want(shape.resource)

        def noted(mapper: Mapper[Any]) -> Plan | None:
            shape = self._shape(session, transaction, mapper)
            return self._plan(shape) if shape is not None and (not fresh or wanted(shape)) else None

        return notes.note(session, _by_mapper(noted), may_read=wanted, lock=self._take_write_lock)

    def _after_flush(self, session: Session, flush_context: UOWTransaction) -> None:
        """
        Write the outbox row of this flush.

        Raises:
            OutboxWriteError: It cannot be written, or not be known whether it
                must be. The flush fails with it.
            DBAPIError: The rows of the flush could not be read.
        """
        transaction = self._transaction(session)
        noted = transaction.noted[1] if transaction.noted is not None else {}
        transaction.flushing = _no_flush
        patterns = self._subscribed(session, transaction, flush_context)
        if not patterns:
            return

        def wanted(mapper: Mapper[Any]) -> Plan | None:
            shape = self._shape(session, transaction, mapper)
            return self._plan(shape) if shape is not None and patterns.want(shape.resource) else None

        found = unit_of_work.changes(session, flush_context, _by_mapper(wanted), noted)
        if found:
            self._write(session, transaction, found)

    def _after_transaction_end(self, session: Session, ending: SessionTransaction) -> None:
        """Forget what is over, and wake the relay if there may be something for it: the table knows."""
        if ending.parent is not None:  # a savepoint, or a flush's own part, which may have failed
            transaction = self._transaction(session)
            if transaction.noted is not None and transaction.noted[0] is ending:
                transaction.noted = None
            return
        ended: _Transaction | None = session.info.pop(self._key, None)
        if ended is None:
            return
        if ended.endpoints_on is not None:
            self._interest.forget_age()
        if ended.id or ended.endpoints_on is not None:
            self._wake()

    def _subscribed(self, session: Session, transaction: _Transaction, flush_context: UOWTransaction) -> Patterns:
        """What is subscribed to in the eyes of this flush; looked up if the flush touched what could be captured."""
        connection = transaction.endpoints_on
        if connection is None and self._interest.fresh:
            return self._interest.patterns
        shapes = (self._shape(session, transaction, state.mapper) for state in flush_context.states)
        touched = next((shape for shape in shapes if shape is not None), None)
        if touched is None:
            return _NOTHING
        as_of = UNDATED
        if connection is None:
            connection = session.connection(bind_arguments={"mapper": touched.mapper})
            # A session that was bound to a connection may have joined a transaction that is older than its own.
            if not isinstance(session.get_bind(touched.mapper), Connection):
                as_of = transaction.begun_at
        try:
            with self._database.schema_of_ours(connection):
                return self._interest.look(connection, as_of=as_of)
        except SQLAlchemyError as error:
            raise _unreadable(connection, error) from error

    def _shape(self, session: Session, transaction: _Transaction, mapper: Mapper[Any]) -> Shape | None:
        """The shape of a class, if it is captured and its rows are in the database of our tables."""
        try:
            return transaction.shapes[mapper]
        except KeyError:
            shape = self._resources.shape(mapper)
        if shape is not None and not self._is_here(session, mapper):
            shape = None
        transaction.shapes[mapper] = shape
        return shape

    def _is_here(self, session: Session, mapper: Mapper[Any]) -> bool:
        """Whether the rows of a class are in the database of our tables. Told once, if not."""
        try:
            bind = session.get_bind(mapper)
        except Exception:  # noqa: BLE001  # a session's own routing: of shards, it goes by the row
            where = f"sessions of {type(session).__name__} that go to several databases by more than the class"
        else:
            if self._database.holds(bind):
                return True
            where = repr(bind.engine.url)
        if where not in self._elsewhere:
            self._elsewhere.add(where)
            logger.warning(
                "changes in %s are not captured: the webhook_ tables of this installation are in %r, and its relay "
                "looks nowhere else",
                *(where, self._database.engine.url),
            )
        return False

    def _plan(self, shape: Shape) -> Plan:
        """Made when first asked for, in whichever thread that is; two are the same."""
        try:
            return self._plans[shape]
        except KeyError:
            return self._plans.setdefault(shape, Plan.of(shape))

    def _write(self, session: Session, transaction: _Transaction, found: Iterable[Found]) -> None:
        """One outbox row on each connection that wrote: one, unless the session is bound to variants of one engine."""
        runs: dict[Connection, list[sheet.Run]] = {}
        of_shape: dict[Shape, list[sheet.Run]] = {}
        for shape, run in found:
            if shape not in of_shape:
                connection = session.connection(bind_arguments={"mapper": shape.mapper})
                of_shape[shape] = runs.setdefault(connection, [])
            of_shape[shape].append(run)
        transaction.id = transaction.id or secrets.token_hex(16)
        for connection, some in runs.items():
            with self._database.schema_of_ours(connection):
                write(connection, some, transaction=transaction.id, captured_at=self._clock.now(), report=self._report)

    def _take_write_lock(self, connection: Connection) -> None:
        with self._database.schema_of_ours(connection):
            take_write_lock(connection)

    def _transaction(self, session: Session) -> _Transaction:
        current: _Transaction | None = session.info.get(self._key)
        if current is None:
            current = session.info[self._key] = _Transaction()
        return current


_NOTHING = Patterns()


def _by_mapper(find: Callable[[Mapper[Any]], Plan | None]) -> PlanOf:
    """The plan for a state, found once for each mapper: a flush has many states of few."""
    known: dict[Mapper[Any], Plan | None] = {}

    def plan_of(state: State) -> Plan | None:
        mapper = state.mapper
        try:
            return known[mapper]
        except KeyError:
            return known.setdefault(mapper, find(mapper))

    return plan_of


def _unreadable(connection: Connection, error: SQLAlchemyError) -> OutboxWriteError:
    if isinstance(error, StatementError):
        error.hide_parameters = True
    return OutboxWriteError(
        f"the subscriptions could not be read on {connection.engine.url!r}, so it is not known whether this flush must "
        "be recorded, and it has failed: roll back, see that the webhook_ tables exist there, and try again"
    )
