"""
The door to the database, for everything but capture.

Capture writes on the application's connection; all else goes through
`Database.read()` and `Database.write()`: short transactions of our own, never
open while a request runs, nor while `delivered`, `failed` or `dead` are sent.
Enrichers run inside a `read()`, on whose connection their rows are. All of it
happens inside a `Database.run()`, which is where an async driver is made to
look like a plain one. On a SQLite file each has its turn at the gate (see
`gate`), so that none makes a transaction of the application's fail.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial, wraps
from threading import get_ident
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, ColumnElement, Connection, Engine, event, inspect, select, tuple_
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, SingletonThreadPool, StaticPool
from sqlalchemy.util.concurrency import in_greenlet

from sqla_webhooks import async_sessions, models
from sqla_webhooks.errors import ConfigurationError, DatabaseBusy
from sqla_webhooks.outbox.bridge import Bridge
from sqla_webhooks.outbox.guard import Guard
from sqla_webhooks.outbox.sizes import largest_value

T = TypeVar("T")
P = ParamSpec("P")

_SCHEMAS = "schema_translate_map"

_CREATE = "webhooks.endpoints.create(..., session=session)"

#: Bound parameters in one IN list: SQLite before 3.32 takes 999 in a statement.
_PARAMETERS = 500


def chunks(values: Sequence[T], *, width: int = 1) -> Iterator[Sequence[T]]:
    """*values*, of *width* parameters each, in pieces that fit an IN list."""
    size = max(1, _PARAMETERS // width)
    for start in range(0, len(values), size):
        yield values[start : start + size]


def among(columns: Sequence[ColumnElement[Any]], identities: Sequence[Sequence[Any]]) -> ColumnElement[bool]:
    """Whether a row's primary key, which is *columns*, is one of *identities*."""
    if len(columns) == 1:
        return columns[0].in_([identity[0] for identity in identities])
    return tuple_(*columns).in_(identities)


class _OnDatabase(Protocol):
    _database: Database


_S = TypeVar("_S", bound=_OnDatabase)


