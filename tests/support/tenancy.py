"""
Rows of tenants, of nobody, and of whom nobody can tell, whose every version has the mark of whom it is.

A tenant's name differs from another's in what a database may not tell apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import Connection, ForeignKey, String, delete, func, insert, select, update
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, SessionTransaction, mapped_column
from sqlalchemy.orm.exc import FlushError, ObjectDeletedError, StaleDataError

#: What an application may meet.
LEGAL = (DBAPIError, StaleDataError, FlushError, ObjectDeletedError, InvalidRequestError)

#: Whose rows may be, and the mark of each; "" is no tenant that could be told.
MARKS: dict[str | None, str] = {
    "acme": "mark-of-kilo-",
    "ACME": "mark-of-lima-",
    "acme ": "mark-of-mike-",
    None: "mark-of-nobody-",
    "": "mark-of-unknown-",
}
TENANTS = ("acme", "ACME", "acme ")


class Base(DeclarativeBase):
    """Each row has a number by which it is found, and the mark of whose it is."""

    number: Mapped[int]
    mark: Mapped[str] = mapped_column(String(60))
    rest: Mapped[str | None] = mapped_column(String(60), deferred=True)


class Doc(Base):
    """By name."""

    __tablename__ = "tenancy_doc"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str | None] = mapped_column("owned_by", String(20))


class Part(Base):
    """Deleted by the database."""

    __tablename__ = "tenancy_part"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(20))
    doc: Mapped[int | None] = mapped_column(ForeignKey(Doc.number, ondelete="CASCADE", onupdate="CASCADE"))


class Cell(Base):
    """By a column that is not sent; a composite key."""

    __tablename__ = "tenancy_cell"
    __webhooks__ = {"tenant": "owner_token"}  # noqa: RUF012  # declarative's own form
    shelf: Mapped[str] = mapped_column(String(10), primary_key=True, default="s")
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner_token: Mapped[str | None] = mapped_column(String(20), deferred=True)


class Note(Base):
    """By a function."""

    __tablename__ = "tenancy_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(20))


class Own(Base):
    """Its key has the tenant in it."""

    __tablename__ = "tenancy_own"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    owner: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Beast(Base):
    __tablename__ = "tenancy_beast"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    owner: Mapped[str | None] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "beast"}  # noqa: RUF012  # declarative's own form


class Hound(Beast):
    __tablename__ = "tenancy_hound"
    id: Mapped[int] = mapped_column(ForeignKey(Beast.id), primary_key=True)
    tricks: Mapped[str | None] = mapped_column(String(60))
    __mapper_args__ = {"polymorphic_identity": "hound"}  # noqa: RUF012  # declarative's own form


class Open(Base):
    """Nobody's."""

    __tablename__ = "tenancy_open"
    __webhooks__ = {"tenant": None}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)


CLASSES: tuple[type[Any], ...] = (Doc, Part, Cell, Note, Own, Beast, Hound, Open)


def whose(row: Any) -> str | None:
    """The function, which is asked of notes alone."""
    if isinstance(row, Note) and row.owner != "":
        return row.owner
    raise LookupError


def owner_name(cls: type[Any]) -> str | None:
    """The attribute that tells whose a row is."""
    return {Cell: "owner_token", Open: None}.get(cls, "owner")


# --------------------------------------------------------------------------- what is done to them

_WHICH, _NUMBERS, _OWNERS = st.integers(0, len(CLASSES) - 1), st.integers(0, 2), st.sampled_from([*MARKS])

#: The name of a step, and what it takes.
STEPS = st.one_of(
    st.tuples(st.just("add"), _WHICH, _NUMBERS, _OWNERS),
    st.tuples(st.just("add"), _WHICH, _NUMBERS, _OWNERS),
    st.tuples(st.just("move"), _WHICH, _NUMBERS, _OWNERS),
    st.tuples(st.just("move"), _WHICH, _NUMBERS, _OWNERS),
    st.tuples(st.just("touch"), _WHICH, _NUMBERS),
    st.tuples(st.just("renumber"), _WHICH, _NUMBERS, _NUMBERS),
    st.tuples(st.just("delete"), _WHICH, _NUMBERS),
    st.tuples(st.just("replace"), _WHICH, _NUMBERS, _OWNERS),
    st.tuples(st.just("insert_all"), _WHICH, st.lists(_NUMBERS, min_size=1, max_size=3, unique=True), _OWNERS),
    st.tuples(st.just("move_all"), _WHICH, _NUMBERS, _OWNERS),
    st.tuples(st.just("touch_all"), _WHICH),
    st.tuples(st.just("delete_all"), _WHICH, _NUMBERS),
    *[st.tuples(st.just("flush"))] * 3,
    st.tuples(st.just("expire")),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("release")),
    st.tuples(st.just("undo")),
)


