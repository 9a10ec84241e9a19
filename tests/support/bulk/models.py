"""Mapped classes of every kind that a bulk write treats differently."""

from __future__ import annotations

import uuid
from enum import Enum
from typing import Any

from sqlalchemy import Computed, ForeignKey, String, TypeDecorator, UniqueConstraint, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Their tables."""


class Item(Base):
    """A generated key, defaults of either side, a computed column, and a column that is called otherwise."""

    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column("item_label", String(40), default="python")
    state: Mapped[str] = mapped_column(String(20), server_default="server")
    amount: Mapped[int] = mapped_column(default=lambda: 1)
    doubled: Mapped[int] = mapped_column(Computed("amount * 2", persisted=True))
    code: Mapped[str | None] = mapped_column("unique_code", String(20), unique=True)


class Seat(Base):
    """A composite key, and another that is unique."""

    __tablename__ = "bulk_seat"
    __table_args__ = (UniqueConstraint("line", "ticket", name="one_ticket"),)

    line: Mapped[str] = mapped_column("seat_line", String(4), primary_key=True, key="line")
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    taken: Mapped[int] = mapped_column(default=0)
    ticket: Mapped[int | None] = mapped_column()


class Tag(Base):
    """A natural key."""

    __tablename__ = "tag"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    uses: Mapped[int] = mapped_column(default=0)


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Shouted(TypeDecorator[str]):
    """Stored in capitals."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:  # its signature
        return None if value is None else value.upper()

    def process_result_value(self, value: Any, dialect: Any) -> Any:  # its signature
        return None if value is None else value.lower()


class Thing(Base):
    """A key of types that are not simply bound."""

    __tablename__ = "thing"

    color: Mapped[Color] = mapped_column(primary_key=True)
    number: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    word: Mapped[str] = mapped_column(Shouted, primary_key=True)
    size: Mapped[int] = mapped_column(default=0)


class Token(Base):
    """A key that the application makes."""

    __tablename__ = "token"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    size: Mapped[int] = mapped_column(default=0)


class Animal(Base):
    """Joined inheritance."""

    __tablename__ = "bulk_animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20), default="nobody")

    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}  # noqa: RUF012  # declarative's own form


class Dog(Animal):
    __tablename__ = "bulk_dog"

    id: Mapped[int] = mapped_column(ForeignKey("bulk_animal.id"), primary_key=True)
    tricks: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012  # declarative's own form


class Car(Base):
    """Single table inheritance."""

    __tablename__ = "car"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    wheels: Mapped[int] = mapped_column(default=4)

    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "car"}  # noqa: RUF012  # declarative's own form


class Truck(Car):
    load: Mapped[int | None] = mapped_column()

    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012  # declarative's own form


class Paper(Base):
    """Concrete inheritance."""

    __tablename__ = "paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20), default="")


class Book(Paper):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20), default="")
    pages: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"concrete": True}  # noqa: RUF012  # declarative's own form


CLASSES: tuple[type[Any], ...] = (Item, Seat, Tag, Thing, Token, Animal, Dog, Car, Truck, Paper, Book)
#: Those whose keys the database makes, each with a sequence of its own.
NUMBERED: tuple[type[Any], ...] = (Item, Animal, Car, Paper, Book)

NUMBER = uuid.UUID("00000000-0000-0000-0000-00000000000a")


def seed() -> list[Any]:
    """Some rows of each, whose keys are given, and low."""
    return [
        *(Item(id=n, label=f"item {n}", amount=n, code=f"c{n}") for n in (1, 2, 3)),
        *(Seat(line=line, number=n, taken=0, ticket=n) for line in "ab" for n in (1, 2)),
        *(Tag(name=name, uses=n) for n, name in enumerate(("x", "y", "z"))),
        Thing(color=Color.RED, number=NUMBER, word="one", size=1),
        Thing(color=Color.BLUE, number=NUMBER, word="two", size=2),
        Token(id=NUMBER, size=1),
        Animal(id=1, name="cat"),
        Dog(id=2, name="rex", tricks=1),
        Dog(id=3, name="fido", tricks=2),
        Car(id=1),
        Truck(id=2, wheels=6, load=10),
        Paper(id=1, title="a"),
        Book(id=1, title="b", pages=10),
    ]
