"""On a SQLite file, we make none of the application's transactions fail: in either journal, however it begins."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool, Pool, QueuePool, SingletonThreadPool
from support.local import Install
from support.one_file import EXPLICIT, EXPLICIT_WAL, MODES, Mode, file_at
from support.receiver import PATIENCE, Receiver
from support.shop import Product
from support.threads import Gate, aside

from sqla_webhooks import enricher
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.outbox import gate as outbox
from sqla_webhooks.outbox.database import Database

#: Seconds in which nothing happens to what must wait.
A_WHILE = 0.3
#: Seconds within which all is done that need not wait for a transaction: that would be two.
SOON = 1.5

every_mode = pytest.mark.parametrize("mode", MODES, ids=str)
both_journals = pytest.mark.parametrize("mode", [EXPLICIT, EXPLICIT_WAL], ids=str)


@pytest.fixture
def mode() -> Mode:
    """That in which most can go wrong, where a test does not say."""
    return EXPLICIT


@pytest.fixture
def engine(tmp_path: Path, mode: Mode) -> Iterator[Engine]:
    with file_at(tmp_path / "shop.db", mode) as engine:
        with Session(engine) as session, session.begin():
            session.add_all([Product(sku=sku) for sku in "abcd"])
        yield engine


@pytest.fixture
def database(engine: Engine) -> Iterator[Database]:
    """What we do ourselves, one transaction at a time."""
    database = Database(engine)
    database.create_tables()
    yield database
    database.close()


def add_one(sessions: Callable[[], Session], sku: str) -> None:
    """Read, then write what follows from it: fails if anybody has written, or writes, in between."""
    with sessions() as session, session.begin():
        product = session.get_one(Product, sku)
        product.stock += 1


def stocks(engine: Engine) -> dict[str, int]:
    with Session(engine) as session:
        return {product.sku: product.stock for product in session.scalars(select(Product))}


def write(database: Database, inside: Callable[[], Any] = lambda: None) -> None:
    """A write of ours, and what happens in it."""
    with database.write() as connection:
        connection.execute(insert(Product).values(sku="ours"))
        inside()


def read(database: Database, inside: Callable[[], Any] = lambda: None) -> None:
    with database.read() as connection:
        connection.execute(select(Product.sku)).all()
        inside()


class Aside:
    """Work in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._now = SystemClock().monotonic
        self._began = self._now()
        self.ended_at = 0.0
        self.thread, self._came = aside(lambda: self._run(work))

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            work()
        finally:
            self.ended_at = self._now()

    @property
    def waits(self) -> bool:
        """Whether it does not end, for a while."""
        self.thread.join(A_WHILE)
        return self.thread.is_alive()

    def end(self) -> float:
        """How many seconds it took. Raises what it raised."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        if isinstance(error := self._came[0], BaseException):
            raise error
        return self.ended_at - self._began


# ------------------------------------------------------------------ the promise


def work_in_turns(sessions: Callable[[], AbstractContextManager[Callable[[], Session]]], *, times: int) -> list[str]:
    """Eight threads which add one again and again, one after the other: that they do not hinder each other. Errors."""
    errors: list[str] = []
    turnstile = threading.Lock()

    def work(sku: str) -> None:
        with sessions() as make:
            for _ in range(times):
                with turnstile:
                    try:
                        add_one(make, sku)
                    except OperationalError as error:
                        errors.append(str(error.orig))

    threads = [threading.Thread(target=work, args=(sku,)) for sku in "abcdabcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def all_are_delivered(receiver: Receiver, engine: Engine) -> None:
    """Each transaction has come, once or more often, and each row's in their order."""
    expected = stocks(engine)
    receiver.wait_for(sum(expected.values()))
    first = {one.id: one.event for one in reversed(receiver.received)}
    told: dict[str, list[int]] = {}
    for one in reversed(first.values()):
        told.setdefault(one["resource_id"], []).append(one["data"]["stock"])
    assert told == {sku: list(range(1, stock + 1)) for sku, stock in expected.items()}


