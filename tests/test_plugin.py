"""`install()`: what it takes, what it refuses, and that one factory has one installation."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool, StaticPool
from support.faults import refusing
from support.local import Install
from support.receiver import PATIENCE, Receiver
from support.shop import Base, Customer, Order, Product, shop_at
from tenacity import wait_fixed

import sqla_webhooks
from sqla_webhooks import ConfigurationError, DatabaseBusy, Webhooks, models

Sessions = sessionmaker[Session]


def types_of(webhooks: Webhooks, receiver: Receiver) -> list[str]:
    webhooks.drain()
    types = receiver.types
    receiver.forget()
    return types


# ------------------------------------------------------------------ what it takes


def test_a_sessionmaker_and_no_other(install: Install, engine: Engine, receiver: Receiver) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False, capture="all")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessionmaker(engine).begin() as other, Session(engine) as another:
        other.add(Product(sku="other"))
        other.flush()
        assert another.info == {}
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    assert types_of(webhooks, receiver) == ["product.created"]


def test_a_session_that_is_open_already(install: Install, engine: Engine, receiver: Receiver) -> None:
    sessions = sessionmaker(engine)
    with sessions() as session:
        webhooks = install(sessions, deliver=False)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        session.add(Product(sku="a"))
        session.commit()

    assert types_of(webhooks, receiver) == ["product.created"]


def test_a_scoped_session(install: Install, engine: Engine, receiver: Receiver) -> None:
    scope = scoped_session(sessionmaker(engine))
    webhooks = install(scope, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    scope.add(Product(sku="a"))
    scope.commit()
    scope.remove()

    assert install(scope, deliver=False) is webhooks
    assert install(scope.session_factory, deliver=False) is webhooks
    assert types_of(webhooks, receiver) == ["product.created"]


def test_a_session_subclass(install: Install, engine: Engine, receiver: Receiver) -> None:
    class Ours(Session):
        pass

    webhooks = install(Ours, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with Session(engine) as plain, plain.begin():
        plain.add(Product(sku="plain"))
    with Ours(engine) as ours, ours.begin():
        ours.add(Product(sku="ours"))
    with sessionmaker(engine, class_=Ours).begin() as made:
        made.add(Product(sku="made"))
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events()] == ["ours", "made"]


def test_session_itself(install: Install, engine: Engine, receiver: Receiver) -> None:
    webhooks = install(Session, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with Session(engine) as session, session.begin():
        session.add(Product(sku="a"))

    assert types_of(webhooks, receiver) == ["product.created"]


def test_one_session(install: Install, engine: Engine, receiver: Receiver) -> None:
    with Session(engine) as session:
        webhooks = install(session, deliver=False)
        assert install(session, deliver=False) is webhooks
        webhooks.endpoints.create(receiver.url(), events=["*"])
        session.add(Product(sku="a"))
        session.commit()
    with Session(engine) as other, other.begin():
        other.add(Product(sku="b"))

    assert types_of(webhooks, receiver) == ["product.created"]
    webhooks.uninstall()
    assert session.info == {}


def test_a_connection_as_bind_is_its_engine(install: Install, engine: Engine) -> None:
    with engine.connect() as connection:
        webhooks = install(sessionmaker(connection), deliver=False)
    assert webhooks.endpoints.list() == []


# ------------------------------------------------------------------ once per factory


def test_install_twice_is_the_same_handle(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions, deliver=False)

    assert install(sessions, deliver=False) is webhooks
    assert sqla_webhooks.install(sessions) is webhooks
    assert sqla_webhooks.install(sessions, bind=sessions.kw["bind"]) is webhooks
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    assert types_of(webhooks, receiver) == ["product.created"]


def test_install_twice_with_other_settings_is_refused(install: Install, sessions: Sessions) -> None:
    install(sessions, deliver=False)
    with pytest.raises(ConfigurationError, match="other settings"):
        install(sessions, deliver=False, timeout=3)


def test_equal_settings_are_the_same_settings(install: Install, sessions: Sessions) -> None:
    wait = wait_fixed(1)
    webhooks = install(sessions, deliver=False, wait=wait, allow_networks=["127.0.0.0/8"], exclude=[Product])

    assert install(sessions, deliver=False, wait=wait, allow_networks=("127.0.0.0/8",), exclude=(Product,)) is webhooks
    others: list[dict[str, Any]] = [{"wait": wait_fixed(1)}, {"exclude": []}, {"deliver": True}]
    for other in others:
        with pytest.raises(ConfigurationError, match=f"other settings, {next(iter(other))}="):
            install(sessions, **other)


def test_threads_that_install_at_once_get_one_installation(engine: Engine) -> None:
    for _ in range(5):
        sessions = sessionmaker(engine)
        together = threading.Barrier(4)
        got: list[Webhooks] = []

        def run(sessions: Sessions = sessions, together: threading.Barrier = together, got: Any = got) -> None:
            together.wait(PATIENCE)
            got.append(sqla_webhooks.install(sessions, deliver=False))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(got) == 4
        assert len(set(map(id, got))) == 1
        got[0].uninstall()


def test_install_on_a_class_and_on_one_under_it_is_refused(install: Install, engine: Engine) -> None:
    class Ours(Session):
        pass

    sessions = sessionmaker(engine, class_=Ours)
    install(sessions, deliver=False)
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(Ours, bind=engine, deliver=False)
    sqla_webhooks.install(sessions).uninstall()
    install(Ours, bind=engine, deliver=False)
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(sessionmaker(engine, class_=Ours), deliver=False)
    with Ours(engine) as session, pytest.raises(ConfigurationError, match="captured twice"):
        install(session, deliver=False)


def test_install_on_one_session_and_on_its_factory_is_refused(install: Install, engine: Engine) -> None:
    sessions = sessionmaker(engine)
    with sessions() as session:
        webhooks = install(session, deliver=False)
        with pytest.raises(ConfigurationError, match="captured twice"):
            install(sessions, deliver=False)
        webhooks.uninstall()
        install(sessions, deliver=False)
        with pytest.raises(ConfigurationError, match="captured twice"):
            install(session, deliver=False)


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize("given", [None, "postgresql://", 42, create_engine, object])
def test_what_is_no_factory_is_refused(given: Any, install: Install) -> None:
    with pytest.raises(ConfigurationError, match="give a sessionmaker"):
        install(given)


def test_a_factory_that_does_not_know_its_database_is_refused(install: Install) -> None:
    with pytest.raises(ConfigurationError, match="bind=engine"):
        install(sessionmaker())
    with pytest.raises(ConfigurationError, match="bind is 'sqlite://'"):
        install(sessionmaker(), bind="sqlite://")


def test_an_unknown_setting_is_refused_before_anything_is_done(install: Install, sessions: Sessions) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'timeout'"):
        install(sessions, timout=3)
    assert [name for name in vars(sessions.class_) if "webhooks" in name] == []


def test_an_install_that_is_refused_listens_to_nothing(in_memory: Sessions) -> None:
    engine = in_memory.kw["bind"]
    before = list(engine.pool.dispatch.checkout)
    include: Any = [5]
    with pytest.raises(ConfigurationError, match="include has 5"):
        sqla_webhooks.install(in_memory, include=include)

    assert list(engine.pool.dispatch.checkout) == before


def test_repr_says_where_and_hides_the_password(install: Install) -> None:
    engine = create_engine("sqlite://")
    assert repr(install(sessionmaker(engine))) == "<Webhooks on sqlite://>"
    engine.dispose()


# ------------------------------------------------------------------ the tables


def test_tables_are_not_created_when_they_are_managed_elsewhere(install: Install, engine: Engine) -> None:
    install(sessionmaker(engine), deliver=False, create_tables=False)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE name LIKE 'webhook_%'")).scalars().all()
    assert names == []
    assert all(name.startswith("webhook_") for name in models.metadata.tables)


#: A process that starts on a new database, at the same time as others: it waits for its line of input.
STARTING = """
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from sqla_webhooks import install

