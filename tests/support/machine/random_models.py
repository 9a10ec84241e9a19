"""Mapped classes that nobody thought of: columns of random types and options, random keys, random inheritance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    Dialect,
    Double,
    Enum,
    ForeignKey,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, deferred, mapped_column

from support.machine.kinds import Kind, Pool
from support.machine.models import INSTANT, State


class Backwards(TypeDecorator[str]):
    """Stored another way round than it is used."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value[::-1]

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value[::-1]


#: Types, and values that every database stores as they are.
TYPES: tuple[tuple[Any, Pool], ...] = (
    (Integer, (0, 1, -5)),
    (SmallInteger, (0, 1, -5)),
    (BigInteger, (0, 2**40, -(2**62))),
    (String(40), ("", "a", "ü")),
    (Text, ("", "a", "ü" * 300)),
    (Backwards, ("", "abc", "xyz")),
    (Numeric(10, 2), (Decimal("0.00"), Decimal("12.30"), Decimal("-1.05"))),
    (Double, (0.0, 0.5, -1e10)),
    (Boolean, (True, False)),
    (Date, (date(2026, 1, 2), date(1970, 1, 1))),
    (INSTANT, (datetime(2026, 1, 2, 3, 4, 5, 6), datetime(1999, 12, 31))),  # noqa: DTZ001  # as the column is
    (Time, (time(1, 2, 3), time(0))),
    (Interval, (timedelta(seconds=5), timedelta(days=40))),
    (Enum(State), tuple(State)),
    (JSON, ({}, {"a": [1, None]}, [], "text", 1, True)),
    (LargeBinary, (b"", b"\x00\xff")),
    (Uuid, (UUID(int=1), UUID(int=2**127))),
    (PickleType, ([], [1, "a"], {"a": 1})),
)
#: The type, its values, and what the column's own name begins with.
Option = Callable[[Any, Pool, str], Any]
#: Ways to map a column.
OPTIONS: dict[str, Option] = {
    "plain": lambda type_, pool, prefix: mapped_column(type_),
    "required": lambda type_, pool, prefix: mapped_column(type_, nullable=bool(prefix), default=pool[0]),
    "default": lambda type_, pool, prefix: mapped_column(type_, default=lambda: pool[-1]),
    "onupdate": lambda type_, pool, prefix: mapped_column(type_, onupdate=lambda: pool[-1]),
    "deferred": lambda type_, pool, prefix: deferred(mapped_column(type_)),
    "watched": lambda type_, pool, prefix: mapped_column(type_, active_history=True),
    "renamed": lambda type_, pool, prefix: mapped_column(f"{prefix}another_name", type_),
    "made": lambda type_, pool, prefix: mapped_column(Integer, default=func.abs(-3)),
    "given": lambda type_, pool, prefix: mapped_column(Integer, server_default="7"),
    "counted": lambda type_, pool, prefix: mapped_column(Integer, default=0, onupdate=text(f"{prefix}counted + 1")),
}
#: Those whose values are the database's.
_BY_ITSELF = ("made", "given", "counted")

#: Ways to have a key: its columns, and the values to give to each of two classes; none where the database makes it.
KEYS: dict[str, Callable[[], tuple[dict[str, Any], Sequence[dict[str, Pool]]]]] = {
    "given out": lambda: ({"id": mapped_column(Integer, primary_key=True)}, ({}, {})),
    "text": lambda: (
        {"id": mapped_column(String(40), primary_key=True)},
        ({"id": ("a", "b", "c")}, {"id": ("d", "e")}),
    ),
    "uuid": lambda: (
        {"id": mapped_column(Uuid, primary_key=True)},
        ({"id": (UUID(int=1), UUID(int=2))}, {"id": (UUID(int=3), UUID(int=4))}),
    ),
    "pair": lambda: (
        {
            "id": mapped_column(Integer, primary_key=True, autoincrement=False),
            "part": mapped_column(String(40), primary_key=True),
        },
        ({"id": (1, 2), "part": ("a", "b")}, {"id": (3, 4), "part": ("a",)}),
    ),
}