@every_mode
def test_no_transaction_of_the_application_fails_while_the_relay_works(
    engine: Engine, mode: Mode, install: Install, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = sessionmaker(engine)
    assert work_in_turns(lambda: nullcontext(sessions), times=10) == []  # the twin: nobody has installed anything
    with sessions.begin() as session:
        session.execute(update(Product).values(stock=0))
    webhooks = install(sessions, batch_window=0, poll_interval=0.01, coalesce=False)
    webhooks.endpoints.create(receiver.url(), events=["product.updated"])
    errors = work_in_turns(lambda: nullcontext(sessions), times=25)

    assert errors == []
    assert stocks(engine) == dict.fromkeys("abcd", 50)
    all_are_delivered(receiver, engine)
    assert webhooks.drain().complete
    assert Counter(one.state for one in webhooks.deliveries.list(limit=1000)) == {"delivered": 200}
    assert "could not go on" not in caplog.text  # nor did any of ours fail


@every_mode
def test_nor_does_one_on_a_connection_that_has_many(
    engine: Engine, mode: Mode, install: Install, receiver: Receiver
) -> None:
    """The pool hears nothing of where one ends and the next begins."""
    sessions = sessionmaker()
    webhooks = install(sessions, bind=engine, batch_window=0, poll_interval=0.01, coalesce=False)
    webhooks.endpoints.create(receiver.url(), events=["product.updated"])

    @contextmanager
    def on_one_connection() -> Iterator[Callable[[], Session]]:
        with engine.connect() as connection:
            yield lambda: sessions(bind=connection)

    assert work_in_turns(on_one_connection, times=25) == []
    assert stocks(engine) == dict.fromkeys("abcd", 50)
    all_are_delivered(receiver, engine)


def test_the_pool_may_have_one_connection(tmp_path: Path) -> None:
    """One who has it and waits at the gate, and one who has the gate and waits for it, would wait for each other."""
    with file_at(tmp_path / "one.db", EXPLICIT, pool_size=1, max_overflow=0) as engine:
        database = Database(engine)
        sessions = sessionmaker(engine)
        with sessions.begin() as session:
            session.add(Product(sku="a"))
        with engine.connect() as connection:
            connection.execute(select(Product.sku)).all()
            theirs = Aside(lambda: add_one(sessions, "a"))
            assert theirs.waits
            ours = Aside(lambda: write(database))
            ours.thread.join(2.3)  # when a turn that had waited without a connection would have begun
        ended = SystemClock().monotonic()
        theirs.end()
        assert theirs.ended_at - ended < 2 * A_WHILE
        ours.end()
        database.close()


# ------------------------------------------------------------------ who waits for whom


@every_mode
def test_our_write_waits_for_a_transaction_that_is_open(engine: Engine, mode: Mode, database: Database) -> None:
    with Session(engine) as session, session.begin():
        product = session.get_one(Product, "a")
        ours = Aside(lambda: write(database))
        assert ours.waits
        product.stock += 1
    assert ours.end() < SOON
    assert stocks(engine)["a"] == 1


@every_mode
@pytest.mark.parametrize("ours", [write, read])
def test_a_transaction_waits_for_ours(
    engine: Engine, mode: Mode, database: Database, gate: Gate, ours: Callable[..., None]
) -> None:
    """For a look too, where the journal has readers keep a commit from being made."""
    read(database)
    working = Aside(lambda: ours(database, gate))
    gate.wait()
    theirs = Aside(lambda: add_one(sessionmaker(engine), "a"))
    if ours is read and mode.journal == "wal":
        theirs.end()
        assert working.waits
    else:
        assert theirs.waits
    gate.open()
    working.end()
    theirs.end()
    assert stocks(engine)["a"] == 1


@every_mode
def test_our_look_waits_for_a_commit_that_it_could_spoil(engine: Engine, mode: Mode, database: Database) -> None:
    read(database)
    with Session(engine) as session, session.begin():
        session.get_one(Product, "a").stock += 1
        session.flush()
        ours = Aside(lambda: read(database))
        if mode.journal == "wal":
            ours.end()
        else:
            assert ours.waits
    assert ours.end() < SOON


def test_nothing_of_ours_comes_between_the_gate_and_the_applications_begin(
    engine: Engine, database: Database, gate: Gate
) -> None:
    """Held in its own listener to `begin`, before it has begun."""
    event.listen(
        engine, "begin", lambda _: gate() if threading.current_thread() is theirs.thread else None, insert=True
    )
    reached = threading.Event()

    def work() -> None:
        assert reached.wait(PATIENCE)  # the name below is known
        add_one(sessionmaker(engine), "a")

    theirs = Aside(work)
    reached.set()
    gate.wait()
    ours = Aside(lambda: write(database))
    assert ours.waits
    gate.open()
    theirs.end()
    assert ours.end() < SOON


@pytest.mark.parametrize("mode", [Mode("delete", "legacy"), EXPLICIT_WAL], ids=str)
def test_what_the_calling_thread_has_open_is_not_waited_for(engine: Engine, mode: Mode, database: Database) -> None:
    with Session(engine) as session:
        session.get_one(Product, "a")
        began = SystemClock().monotonic()
        write(database)
        assert SystemClock().monotonic() - began < SOON


def test_a_write_beside_a_write_of_the_same_thread_is_refused_as_ever(engine: Engine, database: Database) -> None:
    with Session(engine) as session:
        session.get_one(Product, "a").stock += 1
        session.flush()
        with pytest.raises(OperationalError, match="database is locked"):
            write(database)
        session.commit()


def test_what_stays_open_is_waited_for_once(engine: Engine, database: Database) -> None:
    with engine.connect() as connection:
        connection.execute(select(Product.sku)).all()
        first = Aside(lambda: read(database))
        assert first.waits
        assert first.end() < 2 * SOON
        assert Aside(lambda: read(database)).end() < SOON
        connection.commit()
        connection.execute(select(Product.sku)).all()
        another = Aside(lambda: read(database))
        assert another.waits
    another.end()


def test_a_write_comes_to_its_turn_where_something_is_always_open(engine: Engine, database: Database) -> None:
    done = threading.Event()
    ahead = threading.Barrier(2)

    def work() -> None:
        """Two that begin before the other ends, if nobody keeps them from it."""
        while not done.is_set():
            with Session(engine) as session:
                session.get(Product, "a")
                try:
                    ahead.wait(A_WHILE / 2)
                except threading.BrokenBarrierError:
                    ahead.reset()

    threads = [Aside(work) for _ in range(4)]
    try:
        assert Aside(lambda: write(database)).end() < SOON
    finally:
        done.set()
        for one in threads:
            one.end()


def test_a_thread_that_has_a_transaction_begins_another_at_once(engine: Engine, database: Database, gate: Gate) -> None:
    """What it has may be what ours waits for; here, ours has waited long enough, and goes on beside it."""
    with Session(engine) as first:
        first.get_one(Product, "a")
        ours = Aside(lambda: read(database, gate))
        gate.wait()
        began = SystemClock().monotonic()
        with Session(engine) as second:
            second.get_one(Product, "b")
        assert SystemClock().monotonic() - began < SOON
    gate.open()
    ours.end()


def test_several_of_ours_have_their_turns_one_after_the_other(engine: Engine, database: Database, gate: Gate) -> None:
    working = Aside(lambda: write(database, gate))
    gate.wait()
    other = Aside(lambda: read(database))
    assert other.waits
    gate.open()
    working.end()
    assert other.end() < SOON


@pytest.mark.parametrize("mode", [EXPLICIT_WAL], ids=str)
def test_with_a_write_ahead_log_a_look_of_ours_is_in_nobodys_way(
    engine: Engine, mode: Mode, database: Database, gate: Gate
) -> None:
    """Nor of another of ours, though its connection is out of the pool like any."""
    read(database)
    looking = Aside(lambda: read(database, gate))
    gate.wait()
    assert Aside(lambda: write(database)).end() < SOON
    gate.open()
    looking.end()


@both_journals
def test_nobody_waits_long_for_an_enricher(
    engine: Engine, mode: Mode, install: Install, receiver: Receiver, gate: Gate
) -> None:
    """It is the application's own code, and may itself wait for anything."""
    sessions = sessionmaker(engine)

    with ExitStack() as stack:

        @enricher(Product)
        def held(_product: Product, _payload: dict[str, Any]) -> None:
            gate()

        webhooks = install(sessions, batch_window=0)
        webhooks.enricher(Product)(held)
        stack.callback(gate.open)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        add_one(sessions, "a")
        gate.wait()
        assert Aside(lambda: stocks(engine)).end() < A_WHILE * 2
        gate.open()
        receiver.wait_for(1)


def test_who_has_waited_is_let_in_one_after_the_other() -> None:
    """They would have come apart, and would now begin at one instant, and fail by each other."""
    the_gate = outbox.Gate(apart=PATIENCE)
    leave = [threading.Event() for _ in range(3)]
    inside: Queue[int] = Queue()

    def visit(number: int) -> None:
        visit = outbox.Visit()
        the_gate.enter(visit)
        inside.put(number)
        assert leave[number].wait(PATIENCE)
        the_gate.leave(visit)

    with the_gate.turn():
        visits = [Aside(partial(visit, number)) for number in range(3)]
        assert visits[-1].waits
    for _ in visits:
        one = inside.get(timeout=PATIENCE)
        with pytest.raises(Empty):
            inside.get(timeout=A_WHILE / 3)
        leave[one].set()
    for other in visits:
        other.end()


# ------------------------------------------------------------------ how a transaction ends


def _detach(connection: Connection) -> None:
    connection.detach()
    connection.close()


ENDS: dict[str, Callable[[Connection], Any]] = {
    "commit": Connection.commit,
    "rollback": Connection.rollback,
    "returned to the pool": Connection.close,
    "invalidated": Connection.invalidate,
    "detached and closed": _detach,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_however_a_transaction_ends_we_know(
    engine: Engine, database: Database, end: Callable[[Connection], Any]
) -> None:
    with engine.connect() as connection:
        connection.execute(select(Product.sku)).all()
        ours = Aside(lambda: write(database))
        assert ours.waits
        end(connection)
        assert ours.end() < SOON


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a connection that nobody closed
@pytest.mark.parametrize("kept", [Connection.get_execution_options, Connection.detach], ids=["pooled", "detached"])
def test_a_connection_that_is_dropped_ends_its_transaction(
    engine: Engine, database: Database, kept: Callable[[Connection], Any]
) -> None:
    gc.collect()
    gc.freeze()  # what thousands of tests have left takes longer to look through than what is measured
    for connection in [engine.connect() for _ in range(3)]:
        connection.close()  # so that ours is another of the pool's, and not in the place of this one
    connections = [engine.connect()]
    connections[0].execute(select(Product.sku)).all()
    kept(connections[0])
    ours = Aside(lambda: read(database))  # a write may come before the garbage collector has closed it
    assert ours.waits
    connections.clear()
    gc.collect()
    gc.unfreeze()
    assert ours.end() < SOON


def test_a_detached_connection_is_still_in_its_transaction(engine: Engine, database: Database) -> None:
    with engine.connect() as connection:
        connection.execute(select(Product.sku)).all()
        connection.detach()
        ours = Aside(lambda: write(database))
        assert ours.waits
        connection.commit()
        assert ours.end() < SOON


def test_one_whose_commit_failed_is_still_open(engine: Engine, database: Database) -> None:
    with engine.connect() as connection, engine.connect() as reader:
        connection.execute(update(Product).values(stock=5))
        reader.execute(select(Product.sku)).all()
        with pytest.raises(OperationalError, match="database is locked"):
            connection.commit()
        reader.close()
        ours = Aside(lambda: write(database))
        assert ours.waits
        connection.connection.rollback()  # the driver's, for SQLAlchemy believes that it has ended
        connection.close()
        assert ours.end() < SOON


def test_a_savepoint_is_not_its_end(engine: Engine, database: Database) -> None:
    with Session(engine) as session, session.begin():
        with session.begin_nested():
            session.get_one(Product, "a")
        with session.begin_nested() as savepoint:
            savepoint.rollback()
        ours = Aside(lambda: write(database))
        assert ours.waits
        session.get_one(Product, "a").stock += 1
    assert ours.end() < SOON


@pytest.mark.parametrize("mode", [Mode("delete", "legacy")], ids=str)
def test_a_connection_that_commits_by_itself_keeps_nobody_for_ever(engine: Engine, database: Database) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(select(Product.sku)).all()
        assert Aside(lambda: write(database)).end() < 2 * SOON
        assert Aside(lambda: read(database)).end() < SOON


# ------------------------------------------------------------------ which engines


@pytest.mark.parametrize("ours", ["the copy", "the engine"])
def test_the_copies_of_an_engine_have_one_gate(engine: Engine, ours: str) -> None:
    copy = engine.execution_options(marked=True)
    theirs = engine if ours == "the copy" else copy
    database = Database(copy if ours == "the copy" else engine)
    try:
        with Session(theirs) as session, session.begin():
            session.get_one(Product, "a")
            writing = Aside(lambda: write(database))
            assert writing.waits
            session.get_one(Product, "a").stock += 1
        assert writing.end() < SOON
    finally:
        database.close()


@pytest.mark.parametrize("pool", [QueuePool, NullPool, SingletonThreadPool])
def test_there_is_a_gate_in_each_pool(tmp_path: Path, pool: type[Pool]) -> None:
    with file_at(tmp_path / "one.db", EXPLICIT, poolclass=pool) as engine:
        database = Database(engine)
        for _ in range(2):
            with Session(engine) as session, session.begin():
                session.add(Product(sku="a"))
                session.flush()
                ours = Aside(lambda: read(database))
                assert ours.waits
                session.rollback()
            assert ours.end() < SOON
        database.close()


def test_a_file_that_another_process_locks_is_said_to_be_locked(
    engine: Engine, database: Database, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        engine.dispose()
        assert not database.answers()
        other.execute("ROLLBACK")
        assert database.answers()


def test_the_gate_outlives_the_pool(engine: Engine, database: Database) -> None:
    engine.dispose()
    with Session(engine) as session, session.begin():
        product = session.get_one(Product, "a")
        ours = Aside(lambda: write(database))
        assert ours.waits
        product.stock += 1
    assert ours.end() < SOON


def traces(engine: Engine) -> dict[str, Any]:
    heard = {name: list(getattr(engine.pool.dispatch, name)) for name in ("checkout", "checkin", "detach")}
    methods = {name: vars(engine.dialect).get(name) for name in ("do_begin", "do_commit", "do_rollback")}
    return {**heard, **methods, "ours": [name for name in vars(engine.dialect) if "webhooks" in name]}


def test_the_last_installation_on_an_engine_takes_the_gate_away(engine: Engine, install: Install) -> None:
    before = traces(engine)
    one = install(sessionmaker(engine), deliver=False)
    other = install(sessionmaker(engine), deliver=False)
    one.uninstall()
    one.uninstall()
    with Session(engine) as session:
        session.get_one(Product, "a")
        ours = Aside(lambda: other.endpoints.create("http://127.0.0.1:1024/", events=["*"]))
        assert ours.waits
    ours.end()
    engine.dispose()
    other.uninstall()
    assert traces(engine) == before
    add_one(sessionmaker(engine), "a")


def test_methods_that_others_have_replaced_are_left_to_them(engine: Engine) -> None:
    calls: list[str] = []

    def replace(word: str) -> Callable[..., None]:
        begin = engine.dialect.do_begin

        def do_begin(connection: Any) -> None:
            calls.append(word)
            begin(connection)

        vars(engine.dialect)["do_begin"] = do_begin
        return do_begin

    before = replace("before")
    database = Database(engine)
    database.close()
    assert engine.dialect.do_begin is before
    database = Database(engine)
    after = replace("after")
    database.close()
    assert engine.dialect.do_begin is after
    add_one(sessionmaker(engine), "a")
    assert calls == ["after", "before"]


def test_who_waits_goes_on_when_the_gate_is_taken_away(engine: Engine, gate: Gate) -> None:
    database = Database(engine)
    working = Aside(lambda: read(database, gate))
    gate.wait()
    theirs = Aside(lambda: add_one(sessionmaker(engine), "a"))
    assert theirs.waits
    database.close()
    with pytest.raises(OperationalError, match="database is locked"):  # as it is where nobody keeps the gate
        theirs.end()
    gate.open()
    working.end()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql+psycopg://x/y"])
def test_there_is_no_gate_where_none_is_needed(url: str) -> None:
    engine = create_engine(url)
    before = traces(engine)
    database = Database(engine)
    after = traces(engine)
    database.close()
    assert {**after, "checkout": []} == {**before, "checkout": []}  # in memory, there is another listener


# ------------------------------------------------------------------ loops, and processes


def test_an_event_loop_and_the_relay_do_not_stop_each_other(
    tmp_path: Path, install: Install, receiver: Receiver
) -> None:
    """Transactions of several tasks are open in one thread; the relay's are in another."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/async.db")
    sessions = async_sessionmaker(engine)

    async def work(sku: str) -> None:
        for _ in range(10):
            async with sessions.begin() as session:
                product = await session.get_one(Product, sku, with_for_update=True)
                product.stock += 1

    async def main() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Product.metadata.create_all)
        async with sessions.begin() as session:
            session.add_all([Product(sku=sku) for sku in "abcd"])
        webhooks = await asyncio.to_thread(install, sessions, batch_window=0, poll_interval=0.01, coalesce=False)
        await asyncio.to_thread(webhooks.endpoints.create, receiver.url(), events=["product.updated"])
        await asyncio.gather(*map(work, "abcd"))
        await asyncio.to_thread(receiver.wait_for, 40)
        await asyncio.to_thread(webhooks.uninstall)
        await engine.dispose()

    asyncio.run(main())
    assert len(set(receiver.ids)) == 40


def test_a_coroutine_that_drains_waits_for_no_other_of_its_thread(
    tmp_path: Path, install: Install, receiver: Receiver
) -> None:
    """They stand still until it is done."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/async.db")
    sessions = async_sessionmaker(engine)

    async def main() -> float:
        async with engine.begin() as connection:
            await connection.run_sync(Product.metadata.create_all)
        webhooks = await asyncio.to_thread(install, sessions, deliver=False)
        await asyncio.to_thread(webhooks.endpoints.create, receiver.url(), events=["*"])
        async with sessions.begin() as session:
            session.add(Product(sku="a"))
        async with sessions() as session:
            await session.get_one(Product, "a")
            began = SystemClock().monotonic()
            assert webhooks.drain().complete
            took = SystemClock().monotonic() - began
        await asyncio.to_thread(webhooks.uninstall)
        await engine.dispose()
        return took

    assert asyncio.run(main()) < SOON
    assert receiver.types == ["product.created"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_finds_the_gate_open(engine: Engine, database: Database, gate: Gate) -> None:
    """It was forked in our turn, while another thread waited for it."""
    working = Aside(lambda: write(database, gate))
    gate.wait()
    theirs = Aside(lambda: add_one(sessionmaker(engine), "a"))
    assert theirs.waits
    child = os.fork()
    if not child:
        database.begin_in_child()
        began = SystemClock().monotonic()
        with engine.connect():
            pass
        os._exit(0 if SystemClock().monotonic() - began < SOON else 1)
    _, status = os.waitpid(child, 0)
    gate.open()
    working.end()
    theirs.end()
    assert status == 0
