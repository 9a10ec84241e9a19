"""The cases that capture of an ORM gets wrong: whose sessions, and whose mappings. Each test compares all events."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import sqlmodel
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Column, Engine, Integer, String, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    registry,
    scoped_session,
    sessionmaker,
)
from support.async_databases import application_at
from support.local import Install
from support.shop import Product
from support.told import Told

Sessions = sessionmaker[Session]

_mapped = registry()


class Imperative:
    def __init__(self, id: int, name: str) -> None:
        self.id, self.name = id, name


_table = Table("imperative", _mapped.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
_mapped.map_imperatively(Imperative, _table)


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    pass


class Unhashable(DataclassBase):
    """Equal to others of the same values, and so without a hash."""

    __tablename__ = "unhashable"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def created(sku: str) -> tuple[str, str, dict[str, Any]]:
    return ("product.created", sku, {"sku": sku, "name": "", "stock": 0, "details": None})


# ------------------------------------------------------------------ sessions


def test_async_session(install: Install, tmp_path: Path) -> None:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/app.db") as application:
        told = Told(install(application.sessions, deliver=False, capture="all"))

        async def main() -> None:
            async with application.sessions() as session:
                assert isinstance(session, AsyncSession)
                session.add(Product(sku="a"))
                await session.commit()
                session.add(Product(sku="b"))
                await session.flush()
                await session.rollback()
                (await session.get_one(Product, "a")).stock = 1
                await session.commit()

        application.run(main)
        assert told() == [
            created("a"),
            ("product.updated", "a", {"sku": "a", "name": "", "stock": (0, 1), "details": None}),
        ]
        told.webhooks.uninstall()


def test_scoped_session(install: Install, sessions: Sessions) -> None:
    scope = scoped_session(sessions)
    told = Told(install(scope, deliver=False, capture="all"))
    scope.add(Product(sku="a"))
    scope.commit()
    scope.remove()
    scope.configure(expire_on_commit=False)
    scope.add(Product(sku="b"))
    scope.commit()
    scope.remove()

    assert told() == [created("a"), created("b")]


def test_sessions_made_before_install(install: Install, sessions: Sessions) -> None:
    with sessions() as session:
        session.add(Product(sku="before"))
        session.commit()
        told = Told(install(sessions, deliver=False, capture="all"))
        session.add(Product(sku="after"))
        session.commit()

    assert told() == [created("after")]


def test_session_subclass(install: Install, engine: Engine) -> None:
    class Ours(Session):
        pass

    class Derived(Ours):
        pass

    told = Told(install(Ours, bind=engine, deliver=False, capture="all"))
    for class_, sku in ((Ours, "a"), (Derived, "b"), (Session, "of others")):
        with class_(engine) as session, session.begin():
            session.add(Product(sku=sku))

    assert told() == [created("a"), created("b")]


def test_second_sessionmaker(install: Install, sessions: Sessions, engine: Engine) -> None:
    told = Told(install(sessions, deliver=False, capture="all"))
    for maker, sku in ((sessions, "a"), (sessionmaker(engine), "of others")):
        with maker.begin() as session:
            session.add(Product(sku=sku))

    assert told() == [created("a")]


@pytest.fixture
def hero() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydantic thinks of itself

        class Champion(sqlmodel.SQLModel, table=True):
            id: int | None = sqlmodel.Field(default=None, primary_key=True)
            name: str

    yield Champion
    sqlmodel.SQLModel.metadata.remove(sqlmodel.SQLModel.metadata.tables["champion"])


def test_sqlmodel(install: Install, engine: Engine, hero: Any) -> None:
    sqlmodel.SQLModel.metadata.create_all(engine)
    told = Told(install(sqlmodel.Session, bind=engine, deliver=False, capture="all"))
    with sqlmodel.Session(engine) as session:
        session.add(hero(name="a"))
        session.commit()
        one = session.exec(sqlmodel.select(hero)).one()
        one.name = "b"
        session.commit()

    assert told() == [
        ("champion.created", "1", {"id": 1, "name": "a"}),
        ("champion.updated", "1", {"id": 1, "name": ("a", "b")}),
    ]


def test_flask_sqlalchemy(install: Install, tmp_path: Path) -> None:
    app = flask.Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/flask.db"

    class Model(DeclarativeBase):
        pass

    db = SQLAlchemy(app, model_class=Model)

    class Receipt(db.Model):  # type: ignore[name-defined,misc]  # made at run time
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context():
        db.create_all()
        told = Told(install(db.session, deliver=False, capture="all"))
        db.session.add(Receipt(id=1))
        db.session.commit()
        db.session.add(Receipt(id=2))
        db.session.flush()
        db.session.rollback()

        assert told() == [("receipt.created", "1", {"id": 1})]
        db.engine.dispose()


# ------------------------------------------------------------------ mappings


def test_imperative_mapping(install: Install, engine: Engine, sessions: Sessions) -> None:
    _mapped.metadata.create_all(engine)
    told = Told(install(sessions, deliver=False, capture="all"))
    with sessions.begin() as session:
        session.add(Imperative(1, "a"))
    with sessions.begin() as session:
        one = session.get_one(Imperative, 1)
        one.name = "b"

    assert told() == [
        ("imperative.created", "1", {"id": 1, "name": "a"}),
        ("imperative.updated", "1", {"id": 1, "name": ("a", "b")}),
    ]


def test_dataclass_mapping_unhashable(install: Install, engine: Engine, sessions: Sessions) -> None:
    DataclassBase.metadata.create_all(engine)
    told = Told(install(sessions, deliver=False, capture="all"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Unhashable(id=1, name="a"))
    with sessions.begin() as session:
        session.add_all([Unhashable(id=1, name="a"), Unhashable(id=2, name="a")])
    with sessions.begin() as session:
        one = session.get_one(Unhashable, 1)
        one.name = "b"
        session.delete(session.get_one(Unhashable, 2))

    assert told() == [
        ("unhashable.created", "1", {"id": 1, "name": "a"}),
        ("unhashable.created", "2", {"id": 2, "name": "a"}),
        ("unhashable.updated", "1", {"id": 1, "name": ("a", "b")}),
        ("unhashable.deleted", "2", {"id": 2, "name": "a"}),
    ]
