"""The cases that capture of an ORM gets wrong: what becomes of a transaction. Each test compares all events."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Delete, Engine, ForeignKey, Update, create_engine, inspect, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support.async_databases import postgresql_database, postgresql_server
from support.databases import Database, database_named
from support.local import Install
from support.told import Told

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    pass


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)


class Waiting(DeclarativeBase):
    """Tables of databases that can check a foreign key at the commit."""


class Link(Waiting):
    __tablename__ = "link"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_id: Mapped[int | None] = mapped_column(ForeignKey("link.id", deferrable=True, initially="DEFERRED"))


class Leaf(Base):
    __tablename__ = "leaf"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def told(install: Install, sessions: Sessions) -> Told:
    return Told(install(sessions, deliver=False, capture="all"))


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[Database]:
    with database_named("postgresql", tmp_path) as database:
        yield database


# ------------------------------------------------------------------ the end of a transaction


def test_rollback_after_flush(sessions: Sessions, told: Told) -> None:
    with sessions() as session:
        session.add(Node(id=1))
        session.flush()
        session.rollback()
        session.add(Node(id=2))
        session.commit()

    assert told() == [("node.created", "2", {"id": 2, "n": 0})]


def test_close_after_flush(sessions: Sessions, told: Told) -> None:
    session = sessions()
    session.add(Node(id=1))
    session.flush()
    session.close()
    session.add(Node(id=2))
    session.commit()
    session.close()

    assert told() == [("node.created", "2", {"id": 2, "n": 0})]


def test_savepoint_rollback(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Node(id=1))
        with session.begin_nested() as savepoint:
            session.get_one(Node, 1).n = 5
            session.add(Node(id=2))
            session.flush()
            savepoint.rollback()
        session.add(Node(id=3))

    assert told() == [("node.created", "1", {"id": 1, "n": 0}), ("node.created", "3", {"id": 3, "n": 0})]


def test_savepoint_release_then_outer_rollback(sessions: Sessions, told: Told) -> None:
    with sessions() as session:
        with session.begin_nested():
            session.add(Node(id=1))
        session.rollback()

    assert told() == []


def test_savepoint_release_then_outer_commit(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session, session.begin_nested():
        session.add(Node(id=1))

    assert told.names() == ["node.created 1"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)  # MariaDB does not wait for the commit
def test_commit_itself_fails_deferred_fk(sessions: Sessions, told: Told, engine: Engine) -> None:
    Waiting.metadata.create_all(engine)
    with sessions() as session:
        session.add(Link(id=1, next_id=99))
        session.flush()
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        session.add(Link(id=2))
        session.commit()

    assert told() == [("link.created", "2", {"id": 2, "next_id": None})]


@pytest.fixture
def preparing() -> Iterator[Engine]:
    """PostgreSQL, on a server that prepares transactions."""
    with (
        postgresql_server() as server,
        postgresql_database(server, "edge_cases", driver="psycopg") as url,
    ):
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        yield engine
        engine.dispose()


def test_two_phase(preparing: Engine, install: Install) -> None:
    sessions = sessionmaker(preparing, twophase=True)
    told = Told(install(sessions, deliver=False, capture="all"))
    with sessions() as session:
        session.add(Node(id=1))
        session.prepare()
        prepared = told()
        session.commit()
        session.add(Node(id=2))
        session.prepare()
        session.rollback()

    assert prepared == []
    assert told() == [("node.created", "1", {"id": 1, "n": 0})]
    told.webhooks.uninstall()


# ------------------------------------------------------------------ transactions of others


@pytest.mark.parametrize("committed", [True, False])
def test_external_transaction(sessions: Sessions, told: Told, engine: Engine, *, committed: bool) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with sessions(bind=connection, join_transaction_mode="create_savepoint") as session:
            session.add(Node(id=1))
            session.commit()
            session.add(Node(id=2))
            session.flush()
            session.rollback()
        outer.commit() if committed else outer.rollback()

    assert told.names() == (["node.created 1"] if committed else [])


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_delivery_order(sessions: Sessions, told: Told) -> None:
    """The transaction that began first commits last: nothing of it is lost, and each row's order is that of commits."""
    with sessions() as first, sessions() as second:
        first.add(Node(id=1))
        first.flush()
        second.add(Node(id=2))
        second.commit()
        before = told.names()
        first.get_one(Node, 2).n = 5
        first.commit()

    assert before == ["node.created 2"]
    assert told() == [
        ("node.created", "1", {"id": 1, "n": 0}),
        ("node.updated", "2", {"id": 2, "n": (0, 5)}),
    ]


