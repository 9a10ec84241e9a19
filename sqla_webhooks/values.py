"""
One value as a simpler one: the rules of `encoding`, whose docstring has them in a table.

A rule gives what JSON has, or what another rule knows. Types of other
libraries are known by their names, since none of them may be imported here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

#: Makes something simpler of a value. It may raise whatever the value's own methods raise.
Rule: TypeAlias = Callable[[Any], Any]


def encode(value: Any) -> Any:
    """
    *value* by its rule.

    Raises:
        TypeError: No rule knows the type.
        Exception: Whatever its own methods raise.
    """
    kind = type(value)
    rule = SCALARS.get(kind) or _rule(value, kind)
    if rule is None:
        message = f"no rule to encode {kind.__module__}.{kind.__qualname__} as JSON"
        raise TypeError(message)
    return rule(value)


def decode(plain: Any, kind: type[Any]) -> Any:
    """
    The value of type *kind* that `encode` has made *plain* of, as far as that can be undone.

    Raises:
        ValueError, TypeError: It is no such value.
    """
    if isinstance(plain, kind):
        return plain
    if issubclass(kind, Enum):
        return kind(plain)
    if not isinstance(plain, str):
        return plain
    read = next((one for base, one in _READ.items() if issubclass(kind, base)), kind)
    return read(plain)


def _rule(value: Any, kind: type) -> Rule | None:
    if isinstance(value, Enum):  # before all, since a `class Colour(str, Enum)` is a str as well
        return _RULES[Enum]
    for base in kind.__mro__:
        rule = _RULES.get(base) or _FOREIGN.get(f"{base.__module__}.{base.__qualname__}")
        if rule is not None:
            return rule
    for base, rule in _RULES.items():  # a proxy for such a value, or a collection that is registered as one
        if isinstance(value, base):
            return rule
    # An instance of a mapped class is a row, whose columns may be secret.
    return _fields if hasattr(kind, "__dataclass_fields__") and not hasattr(kind, "__mapper__") else None


def instant(value: datetime) -> str:
    """An instant as ISO 8601 in UTC with `Z`; a naive datetime is taken to be UTC."""
    text = value.isoformat()
    if value.tzinfo is None:
        return text + "Z"
    if text.endswith("+00:00"):
        return text[:-6] + "Z"
    if value.utcoffset() is None:
        return text + "Z"
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def duration(value: timedelta) -> str:
    """A length of time as an ISO 8601 duration of days, hours, minutes and seconds: `P1DT2H`."""
    sign = "-" if value < timedelta(0) else ""
    size = abs(value)
    days = f"{size.days}D" if size.days else ""
    whole, micro = size.seconds, size.microseconds
    hours, minutes, seconds = whole // 3600, whole % 3600 // 60, whole % 60
    fraction = f".{micro:06d}".rstrip("0") if micro else ""
    clock = f"{f'{hours}H' if hours else ''}{f'{minutes}M' if minutes else ''}"
    if seconds or fraction or not (days or clock):
        clock += f"{seconds}{fraction}S"
    return f"{sign}P{days}{f'T{clock}' if clock else ''}"


_DURATION = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,6}))?S)?)?")


def _timedelta(text: str) -> timedelta:
    """The length of time that `duration` wrote."""
    match = _DURATION.fullmatch(text)
    if match is None:
        message = f"{text!r} is no duration of days, hours, minutes and seconds"
        raise ValueError(message)
    sign, days, hours, minutes, seconds, micro = match.groups(default="")
    size = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int(micro.ljust(6, "0")),
    )
    return -size if sign else size


def _decimal(value: Decimal) -> str | None:
    return str(value) if value.is_finite() else None  # as the floats that JSON lacks


def _base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(bytes(value)).decode("ascii")


def _range(value: Any) -> dict[str, Any]:
    """
    An object: a receiver needs no parser for PostgreSQL's text, and the bounds are by the table too.

    As PostgreSQL has it, an infinite bound is never included, and a range of
    which nothing is left is empty. What is discrete only the column knows: the
    bounds of `[1,5]` stay as they are.
    """
    lower, upper = value.lower, value.upper
    first, last = lower is not None and value.lower_inc, upper is not None and value.upper_inc
    if value.isempty or (lower is not None and not (first and last) and lower == upper):
        return {"lower": None, "upper": None, "bounds": "()", "empty": True}
    return {"lower": lower, "upper": upper, "bounds": ("[" if first else "(") + ("]" if last else ")"), "empty": False}


def _bits(value: Any) -> str:
    return str(value.as_string()).replace(" ", "")


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in fields(value)}


#: Found by the exact type, and their results are JSON.
SCALARS: Mapping[type, Rule] = {
    Decimal: _decimal,
    datetime: instant,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: duration,
    UUID: str,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    **dict.fromkeys((IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network), str),
}

# Where one is the base of another, the subclass comes first: datetime before date, bool before int.
_RULES: Mapping[type, Rule] = {
    **SCALARS,
    Enum: lambda value: value.value,
    tuple: list,
    list: list,
    str: str.__str__,
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    Mapping: dict,
    PurePath: str,
    MutableSequence: list,
}

#: Types that have a rule of their own and are not JSON.
RULED = frozenset(_RULES) - {tuple, list, str, bool, int, float}

# The drivers' own types, of columns whose type SQLAlchemy does not know or leaves to them.
_FOREIGN: Mapping[str, Rule] = {
    "sqlalchemy.dialects.postgresql.ranges.Range": _range,
    "psycopg.types.range.Range": _range,
    "psycopg2._range.Range": _range,
    "asyncpg.types.Range": _range,
    "asyncpg.pgproto.types.BitString": _bits,
    "asyncpg.pgproto.types.Path": list,
    "asyncpg.protocol.record.Record": list,
}

# What undoes a rule, where the type itself does not read its own text.
_READ: Mapping[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: _timedelta,
    bytes: base64.b64decode,
}