@dataclass
class Hands:
    """What does the steps, in one session."""

    session: Session
    kinds: Sequence[type[Any]]
    savepoints: list[SessionTransaction] = field(default_factory=list)
    #: No mark comes twice.
    ticks: Iterable[int] = field(default_factory=itertools.count)

    def do(self, step: tuple[Any, ...]) -> None:
        name, *arguments = step
        if arguments and name not in ("flush", "expire"):
            arguments[0] = self.kinds[arguments[0] % len(self.kinds)]
        getattr(self, name)(*arguments)

    def marked(self, cls: type[Any], owner: str | None) -> dict[str, Any]:
        """What is written of a row that is somebody's."""
        name = owner_name(cls)
        if name is None:
            owner = None
        elif cls is Own and owner is None:
            owner = ""
        tick = next(iter(self.ticks))
        values = {"mark": f"{MARKS[owner]}{tick}", "rest": f"{MARKS[owner]}rest"}
        if cls is Hound:
            values["tricks"] = f"{MARKS[owner]}tricks"
        return values if name is None else {**values, name: owner}

    def some(self, cls: type[Any], number: int) -> Any:
        held = [one for one in (*self.session, *self.session.new) if type(one) is cls]
        known = [one for one in held if "number" in vars(one) and one.number == number]
        found = known or self.session.scalars(select(cls).where(cls.number == number)).all()
        exact = [one for one in found if type(one) is cls and one not in self.session.deleted]
        return exact[0] if exact else None

    def is_free(self, cls: type[Any], number: int) -> bool:
        """Whether a row may have the number: most refusals of the database are not worth a transaction."""
        return self.session.scalars(select(cls.number).where(cls.number == number)).first() is None

    def add(self, cls: type[Any], number: int, owner: str | None) -> None:
        if self.some(cls, number) is not None:
            self.move(cls, number, owner)
        elif self.is_free(cls, number):
            more = {"doc": number} if cls is Part and self.some(Doc, number) is not None else {}
            self.session.add(cls(number=number, **self.marked(cls, owner), **more))

    def move(self, cls: type[Any], number: int, owner: str | None) -> None:
        one = self.some(cls, number)
        for name, value in {} if one is None else self.marked(cls, owner).items():
            setattr(one, name, value)

    def touch(self, cls: type[Any], number: int) -> None:
        if (one := self.some(cls, number)) is not None:
            name = owner_name(cls)
            one.mark = self.marked(cls, None if name is None else getattr(one, name))["mark"]

    def renumber(self, cls: type[Any], number: int, new: int) -> None:
        one = self.some(cls, number)
        if one is not None and self.is_free(cls, new):
            one.number = new

    def delete(self, cls: type[Any], number: int) -> None:
        one = self.some(cls, number)
        if one is not None and sa_inspect(one).persistent:
            self.session.delete(one)

    def replace(self, cls: type[Any], number: int, owner: str | None) -> None:
        """Another row under the same key, in the same transaction."""
        self.delete(cls, number)
        self.session.flush()
        self.add(cls, number, owner)

    def insert_all(self, cls: type[Any], numbers: list[int], owner: str | None) -> None:
        self.session.flush()
        free = [one for one in numbers if self.is_free(cls, one)]
        if free:
            self.session.execute(insert(cls), [{"number": one, **self.marked(cls, owner)} for one in free])

    def move_all(self, cls: type[Any], least: int, owner: str | None) -> None:
        # A hound's columns are of two tables, and such a statement would leave it with what its tricks say of another.
        if cls not in (Hound, Beast):
            self.session.execute(update(cls).where(cls.number >= least).values(**self.marked(cls, owner)))

    def touch_all(self, cls: type[Any]) -> None:
        if cls is not Hound:
            self.session.execute(update(cls).values(mark=func.concat(cls.mark, "+")))

    def delete_all(self, cls: type[Any], least: int) -> None:
        if cls not in (Hound, Beast):
            self.session.execute(delete(cls).where(cls.number > least))

    def flush(self) -> None:
        self.session.flush()

    def expire(self) -> None:
        self.session.flush()
        self.session.expire_all()

    def savepoint(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    def release(self) -> None:
        if self.savepoints and (last := self.savepoints.pop()).is_active:
            last.commit()

    def undo(self) -> None:
        if self.savepoints and (last := self.savepoints.pop()).is_active:
            last.rollback()


def transact(session: Session, kinds: Sequence[type[Any]], steps: Iterable[tuple[Any, ...]], *, commit: bool) -> None:
    """One transaction; what the database refuses rolls all of it back."""
    hands = Hands(session, kinds)
    with suppress(*LEGAL):
        for step in steps:
            hands.do(step)
        if commit:
            session.commit()
    session.rollback()


# --------------------------------------------------------------------------- what stands there

#: By resource and id.
Rows = dict[tuple[str, str], dict[str, Any]]


def rows(connection: Connection, *, of: Sequence[str | None] | None = None) -> Rows:
    """
    What a replica of some tenants must be: their rows, compared by Python.

    Args:
        of: Whose; None for everybody's.
    """
    found: Rows = {}
    for cls in CLASSES:
        mapper, owner = sa_inspect(cls), owner_name(cls)
        columns = {one.key: one.columns[0] for one in mapper.column_attrs}
        query = select(*columns.values()).select_from(mapper.persist_selectable)
        if cls is Beast:
            query = query.where(Beast.kind == "beast")
        for row in connection.execute(query):
            values = dict(zip(columns, row, strict=True))
            key = ",".join(str(values[mapper.get_property_by_column(one).key]) for one in mapper.primary_key)
            if of is None or (None if owner is None else values[owner]) in of:
                values.pop("owner_token", None)
                found[cls.__name__.lower(), key] = values
    return found