# ------------------------------------------------------------------ several databases


def test_multiple_binds(install: Install, tmp_path: Path) -> None:
    with database_named("sqlite", tmp_path) as database, database.engine() as one:
        two = create_engine(f"sqlite:///{tmp_path}/two.db")
        for engine in (one, two):
            Base.metadata.create_all(engine)
        sessions = sessionmaker(binds={Node: one, Leaf: two})
        told = [Told(install(sessions, bind=engine, deliver=False, capture="all")) for engine in (one, two)]
        with sessions.begin() as session:
            session.add_all([Node(id=1), Leaf(id=2)])
        with sessions() as session:
            session.add_all([Node(id=3), Leaf(id=4)])
            session.flush()
            session.rollback()

        assert [some() for some in told] == [
            [("node.created", "1", {"id": 1, "n": 0})],
            [("leaf.created", "2", {"id": 2})],
        ]
        two.dispose()


class Routing(Session):
    """SQLAlchemy's own recipe, "Custom Vertical Partitioning": what is written goes to the leader, what is read not."""

    leader: Engine
    replica: Engine

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **more: Any) -> Engine | Connection:
        return self.leader if self._flushing or isinstance(clause, Update | Delete) else self.replica


@pytest.fixture
def routing(tmp_path: Path) -> Iterator[type[Routing]]:
    """Of two databases that know nothing of each other, so that what goes astray is seen."""
    engines = {name: create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("leader", "replica")}
    for engine in engines.values():
        Base.metadata.create_all(engine)
    yield type("Routed", (Routing,), engines)
    for engine in engines.values():
        engine.dispose()


def test_read_replica_routing(install: Install, routing: type[Routing]) -> None:
    told = Told(install(routing, bind=routing.leader, deliver=False, capture="all"))
    with routing() as session:
        session.add(Node(id=1))
        session.commit()
        session.add(Node(id=2))
        session.flush()
        session.rollback()

    assert told() == [("node.created", "1", {"id": 1, "n": 0})]
    with routing.replica.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE name LIKE 'webhook%'")).all()
    assert names == []


def test_read_replica_routing_of_bulk_writes(install: Install, routing: type[Routing]) -> None:
    told = Told(install(routing, bind=routing.leader, deliver=False, capture="all"))
    with routing() as session:
        session.add(Node(id=1))
        session.commit()
        session.execute(update(Node).values(n=5))
        session.add(Node(id=2))
        session.flush()
        session.bulk_insert_mappings(inspect(Node), [{"id": 3}])
        session.commit()

    assert told() == [
        ("node.created", "1", {"id": 1, "n": 0}),
        ("node.updated", "1", {"id": 1, "n": (0, 5)}),
        ("node.created", "2", {"id": 2, "n": 0}),
        ("node.created", "3", {"id": 3, "n": 0}),
    ]


def test_schema_translate_map(install: Install, postgresql: Database) -> None:
    with postgresql.engine() as engine:
        told = Told(install(Session, bind=engine, deliver=False, capture="all"))
        tenant = engine.execution_options(schema_translate_map={None: "tenant"})
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA tenant")
        Base.metadata.create_all(tenant)
        with Session(tenant) as session, session.begin():
            session.add(Node(id=1))
        with Session(tenant) as session, session.begin():
            node = session.get_one(Node, 1)
            session.expire(node)
            node.n = 5  # whose old value is read in the tenant's schema
        lines = told()

    assert lines == [
        ("node.created", "1", {"id": 1, "n": 0}),
        ("node.updated", "1", {"id": 1, "n": (0, 5)}),
    ]


# ------------------------------------------------------------------ the end of a process


_COMMIT_AND_DIE = """
import os, signal, sys
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqla_webhooks import install

class Base(DeclarativeBase): ...

class Node(Base):
    __tablename__ = sys.argv[2]
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)

sessions = sessionmaker(create_engine(sys.argv[1]))
install(sessions, deliver=False, capture="all")
with sessions.begin() as session:
    session.add(Node(id=1))
with sessions() as session:
    session.add(Node(id=2))
    session.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # tests/test_crash.py kills it at any moment
def test_process_crash_after_commit(told: Told, engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _COMMIT_AND_DIE, url, Node.__tablename__]
    killed = subprocess.run(command, check=False, capture_output=True, text=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert told() == [("node.created", "1", {"id": 1, "n": 0})]
