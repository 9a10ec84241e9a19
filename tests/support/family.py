"""Mapped classes whose rows the database deletes and changes by itself, in every way that a foreign key has."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    UniqueConstraint,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The family's tables."""


def _child(target: str = "family_root.id", **rules: Any) -> Any:
    return mapped_column(ForeignKey(target, **{"ondelete": "CASCADE", **rules}))


class Root(Base):
    """What all hangs on."""

    __tablename__ = "family_root"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(String(10), unique=True)
    branches: Mapped[list[Branch]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    stems: Mapped[list[Stem]] = relationship(passive_deletes="all")
    buds: Mapped[list[Bud]] = relationship()


class Branch(Base):
    __tablename__ = "family_branch"
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int | None] = _child()
    title: Mapped[str] = mapped_column(String(10), default="")


class Stem(Base):
    """Loses its root, but lives on."""

    __tablename__ = "family_stem"
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int | None] = _child(ondelete="SET NULL")
    title: Mapped[str] = mapped_column(String(10), default="")


class Bud(Base):
    """To the ORM it lives on, to the database it does not."""

    __tablename__ = "family_bud"
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int | None] = _child(onupdate="CASCADE")


class Leaf(Base):
    """Two levels below, with no relationship."""

    __tablename__ = "family_leaf"
    id: Mapped[int] = mapped_column(primary_key=True)
    branch_id: Mapped[int] = _child("family_branch.id")


class Label(Base):
    """Refers to what is no primary key."""

    __tablename__ = "family_label"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = _child("family_root.code", onupdate="CASCADE")
    sign: Mapped[str | None] = _child("family_root.code", ondelete="SET NULL", onupdate="SET NULL")


class Twig(Base):
    """Refers to its own kind."""

    __tablename__ = "family_twig"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = _child("family_twig.id")
    root_id: Mapped[int | None] = _child()


class Box(Base):
    """A composite key."""

    __tablename__ = "family_box"
    row: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int | None] = _child()
    __table_args__ = (UniqueConstraint("place", "row"),)  # in whose order MariaDB wants to be referred to


class Item(Base):
    __tablename__ = "family_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int | None]
    row: Mapped[int | None]
    __table_args__ = (
        ForeignKeyConstraint(["place", "row"], ["family_box.place", "family_box.row"], ondelete="CASCADE"),
    )


class Animal(Base):
    """Joined inheritance."""

    __tablename__ = "family_animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    root_id: Mapped[int | None] = _child()
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}  # noqa: RUF012  # declarative's own form


class Dog(Animal):
    __tablename__ = "family_dog"
    id: Mapped[int] = mapped_column(ForeignKey("family_animal.id", ondelete="CASCADE"), primary_key=True)
    tricks: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012  # declarative's own form


class Collar(Base):
    """Only dogs have one."""

    __tablename__ = "family_collar"
    id: Mapped[int] = mapped_column(primary_key=True)
    dog_id: Mapped[int | None] = _child("family_dog.id")


#: Nobody maps it.
between = Table(
    "family_between",
    Base.metadata,
    Column("id", Integer, primary_key=True),
    Column("root_id", ForeignKey("family_root.id", ondelete="CASCADE")),
)


class Far(Base):
    """Hangs on its root by a table that nobody maps."""

    __tablename__ = "family_far"
    id: Mapped[int] = mapped_column(primary_key=True)
    between_id: Mapped[int] = _child("family_between.id")


class Alone(Base):
    """Nothing hangs on it."""

    __tablename__ = "family_alone"
    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column(default=0)


Rows = dict[tuple[str, str], dict[str, Any]]


def rows(connection: Connection) -> Rows:
    """All rows of the mapped classes, by resource and id, as events say them."""
    found: Rows = {}
    for mapper in Base.registry.mappers:
        name = mapper.class_.__name__.lower()
        columns = {attribute.key: attribute.columns[0] for attribute in mapper.column_attrs}
        query = select(*columns.values()).select_from(mapper.persist_selectable)
        if mapper.class_ is Animal:
            query = query.where(Animal.kind == "animal")
        for row in connection.execute(query):
            values = dict(zip(columns, row, strict=True))
            key = ",".join(str(values[mapper.get_property_by_column(one).key]) for one in mapper.primary_key)
            found[name, key] = values
    return found
