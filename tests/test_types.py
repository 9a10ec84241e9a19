"""Whatever a column can hold, its event says it in JSON, and says the same of what is read back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry, sessionmaker
from sqlalchemy.types import TypeEngine
from support.held import HELD, Held, Point
from support.local import Install
from support.receiver import Receiver
from support.types_databases import database_of

import sqla_webhooks
from sqla_webhooks import Webhooks
from sqla_webhooks.encoding import Encoding


@dataclass(frozen=True)
class World:
    """A database with a table for each value, and an installation on its sessions."""

    name: str
    engine: Engine
    sessions: sessionmaker[Session]
    webhooks: Webhooks
    models: dict[str, Any]

    def sent(self) -> dict[str, Any]:
        """The payload of the newest event."""
        assert self.webhooks.drain().complete
        payload: dict[str, Any] = json.loads(self.webhooks.events.list(limit=1)[0].payload)
        return payload


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    name: str = request.param
    with ExitStack() as stack:
        if name == "sqlite":
            url = make_url(f"sqlite:///{tmp_path_factory.mktemp(name)}/types.db")
        else:
            url = stack.enter_context(database_of(name))
        engine = create_engine(url, **({"use_native_hstore": False} if name == "postgresql" else {}))
        stack.callback(engine.dispose)
        if name == "postgresql":  # the wheel has no extensions; for SQLAlchemy it is all text
            with engine.begin() as connection:
                connection.execute(text("CREATE DOMAIN hstore AS text; CREATE DOMAIN citext AS text"))
        models = mapped(HELD[name], engine)
        sessions = sessionmaker(engine)
        webhooks = stack.enter_context(sqla_webhooks.install(sessions, deliver=False, capture="all"))
        yield World(name, engine, sessions, webhooks, models)


def mapped(held: list[Held], engine: Engine) -> dict[str, Any]:
    """A class, and a table, for each value."""
    classes, models = registry(), {}
    for one in held:
        key = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
        table = sa.Table(one.name, classes.metadata, key, sa.Column("value", one.type, nullable=True))
        models[one.name] = type(one.name, (), {})
        classes.map_imperatively(models[one.name], table)
    classes.metadata.create_all(engine)
    return models


def in_database(name: str) -> pytest.MarkDecorator:
    ids = [f"{one.type!r:.40}-{one.value!r:.30}".encode("ascii", "replace").decode() for one in HELD[name]]
    values = [(name, one) for one in HELD[name]]
    return pytest.mark.parametrize(("world", "held"), values, indirect=["world"], ids=ids, scope="module")


def check(world: World, held: Held, caplog: pytest.LogCaptureFixture) -> None:
    """Commit the value, read it back, and delete the row."""
    caplog.set_level(logging.WARNING)
    model = world.models[held.name]
    with world.sessions.begin() as session:
        row = model()
        row.id, row.value = 1, held.value
        session.add(row)
    created = world.sent()
    with world.sessions.begin() as session:
        row = session.get_one(model, 1)
        read = json.loads(Encoding().dumps(row.value))
        session.delete(row)
    deleted = world.sent()

    assert exactly(created["data"]) == exactly({"id": 1, "value": held.json})
    assert exactly(read) == exactly(held.json)
    assert exactly(deleted["data"]) == exactly({"id": 1, "value": held.json})
    assert "placeholder" not in caplog.text
    assert "left out" not in caplog.text


def exactly(parsed: Any) -> str:
    """Equal is not enough: 1, 1.0 and true are."""
    return json.dumps(parsed, sort_keys=True)


@in_database("sqlite")
def test_what_sqlite_holds(world: World, held: Held, caplog: pytest.LogCaptureFixture) -> None:
    check(world, held, caplog)


@in_database("postgresql")
def test_what_postgresql_holds(world: World, held: Held, caplog: pytest.LogCaptureFixture) -> None:
    check(world, held, caplog)


@in_database("mariadb")
def test_what_mariadb_holds(world: World, held: Held, caplog: pytest.LogCaptureFixture) -> None:
    check(world, held, caplog)


@pytest.mark.parametrize("world", ["postgresql"], indirect=True, scope="module")
def test_asyncpg_gives_values_of_the_same_json(world: World) -> None:
    """The other driver has types of its own; hstore is text here, and it would have to be told."""
    held = [one for one in HELD["postgresql"] if not isinstance(one.type, postgresql.HSTORE)]
    with world.engine.begin() as connection:
        for one in held:
            connection.execute(sa.insert(table_of(world, one)).values(id=2, value=one.value))

    found = asyncio.run(_read_by_asyncpg(world, held))

    assert found == {one.name: exactly(one.json) for one in held}


async def _read_by_asyncpg(world: World, held: list[Held]) -> dict[str, str]:
    engine = create_async_engine(world.engine.url.set(drivername="postgresql+asyncpg"))

    def read(connection: Connection) -> dict[str, str]:
        found = {}
        for one in held:
            value = connection.scalar(sa.select(table_of(world, one).c.value).where(table_of(world, one).c.id == 2))
            found[one.name] = exactly(json.loads(Encoding().dumps(value)))
        return found

    try:
        async with engine.connect() as connection:
            return await connection.run_sync(read)
    finally:
        await engine.dispose()


def table_of(world: World, held: Held) -> sa.Table:
    table: sa.Table = sa.inspect(world.models[held.name]).local_table
    return table


#: Classes of types that are no type of a column by themselves.
ABSTRACT = {
    "AbstractMultiRange",
    "AbstractRange",
    "AbstractSingleRange",
    "NamedType",
    "NullType",
    "TupleType",
    "TypeDecorator",
    "TypeEngine",
    "UserDefinedType",
    "Variant",
    "_Binary",
}


@pytest.mark.parametrize("module", [sa.types, postgresql, mysql], ids=lambda module: module.__name__)
def test_no_type_of_sqlalchemy_is_forgotten(module: Any) -> None:
    types = {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, TypeEngine)}
    tried = {type(one.type) for held in HELD.values() for one in held}
    assert {one.__name__ for one in types - tried} <= ABSTRACT


class Base(DeclarativeBase):
    pass


class Lease(Base):
    """Without end, which psycopg has no date for."""

    __tablename__ = "lease"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    rent: Mapped[int]
    until: Mapped[date] = mapped_column(server_default=text("'infinity'"), deferred=True)


@pytest.mark.parametrize("world", ["postgresql"], indirect=True, scope="module")
def test_a_value_that_the_driver_cannot_read_fails_no_flush_and_is_left_out(world: World) -> None:
    Base.metadata.tables["lease"].create(world.engine)
    with world.sessions.begin() as session:
        session.add(Lease(id=1, rent=1))
    assert world.sent()["data"] == {"id": 1, "rent": 1}
    with world.sessions.begin() as session:
        session.get_one(Lease, 1).rent = 2
    assert world.sent()["changes"] == {"rent": {"from": 1, "to": 2}}


# ------------------------------------------------------------------ encoders


class Place(sa.TypeDecorator[Point]):
    """A value of the application's own."""

    impl = sa.String(40)
    cache_ok = True

    def process_bind_param(self, value: Point | None, _dialect: Any) -> str | None:
        return None if value is None else f"{value.x} {value.at.isoformat()}"

    def process_result_value(self, value: str | None, _dialect: Any) -> Point | None:
        if value is None:
            return None
        x, _, at = value.partition(" ")
        return Point(int(x), date.fromisoformat(at))


