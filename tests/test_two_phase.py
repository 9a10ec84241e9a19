"""Two-phase sessions: the outbox row is prepared, and then committed or not, with its change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, TwoPhaseTransaction, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.async_databases import postgresql_database, postgresql_server
from support.local import Install
from support.receiver import Receiver
from support.shop import Base, Customer, Product, shop_at

_numbers = itertools.count()

MARIADB = make_url("mysql+pymysql://root@127.0.0.1:3306/")
NAME = "sqla_webhooks_two_phase"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture
def postgresql(server: str) -> Iterator[Engine]:
    with (
        postgresql_database(server, f"two_phase_{next(_numbers)}", driver="psycopg") as url,
        shop_at(url) as engine,
    ):
        yield engine


@pytest.fixture
def mariadb() -> Iterator[Engine]:
    administrator = create_engine(MARIADB, isolation_level="AUTOCOMMIT")
    try:
        with administrator.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {NAME}"))
            connection.execute(text(f"CREATE DATABASE {NAME}"))
    except OperationalError:
        pytest.skip("no MariaDB server on 127.0.0.1:3306")
    engine = create_engine(MARIADB.set(database=NAME))
    Base.metadata.create_all(engine, tables=[Base.metadata.tables[name] for name in ("product", "customer")])
    yield engine
    engine.dispose()
    with administrator.connect() as connection:
        connection.execute(text(f"DROP DATABASE {NAME}"))
    administrator.dispose()


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(request.param)
    return engine


def commit(session: Session) -> None:
    session.commit()


def prepare_and_commit(session: Session) -> None:
    session.prepare()
    session.commit()


def prepare_and_roll_back(session: Session) -> None:
    session.prepare()
    session.rollback()


def roll_back(session: Session) -> None:
    session.rollback()


@pytest.mark.parametrize("end", [commit, prepare_and_commit, prepare_and_roll_back, roll_back])
def test_an_event_exists_if_and_only_if_the_second_phase_committed(
    end: Callable[[Session], None], database: Engine, install: Install, receiver: Receiver
) -> None:
    sessions = sessionmaker(database, twophase=True)
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        end(session)
    with Session(database) as session:
        there = [one.sku for one in session.query(Product)]
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events()] == there
    assert there == (["a"] if end in {commit, prepare_and_commit} else [])


def test_between_the_phases_nothing_is_sent(database: Engine, install: Install, receiver: Receiver) -> None:
    sessions = sessionmaker(database, twophase=True)
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions() as session:
        session.add(Product(sku="a"))
        session.prepare()
        assert webhooks.drain().events == 0
        session.commit()
    assert webhooks.drain().events == 1


def test_a_transaction_that_another_connection_commits(
    postgresql: Engine, install: Install, receiver: Receiver
) -> None:
    """As a transaction manager does that recovers after a crash: nobody wakes the relay, which finds it by its poll."""
    webhooks = install(sessionmaker(postgresql), poll_interval=0.05)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    sessions = sessionmaker(postgresql, twophase=True)
    with install(sessions, deliver=False), sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        connection = session.connection()
        begun = connection.get_transaction()
        assert isinstance(begun, TwoPhaseTransaction)
        session.prepare()
        connection.invalidate()  # it is lost
    with postgresql.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.execute(text(f"COMMIT PREPARED '{begun.xid}'"))

    assert receiver.wait_for(1)[0].event["resource_id"] == "a"


def test_two_databases_commit_together_and_each_has_the_events_of_its_rows(
    postgresql: Engine, mariadb: Engine, install: Install
) -> None:
    sessions = sessionmaker(binds={Product: postgresql, Customer: mariadb}, twophase=True)
    here = install(sessions, bind=postgresql, deliver=False, capture="all")
    there = install(sessions, bind=mariadb, deliver=False, capture="all")
    with sessions() as session:
        session.add_all([Product(sku="a"), Customer(email="a@b.example")])
        session.commit()
        session.add_all([Product(sku="b"), Customer(email="b@b.example")])
        session.flush()
        session.prepare()
        session.rollback()
    here.drain()
    there.drain()

    assert [one.resource_id for one in here.events.list()] == ["a"]
    assert [one.type for one in there.events.list()] == ["customer.created"]
