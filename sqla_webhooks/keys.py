"""Primary keys in JSON, and out of it: as the values of their columns, as far as these can be had again."""

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
    return tuple(_value(column, part) for column, part in zip(columns, written, strict=True))


def can_be_had_again(columns: Sequence[ColumnElement[Any]], given: Identity, dialect: Dialect) -> bool:
    """Whether a primary key that went into JSON and out of it is the same to the database."""
    try:
        again = identity(columns, parts(given))
        pairs = zip(columns, given, again, strict=True)
        return all(bool(_bound(column, one, dialect) == _bound(column, other, dialect)) for column, one, other in pairs)
    except Exception:  # noqa: BLE001  # a type's own code, which was not written for what JSON has made of its value
        return False


def _bound(column: ColumnElement[Any], value: Any, dialect: Dialect) -> Any:
    """A value as the driver gets it."""
    process = column.type.dialect_impl(dialect).bind_processor(dialect)
    return value if process is None else process(value)


def _value(column: ColumnElement[Any], part: Any) -> Any:
    kind = _python_type(column)
    value = part if kind is None else decode(part, kind)
    if isinstance(value, datetime) and not getattr(column.type, "timezone", False):
        return value.replace(tzinfo=None)  # JSON has it in UTC, with a Z
    return value


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