sessions = sessionmaker(create_engine(f"sqlite:///{sys.argv[1]}"))
print("ready", flush=True)
sys.stdin.readline()
install(sessions, deliver=False)
"""


def test_processes_that_start_on_a_new_database_at_once(tmp_path: Path) -> None:
    for number in range(3):
        database = tmp_path / f"shop {number}.db"
        started = [
            subprocess.Popen(
                [sys.executable, "-c", STARTING, str(database)],
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in started:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        failures = [one.communicate(timeout=PATIENCE)[1] for one in started]
        assert failures == [""] * 4
        assert [one.returncode for one in started] == [0] * 4


# ------------------------------------------------------------------ several databases


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Engine]:
    """Another database, without our tables."""
    with shop_at(f"sqlite:///{tmp_path}/elsewhere.db") as engine:
        yield engine


def test_what_is_written_to_another_database_is_not_captured_and_works(
    install: Install, engine: Engine, elsewhere: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = sessionmaker(binds={Product: engine, Order: elsewhere, Customer: elsewhere})
    webhooks = install(sessions, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    for number in range(2):
        with sessions.begin() as session:
            session.add_all([Product(sku=f"{number}"), Order(customer=Customer(email="a"))])
    with sessions.begin() as session:
        session.get_one(Order, 1).quantity = 5
        session.delete(session.get_one(Order, 2))
    with sessions.begin() as session:
        session.get_one(Product, "1").stock = 5

    assert types_of(webhooks, receiver) == ["product.created", "product.created", "product.updated"]
    warnings = [one.getMessage() for one in caplog.records if "are not captured: the webhook_ tables" in one.message]
    assert ["elsewhere.db" in one for one in warnings] == [True]


def test_every_session_of_the_process_and_one_database(
    install: Install, engine: Engine, elsewhere: Engine, receiver: Receiver
) -> None:
    webhooks = install(Session, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    again = create_engine(engine.url)
    for where, sku in ((elsewhere, "elsewhere"), (engine, "here"), (again, "here, by another engine")):
        with Session(where) as session:
            session.add(Product(sku=sku))
            session.commit()
    again.dispose()
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events()] == ["here", "here, by another engine"]


# ------------------------------------------------------------------ one connection


@pytest.mark.parametrize("pool", [{}, {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}])
def test_in_memory_works_by_drain_and_says_so(
    install: Install, receiver: Receiver, caplog: pytest.LogCaptureFixture, pool: Any
) -> None:
    engine = create_engine("sqlite://", **pool)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    webhooks = install(sessions)
    assert [(one.levelno, "call drain()" in one.getMessage()) for one in caplog.records] == [(logging.WARNING, True)]

    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    assert webhooks.drain().attempts == 1
    receiver.received[0].verify(endpoint.secret)
    with sessions() as session:
        session.add(Product(sku="b"))
        session.flush()
        with pytest.raises(DatabaseBusy, match="commit or roll back first"):
            webhooks.drain()
        session.rollback()
    assert webhooks.drain().attempts == 0
    webhooks.uninstall()
    engine.dispose()


@pytest.mark.parametrize("pool", [{}, {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}])
def test_install_in_an_open_transaction_in_memory_is_refused_and_does_not_end_it(install: Install, pool: Any) -> None:
    engine = create_engine("sqlite://", **pool)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        with pytest.raises(DatabaseBusy, match="commit or roll back first"):
            install(sessions)
        session.rollback()
        assert session.get(Product, "a") is None
    webhooks = install(sessions)
    webhooks.uninstall()
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        webhooks = install(sessions, create_tables=False)
        with pytest.raises(DatabaseBusy):
            webhooks.endpoints.create("http://127.0.0.1:1024/", events=["*"])
        session.rollback()
        assert session.get(Product, "a") is None
    engine.dispose()


def test_in_memory_a_transaction_of_another_thread_is_seen(install: Install) -> None:
    url = "sqlite:///file:busy?mode=memory&cache=shared&uri=true"
    engine = create_engine(url, poolclass=QueuePool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    webhooks = install(sessions)
    with sessions() as session, ThreadPoolExecutor(1) as threads:
        session.add(Product(sku="a"))
        session.flush()
        with pytest.raises(DatabaseBusy):
            threads.submit(webhooks.drain).result()
        session.rollback()
        assert threads.submit(webhooks.drain).result().complete
    webhooks.uninstall()
    engine.dispose()


def test_an_engine_is_not_slower_because_it_is_listened_to(in_memory: Sessions, install: Install) -> None:
    """As SQLAlchemy is, with each statement, on one that has listeners of its own."""
    install(in_memory)
    assert not in_memory.kw["bind"]._has_events  # noqa: SLF001  # nothing public says so


def test_tables_that_cannot_be_created_are_tried_once(sessions: Sessions, engine: Engine) -> None:
    with refusing(engine, "CREATE TABLE") as refused, pytest.raises(OperationalError, match="disk is full"):
        sqla_webhooks.install(sessions)

    assert len(refused) == 1
    assert [name for name in vars(sessions.class_) if "webhooks" in name] == []


def loaded_by(statement: str, directory: Path) -> set[str]:
    """The top-level modules beside the standard library's that *statement* loads in a process of its own."""
    script = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=directory, text=True, check=True)
    return set(done.stdout.split()) - sys.stdlib_module_names


