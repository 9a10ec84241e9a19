"""Mapped classes of every kind. Each row belongs to a lane, which is the session that may touch it."""

from __future__ import annotations

import itertools
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    deferred,
    mapped_column,
    registry,
    relationship,
)

#: To the microsecond on MariaDB too.
INSTANT = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class Base(DeclarativeBase):
    # Indexed, or MariaDB locks the other lane's rows too, for which it then waits a second each time.
    lane: Mapped[int] = mapped_column(default=0, index=True, sort_order=1)


metadata = Base.metadata


class State(Enum):
    NEW = "new"
    OLD = "old"


_ticks = itertools.count()


class Columns:
    """Columns of every kind."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), default="")
    status: Mapped[str] = mapped_column(String(20), server_default="fresh")
    quantity: Mapped[int] = mapped_column(default=1)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal("9.50"))
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2), Computed("quantity * price", persisted=True))
    created_at: Mapped[datetime] = mapped_column(INSTANT, server_default=func.now())
    edits: Mapped[int] = mapped_column(default=0, onupdate=text("edits + 1"))
    tick: Mapped[int | None] = mapped_column(onupdate=lambda: next(_ticks))
    state: Mapped[State] = mapped_column(default=State.NEW)
    details: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON()), nullable=True)
    flag: Mapped[bool | None]
    weight: Mapped[float | None] = mapped_column(Double)
    due: Mapped[datetime | None] = mapped_column(INSTANT)
    blob: Mapped[bytes | None] = mapped_column(LargeBinary)
    tag: Mapped[Any] = mapped_column(Uuid, nullable=True)


class Thing(Columns, Base):
    __tablename__ = "machine_thing"
    note: Mapped[str | None] = deferred(mapped_column(String(200)))
    watched: Mapped[int] = mapped_column(default=0, active_history=True)


class Eager(Columns, Base):
    """Fetches at once what the database makes."""

    __tablename__ = "machine_eager"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012  # declarative's own form


class Simple(Base):
    """Nothing happens to it by itself."""

    __tablename__ = "machine_simple"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), default="")
    number: Mapped[int | None]


class Document(Base):
    """Counts its versions."""

    __tablename__ = "machine_document"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(100), default="")
    reads: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declarative's own form


# --------------------------------------------------------------------------- keys


class Product(Base):
    """A key that is given."""

    __tablename__ = "machine_product"
    sku: Mapped[str] = mapped_column(String(40), primary_key=True)
    stock: Mapped[int] = mapped_column(default=0)
    label: Mapped[str | None] = deferred(mapped_column(String(40)))


class Seat(Base):
    """A key of two parts."""

    __tablename__ = "machine_seat"
    row: Mapped[str] = mapped_column(String(8), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    guest: Mapped[str | None] = mapped_column(String(40))
    visits: Mapped[int] = mapped_column(default=0, onupdate=text("visits + 1"))


class Odd(Base):
    """Attributes and columns have different names, one even the other's."""

    __tablename__ = "machine_odd"
    key: Mapped[str] = mapped_column("id_col", String(40), primary_key=True)
    first: Mapped[str | None] = mapped_column("second", String(40))
    second: Mapped[str | None] = mapped_column("first", String(40))
    count: Mapped[int] = mapped_column("n", default=0)


# --------------------------------------------------------------------------- families


class Author(Base):
    __tablename__ = "machine_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), default="")
    books: Mapped[list[Book]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "machine_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("machine_author.id"))
    title: Mapped[str] = mapped_column(String(40), default="")
    blurb: Mapped[str | None] = deferred(mapped_column(String(200)))
    author: Mapped[Author] = relationship(back_populates="books")
    pages: Mapped[list[Page]] = relationship(
        back_populates="book", cascade="all, delete-orphan", order_by="Page.number"
    )


class Page(Base):
    """A part of its key is the key of its book."""

    __tablename__ = "machine_page"
    book_id: Mapped[int] = mapped_column(ForeignKey("machine_book.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    words: Mapped[int] = mapped_column(default=0)
    book: Mapped[Book] = relationship(back_populates="pages")


class Team(Base):
    __tablename__ = "machine_team"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), default="")
    members: Mapped[list[Member]] = relationship(back_populates="team")


class Member(Base):
    """Stays without a team when that is deleted."""

    __tablename__ = "machine_member"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("machine_team.id"))
    name: Mapped[str] = mapped_column(String(40), default="")
    edits: Mapped[int] = mapped_column(default=0, onupdate=text("edits + 1"))
    team: Mapped[Team | None] = relationship(back_populates="members")


class Box(Base):
    __tablename__ = "machine_box"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), default="")
    items: Mapped[list[Item]] = relationship(cascade="all, delete-orphan")


