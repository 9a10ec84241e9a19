"""Session factories of frameworks, sessions in outer transactions, and several databases."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import flask
import pytest
import sqlmodel
import transaction  # type: ignore[import-untyped]  # it has no types
import zope.sqlalchemy  # type: ignore[import-untyped]  # it has no types
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from support.async_databases import application_at, postgresql_database, postgresql_server
from support.local import Install
from support.receiver import Receiver
from support.shop import Customer, Product, put, shop_at

import sqla_webhooks
from sqla_webhooks import ConfigurationError, Webhooks

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture
def postgresql(server: str) -> Iterator[Engine]:
    with (
        postgresql_database(server, f"factories_{next(_numbers)}", driver="psycopg") as url,
        shop_at(url) as engine,
    ):
        yield engine


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Engine]:
    """Another SQLite file with the shop's tables."""
    with shop_at(f"sqlite:///{tmp_path}/second.db") as engine:
        yield engine


def published(webhooks: Webhooks) -> list[str]:
    """The ids of the rows with events, oldest first, once all is relayed."""
    webhooks.drain()
    return [one.resource_id for one in reversed(webhooks.events.list())]


# ------------------------------------------------------------------ frameworks


@pytest.fixture
def flask_app(tmp_path: Path) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/main.db"
    app.config["SQLALCHEMY_BINDS"] = {"audit": f"sqlite:///{tmp_path}/audit.db"}
    return app


def test_flask_sqlalchemy(flask_app: flask.Flask, install: Install, caplog: pytest.LogCaptureFixture) -> None:
    class Model(DeclarativeBase):
        pass

    db = SQLAlchemy(flask_app, model_class=Model)

    class Invoice(db.Model):  # type: ignore[name-defined,misc]  # made at run time
        id: Mapped[int] = mapped_column(primary_key=True)

    class Entry(db.Model):  # type: ignore[name-defined,misc]  # made at run time
        __bind_key__ = "audit"
        id: Mapped[int] = mapped_column(primary_key=True)

    with flask_app.app_context():
        db.create_all()
        webhooks = install(db.session, deliver=False, capture="all")
    with flask_app.app_context():
        assert sqla_webhooks.install(db.session) is webhooks
        db.session.add_all([Invoice(id=7), Entry(id=8)])
        db.session.commit()
        db.session.add(Invoice(id=9))
        db.session.flush()  # and the end of the request, without a commit
    with flask_app.app_context():
        audit = install(db.session, bind=db.engines["audit"], deliver=False, capture="all")
        db.session.add_all([Invoice(id=10), Entry(id=11)])
        db.session.commit()
    assert sqla_webhooks.install(db.session, bind=audit.engine) is audit  # outside of any context

    assert (published(webhooks), published(audit)) == (["7", "10"], ["11"])
    (warning,) = [one for one in caplog.messages if "not captured" in one]  # of what came before the second
    assert repr(audit.engine.url) in warning
    with flask_app.app_context():
        for engine in db.engines.values():
            engine.dispose()


def test_flask_sqlalchemy_outside_of_an_application_context_says_what_to_do(
    flask_app: flask.Flask, install: Install
) -> None:
    with pytest.raises(ConfigurationError, match=r"bind=engine"):
        install(SQLAlchemy(flask_app).session)


def test_sessions_made_of_an_engine_as_fastapi_has_it(engine: Engine, install: Install) -> None:
    webhooks = install(Session, bind=engine, deliver=False, capture="all")

    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    for session in get_session():
        session.add(Product(sku="a"))
        session.commit()
    for session in get_session():
        session.add(Product(sku="b"))
        session.flush()

    assert published(webhooks) == ["a"]


def test_sqlmodel(engine: Engine, install: Install) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydantic thinks of itself

        class Hero(sqlmodel.SQLModel, table=True):
            id: int | None = sqlmodel.Field(default=None, primary_key=True)
            name: str
            secret_name: str

    sqlmodel.SQLModel.metadata.create_all(engine)
    webhooks = install(sqlmodel.Session, bind=engine, deliver=False, capture="all")
    with sqlmodel.Session(engine) as session:
        session.add(Hero(name="Deadpond", secret_name="Dive Wilson"))
        session.commit()
        hero = session.exec(sqlmodel.select(Hero)).one()
        hero.name = "Deadpool"
        session.add(hero)
        session.commit()
    with Session(engine) as plain, plain.begin():
        plain.add(Product(sku="of another class of sessions"))
    webhooks.drain()

    updated, created = webhooks.events.list()
    assert (created.type, updated.type) == ("hero.created", "hero.updated")
    assert b"Dive Wilson" not in created.payload


