"""Async sessions: aiosqlite and asyncpg, with no other driver installed."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, object_session, sessionmaker
from sqlalchemy.pool import StaticPool
from support.async_databases import (
    Application,
    application_at,
    postgresql_database,
    postgresql_server,
    without_other_drivers,
)
from support.local import Install
from support.receiver import PATIENCE, Receiver, by_row
from support.shop import Customer, Order, Product
from support.threads import relays

import sqla_webhooks
from sqla_webhooks import ConfigurationError, DatabaseBusy, delivered

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(params=["aiosqlite", "asyncpg"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    without_other_drivers(monkeypatch.setitem)
    if request.param == "aiosqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/shop.db"
        return
    with postgresql_database(request.getfixturevalue("server"), f"async_{next(_numbers)}") as url:
        yield url


@pytest.fixture
def application(url: str) -> Iterator[Application]:
    with application_at(url) as application:
        yield application


@pytest.fixture
def on_file(tmp_path: Path) -> Iterator[Application]:
    """For what is the same with every driver."""
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        yield application


@pytest.fixture
def in_memory() -> Iterator[Application]:
    with application_at("sqlite+aiosqlite:///:memory:") as application:
        yield application


# ------------------------------------------------------------------ transactions


def test_an_event_exists_if_and_only_if_its_change_committed(
    application: Application, install: Install, receiver: Receiver
) -> None:
    webhooks = install(application.sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    async def main() -> None:
        async with application.sessions() as session:
            session.add(Product(sku="committed"))
            await session.commit()
            session.add(Product(sku="rolled back"))
            await session.flush()
            await session.rollback()
            session.add(Product(sku="before the savepoint"))
            savepoint = await session.begin_nested()
            session.add(Product(sku="in the savepoint"))
            await session.flush()
            await savepoint.rollback()
            async with session.begin_nested():
                session.add(Product(sku="in another"))
            await session.commit()

    application.run(main)
    drained = webhooks.drain()

    assert drained.complete
    assert [one["resource_id"] for one in receiver.events()] == ["committed", "before the savepoint", "in another"]


def test_updates_and_deletes_tell_old_values(application: Application, install: Install, receiver: Receiver) -> None:
    webhooks = install(application.sessions, deliver=False, capture="all")
    webhooks.endpoints.create(receiver.url(), events=["*"])

    async def main() -> None:
        async with application.sessions() as session:
            product = Product(sku="a", name="old")
            session.add(product)
            await session.commit()
            product.name = "new"  # expired, so its old value is read in the flush
            await session.commit()
            await session.delete(product)
            await session.commit()

    application.run(main)
    webhooks.drain()

    created, updated, deleted = receiver.events()
    assert created["data"]["name"] == "old"
    assert updated["changes"] == {"name": {"from": "old", "to": "new"}}
    assert deleted["data"]["name"] == "new"


def test_tasks_with_sessions_of_their_own_keep_each_rows_order(
    application: Application, install: Install, receiver: Receiver
) -> None:
    webhooks = install(application.sessions, deliver=False, capture="all")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    skus = [f"p{number}" for number in range(5)]

    async def work(sku: str) -> None:
        async with application.sessions() as session:
            product = Product(sku=sku)
            session.add(product)
            await session.commit()
            for stock in range(1, 4):
                product.stock = stock
                await session.commit()
                session.add(Product(sku=f"{sku}-{stock}"))
                await session.flush()
                await session.rollback()
                await session.refresh(product)

    async def main() -> None:
        await asyncio.gather(*map(work, skus))

    application.run(main)
    webhooks.drain()

    rows = by_row(receiver.received)
    assert set(rows) == {("product", sku) for sku in skus}
    assert all([one["data"]["stock"] for one in events] == [0, 1, 2, 3] for events in rows.values())


# ------------------------------------------------------------------ the relay


def test_the_thread_delivers_what_loops_one_after_the_other_commit(
    application: Application, install: Install, receiver: Receiver
) -> None:
    webhooks = install(application.sessions)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    application.put(Product(sku="a"))
    receiver.wait_for(1)
    application.put(Product(sku="b"))
    requests = receiver.wait_for(2)

    assert [one.verify(endpoint.secret)["resource_id"] for one in requests] == ["a", "b"]
    assert webhooks.stop(timeout=PATIENCE)
    webhooks.start()
    application.put(Product(sku="c"))
    assert receiver.wait_for(3)[-1].event["resource_id"] == "c"


def test_an_enrichers_lazy_loads_work(application: Application, install: Install, receiver: Receiver) -> None:
    webhooks = install(application.sessions)
    webhooks.endpoints.create(receiver.url(), events=["order.*"])

    @webhooks.enricher(Order)
    def with_customer(order: Any, payload: dict[str, Any]) -> None:
        payload["email"] = order.customer.email
        payload["siblings"] = len(order.customer.orders)
        payload["note"] = order.note  # deferred

    application.put(Customer(email="a@b.example", orders=[Order(note="x"), Order(note="x")]))
    receiver.wait_for(2)

    for data in (one["data"] for one in receiver.events()):
        assert (data["email"], data["siblings"], data["note"]) == ("a@b.example", 2, "x")


def test_a_receiver_of_a_signal_may_ask_for_endpoints(
    application: Application, install: Install, receiver: Receiver
) -> None:
    webhooks = install(application.sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    seen: list[Any] = []

    def listen(_sender: object, *, delivery: Any, attempt: Any) -> None:
        seen.append((webhooks.endpoints.list(), webhooks.deliveries.attempts(delivery.id), threading.current_thread()))

    application.put(Product(sku="a"))
    with delivered.connected_to(listen):
        webhooks.drain()

    [(endpoints, attempts, thread)] = seen
    assert (len(endpoints), len(attempts)) == (1, 1)
    assert thread is threading.current_thread()


def test_drain_can_be_interrupted_and_called_again(on_file: Application, install: Install, receiver: Receiver) -> None:
    webhooks = install(on_file.sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    on_file.put(Product(sku="a"))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with delivered.connected_to(interrupt), pytest.raises(KeyboardInterrupt):
        webhooks.drain()
    assert webhooks.drain().complete
    assert receiver.types == ["product.created"]
    assert [one.state for one in webhooks.deliveries.list()] == ["delivered"]


# ------------------------------------------------------------------ calls, wherever they come from


def test_calls_inside_a_running_loop_and_beside_it(
    application: Application, install: Install, receiver: Receiver
) -> None:
    async def main() -> None:
        webhooks = install(application.sessions, deliver=False)
        one = webhooks.endpoints.create(receiver.url(), events=["product.*"])
        two = await asyncio.to_thread(webhooks.endpoints.create, receiver.url("/two"), events=["product.*"])
        async with application.sessions.begin() as session:
            session.add(Product(sku="a"))
        assert (webhooks.drain().events, receiver.types) == (1, ["product.created"] * 2)
        webhooks.endpoints.disable(two.id)
        async with application.sessions.begin() as session:
            session.add(Product(sku="b"))
        drained = await asyncio.to_thread(webhooks.drain)
        assert (drained.events, len(receiver.types)) == (1, 3)
        assert [one.id for one in webhooks.endpoints.list()] == [one.id, two.id]
        assert len(webhooks.events.list()) == len(await asyncio.to_thread(webhooks.events.list)) == 2
        assert webhooks.uninstall()

    application.run(main)


def test_a_call_in_a_loop_sees_its_context_and_leaves_no_thread(on_file: Application, install: Install) -> None:
    webhooks = install(on_file.sessions, deliver=False)

    async def main() -> set[threading.Thread]:
        before = set(threading.enumerate())
        webhooks.endpoints.list()
        return {one for one in set(threading.enumerate()) - before if "sqla_webhooks" in one.name}

    assert on_file.run(main) == set()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_errors_come_through(application: Application, install: Install) -> None:
    webhooks = install(application.sessions, deliver=False)

    async def main() -> None:
        with pytest.raises(sqla_webhooks.NotFound):
            webhooks.endpoints.get("ep_nobody")

    application.run(main)
    with pytest.raises(sqla_webhooks.NotFound):
        webhooks.endpoints.get("ep_nobody")


def test_an_endpoint_in_the_transaction_of_an_async_session(
    application: Application, install: Install, receiver: Receiver
) -> None:
    webhooks = install(application.sessions, deliver=False)

    def create(session: Session) -> None:
        webhooks.endpoints.create(receiver.url(), events=["*"], session=session)

    async def main() -> None:
        async with application.sessions() as session:
            await session.run_sync(create)
            await session.rollback()
            assert webhooks.endpoints.list() == []
            await session.run_sync(create)
            session.add(Product(sku="a"))  # counts for it at once
            await session.commit()
            given: list[Any] = [session, session.sync_session, async_scoped_session(application.sessions, lambda: 1)]
            for wrong in given:
                with pytest.raises(ConfigurationError, match=r"await session\.run_sync"):
                    webhooks.endpoints.create(receiver.url(), events=["*"], session=wrong)

    application.run(main)
    webhooks.drain()
    assert receiver.types == ["product.created"]


# ------------------------------------------------------------------ what it takes


@asynccontextmanager
async def put_in(session: AsyncSession, sku: str) -> AsyncIterator[None]:
    async with session:
        session.add(Product(sku=sku))
        await session.commit()
        yield


def test_exactly_the_sessions_of_the_maker(on_file: Application, install: Install) -> None:
    webhooks = install(on_file.sessions, deliver=False, capture="all")
    plain = create_engine(on_file.engine.url.set(drivername="sqlite"))

    async def main() -> None:
        async with put_in(on_file.sessions(), "ours"):
            pass
        async with put_in(AsyncSession(on_file.engine), "theirs"):
            pass
        async with put_in(async_sessionmaker(on_file.engine)(), "of another maker"):
            pass

    on_file.run(main)
    with Session(plain) as session:
        session.add(Product(sku="sync"))
        session.commit()
    plain.dispose()
    webhooks.drain()

    assert [one.resource_id for one in webhooks.events.list()] == ["ours"]


def test_an_async_session_class_a_scope_and_makers_with_sync_classes_of_their_own(
    on_file: Application, install: Install
) -> None:
    class Ours(AsyncSession):
        pass

    class Theirs(Session):
        pass

    sync_maker: Any = sessionmaker(class_=Theirs)
    with_maker = async_sessionmaker(on_file.engine, sync_session_class=sync_maker)
    with_class = async_sessionmaker(on_file.engine, sync_session_class=Theirs)
    scope = async_scoped_session(async_sessionmaker(on_file.engine), scopefunc=asyncio.current_task)
    install(Ours, bind=on_file.engine, deliver=False, capture="all")
    install(scope, deliver=False, capture="all")
    install(with_maker, deliver=False, capture="all")
    webhooks = install(with_class, deliver=False, capture="all")

    async def main() -> None:
        for sku, session in {
            "class": Ours(on_file.engine),
            "maker of the class": async_sessionmaker(on_file.engine, class_=Ours)(),
            "scope": scope(),
            "with maker": with_maker(),
            "with class": with_class(),
        }.items():
            async with put_in(session, sku):
                pass
        await scope.remove()

    on_file.run(main)
    webhooks.drain()

    assert [one.resource_id for one in reversed(webhooks.events.list())] == [
        "class",
        "maker of the class",
        "scope",
        "with maker",
        "with class",
    ]


def test_async_session_itself_and_one_session(on_file: Application, install: Install) -> None:
    async def main() -> None:
        async with AsyncSession(on_file.engine) as session, AsyncSession(on_file.engine) as open_before:
            one = install(session, deliver=False, capture="all")
            assert install(session) is one
            session.add(Product(sku="one"))
            await session.commit()
            one.uninstall()
            every = install(AsyncSession, bind=on_file.engine, deliver=False, capture="all")
            open_before.add(Product(sku="not heard"))
            await open_before.commit()
        async with put_in(AsyncSession(on_file.engine), "every"):
            pass
        every.drain()
        assert [one.resource_id for one in reversed(every.events.list())] == ["one", "every"]
        every.uninstall()

    on_file.run(main)
    assert AsyncSession.sync_session_class is Session


def test_install_twice_is_the_same_handle(on_file: Application, install: Install) -> None:
    webhooks = install(on_file.sessions, deliver=False)

    assert install(on_file.sessions, deliver=False) is webhooks
    assert sqla_webhooks.install(on_file.sessions, bind=on_file.engine) is webhooks
    assert sqla_webhooks.install(async_scoped_session(on_file.sessions, lambda: 1)) is webhooks
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(Session, bind=on_file.engine)


def test_threads_that_install_at_once_get_one_installation(on_file: Application) -> None:
    together = threading.Barrier(4)
    got: list[sqla_webhooks.Webhooks] = []

    def run() -> None:
        together.wait(PATIENCE)
        got.append(sqla_webhooks.install(on_file.sessions, deliver=False))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(got) == 4
    assert len(set(map(id, got))) == 1
    got[0].uninstall()
    assert "sync_session_class" not in on_file.sessions.kw


def test_a_connection_as_bind_is_its_engine(on_file: Application, install: Install) -> None:
    async def main() -> None:
        async with on_file.engine.connect() as connection:
            webhooks = install(async_sessionmaker(connection), deliver=False)
        assert webhooks.endpoints.list() == []

    on_file.run(main)


def test_what_cannot_be_listened_to_is_refused(on_file: Application, install: Install) -> None:
    with pytest.raises(ConfigurationError, match="bind=engine"):
        install(async_sessionmaker())
    with pytest.raises(ConfigurationError, match="cannot be known of which class"):
        install(async_scoped_session(lambda: AsyncSession(on_file.engine), lambda: 1))  # type: ignore[arg-type]
    odd: Any = partial(Session)
    with pytest.raises(ConfigurationError, match="sync_session_class"):
        install(async_sessionmaker(on_file.engine, sync_session_class=odd))


def test_uninstall_leaves_nothing(application: Application, install: Install) -> None:
    theirs = type("Theirs", (Session,), {})
    for sessions in (application.sessions, async_sessionmaker(application.engine, sync_session_class=theirs)):
        before = dict(sessions.kw)
        webhooks = install(sessions)
        heard = sessions.kw["sync_session_class"]
        assert len(relays()) == 1
        assert webhooks.uninstall(timeout=PATIENCE)
        assert relays() == []
        assert sessions.kw == before
        assert [name for name in vars(heard) if name == "_sqla_webhooks"] == []
    # `postgresql_database` sees that no connection is left.


# ------------------------------------------------------------------ the engine


def test_the_applications_options_and_listeners_are_there(
    on_file: Application, install: Install, receiver: Receiver
) -> None:
    engine = on_file.engine.sync_engine
    statements: list[str] = []

    @event.listens_for(engine, "connect")
    def set_pragma(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA cache_size = 77")
        cursor.close()

    @event.listens_for(engine, "before_cursor_execute")
    def count(_c: Any, _u: Any, statement: str, *_: object) -> None:
        statements.append(statement)

    webhooks = install(on_file.sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    @webhooks.enricher(Product)
    def with_pragma(product: Any, payload: dict[str, Any]) -> None:
        session = object_session(product)
        assert session is not None
        payload["cache"] = session.execute(text("PRAGMA cache_size")).scalar_one()

    on_file.put(Product(sku="a"))
    webhooks.drain()

    assert receiver.events()[0]["data"]["cache"] == 77
    assert any("webhook_lease" in one for one in statements)


def test_the_recipe_for_savepoints_on_sqlite_works_for_us_too(
    on_file: Application, install: Install, receiver: Receiver
) -> None:
    """Its second half is a listener to the engine; with the first half alone our writes would commit one by one."""
    engine = on_file.engine.sync_engine
    begun: list[int] = []

    @event.listens_for(engine, "connect")
    def no_begin(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        begun.append(threading.get_ident())
        connection.exec_driver_sql("BEGIN")

    webhooks = install(on_file.sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    begun.clear()
    assert webhooks.drain().complete
    assert begun


def test_in_memory_it_delivers_between_transactions(
    in_memory: Application, install: Install, receiver: Receiver
) -> None:
    webhooks = install(in_memory.sessions)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    async def main() -> None:
        async with in_memory.sessions() as session:
            session.add(Product(sku="a"))
            await session.flush()
            for call in (webhooks.drain, webhooks.endpoints.list):
                with pytest.raises(DatabaseBusy):
                    call()
                with pytest.raises(DatabaseBusy):
                    await asyncio.to_thread(call)
            await session.commit()
        assert webhooks.drain().complete
        async with in_memory.sessions.begin() as session:
            session.add(Product(sku="b"))
        assert (await asyncio.to_thread(webhooks.drain)).complete

    asyncio.run(main())
    assert receiver.types == ["product.created"] * 2
    assert [one.state for one in webhooks.deliveries.list()] == ["delivered"] * 2


def test_a_file_with_one_connection_is_as_in_memory(tmp_path: Path, install: Install, receiver: Receiver) -> None:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/one.db", poolclass=StaticPool) as application:
        webhooks = install(application.sessions)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        application.put(Product(sku="a"))
        assert webhooks.drain().complete
        with pytest.raises(ConfigurationError, match="no relay thread"):
            webhooks.start()
        webhooks.uninstall()


# ------------------------------------------------------------------ the process


FORK = """
import asyncio, os, sys, warnings
sys.path.insert(0, {tests!r})
for name in ("psycopg", "psycopg2", "pg8000"):
    sys.modules[name] = None
