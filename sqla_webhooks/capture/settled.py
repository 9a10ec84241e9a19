"""
Which values a database certainly stores as they were assigned, by the types of columns.

Others it may round, or bring into a form of its own: they are read again
after the flush. `Decimal("1.555")` in a `Numeric(10, 2)` is 1.56, `"7"` in an
`Integer` is 7, and on MariaDB a `DateTime` has no microseconds. What it pads
is padded here: `Decimal("1.5")` is 1.50.

| column | settled |
| --- | --- |
| Integer, Boolean, Date, Uuid | `int`, `bool`, `date`, `UUID`, and nothing that is only like them |
| String, Text, Enum | `str` no longer than the column, not in a `CHAR`; of an enum's class its members |
| LargeBinary | `bytes`, not in a `BINARY` |
| Numeric | `Decimal` with no more decimal places than the column; on PostgreSQL any, where the column does not say |
| Float, Double | `float`, unless the database keeps fewer digits |
| DateTime, Time, Interval | naive and aware as the column is, on SQLite naive; microseconds where they are kept |
| JSON | as it is |
| a TypeDecorator that reads what it writes | as it is: what it makes of it is its own affair |
| a TypeDecorator that only writes, and any other type | never |

NULL is NULL everywhere.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Dialect
from sqlalchemy import types as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

#: A value of the right type as the database stores it: itself, or padded, or UNSETTLED.
Check: TypeAlias = Callable[[Any], Any]

#: In place of a value of which only the database knows what it has made of it.
UNSETTLED = object()


@dataclass(frozen=True, slots=True)
class Rule:
    """Which values of one column are settled."""

    #: Types of values; None for all.
    kinds: frozenset[type] | None = frozenset()
    #: By type, what tells of each value.
    checks: tuple[tuple[type, Check], ...] = ()

    def check(self, kind: type) -> Check | None:
        """None if values of this type are stored as they are; else what tells how each is stored."""
        if kind is type(None):
            return None
        for one, check in self.checks:
            if kind is one:
                return check
        return None if self.kinds is None or kind in self.kinds else _never


def _never(_value: Any) -> Any:
    return UNSETTLED


AS_IT_IS = Rule(None)
_READ_AGAIN = Rule()


def rule(column_type: TypeEngine[Any], dialect: Dialect) -> Rule:
    """The rule of a column of this type, in a database of this dialect."""
    if isinstance(column_type, sa.Interval):
        return _interval(dialect)
    if isinstance(column_type, TypeDecorator):
        return _decorated(column_type, dialect)
    meant = column_type._variant_mapping.get(dialect.name, column_type)  # noqa: SLF001  # nothing public tells
    if isinstance(meant, _CHANGED):  # of which the dialect may make a type of its own
        return _READ_AGAIN
    return _plain(meant.dialect_impl(dialect), dialect)


def _plain(kind: TypeEngine[Any], dialect: Dialect) -> Rule:  # noqa: C901, PLR0911  # the table
    match kind:
        case sa.Enum():
            return Rule(frozenset({kind.enum_class or str}))
        case sa.String():
            return _text(kind, dialect)
        case sa.Boolean():
            return Rule(frozenset({bool}))
        case sa.Integer():
            return Rule(frozenset({int}))
        case sa.Float():
            return _float(kind, dialect)
        case sa.Numeric():
            return _numeric(kind, dialect)
        case sa.DateTime() | sa.Time():
            return _clock(kind, dialect)
        case sa.Date():
            return Rule(frozenset({dt.date}))
        case sa.LargeBinary():
            return Rule(frozenset({bytes}))
        case sa.Uuid():
            return Rule(frozenset({uuid.UUID}) if kind.as_uuid else frozenset())
        case sa.JSON():
            return AS_IT_IS
        case _:
            return _READ_AGAIN


def _text(kind: sa.String, dialect: Dialect) -> Rule:
    """PostgreSQL and MariaDB cut spaces at the end that are too many, and refuse other letters; SQLite takes all."""
    longest = kind.length
    if longest is None or dialect.name == "sqlite":
        return Rule(frozenset({str}))
    return Rule(checks=((str, lambda value: value if len(value) <= longest else UNSETTLED),))


def _decorated(kind: TypeDecorator[Any], dialect: Dialect) -> Rule:
    if isinstance(kind, sa.PickleType):
        return AS_IT_IS
    cls = type(kind)
    writes = _overrides(cls, "process_bind_param", "bind_processor", "bind_expression", "process_literal_param")
    reads = _overrides(cls, "process_result_value", "result_processor", "column_expression")
    if writes or reads:
        return AS_IT_IS if writes and reads else _READ_AGAIN
    return rule(kind.load_dialect_impl(dialect), dialect)


def _overrides(cls: type[TypeDecorator[Any]], *names: str) -> bool:
    return any(getattr(cls, name) is not getattr(TypeDecorator, name) for name in names)


def _float(kind: sa.Float[Any], dialect: Dialect) -> Rule:
    short = kind.precision is not None and dialect.name == "postgresql"
    short = short or (dialect.name in _MYSQL and not isinstance(kind, sa.Double))
    return _READ_AGAIN if kind.asdecimal or short else Rule(frozenset({float}))


def _numeric(kind: sa.Numeric[Any], dialect: Dialect) -> Rule:
    if not kind.asdecimal:
        return _READ_AGAIN
    scale = kind.scale
    if scale is None:
        return Rule(frozenset({decimal.Decimal})) if dialect.name == "postgresql" else _READ_AGAIN
    unit = decimal.Decimal((0, (1,), -scale))
    digits = (_DIGITS_OF_A_FLOAT if dialect.name == "sqlite" else _MANY) - scale

    def padded(value: decimal.Decimal) -> Any:
        longer = value if value.same_quantum(unit) else _padded(value, unit)
        fits = (
            longer is not None and longer.adjusted() < digits and (longer or not longer.is_signed())
        )  # some have no -0
        return longer if fits else UNSETTLED

    return Rule(checks=((decimal.Decimal, padded),))


def _padded(value: decimal.Decimal, unit: decimal.Decimal) -> decimal.Decimal | None:
    """*value* with the decimal places of *unit*; None if it has more."""
    if not value.is_finite() or abs(value.adjusted()) > _MANY:
        return None
    longer = value.quantize(unit, context=_PADDING)
    return longer if longer == value else None


def _clock(kind: sa.DateTime | sa.Time, dialect: Dialect) -> Rule:
    aware = kind.timezone and dialect.name == "postgresql"
    whole = dialect.name in _MYSQL and getattr(kind, "fsp", None) != _MICROSECONDS

    def kept(value: Any) -> Any:
        if (value.tzinfo is None) is aware or (whole and value.microsecond):
            return UNSETTLED
        return value

    return Rule(checks=((dt.datetime if isinstance(kind, sa.DateTime) else dt.time, kept),))


def _interval(dialect: Dialect) -> Rule:
    if dialect.name in _MYSQL:
        return Rule(checks=((dt.timedelta, lambda value: UNSETTLED if value.microseconds else value),))
    return Rule(frozenset({dt.timedelta}))


#: Types that pad, or that keep fewer digits than Python.
_CHANGED = (sa.CHAR, sa.NCHAR, sa.BINARY, sa.REAL)
_MYSQL = ("mysql", "mariadb")
_MICROSECONDS = 6
#: SQLite keeps a `Numeric` as a float.
_DIGITS_OF_A_FLOAT = 15
_MANY = 1_000
# Whatever the application's own context is.
_PADDING = decimal.Context(prec=2 * _MANY, traps=[])
