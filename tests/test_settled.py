"""Values in events are those that the database holds, whatever was assigned."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    CHAR,
    JSON,
    REAL,
    Boolean,
    Date,
    DateTime,
    Dialect,
    Engine,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Time,
    TypeDecorator,
    Uuid,
    event,
    select,
    update,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.types import TypeEngine
from support.clock import MovedClock
from support.databases import Database

import sqla_webhooks
from sqla_webhooks import encoding


class Colour(Enum):
    RED = "red"


class Masked(TypeDecorator[str]):
    """Only writes."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return value and "*" * len(value)


class Sealed(TypeDecorator[str]):
    """Turns back what it writes."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return value and value[::-1]

    def process_result_value(self, value: str | None, _dialect: Dialect) -> str | None:
        return value and value[::-1]


class Base(DeclarativeBase):
    pass


TYPES: dict[str, TypeEngine[Any]] = {
    "whole": Integer(),
    "words": String(40),
    "padded": CHAR(8),
    "colour": EnumType(Colour),
    "price": Numeric(10, 2),
    "ratio": Float(),
    "real": REAL(),
    "flag": Boolean(),
    "day": Date(),
    "at": DateTime(),
    "at_zone": DateTime(timezone=True),
    "hour": Time(),
    "length": Interval(),
    "bytes_": LargeBinary(),
    "uuid": Uuid(),
    "json": JSON(),
    "masked": Masked(),
    "sealed": Sealed(),
}


class Thing(Base):
    __tablename__ = "settled_thing"
    id: Mapped[int] = mapped_column(primary_key=True)


for _name, _type in TYPES.items():
    setattr(Thing, _name, mapped_column(_type, nullable=True))

TOKYO = timezone(timedelta(hours=9))
UUID_ONE = UUID(int=1)

#: Attribute, value, and the databases that take it.
ASSIGNED: list[tuple[str, Any, str]] = [
    ("whole", 7, "all"),
    ("whole", "7", "sqlite mariadb"),
    ("whole", True, "sqlite mariadb"),
    ("words", "plain", "all"),
    ("padded", "ab", "all"),
    ("colour", Colour.RED, "all"),
    ("colour", "RED", "all"),
    ("price", Decimal("9.50"), "all"),
    ("price", Decimal("9.5"), "all"),
    ("price", Decimal(-9), "all"),
    ("price", Decimal(0), "all"),
    ("price", Decimal("-0"), "all"),
    ("price", Decimal("-0.00"), "all"),
    ("price", Decimal("9.499"), "all"),
    ("price", Decimal("9.5000"), "all"),
    ("price", Decimal("1E+3"), "all"),
    ("price", 3, "all"),
    ("price", 9.25, "all"),
    ("ratio", 0.1, "all"),
    ("ratio", 1, "all"),
    ("real", 0.1, "all"),
    ("flag", True, "all"),
    ("flag", 1, "sqlite mariadb"),
    ("day", date(2026, 3, 1), "all"),
    ("day", datetime(2026, 3, 1, 12, 30), "all"),  # noqa: DTZ001  # what an application may assign
    ("at", datetime(2026, 3, 1, 12, 30), "all"),  # noqa: DTZ001  # the same
    ("at", datetime(2026, 3, 1, 12, 30, 0, 123456), "all"),  # noqa: DTZ001  # the same
    ("at", datetime(2026, 3, 1, 12, 30, tzinfo=TOKYO), "all"),
    ("at_zone", datetime(2026, 3, 1, 12, 30, 0, 5, tzinfo=UTC), "all"),
    ("at_zone", datetime(2026, 3, 1, 12, 30, tzinfo=TOKYO), "all"),
    ("at_zone", datetime(2026, 3, 1, 12, 30), "all"),  # noqa: DTZ001  # the same
    ("hour", time(12, 30, 0, 7), "all"),
    ("length", timedelta(hours=1, microseconds=5), "all"),
    ("bytes_", b"\x00\xff", "all"),
    ("uuid", UUID_ONE, "all"),
    ("json", {"a": [1, 2.5, None]}, "all"),
    ("masked", "secret", "all"),
    ("sealed", "abc", "all"),
]


@pytest.fixture
def engine(database: Database) -> Any:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def told(engine: Engine) -> Any:
    """The payloads since the last call."""
    seen: set[str] = set()
    sessions = sessionmaker(engine)

    def told() -> list[dict[str, Any]]:
        webhooks.drain()
        new = [one for one in webhooks.events.list(limit=100) if one.id not in seen]
        seen.update(one.id for one in new)
        return [encoding.loads(one.payload) for one in reversed(new)]

    with sqla_webhooks.install(sessions, deliver=False, capture="all", clock=MovedClock()) as webhooks:
        yield sessions, told


def stored(engine: Engine) -> list[dict[str, Any]]:
    """The rows as the database has them, as JSON."""
    with Session(engine) as session:
        rows = session.execute(select(*(getattr(Thing, name) for name in ("id", *TYPES))).order_by(Thing.id)).mappings()
        return [encoding.loads(encoding.dumps(dict(row))) for row in rows]


Told = tuple[sessionmaker[Session], Callable[[], list[dict[str, Any]]]]


def test_what_was_assigned_is_told_as_it_is_stored(database: Database, engine: Engine, told: Told) -> None:
    sessions, events = told
    taken = [(name, value) for name, value, where in ASSIGNED if where == "all" or database.name in where]
    for name, value in taken:
        with sessions.begin() as session:
            session.add(Thing(**{name: value}))
    assert [one["data"] for one in events()] == stored(engine)


def test_so_it_is_in_one_flush_of_many(database: Database, engine: Engine, told: Told) -> None:
    sessions, events = told
    taken = [(name, value) for name, value, where in ASSIGNED if where == "all" or database.name in where]
    with sessions.begin() as session:
        session.add_all([Thing(id=number, **{name: value}) for number, (name, value) in enumerate(taken, 1)])
    assert [one["data"] for one in events()] == stored(engine)


def test_so_it_is_in_updates(database: Database, engine: Engine, told: Told) -> None:
    sessions, events = told
    taken = [(name, value) for name, value, where in ASSIGNED if where == "all" or database.name in where]
    with sessions.begin() as session:
        session.add_all([Thing(id=number) for number, _ in enumerate(taken, 1)])
    events()
    with sessions.begin() as session:
        for number, (name, value) in enumerate(taken, 1):
            setattr(session.get_one(Thing, number), name, value)
    new = events()
    assert [one["data"] for one in new] == stored(engine)
    for (name, _), one in zip(taken, new, strict=True):
        assert one["changes"] == {name: {"from": None, "to": one["data"][name]}}


def test_what_comes_to_the_same_is_no_change(told: Told) -> None:
    sessions, events = told
    with sessions.begin() as session:
        session.add(Thing(id=1, price=Decimal("9.50")))
    events()
    with sessions.begin() as session:
        session.get_one(Thing, 1).price = Decimal("9.501")  # type: ignore[attr-defined]  # mapped above
    assert events() == []


def test_json_that_python_calls_equal_is_another_where_it_was_written(told: Told) -> None:
    sessions, events = told
    with sessions.begin() as session:
        session.add(Thing(id=1, json={"a": True}))
    events()
    with sessions.begin() as session:
        session.execute(update(Thing).values(json={"a": 1}))
    assert [one["changes"] for one in events()] == [{"json": {"from": {"a": True}, "to": {"a": 1}}}]


def test_nothing_is_read_again_that_is_settled(engine: Engine, told: Told) -> None:
    sessions, _ = told
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement.split()[0]))
    with sessions.begin() as session:
        session.add(
            Thing(id=1, whole=7, words="plain", price=Decimal("9.50"), flag=True, day=date(2026, 3, 1), uuid=UUID_ONE)
        )
        session.add(Thing(id=2, whole=7, words="plain", price=Decimal("9.5"), flag=None, day=None, uuid=UUID_ONE))
    assert [one for one in seen if one != "BEGIN"] == ["INSERT", "INSERT"]
