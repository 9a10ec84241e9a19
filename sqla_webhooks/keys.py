"""Values of columns out of JSON, as far as they can be had again; primary keys above all, and into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Dialect

from sqla_webhooks.encoding import TABLE, decode

#: A primary key's values, in key order.
Identity: TypeAlias = tuple[Any, ...]


def parts(identity: Iterable[Any]) -> list[Any]:
    """A primary key as JSON has it, by the table alone; see `encoding.Encoding.key_part`."""
    return [TABLE.key_part(one) for one in identity]


def text(identity: Iterable[Any]) -> bytes:
    """A primary key as something that can be looked up, unlike its values."""
    return TABLE.dumps(parts(identity))


def identity(columns: Sequence[ColumnElement[Any]], written: Iterable[Any]) -> Identity:
    """
    The primary key, which is *columns*, that stands in JSON.

    Raises:
        ValueError, TypeError: It is not of these columns.
    """
    return tuple(value(column, part) for column, part in zip(columns, written, strict=True))


def can_be_had_again(columns: Sequence[ColumnElement[Any]], given: Identity, dialect: Dialect) -> bool:
    """Whether a primary key that went into JSON and out of it is the same to the database."""
    try:
        again = identity(columns, parts(given))
        pairs = zip(columns, given, again, strict=True)
        return all(one == other or _is_same_to(dialect, column, one, other) for column, one, other in pairs)
    except Exception:  # noqa: BLE001  # a type's own code, which was not written for what JSON has made of its value
        return False


def _is_same_to(dialect: Dialect, column: ColumnElement[Any], one: Any, other: Any) -> bool:
    """Whether the driver gets the same for two values."""
    if isinstance(one, datetime) and isinstance(other, datetime) and one.tzinfo is None:
        return one == other.replace(tzinfo=None)  # from a database without time zones, whose drivers write none
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    return process is not None and bool(process(one) == process(other))


def value(column: ColumnElement[Any], plain: Any) -> Any:
    """
    The value of *column* that was written as *plain*, as far as that can be undone.

    Raises:
        ValueError, TypeError: It is no such value.
    """
    kind = _python_type(column)
    made = plain if kind is None else decode(plain, kind)
    if isinstance(made, datetime) and not getattr(column.type, "timezone", False):
        return made.replace(tzinfo=None)  # JSON has it in UTC, with a Z
    return made


def _python_type(column: ColumnElement[Any]) -> type[Any] | None:
    """What the column's values are in Python; for a type of the application's own, what it stands on."""
    for type_ in (column.type, getattr(column.type, "impl", None)):
        try:
            kind = object if type_ is None else type_.python_type
        except NotImplementedError:
            continue
        if kind is not object:
            return kind
    return None