def on_database(method: Callable[Concatenate[_S, P], T]) -> Callable[Concatenate[_S, P], T]:
    """A method that people call: inside a `Database.run()`, or with `session=` where that session is at work."""

    @wraps(method)
    def call(self: _S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        work = partial(method, self, *args, **kwargs)
        return self._database.run(work) if kwargs.get("session") is None else work()

    return call


class Database:
    """
    One engine of the application's, as we use it. Safe for any thread.

    `engine` is the application's. Where its driver is async, what we do
    ourselves is done on another that is made like it: see `Bridge`.

    An in-memory SQLite database has but one connection (or one a thread).
    There our commit would end the application's open transaction, so the door
    stays shut while one is open: `DatabaseBusy`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.in_memory: bool = _in_memory(engine)
        self._bridge = Bridge(engine, shared=self.in_memory) if engine.dialect.is_async else None
        self._schemas = engine.get_execution_options().get(_SCHEMAS)
        # The pool's connections that were used, in the single-connection case; weak, as a connection that is dropped
        # ends its transaction. Heard of from the pool: an engine that is listened to is slower with each statement.
        self._used: weakref.WeakSet[ConnectionPoolEntry] = weakref.WeakSet()
        if self.in_memory:
            event.listen(engine, "checkout", self._note_used)
        one_writer = engine.dialect.name == "sqlite" and not self.in_memory
        self._guard = Guard.on(engine) if one_writer else None
        #: Asked of the database once, by whoever comes first.
        self._locks_reads: bool | None = None
        self._largest_value: int | None = None

    def close(self) -> None:
        """Stop listening to the engine, which stays the application's. Does nothing the second time."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()
        if event.contains(self.engine, "checkout", self._note_used):
            event.remove(self.engine, "checkout", self._note_used)

    def _note_used(self, _connection: object, entry: ConnectionPoolEntry, _proxy: object) -> None:
        self._used.add(entry)

    def run(self, work: Callable[[], T]) -> T:
        """
        What *work* returns, or raises; it may call the other methods, whatever the driver.

        In the calling thread, unless the driver is async and an event loop
        runs there: then in another, for which it waits.
        """
        if self._bridge is None:
            return work()
        guard = self._guard
        return self._bridge.run(work if guard is None else guard.gate.acting_for(get_ident(), work))

    def begin_in_child(self) -> None:
        """In a forked child: let go of the parent's connections in the application's pool, without closing them."""
        # In memory the connection is the database, and the child has its own copy. Of an async engine we use no
        # connection of the application's.
        if not self.in_memory and self._bridge is None:
            self.engine.dispose(close=False)

    @property
    def _engine(self) -> Engine:
        return self.engine if self._bridge is None else self._bridge.engine

    @contextmanager
    def read(self, *, theirs: bool = False) -> Iterator[Connection]:
        """
        A connection to look with. Whatever is done on it is rolled back.

        Args:
            theirs: Whether code of the application's looks with it, for as long as it likes.
        """
        self._refuse_if_busy()
        guard = self._guard
        with _connected(guard, self._engine) as connection, _look(guard, connection, theirs=theirs):
            if theirs and connection.dialect.name in _LEVELLED:
                # What is loaded bit by bit is of one instant: a row's relations are not another tenant's by then.
                _isolate(connection, "REPEATABLE READ")
            elif self._reading_locks(connection):
                _isolate(connection, "READ COMMITTED")
            yield connection

    def _reading_locks(self, connection: Connection) -> bool:
        """Whether it would lock what it only looks at, as on MySQL and MariaDB where transactions are serializable."""
        if self._locks_reads is None:
            is_mysql = connection.dialect.name in ("mysql", "mariadb")
            self._locks_reads = is_mysql and connection.get_isolation_level() == "SERIALIZABLE"
        return self._locks_reads

    @property
    def largest_value(self) -> int:
        """
        Bytes that one value may have, so that a statement can carry it, however the driver writes it.

        Raises:
            DBAPIError: The database failed; it is asked once.
        """
        if self._largest_value is None:
            with self.read() as connection:
                self._largest_value = largest_value(connection)
        return self._largest_value

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """As `read()`, for statements that need not see the same: on PostgreSQL in no transaction, which is quicker."""
        with self.read() as connection:
            if connection.dialect.name == "postgresql":
                _isolate(connection, "AUTOCOMMIT")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """
        A transaction: commits at the end, rolls back if the block raises.

        Its first statement should write. On SQLite a transaction that reads
        first may find the database changed when it comes to write, and fails
        at once instead of waiting its turn. Elsewhere each statement sees what
        has committed by then, whatever the application's transactions do: who
        has waited for a lock must see what came of it.
        """
        self._refuse_if_busy()
        guard = self._guard
        with _connected(guard, self._engine) as connection, _turn(guard):
            if connection.dialect.name in _LEVELLED:
                _isolate(connection, "READ COMMITTED")
            with connection.begin():
                yield connection

    def answers(self) -> bool:
        """Whether the database is there, and not locked, and has a connection for us."""
        try:
            with self.read() as connection:
                connection.execute(select(models.lease.c.name)).first()
        except (DBAPIError, PoolTimeout, DatabaseBusy):
            return False
        return True

    def is_away(self, error: BaseException) -> bool:
        """Whether *error*, of whoever's, came of it that the database cannot be had: whoever met it is to wait."""
        return isinstance(error, DBAPIError | PoolTimeout | DatabaseBusy) and not self.answers()

    def of_session(self, session: Session, *, call: str = _CREATE) -> Connection:
        """
        The connection on which *session* is in its transaction.

        Args:
            call: What the caller has called, for the message.

        Raises:
            ConfigurationError: The session is bound to another database.
        """
        check_session(session, call=call)
        bind = self.engine if session.bind is None else session.get_bind()
        if bind.dialect.is_async and not in_greenlet():
            raise ConfigurationError(_run_sync(call))
        connection = session.connection(bind_arguments={"bind": bind})
        if not self.holds(connection):
            message = (
                f"the session writes to {connection.engine.url!r} and the webhook_ tables are on {self.engine.url!r}: "
                "give a session of the factory that install() got"
            )
            raise ConfigurationError(message)
        return connection

    def holds(self, bind: Engine | Connection) -> bool:
        """Whether what is written to *bind* is written to this database."""
        return same_database(bind.engine, self.engine)

    @contextmanager
    def schema_of_ours(self, connection: Connection) -> Iterator[None]:
        """
        For statements on our tables, on a connection of the application's.

        A session may take its tables' schema for another, as for a tenant's;
        ours are where `install()` has made them.
        """
        theirs = connection.get_execution_options().get(_SCHEMAS)
        if theirs == self._schemas:
            yield
            return
        connection.execution_options(**{_SCHEMAS: self._schemas})
        try:
            yield
        finally:
            connection.execution_options(**{_SCHEMAS: theirs})

    def create_tables(self) -> None:
        """
        Create what is missing of our tables.

        When several processes start on a new database, each may find a table
        missing that another creates meanwhile. So one that fails looks again,
        as long as there are fewer missing each time.

        Raises:
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
            DBAPIError: The database refused, or is locked for longer than its driver waits.
        """
        self.run(self._create_missing)

    def _create_missing(self) -> None:
        self._refuse_if_busy()
        missing = self._count_missing()
        while missing:
            try:
                with self._passing() as connection:
                    models.metadata.create_all(connection)
                    connection.commit()
            except DBAPIError:
                if (left := self._count_missing()) >= missing:
                    raise
                missing = left
            else:
                return

    def _count_missing(self) -> int:
        schema = (self._schemas or {}).get(None)
        with self._passing() as connection:
            there = inspect(connection)
            return sum(not there.has_table(name, schema=schema) for name in models.metadata.tables)

    @contextmanager
    def _passing(self) -> Iterator[Connection]:
        """A connection that is closed for good, if it may be: one in the pool would be inherited by a later fork."""
        guard = self._guard
        with _connected(guard, self._engine) as connection:
            if not self.in_memory and self._bridge is None:
                connection.detach()
            with _turn(guard), connection:
                yield connection

    def _refuse_if_busy(self) -> None:
        if not self.in_memory:
            return
        if any(_driver_says(entry.dbapi_connection) for entry in list(self._used)) or self._is_begun():
            message = (
                "the application's transaction is open on the only connection of this in-memory SQLite database: "
                "commit or roll back first, or close the session"
            )
            raise DatabaseBusy(message)

    def _is_begun(self) -> bool:
        """Whether the one connection is in a transaction that began before we listened."""
        pool = self.engine.pool
        if isinstance(pool, StaticPool):
            return _driver_says(pool.connection.dbapi_connection)
        if isinstance(pool, SingletonThreadPool):
            # Where the connection is in use in this thread already, this only counts one user more.
            with closing(self._engine.raw_connection()) as raw:
                return _driver_says(raw.dbapi_connection)
        return False


#: Where a transaction may be told to see less than what has committed.
_LEVELLED = frozenset({"postgresql", "mysql", "mariadb"})


def _isolate(connection: Connection, level: IsolationLevel) -> None:
    """For as long as we have it: the pool gives it back as it was."""
    connection.execution_options(isolation_level=level)


def _connected(guard: Guard | None, engine: Engine) -> Connection:
    return engine.connect() if guard is None else guard.connect(engine)


def _turn(guard: Guard | None) -> AbstractContextManager[None]:
    return nullcontext() if guard is None else guard.gate.turn()


def _look(guard: Guard | None, connection: Connection, *, theirs: bool) -> AbstractContextManager[None]:
    return nullcontext() if guard is None else guard.look(connection, theirs=theirs)


def _run_sync(call: str) -> str:
    return (
        f"session is an async session's: call this where it is at work, await session.run_sync(lambda session: {call})"
    )


def same_database(one: Engine, other: Engine) -> bool:
    """Whether two engines lead to one database, by whatever drivers."""
    if one.pool is other.pool:
        return True
    if one.url.database != other.url.database or _in_memory(other):
        return False
    return one.url == other.url or _place(one.url) == _place(other.url)


def _place(url: URL) -> URL:
    return url.set(drivername=url.get_backend_name())


def check_session(given: Any, *, call: str) -> None:
    """
    Whether it is a session of the plain kind.

    Raises:
        ConfigurationError: It is not; the message says how *call* is made with an async one.
    """
    if async_sessions.is_session(given) or async_sessions.is_scope(given):
        raise ConfigurationError(_run_sync(call))
    if not isinstance(given, Session):
        message = f"session is {type(given).__name__}: give the session of whose transaction it shall be part"
        raise ConfigurationError(message)


def _in_memory(engine: Engine) -> bool:
    if engine.dialect.name != "sqlite":
        return False
    name = engine.url.database or ":memory:"
    return ":memory:" in name or "mode=memory" in str(engine.url) or isinstance(engine.pool, StaticPool)


def _driver_says(connection: Any) -> bool:
    """Whether SQLite itself is in a transaction; `begin` in SQLAlchemy need not mean that."""
    driver = getattr(connection, "driver_connection", connection)  # an async one is wrapped
    return driver is not None and bool(getattr(driver, "in_transaction", True))
