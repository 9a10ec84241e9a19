"""
The session's events: where capture hears of what the application does.

Everything here runs in the application's thread, inside its flush or its
statement, and in its transaction. Nothing here may block, or speak to anything
but that transaction's connection.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper, Session, SessionTransaction, SessionTransactionOrigin, UOWTransaction

from sqla_webhooks.capture import cascades, notes, unit_of_work
from sqla_webhooks.capture.bulk import Bulk
from sqla_webhooks.capture.cascades import Cascaded
from sqla_webhooks.capture.factory import Listened
from sqla_webhooks.capture.listeners import Listeners
from sqla_webhooks.capture.methods import Methods
from sqla_webhooks.capture.notes import Notes, PlanOf
from sqla_webhooks.capture.plan import Plan, State
from sqla_webhooks.capture.recorder import Recorder, Transaction
from sqla_webhooks.capture.snapshot import PlanFor
from sqla_webhooks.resources import Shape

#: What a flush, or a bulk method, begins within the session's transaction.
_PART = SessionTransactionOrigin.SUBTRANSACTION


class Capture:
    """
    Capture of one installation: listeners to its sessions.

    Args:
        listened: The session class, or the one session, to listen to.
        recorder: Knows what is wanted, and writes it down.
        bulk: Captures bulk writes; None if they are not captured.
        wake: Called after a transaction that wrote to the outbox has ended.
    """

    def __init__(self, listened: Listened, *, recorder: Recorder, bulk: Bulk | None, wake: Callable[[], None]) -> None:
        self._listened = listened
        self._recorder = recorder
        self._wake = wake
        listeners: dict[str, Callable[..., Any]] = {
            "before_flush": self._before_flush,
            "after_transaction_create": self._after_transaction_create,
            "after_flush": self._after_flush,
            "after_transaction_end": self._after_transaction_end,
        }
        if bulk is not None:
            listeners["do_orm_execute"] = bulk.execute
        self._listeners = Listeners(listened, listeners)
        self._methods = Methods(listened, bulk) if bulk is not None else None

    def listen(self) -> None:
        """Start capturing, in sessions that are already open too. Says in the log what cannot be."""
        self._recorder.references.current()
        self._listeners.add()
        if self._methods is not None:
            self._methods.wrap()

    def close(self, timeout: float) -> None:
        """Stop capturing; a flush that is with us is waited for, *timeout* seconds at most."""
        if self._methods is not None:
            self._methods.unwrap()
        self._listeners.remove(timeout)

    def hears(self, session: Session) -> bool:
        """Whether it is one of the sessions that are listened to."""
        return session is self._listened or (isinstance(self._listened, type) and isinstance(session, self._listened))

    def endpoints_being_written(self, session: Session, connection: Connection) -> None:
        """Endpoints are written on *connection*, in the transaction that *session* is in; they count in it at once."""
        if self.hears(session):
            self._recorder.transaction(session).endpoints_on = connection
        else:  # nobody tells us when it ends
            self._recorder.interest.forget_age()

    def _before_flush(self, session: Session, flush_context: UOWTransaction, _instances: object) -> None:
        """Know a flush from the bulk methods, which begin their part of the transaction in the same way."""
        self._recorder.transaction(session).flushing = weakref.ref(flush_context)

    def _after_transaction_create(self, session: Session, created: SessionTransaction) -> None:
        """
        Note when a transaction begins; and, as a flush begins its part of one, what that will forget.

        Which is after every listener to `before_flush`, and before the first
        statement. A part within a part is a bulk method's, in a listener to
        the flush.
        """
        if created.parent is None:
            self._recorder.begin(session)
            return
        transaction = self._recorder.transaction(session)
        is_part = created.origin is _PART and created.parent.origin is not _PART
        if is_part and transaction.flushing() is not None:
            try:
                transaction.noted = (created, *self._note(session, transaction))
            except BaseException:  # whatever it is, leave the session as `Session._flush` leaves it
                created.rollback(_capture_exception=True)
                raise

    def _note(self, session: Session, transaction: Transaction) -> tuple[Notes, Cascaded | None]:
        """
        What the flush will forget, and what the database may change in it by itself.

        Does not look whether the subscriptions are fresh: a transaction that
        would begin with that look, and not with its own write, could on SQLite
        fail for a lock it would otherwise have waited for. What may have been
        subscribed meanwhile is noted too, but not read; but for rows that the
        database changes, which nobody else could tell of.
        """
        recorder, interest = self._recorder, self._recorder.interest
        own = transaction.endpoints_on is not None
        fresh, patterns = interest.fresh, interest.patterns
        if fresh and not patterns and not own:
            return {}, None

        def wanted(shape: Shape) -> bool:
            return own or interest.wants(shape, patterns)

        def noted(mapper: Mapper[Any]) -> Plan | None:
            shape = recorder.shape(session, mapper)
            return recorder.plan(shape) if shape is not None and (not fresh or wanted(shape)) else None

        plan_for = _remembered(noted)
        lock = recorder.take_write_lock
        cascaded = cascades.begin(session, recorder.references, plan_for=plan_for, lock_writes=lock)
        return notes.note(session, _by_mapper(plan_for), may_read=wanted, lock=lock), cascaded

    def _after_flush(self, session: Session, flush_context: UOWTransaction) -> None:
        """
        Write the outbox row of this flush.

        Raises:
            OutboxWriteError: It cannot be written, or not be known whether it
                must be. The flush fails with it.
            DBAPIError: The rows of the flush could not be read.
        """
        recorder = self._recorder
        transaction = recorder.transaction(session)
        noted, cascaded = transaction.noted[1:] if transaction.noted is not None else ({}, None)
        transaction.flushed()
        affected = cascaded.affected if cascaded is not None else ()
        patterns = recorder.subscribed(session, chain((state.mapper for state in flush_context.states), affected))
        if not patterns:
            return
        plan_for = _remembered(lambda mapper: recorder.wanted(session, mapper, patterns))
        found = unit_of_work.changes(session, flush_context, _by_mapper(plan_for), noted)
        if cascaded is not None:
            found = [*found, *cascades.changes(session, flush_context, cascaded, plan_for=plan_for)]
        if found:
            recorder.write(session, found)

    def _after_transaction_end(self, session: Session, ending: SessionTransaction) -> None:
        """Forget what is over, and wake the relay if there may be something for it: the table knows."""
        if ending.parent is not None:  # a savepoint, or a flush's own part, which may have failed
            transaction = self._recorder.transaction(session)
            if transaction.noted is not None and transaction.noted[0] is ending:
                transaction.noted = None
        elif self._recorder.end(session):
            self._wake()


def _remembered(find: PlanFor) -> PlanFor:
    """The plan for a class, found once: a flush has many objects of few."""
    known: dict[Mapper[Any], Plan | None] = {}

    def plan_for(mapper: Mapper[Any]) -> Plan | None:
        try:
            return known[mapper]
        except KeyError:
            return known.setdefault(mapper, find(mapper))

    return plan_for


def _by_mapper(plan_for: PlanFor) -> PlanOf:
    """The plan for a state, found once for each mapper."""
    known: dict[Mapper[Any], Plan | None] = {}

    def plan_of(state: State) -> Plan | None:
        mapper = state.manager.mapper  # `state.mapper` is worked out for each state
        try:
            return known[mapper]
        except KeyError:
            return known.setdefault(mapper, plan_for(mapper))

    return plan_of