def test_an_async_maker_as_advanced_alchemy_configures_it(install: Install, tmp_path: Path) -> None:
    """A class of its own, and a sync class in the maker's arguments."""

    class Ours(AsyncSession):
        pass

    class OursInSync(Session):
        pass

    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        sessions = async_sessionmaker(
            bind=application.engine, class_=Ours, sync_session_class=OursInSync, expire_on_commit=False
        )
        webhooks = install(sessions, deliver=False, capture="all")

        async def main() -> None:
            async with sessions() as session:
                assert isinstance(session, Ours)
                assert isinstance(session.sync_session, OursInSync)
                session.add(Product(sku="a"))
                await session.commit()

        application.run(main)
        assert published(webhooks) == ["a"]
        webhooks.uninstall()
        assert sessions.kw["sync_session_class"] is OursInSync


def test_a_scope_over_a_plain_callable_says_what_to_do(engine: Engine, install: Install) -> None:
    scope: Any = scoped_session(cast("Any", lambda: Session(engine)))
    with pytest.raises(ConfigurationError, match="or install on their class"):
        install(scope)
    webhooks = install(Session, bind=engine, deliver=False, capture="all")
    scope.add(Product(sku="a"))
    scope.commit()
    scope.remove()

    assert published(webhooks) == ["a"]


@pytest.fixture
def zoped() -> Iterator[None]:
    transaction.abort()
    yield
    transaction.abort()


def test_zope_sqlalchemy_commits_and_aborts(engine: Engine, install: Install, zoped: None) -> None:
    sessions = scoped_session(sessionmaker(engine))
    zope.sqlalchemy.register(sessions)
    webhooks = install(sessions, deliver=False, capture="all")
    sessions.add(Product(sku="a"))
    transaction.commit()
    sessions.add(Product(sku="aborted"))
    sessions.flush()
    transaction.abort()
    with transaction.manager:
        sessions.add(Product(sku="b"))

    assert published(webhooks) == ["a", "b"]


@pytest.mark.parametrize("twophase", [False, True])
def test_zope_sqlalchemy_with_savepoints_and_in_two_phases(
    *, twophase: bool, postgresql: Engine, install: Install, zoped: None
) -> None:
    """The oracle is the table itself: in one phase, zope's data manager commits as it votes."""
    sessions = scoped_session(sessionmaker(postgresql, twophase=twophase))
    zope.sqlalchemy.register(sessions)
    webhooks = install(sessions, deliver=False, capture="all")
    sessions.add(Product(sku="a"))
    savepoint = transaction.savepoint()
    sessions.add(Product(sku="undone"))
    sessions.flush()
    savepoint.rollback()
    sessions.add(Product(sku="b"))
    transaction.commit()

    class Refuses:
        """Another resource, which votes no after the session has voted yes."""

        transaction_manager = transaction.manager

        def sortKey(self) -> str:  # noqa: N802  # zope's name
            return "~~~"

        def tpc_vote(self, _: object) -> None:
            raise ZeroDivisionError

        abort = tpc_begin = commit = tpc_finish = tpc_abort = lambda self, _: None

    sessions.add(Product(sku="refused"))
    transaction.get().join(Refuses())
    with pytest.raises(ZeroDivisionError):
        transaction.commit()
    transaction.abort()

    with Session(postgresql) as session:
        there = [one.sku for one in session.query(Product).order_by(Product.sku)]
    assert published(webhooks) == there == (["a", "b"] if twophase else ["a", "b", "refused"])


# ------------------------------------------------------------------ outer transactions

Mode = Literal["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("outer", ["commits", "rolls back"])
@pytest.mark.parametrize("inner", ["commits", "rolls back"])
@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "control_fully", "create_savepoint"])
def test_sessions_that_join_an_outer_transaction(
    *, mode: Mode, inner: str, outer: str, nested: bool, postgresql: Engine, install: Install
) -> None:
    """The oracle is the table itself: an event for each row that is there in the end, and no other."""
    sessions = sessionmaker(join_transaction_mode=mode)
    webhooks = install(sessions, bind=postgresql, deliver=False, capture="all")
    with postgresql.connect() as connection:
        begun = connection.begin()
        if nested:
            connection.begin_nested()
        with sessions(bind=connection) as session:
            session.add(Product(sku="a"))
            session.flush()
            getattr(session, "commit" if inner == "commits" else "rollback")()
        if begun.is_active and outer == "commits":
            begun.commit()
        elif begun.is_active:
            begun.rollback()
    with Session(postgresql) as session:
        there = [one.sku for one in session.query(Product)]

    assert published(webhooks) == there
    assert there == [] or inner == "commits"


# ------------------------------------------------------------------ several databases