def test_the_core_packages_are_all_that_is_imported(tmp_path: Path) -> None:
    core = loaded_by("import sqlalchemy.orm, sqlalchemy.dialects.mysql, requests, tenacity, blinker", tmp_path)

    assert loaded_by("import sqla_webhooks", tmp_path) - core <= {"sqla_webhooks", "orjson"}


#: What applications import. A name that goes from here is a breaking change.
PUBLIC = """
Answer Attempt Blocked BulkLimitExceeded Catalogue CatalogueEvent Clock CloudEvents CloudEventsBinary Condition
ConfigurationError ConnectFailed DatabaseBusy Deliveries Delivery DeliveryError DeliveryState DescribedAttribute
DescribedResource Description Dialect Drained Endpoint EndpointError Endpoints Event Events GitHub Health
InvalidAnswer InvalidFilter InvalidHeaders InvalidSubscription InvalidURL MemoryReplayGuard NewEndpoint
NotAcknowledged NotFound OpenFront Operation Options OutboxWriteError Post Progress Pruned Reencrypted RenderingFailed
Replayed Retention SecretState Settings SignatureError SigningFailed Standard StoredEvent TLSFailed TenantUnknown
TimedOut Webhooks WebhooksError WrongState __version__ changed dead delivered endpoint_disabled endpoint_enricher
endpoint_failing endpoint_recovered enricher enricher_failed enriching enriching_for_endpoint failed install models
oversized predicate_failed tenant_unknown unencodable verify verify_batch
"""


def test_the_public_names_are_these() -> None:
    assert list(sqla_webhooks.__all__) == PUBLIC.split()
    for name in PUBLIC.split():
        assert getattr(sqla_webhooks, name) is not None