from support.async_databases import application_at
from support.shop import Product
from support.local import LOCAL
import sqla_webhooks

url, to = sys.argv[1:]
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which is what this is about
with application_at(url) as application:
    with sqla_webhooks.install(application.sessions, poll_interval=0.05, **LOCAL) as webhooks:
        webhooks.endpoints.create(to, events=["*"])
        application.put(Product(sku="parent before"))
        deadline = webhooks.settings.clock.monotonic() + 20
        while not webhooks.deliveries.list(state="delivered"):
            assert webhooks.settings.clock.monotonic() < deadline
        child = os.fork()
        if not child:
            application.put(Product(sku="child"))
            assert webhooks.drain(timeout=20).complete
            webhooks.endpoints.list()
            sys.exit(0)  # not os._exit: what the child holds is let go of
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        application.put(Product(sku="parent after"))
        while len(webhooks.deliveries.list(state="delivered")) < 3:
            assert webhooks.settings.clock.monotonic() < deadline
print("ended")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_parent_and_child_deliver_after_a_fork(url: str, receiver: Receiver, tmp_path: Path) -> None:
    script = FORK.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script, url, receiver.url()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout.strip(), done.returncode) == ("ended", 0), done.stderr
    assert {one["resource_id"] for one in receiver.events()} == {"parent before", "child", "parent after"}
    assert "Error" not in done.stderr


def test_nothing_of_asyncio_is_imported_for_those_who_have_no_greenlet() -> None:
    script = (
        "import sys; sys.modules['greenlet'] = None\n"
        "from sqlalchemy import create_engine\nfrom sqlalchemy.orm import sessionmaker\nimport sqla_webhooks\n"
        "sqla_webhooks.install(sessionmaker(create_engine('sqlite://'))).endpoints.list()\n"
        "print('sqlalchemy.ext.asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