class Item(Base):
    """Does not know its box."""

    __tablename__ = "machine_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("machine_box.id"))
    name: Mapped[str] = mapped_column(String(40), default="")


class Node(Base):
    """Knows others of its kind: its parent, and one whose key is written after both are there."""

    __tablename__ = "machine_node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("machine_node.id"))
    favourite_id: Mapped[int | None] = mapped_column(ForeignKey("machine_node.id"))
    name: Mapped[str] = mapped_column(String(40), default="")
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id", foreign_keys=parent_id)
    children: Mapped[list[Node]] = relationship(back_populates="parent", foreign_keys=parent_id)
    favourite: Mapped[Node | None] = relationship(remote_side="Node.id", foreign_keys=favourite_id, post_update=True)


# --------------------------------------------------------------------------- links

posts_tags = Table(
    "machine_posts_tags",
    metadata,
    Column("post_id", ForeignKey("machine_post.id"), primary_key=True),
    Column("tag_name", ForeignKey("machine_tag.name"), primary_key=True),
)
posts_fans = Table(
    "machine_posts_fans",
    metadata,
    Column("post_id", ForeignKey("machine_post.id"), primary_key=True),
    Column("fan_id", ForeignKey("machine_fan.id"), primary_key=True),
)


class Post(Base):
    __tablename__ = "machine_post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40), default="")
    body: Mapped[str | None] = deferred(mapped_column(String(200)))
    tags: Mapped[list[Tag]] = relationship(secondary=posts_tags, back_populates="posts")
    fans: Mapped[set[Fan]] = relationship(secondary=posts_fans)


class Tag(Base):
    __tablename__ = "machine_tag"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    colour: Mapped[str | None] = mapped_column(String(40))
    posts: Mapped[list[Post]] = relationship(secondary=posts_tags, back_populates="tags")


class Fan(Base):
    """Does not know its posts."""

    __tablename__ = "machine_fan"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), default="")


# --------------------------------------------------------------------------- inheritance


class Animal(Base):
    """Joined, on two levels."""

    __tablename__ = "machine_animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(40), default="")
    edits: Mapped[int] = mapped_column(default=0, onupdate=text("edits + 1"))
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}  # noqa: RUF012  # declarative's own form


class Dog(Animal):
    __tablename__ = "machine_dog"
    id: Mapped[int] = mapped_column(ForeignKey("machine_animal.id"), primary_key=True)
    tricks: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012  # declarative's own form


class Puppy(Dog):
    __tablename__ = "machine_puppy"
    id: Mapped[int] = mapped_column(ForeignKey("machine_dog.id"), primary_key=True)
    weeks: Mapped[int] = mapped_column(server_default="8")
    __mapper_args__ = {"polymorphic_identity": "puppy"}  # noqa: RUF012  # declarative's own form


class Cat(Animal):
    __tablename__ = "machine_cat"
    id: Mapped[int] = mapped_column(ForeignKey("machine_animal.id"), primary_key=True)
    lives: Mapped[int] = mapped_column(default=9)
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012  # declarative's own form


class Staff(Base):
    """Single."""

    __tablename__ = "machine_staff"
    badge: Mapped[str] = mapped_column(String(40), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(40), default="")
    __mapper_args__ = {"polymorphic_on": role, "polymorphic_identity": "staff"}  # noqa: RUF012  # declarative's own form


class Manager(Staff):
    bonus: Mapped[int | None] = mapped_column(use_existing_column=True)
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012  # declarative's own form


class Report(Base):
    __tablename__ = "machine_report"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40), default="")


class Invoice(Report):
    """Concrete: a table of its own, whole."""

    __tablename__ = "machine_invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    lane: Mapped[int] = mapped_column(default=0, index=True)
    title: Mapped[str] = mapped_column(String(40), default="")
    amount: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"concrete": True}  # noqa: RUF012  # declarative's own form


# --------------------------------------------------------------------------- other mappings


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    metadata = metadata


class Point(DataclassBase):
    """A dataclass, which is equal by its values and cannot be hashed."""

    __tablename__ = "machine_point"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    lane: Mapped[int] = mapped_column(default=0, index=True)
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int | None] = mapped_column(default=None)


class Plane:
    """Mapped by hand."""

    id: int
    lane: int
    name: str
    crew: int

    def __init__(self, **values: Any) -> None:
        for key, value in values.items():
            setattr(self, key, value)


planes = Table(
    "machine_plane",
    metadata,
    Column("plane_id", Integer, primary_key=True),
    Column("lane", Integer, nullable=False, index=True),
    Column("plane_name", String(40)),
    Column("crew", Integer, nullable=False, default=2),
)
registry(metadata=metadata).map_imperatively(
    Plane, planes, properties={"id": planes.c.plane_id, "name": planes.c.plane_name}
)