def test_one_factory_has_an_installation_for_each_of_its_databases(
    engine: Engine, install: Install, second: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = sessionmaker(binds={Product: engine, Customer: second})
    caplog.set_level(logging.WARNING)
    products = install(sessions, bind=engine, deliver=False)
    customers = install(sessions, bind=second, deliver=False)
    products.endpoints.create(receiver.url("/products"), events=["*"])
    customers.endpoints.create(receiver.url("/customers"), events=["*"])
    with sessions() as session:
        session.add_all([Product(sku="a"), Customer(id=1, email="a@b.example")])
        session.commit()
        session.add_all([Product(sku="b"), Customer(id=2, email="b@b.example")])
        session.flush()
        session.rollback()
    products.drain()
    customers.drain()

    assert [(one.path, one.type) for one in receiver.received] == [
        ("/products", "product.created"),
        ("/customers", "customer.created"),
    ]
    assert [one for one in caplog.messages if "not captured" in one] == []


def test_sqlite_and_postgresql_in_one_session(
    engine: Engine, postgresql: Engine, install: Install, receiver: Receiver
) -> None:
    sessions = sessionmaker(engine, binds={Customer: postgresql})
    here = install(sessions)
    there = install(sessions, bind=postgresql)
    for webhooks in (here, there):
        webhooks.endpoints.create(receiver.url(), events=["*"])
    for number in range(1, 4):
        with sessions.begin() as session:
            session.add_all([Product(sku=str(number)), Customer(id=number, email="a@b.example")])
    receiver.wait_for(6)

    assert here.engine is engine
    assert sorted(webhooks.resource_id for webhooks in here.events.list()) == ["1", "2", "3"]
    assert {one.resource for one in here.events.list()} == {"product"}
    assert {one.resource for one in there.events.list()} == {"customer"}


def test_which_of_several_installations_is_asked_for(engine: Engine, install: Install, second: Engine) -> None:
    sessions = sessionmaker(binds={Product: engine, Customer: second})
    first = install(sessions, bind=engine, deliver=False)
    assert sqla_webhooks.install(sessions) is first
    other = install(sessions, bind=second, deliver=False)
    assert install(sessions, bind=engine, deliver=False) is first
    assert install(sessions, bind=create_engine(second.url), deliver=False) is other
    with pytest.raises(ConfigurationError, match="2 installations"):
        install(sessions)
    first.uninstall()
    assert sqla_webhooks.install(sessions) is other
    other.uninstall()
    assert [name for name in vars(sessions.class_) if "webhooks" in name] == []


def test_only_installations_for_the_same_database_exclude_each_other(
    engine: Engine, install: Install, second: Engine
) -> None:
    class Ours(Session):
        pass

    install(Ours, bind=engine, deliver=False)
    beside = install(Session, bind=second, deliver=False, capture="all")
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(sessionmaker(engine, class_=Ours))
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(Ours, bind=second)
    put(sessionmaker(second, class_=Ours), "a")

    assert published(beside) == ["a"]


def test_one_session_and_an_async_maker_with_two_databases(engine: Engine, install: Install, second: Engine) -> None:
    with Session(binds={Product: engine, Customer: second}) as session:
        first = install(session, bind=engine, deliver=False, capture="all")
        other = install(session, bind=second, deliver=False, capture="all")
        session.add_all([Product(sku="a"), Customer(id=5, email="a@b.example")])
        session.commit()
        assert (published(first), published(other)) == (["a"], ["5"])
        first.uninstall()
        other.uninstall()
        assert session.info == {}

    with (
        application_at(str(engine.url).replace("sqlite", "sqlite+aiosqlite")) as one,
        application_at(str(second.url).replace("sqlite", "sqlite+aiosqlite")) as two,
    ):
        sessions = async_sessionmaker(binds={Product: one.engine, Customer: two.engine})
        first = install(sessions, bind=one.engine, deliver=False, capture="all")
        other = install(sessions, bind=two.engine, deliver=False, capture="all")

        async def main() -> None:
            async with sessions.begin() as session:
                session.add_all([Product(sku="b"), Customer(id=6, email="a@b.example")])
            await two.engine.dispose()

        one.run(main)
        assert (published(first), published(other)) == (["a", "b"], ["5", "6"])
        first.uninstall()
        assert "sync_session_class" in sessions.kw
        other.uninstall()
        assert "sync_session_class" not in sessions.kw


def test_two_drivers_of_one_database_are_one_database(engine: Engine, install: Install) -> None:
    """An application may use both; what its sync sessions and its async ones write is captured by one installation."""
    with application_at(str(engine.url).replace("sqlite", "sqlite+aiosqlite")) as application:
        webhooks = install(Session, bind=engine, deliver=False, capture="all")
        with pytest.raises(ConfigurationError, match="captured twice"):
            install(application.sessions)
        put(sessionmaker(engine), "sync")
        application.put(Product(sku="async"))
        assert published(webhooks) == ["sync", "async"]
