"""Mapped classes by their primary keys: of each type that a table may be gone through by; and families of classes."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import (
    JSON,
    Date,
    DateTime,
    Dialect,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    String,
    TypeDecorator,
    Uuid,
)
from sqlalchemy import Enum as SAEnum
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables."""


class Letter(Enum):
    B = "b"
    A = "a"
    C = "c"


class Guid(TypeDecorator[uuid.UUID]):
    """As many applications have it: text in the database; takes text too."""

    impl = String(36)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else str(uuid.UUID(str(value)))

    def process_result_value(self, value: Any, dialect: Dialect) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(value)


class Ticket:
    """No plain value, and nothing else does for it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        return f"ticket {self.number}"


class Ticketed(TypeDecorator[Ticket]):
    """Whoever gives anything but a ticket is refused."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value.number)

    def process_result_value(self, value: Any, dialect: Dialect) -> Ticket | None:
        return None if value is None else Ticket(value)


_moments = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def _keyed(name: str, **types: Any) -> Any:
    body = {part: mapped_column(type_, primary_key=True, autoincrement=False) for part, type_ in types.items()}
    return type(name, (Base,), {"__tablename__": f"keyed_by_{name.lower()}", **body})


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
#: Of several versions, some of which a database may put in another order than their text.
_IDS = [
    uuid.UUID(one)
    for one in (
        "ffffffff-0000-1000-8000-000000000001",
        "00000000-ffff-1fff-8000-000000000001",
        "11111111-2222-4222-8333-444444444444",
        "01890000-0000-7000-8000-000000000009",
        "fedcba98-7654-4321-8fed-cba987654321",
    )
]

#: Each class, and the keys of some rows.
_TYPES: list[tuple[str, dict[str, Any], list[tuple[Any, ...]]]] = [
    ("Whole", {"id": Integer}, [(n,) for n in (3, -7, 0, 12, 2**31 - 1)]),
    ("Texts", {"id": String(20)}, [(one,) for one in ("b", "a'", "ä", "A2", "%_", "")]),
    ("Uuids", {"id": Uuid}, [(one,) for one in _IDS]),
    ("Guids", {"id": Guid}, [(one,) for one in _IDS]),
    ("Exact", {"id": Numeric(20, 4)}, [(Decimal(one),) for one in ("1.5", "-2", "10.0001", "9", "0")]),
    ("Naive", {"id": _moments}, [(datetime(2026, 3, 1, 0, 0, 0, n),) for n in (5, 2, 900000)]),  # noqa: DTZ001  # naive
    ("Zoned", {"id": DateTime(timezone=True)}, [(NOON + timedelta(hours=n),) for n in (3, -8, 0)]),
    ("Dates", {"id": Date}, [(date(2026, 3, n),) for n in (9, 10, 1)]),
    ("Bytes", {"id": LargeBinary(9).with_variant(mysql.VARBINARY(9), "mysql", "mariadb")}, [(b"\xff",), (b"a",)]),
    ("Enums", {"id": SAEnum(Letter)}, [(Letter.A,), (Letter.B,), (Letter.C,)]),
    ("Pairs", {"a": String(9), "b": Integer}, [("x", 2), ("x", 1), ("w", 9), ("y", 0), ("x", 10)]),
    (
        "Three",
        {"a": Integer, "b": Uuid, "c": Integer},
        [(a, one, c) for a in (2, 1) for one in _IDS[:2] for c in (5, 4)],
    ),
]
KEYED: dict[str, tuple[Any, list[tuple[Any, ...]]]] = {
    name: (_keyed(name, **types), keys) for name, types, keys in _TYPES
}


class Refused(Base):
    __tablename__ = "keyed_by_tickets"
    id: Mapped[Any] = mapped_column(Ticketed, primary_key=True)


class NoKey(Base):
    """Its table has no primary key, and may have none in a row; the application knows better."""

    __tablename__ = "keyed_by_nothing"
    number: Mapped[int | None] = mapped_column(Integer)
    __mapper_args__ = {"primary_key": [number]}  # noqa: RUF012  # declarative's own form
    # The mapping alone says it.
    __table_args__ = (PrimaryKeyConstraint("rest"),)
    rest: Mapped[int] = mapped_column(Integer)


class Note(Base):
    """One whose column may be spoilt."""

    __tablename__ = "keyed_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[Any] = mapped_column(JSON)


class Vehicle(Base):
    """Single table; the class itself has no rows."""

    __tablename__ = "keyed_vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(9))
    wheels: Mapped[int] = mapped_column(default=4)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_abstract": True}  # noqa: RUF012  # declarative's own form


class Car(Vehicle):
    __mapper_args__ = {"polymorphic_identity": "car"}  # noqa: RUF012  # declarative's own form


class Van(Car):
    """Derived from what has rows of its own."""

    load: Mapped[int | None] = mapped_column()
    __mapper_args__ = {"polymorphic_identity": "van"}  # noqa: RUF012  # declarative's own form


class Boat(Vehicle):
    """Left out."""

    __webhooks__ = False
    __mapper_args__ = {"polymorphic_identity": "boat"}  # noqa: RUF012  # declarative's own form


class Tool(Base):
    """Concrete: each class has a table."""

    __tablename__ = "keyed_tool"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(9), default="tool")


class Saw(Tool):
    __tablename__ = "keyed_saw"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(9), default="saw")
    teeth: Mapped[int] = mapped_column(default=9)
    __mapper_args__ = {"concrete": True}  # noqa: RUF012  # declarative's own form
