"""Mapped classes for the cases that capture of an ORM gets wrong: one for each kind of mapping."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Computed,
    DateTime,
    FetchedValue,
    ForeignKey,
    Integer,
    Numeric,
    String,
    Table,
    TypeDecorator,
    text,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    composite,
    deferred,
    mapped_column,
    relationship,
)


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    note: Mapped[str | None]


class Filled(Base):
    """The database, or SQLAlchemy, puts values in by itself."""

    __tablename__ = "filled"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    status: Mapped[str] = mapped_column(server_default="new")
    double: Mapped[int] = mapped_column(Computed("n * 2"))
    by_python: Mapped[str | None] = mapped_column(onupdate=lambda: "python")
    by_sql: Mapped[int] = mapped_column(default=0, onupdate=text("by_sql + 1"))
    by_trigger: Mapped[int | None] = mapped_column(server_onupdate=FetchedValue())


class Late(Base):
    """A column that is not loaded with the others."""

    __tablename__ = "late"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int]
    long: Mapped[str] = deferred(mapped_column(String(20)))


member_group = Table(
    "member_group",
    Base.metadata,
    Column("member_id", ForeignKey("member.id"), primary_key=True),
    Column("team_id", ForeignKey("team.id"), primary_key=True),
)


class Team(Base):
    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    members: Mapped[list[Member]] = relationship(cascade="all, delete-orphan", back_populates="team")


class Member(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int | None] = mapped_column(ForeignKey("team.id"))
    team: Mapped[Team | None] = relationship(back_populates="members")
    visits: Mapped[list[Team]] = relationship(secondary=member_group)


class Vehicle(Base):
    """Joined inheritance, and single inheritance below it."""

    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    wheels: Mapped[int] = mapped_column(default=4)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012  # declarative's own form


class Lorry(Vehicle):
    __tablename__ = "lorry"
    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    load: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "lorry"}  # noqa: RUF012  # declarative's own form


class Tricycle(Vehicle):
    __mapper_args__ = {"polymorphic_identity": "tricycle"}  # noqa: RUF012  # declarative's own form


class Metal(Base):
    """Concrete inheritance."""

    __tablename__ = "metal"
    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int]


class Gold(Metal):
    __tablename__ = "gold"
    id: Mapped[int] = mapped_column(primary_key=True)
    weight: Mapped[int]
    carat: Mapped[int]
    __mapper_args__ = {"concrete": True}  # noqa: RUF012  # declarative's own form


class Square(Base):
    """A composite key of given parts."""

    __tablename__ = "square"
    file: Mapped[str] = mapped_column(primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)
    piece: Mapped[str | None]


class Chief(Base):
    """Refers to itself, in a circle too."""

    __tablename__ = "chief"
    id: Mapped[int] = mapped_column(primary_key=True)
    deputy_id: Mapped[int | None] = mapped_column(ForeignKey("chief.id"))
    deputy: Mapped[Chief | None] = relationship(remote_side="Chief.id", post_update=True)


class Papers(Base):
    __tablename__ = "papers"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    tracked: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON), nullable=True)
    untracked: Mapped[Any] = mapped_column(JSON, nullable=True)


class Spot:
    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __composite_values__(self) -> tuple[int, int]:
        return self.x, self.y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spot) and (other.x, other.y) == (self.x, self.y)

    __hash__ = None  # type: ignore[assignment]  # it changes


class Marker(Base):
    """Attributes that are no columns, and columns of other names than their attributes."""

    __tablename__ = "marker"
    id: Mapped[int] = mapped_column("m_id", primary_key=True)
    x: Mapped[int] = mapped_column("m_x")
    y: Mapped[int] = mapped_column("m_y")
    spot: Mapped[Spot] = composite("x", "y")
    total: Mapped[int] = column_property(x + y)

    @hybrid_property
    def doubled(self) -> int:
        return self.x * 2


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declarative's own form


class Typed(Base):
    __tablename__ = "typed"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[Any] = mapped_column(Integer)
    amount: Mapped[Any] = mapped_column(Numeric(10, 2))
    moment: Mapped[Any] = mapped_column(DateTime)


class AnyText(TypeDecorator[Any]):
    """Takes any object, and stores a word."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, _value: Any, _dialect: Any) -> str:
        return "word"

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return value


class Strange(Base):
    __tablename__ = "strange"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    raw: Mapped[bytes]
    span: Mapped[timedelta]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    broken: Mapped[float]
    lone: Mapped[Any] = mapped_column(JSON)
    other: Mapped[Any] = mapped_column(AnyText)


class Owner(Base):
    """No two have one name."""

    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    things: Mapped[list[Thing]] = relationship(back_populates="owner")


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    n: Mapped[int] = mapped_column(default=0)
    owner: Mapped[Owner | None] = relationship(back_populates="things")


class Named(Base):
    """A key that nobody gives it but the application."""

    __tablename__ = "named"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)


class Shelf(Base):
    """Whose books the database looks after by itself."""

    __tablename__ = "shelf"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    books: Mapped[list[Book]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[str | None] = mapped_column(ForeignKey("shelf.name", ondelete="CASCADE", onupdate="CASCADE"))
