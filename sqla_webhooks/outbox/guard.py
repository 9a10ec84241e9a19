"""
What keeps the gate: hears from an engine of the application's when transactions begin and end.

From the pool, and by three methods of the dialect that are wrapped, because
all copies of an engine share both, and because that costs nothing for a
statement. The engine's own events, `begin`, `commit` and `rollback`, cost 7 to
18 %: an engine that is listened to makes more of each statement. Besides,
`commit` comes before the commit, and nothing when a connection is lost.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import wraps
from threading import get_ident
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sqla_webhooks.outbox.gate import SHUT, Gate, Visit

#: The same as `SHUT`, where code of the application's reads in our transaction: short enough not to be noticed.
SHUT_FOR_THEIRS = 0.05

#: Seconds that the end waits for threads that are within a listener.
_LEAVING = 5.0

#: Where a dialect has its guard, and the pool's notes on a connection have its visit.
_NAME = "_sqla_webhooks"

_Info = MutableMapping[Any, Any]
_Method = Callable[[PoolProxiedConnection], None]


class _Visit(Visit):
    __slots__ = ("ours",)

    def __init__(self) -> None:
        super().__init__()
        #: Whether it is no visit just now: the connection is out for a turn.
        self.ours = False


class Guard:
    """
    The gate of an engine, and of all its copies. Safe for any thread.

    Use `Guard.on()`. Another engine on the same file is another process, as it were.
    """

    def __init__(self, engine: Engine) -> None:
        self.gate = Gate()
        self._engine = engine
        self._listeners: dict[str, Callable[..., None]] = {
            "checkout": self._on_checkout,
            "checkin": self._on_checkin,
            "detach": self._on_detach,
        }
        self._wrapped: dict[str, tuple[_Method | None, _Method]] = {}
        self._users = 0
        self._closed = False
        #: Whether readers and a writer do not hinder each other, as it was at the last look.
        self._wal = False
        self._make_anew()

    def _make_anew(self) -> None:
        """What a fork would leave broken: a lock, and threads that are not there."""
        self._changing = threading.Lock()
        #: Threads that are getting a connection for a turn.
        self._connecting: set[int] = set()
        #: Threads that are within a listener.
        self._inside: set[int] = set()

    # ------------------------------------------------------------------ its life

    @classmethod
    def on(cls, engine: Engine) -> Guard:
        """The guard of *engine*, for one user more; each user calls `close()` once."""
        known = vars(engine.dialect)
        while True:  # until it is one that is not just being closed
            guard: Guard = known.get(_NAME) or known.setdefault(_NAME, cls(engine))
            if guard._join():
                return guard

    def _join(self) -> bool:
        with self._changing:
            if self._closed:
                return False
            self._users += 1
            if self._users == 1:
                self._begin()
            return True

    def close(self) -> None:
        """
        One user less; the last leaves no trace.

        SQLAlchemy goes through listeners without a lock, and fails if one is
        taken away meanwhile. So who waits at the gate goes on, and is waited for.
        """
        with self._changing:
            self._users -= 1
            if self._users:
                return
            self._closed = True
            vars(self._engine.dialect).pop(_NAME, None)
        self.gate.open_for_good()
        self._unwrap()
        self._wait_until_nobody_is_inside()
        for name, listener in self._listeners.items():
            event.remove(self._engine, name, listener)

    def _begin(self) -> None:
        for name, listener in self._listeners.items():
            event.listen(self._engine, name, listener)
        dialect = self._engine.dialect
        self._wrap("do_begin", dialect.do_begin, before=self._enter)
        self._wrap("do_commit", dialect.do_commit, after=self._leave)
        self._wrap("do_rollback", dialect.do_rollback, after=self._leave)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_weakly(self._begin_in_child))

    def _begin_in_child(self) -> None:
        self._make_anew()
        self.gate.begin_in_this_process()

    def _wrap(
        self,
        name: str,
        method: _Method,
        *,
        before: Callable[[_Info], None] | None = None,
        after: Callable[[_Info], None] | None = None,
    ) -> None:
        @wraps(method)
        def wrapped(connection: PoolProxiedConnection) -> None:
            info = _info(connection)
            if before is not None and info is not None:
                before(info)
            method(connection)  # should a commit fail, its transaction is still open
            if after is not None and info is not None:
                after(info)

        methods = vars(self._engine.dialect)
        self._wrapped[name] = (methods.get(name), wrapped)
        methods[name] = wrapped

    def _unwrap(self) -> None:
        """Leave the methods as they were, unless somebody else has replaced them meanwhile."""
        methods = vars(self._engine.dialect)
        for name, (before, ours) in self._wrapped.items():
            if methods.get(name) is not ours:
                continue
            del methods[name]
            if before is not None:
                methods[name] = before

    def _wait_until_nobody_is_inside(self) -> None:
        left = threading.Event()
        for _ in range(int(_LEAVING / 0.01)):
            if not self._inside - {get_ident()}:
                return
            left.wait(0.01)

    # ------------------------------------------------------------------ what it hears, in the application's threads

    def _on_checkout(self, _connection: object, entry: ConnectionPoolEntry, _proxy: object) -> None:
        """Before the application begins: did it so by `BEGIN IMMEDIATE`, it would wait with what a turn waits for."""
        me = get_ident()
        self._inside.add(me)
        try:
            visit = _visit(entry.info)
            visit.ours = me in self._connecting
            if not visit.ours and not self._closed:
                self.gate.enter(visit)
        finally:
            self._inside.discard(me)

    def _on_checkin(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        """After all was undone; that of a connection which is lost, after it was closed."""
        me = get_ident()
        self._inside.add(me)
        try:
            self._leave(entry.info)
        finally:
            self._inside.discard(me)

    def _on_detach(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        """Its transaction goes on. Only the connection itself has the visit from now on, which ends with it."""
        entry.info.pop(_NAME, None)

    def _enter(self, info: _Info) -> None:
        visit = _visit(info)
        if not visit.ours and not self._closed:
            self.gate.enter(visit)

    def _leave(self, info: _Info) -> None:
        self.gate.leave(_visit(info))

    # ------------------------------------------------------------------ our turns

    def connect(self, engine: Engine) -> Connection:
        """
        A connection for a turn, by *engine* or a copy of it.

        To be had before the turn: the application's threads at the gate may
        have all that the pool has.
        """
        me = get_ident()
        self._connecting.add(me)
        try:
            return engine.connect()
        finally:
            self._connecting.discard(me)

    @contextmanager
    def look(self, connection: Connection, *, theirs: bool) -> Iterator[None]:
        """
        A turn for looking with *connection*, if there must be one; at the end the connection is closed.

        With a write-ahead log, who reads is in nobody's way.

        Args:
            theirs: Whether code of the application's looks, for as long as it likes.
        """
        if self._wal:
            with connection:
                self._wal = _has_wal(connection)
                yield
            return
        with self.gate.turn(shut=SHUT_FOR_THEIRS if theirs else SHUT), connection:
            self._wal = _has_wal(connection)
            yield


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """*method*, as long as its object lives: a hook for forks cannot be taken back."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call


def _visit(info: _Info) -> _Visit:
    visit: _Visit | None = info.get(_NAME)
    return info.setdefault(_NAME, _Visit()) if visit is None else visit


def _info(connection: PoolProxiedConnection) -> _Info | None:
    """What the pool notes of it; None as long as the pool only looks what it has connected to."""
    try:
        return connection.info
    except NotImplementedError:
        return None


def _has_wal(connection: Connection) -> bool:
    """Asked of the driver: that begins no transaction, and nobody who listens to statements hears of it."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode")
        row = cursor.fetchone()
    except connection.dialect.loaded_dbapi.Error:  # what comes next will fail too, and SQLAlchemy say how
        return False
    finally:
        cursor.close()
    return row is not None and row[0] == "wal"