class Visit(Base):
    __tablename__ = "visit"
    id: Mapped[UUID] = mapped_column(sa.Uuid, primary_key=True)
    place: Mapped[Point] = mapped_column(Place)
    price: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))


def test_encoders_hold_for_columns_for_keys_and_for_what_enrichers_add(
    engine: Engine, sessions: sessionmaker[Session], install: Install, receiver: Receiver
) -> None:
    Base.metadata.tables["visit"].create(engine)
    encoders = {Point: lambda point: [point.x, point.at], Decimal: float, UUID: lambda one: one.hex}
    webhooks = install(sessions, deliver=False, encoders=encoders)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    @webhooks.enricher(Visit)
    def with_more(visit: Visit, payload: dict[str, Any]) -> None:
        payload["more"] = {"place": visit.place, "half": visit.price / 2}

    with sessions.begin() as session:
        session.add(Visit(id=UUID(int=5), place=Point(1, date(2026, 3, 1)), price=Decimal("2.50")))
    webhooks.drain()

    (event,) = receiver.events()
    assert event["resource_id"] == f"{5:032}"
    assert event["data"] == {
        "id": f"{5:032}",
        "place": [1, "2026-03-01"],
        "price": 2.5,
        "more": {"place": [1, "2026-03-01"], "half": 1.25},
    }


def test_an_encoder_that_fails_fails_no_flush(
    engine: Engine, sessions: sessionmaker[Session], install: Install, receiver: Receiver
) -> None:
    Base.metadata.tables["visit"].create(engine)
    webhooks = install(sessions, deliver=False, encoders={Decimal: lambda one: one / 0})
    webhooks.endpoints.create(receiver.url(), events=["*"])
    told: list[type] = []

    @sqla_webhooks.unencodable.connect_via(webhooks)
    def note(_sender: Any, kind: type) -> None:
        told.append(kind)

    with sessions.begin() as session:
        session.add(Visit(id=UUID(int=5), place=Point(1, date(2026, 3, 1)), price=Decimal("2.50")))
    webhooks.drain()

    assert receiver.events()[0]["data"]["price"] == {"$unencodable": "decimal.Decimal"}
    assert told == [Decimal]