@dataclass(frozen=True)
class Design:
    """One class, and perhaps another that is derived from it."""

    key: str
    #: Place among the types, and option.
    columns: tuple[tuple[int, str], ...]
    derived: str | None
    more: tuple[tuple[int, str], ...]
    eager: bool


_COLUMNS = st.lists(
    st.tuples(st.integers(0, len(TYPES) - 1), st.sampled_from(tuple(OPTIONS))), max_size=5, unique_by=lambda one: one[1]
).map(tuple)
DESIGNS = st.lists(
    st.builds(
        Design,
        key=st.sampled_from(tuple(KEYS)),
        columns=_COLUMNS,
        derived=st.sampled_from([None, "joined", "single", "concrete"]),
        more=_COLUMNS,
        eager=st.booleans(),
    ),
    min_size=1,
    max_size=2,
)


def map_classes(designs: Iterable[Design]) -> tuple[type[DeclarativeBase], list[Kind]]:
    """The classes of a design, with a base and so a metadata of their own."""

    class Base(DeclarativeBase):
        pass

    kinds: list[Kind] = []
    for name, design in zip(("Alpha", "Beta"), designs, strict=False):
        kinds += _classes(Base, name, design)
    Base.registry.configure()
    return Base, kinds


def _classes(base: type[DeclarativeBase], name: str, design: Design) -> Iterator[Kind]:
    key, pools = KEYS[design.key]()
    columns, values = _columns(design.columns)
    derived = design.derived if len(key) == 1 or design.derived != "joined" else None
    arguments: dict[str, Any] = {"eager_defaults": design.eager}
    if derived in ("joined", "single"):
        columns["kind"] = mapped_column(String(20))
        arguments |= {"polymorphic_on": "kind", "polymorphic_identity": "first"}
    attributes = {**key, **columns, "__tablename__": name.lower(), "__mapper_args__": arguments}
    first = type(name, (base,), {"lane": mapped_column(Integer), **attributes})
    yield _kind(first, values, pools[0])
    if derived is not None:
        more, others = _columns(design.more, "more_")
        again = {**KEYS[design.key]()[0], "lane": mapped_column(Integer), **_columns(design.columns)[0]}
        second = type(f"{name}Sub", (first,), {**more, **_derived(first, derived, again)})
        yield _kind(second, {**values, **others}, pools[1])


def _derived(first: Any, how: str, again: dict[str, Any]) -> dict[str, Any]:
    """What makes a class a derived one; *again* is all that a concrete one has of the first."""
    table = {"__tablename__": f"{first.__tablename__}_sub"}
    if how == "concrete":
        return {**table, **again, "__mapper_args__": {"concrete": True}}
    arguments = {"__mapper_args__": {"polymorphic_identity": "second"}}
    if how == "single":
        return arguments
    return {**table, **arguments, "id": mapped_column(ForeignKey(first.__table__.c.id), primary_key=True)}


def _kind(cls: type[Any], values: dict[str, Pool], key: dict[str, Pool]) -> Kind:
    counts = ("counted",) if hasattr(cls, "counted") else ()
    return Kind(cls, values or {"lane": (0,)}, counts, key)


def _columns(chosen: Iterable[tuple[int, str]], prefix: str = "") -> tuple[dict[str, Any], dict[str, Pool]]:
    """Attributes of a class, and the values that they may take."""
    columns: dict[str, Any] = {}
    values: dict[str, Pool] = {}
    for number, option in chosen:
        type_, pool = TYPES[number]
        columns[prefix + option] = OPTIONS[option](type_, pool, prefix)
        if option not in _BY_ITSELF:
            values[prefix + option] = pool if option == "required" else (None, *pool)
    return columns, values
