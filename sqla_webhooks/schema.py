"""
What a column's values are in JSON: a JSON Schema (2020-12) by its type, and examples.

By the rules of `encoding`, and never stricter than what they and the database
may make of a value of the type: NaN is sent as null, so a number with decimal
places may be null, whatever the column says.

What is not known has the schema `{}`, which takes anything: JSON, pickles, a
type of the application's that does not say its `python_type`, and what an
encoder makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Dialect
from sqlalchemy import types as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqla_webhooks.encoding import Encoders, Encoding, loads

Schema: TypeAlias = Mapping[str, Any]

#: The types of JSON that are no trees.
SCALARS = ["string", "number", "boolean", "null"]


@dataclass(frozen=True, slots=True)
class Form:
    """
    The values of one column in JSON.

    Attributes:
        example: One of them, always the same.
        former: Another, where there are two; for what it was before a change.
    """

    schema: Schema
    example: Any = None
    former: Any = None

    @property
    def is_scalar(self) -> bool:
        """Whether its values are known to be neither arrays nor objects."""
        return not {"array", "object"}.intersection(_types(self.schema)) if self.schema else False

    @property
    def nullable(self) -> Form:
        """The same, or null."""
        schema = dict(self.schema)
        if "type" in schema:
            schema["type"] = list(dict.fromkeys([*_types(schema), "null"]))
        if "enum" in schema and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return replace(self, schema=schema)


ANYTHING = Form({})


class Forms:
    """
    The forms of the columns in one database.

    Args:
        dialect: Of the database, which may have a type of its own for a column.
        encoders: What they make of a value is not known, so a value that they meet may be anything.
    """

    def __init__(self, dialect: Dialect, *, encoders: Encoders) -> None:
        self._dialect = dialect
        self._encoding = Encoding(encoders)

    def of(self, column: ColumnElement[Any], *, outer: bool = False) -> Form:
        """
        What is sent of a column, or an expression.

        Args:
            outer: Whether it may be missing from its row, as in an outer join.
        """
        if not isinstance(column, Column):
            return self._expression(column.type).nullable
        form = self._typed(column.type)
        if column.nullable or outer:
            form = form.nullable
        said = column.comment or column.doc
        return replace(form, schema={**form.schema, "description": said}) if said else form

    def _expression(self, column_type: TypeEngine[Any]) -> Form:
        """Its type is what SQLAlchemy thinks: a sum of integers may be a Decimal, and text longer than its parts."""
        form = self._typed(column_type)
        schema = {key: one for key, one in form.schema.items() if key != "maxLength"}
        if schema in _NUMBERS:
            return ANYTHING if self._is_encoded(Decimal) else _COMPUTED
        return replace(form, schema=schema) if schema in _SURE or "enum" in schema else ANYTHING

    def _typed(self, column_type: TypeEngine[Any]) -> Form:
        meant: TypeEngine[Any] = column_type._variant_mapping.get(self._dialect.name, column_type)  # noqa: SLF001  # nothing public tells
        if not isinstance(meant, TypeDecorator):
            return ANYTHING if _reads(meant) else self._plain(meant.dialect_impl(self._dialect))
        if _reads(meant):
            return self._of_kind(_python_type(meant))
        return self._typed(meant.load_dialect_impl(self._dialect))

    def _plain(self, kind: TypeEngine[Any]) -> Form:
        match kind:
            case sa.Enum():
                return self._enum(kind)
            case sa.ARRAY():
                return self._array(kind)
        name = _name(kind, self._dialect)
        if name.endswith("RANGE"):
            return self._range(name)
        if name in _NAMED:
            form, kinds = _NAMED[name]
            return ANYTHING if any(map(self._is_encoded, (_python_type(kind), *kinds))) else form
        if isinstance(kind, sa.String) and not isinstance(kind, sa.Text) and kind.length:
            return self._text(kind.length)
        return self._of_kind(_python_type(kind))

    def _of_kind(self, kind: type) -> Form:
        return ANYTHING if self._is_encoded(kind) else _KINDS.get(kind, ANYTHING)

    def _is_encoded(self, kind: type) -> bool:
        return self._encoding.encoder_of(kind) is not None

    def _text(self, length: int) -> Form:
        """SQLite does not keep to it."""
        limit = {} if self._dialect.name == "sqlite" else {"maxLength": length}
        return Form({**TEXT.schema, **limit}, TEXT.example[:length], TEXT.former[:length])

    def _enum(self, kind: sa.Enum) -> Form:
        values = enum_values(kind, self._encoding)
        if not values:
            return ANYTHING
        type_ = {"type": "string"} if all(isinstance(one, str) for one in values) else {}
        return Form({**type_, "enum": values}, values[0], values[-1])

    def _array(self, kind: sa.ARRAY[Any]) -> Form:
        """With as many dimensions as the type says; where it says none, PostgreSQL takes any number."""
        item = self._typed(kind.item_type).nullable
        if kind.dimensions is None:
            nested = {"anyOf": [item.schema, {"type": "array"}]} if item.schema else {}
            return _array_of(replace(item, schema=nested))
        for _ in range(kind.dimensions):
            item = _array_of(item)
        return item

    def _range(self, name: str) -> Form:
        from sqlalchemy.dialects.postgresql import ranges  # noqa: PLC0415  # whoever has such a column has loaded it

        many, single = name.endswith("MULTIRANGE"), name.replace("MULTI", "")
        if any(map(self._is_encoded, (ranges.Range, ranges.MultiRange))) or single not in _BOUNDS:
            return ANYTHING
        bound = self._of_kind(_BOUNDS[single]).nullable
        properties = {
            **dict.fromkeys(("lower", "upper"), bound.schema),
            "bounds": {"enum": ["()", "[)", "(]", "[]"]},
            "empty": {"type": "boolean"},
        }
        example = {"lower": bound.former, "upper": bound.example, "bounds": "[)", "empty": False}
        form = Form(
            {"type": "object", "properties": properties, "required": [*properties]}, example, {**example, "upper": None}
        )
        return _array_of(form) if many else form


def _types(schema: Schema) -> list[str]:
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _array_of(item: Form) -> Form:
    return Form({"type": "array", "items": item.schema}, [item.example], [])


def _name(kind: TypeEngine[Any], dialect: Dialect) -> str:
    """What SQL calls the type; BIT is two types of one name."""
    name = str(getattr(kind, "__visit_name__", "")).upper()
    return f"{dialect.name} BIT".upper() if name == "BIT" else name


def _python_type(kind: TypeEngine[Any]) -> type:
    try:
        return kind.python_type
    except NotImplementedError:  # which some types still raise
        return object


def enum_values(kind: sa.Enum, encoding: Encoding) -> list[Any] | None:
    """What is sent of an enum's members, each once; None if an encoder has a word in it."""
    members = list(kind.enums) if kind.enum_class is None else list(kind.enum_class.__members__.values())
    if any(encoding.encoder_of(type(one)) is not None for one in members[:1]):
        return None
    return list({text: loads(text) for text in map(encoding.dumps, members)}.values())


def _reads(kind: TypeEngine[Any]) -> bool:
    """Whether a type of the application's makes something of its own of what it reads."""
    if isinstance(kind, TypeDecorator):
        names = ("process_result_value", "result_processor", "column_expression")
        return any(getattr(type(kind), name) is not getattr(TypeDecorator, name) for name in names)
    found = (getattr(type(kind), name) for name in ("result_processor", "column_expression"))
    return not all(one.__module__.startswith("sqlalchemy.") for one in found)


_DECIMAL = r"^-?[0-9]+(\.[0-9]+)?(E[+-][0-9]+)?$"
# Not the formats `time` and `duration`: the one must have an offset, and the other neither sign nor fraction.
_TIME = r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?([+-][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{6})?)?)?$"
_DURATION = r"^-?P(?=[0-9T])([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]{1,6})?S)?)?$"

TEXT = Form({"type": "string"}, "text", "other text")
INTEGER = Form({"type": "integer"}, 2, 1)
NUMBER = Form({"type": ["number", "null"]}, 1.5, 0.5)
DECIMAL = Form({"type": ["string", "null"], "pattern": _DECIMAL}, "99.50", "9.50")

_INSTANT = Form({"type": "string", "format": "date-time"}, "2026-11-23T10:00:00Z", "2026-11-22T10:00:00Z")

_KINDS: Mapping[type, Form] = {
    str: TEXT,
    bool: Form({"type": "boolean"}, True, False),  # noqa: FBT003  # an example of either
    int: INTEGER,
    float: NUMBER,
    Decimal: DECIMAL,
    datetime: _INSTANT,
    date: Form({"type": "string", "format": "date"}, "2026-11-23", "2026-11-22"),
    time: Form({"type": "string", "pattern": _TIME}, "10:00:00", "09:00:00"),
    timedelta: Form({"type": "string", "pattern": _DURATION}, "PT1H30M", "PT1H"),
    bytes: Form({"type": "string", "contentEncoding": "base64"}, "AP8=", "AA=="),
    UUID: Form(
        {"type": "string", "format": "uuid"},
        "0a1b2c3d-0000-4000-8000-00000000ffff",
        "0a1b2c3d-0000-4000-8000-000000000000",
    ),
}

#: What an expression of such a type may be as well; and those of which reading makes a value of the type, or fails.
_NUMBERS = [one.schema for one in (INTEGER, NUMBER, DECIMAL)]
_SURE = [_KINDS[kind].schema for kind in (str, bool, datetime, date, UUID)]
_COMPUTED = Form({"type": ["number", "string", "null"], "pattern": _DECIMAL}, 2, 1)

_BOUNDS: Mapping[str, type] = {
    "INT4RANGE": int,
    "INT8RANGE": int,
    "NUMRANGE": Decimal,
    "DATERANGE": date,
    "TSRANGE": datetime,
    "TSTZRANGE": datetime,
}


def _words(example: str, former: str) -> Form:
    return replace(TEXT, example=example, former=former)


_ADDRESSES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_BITS = Form({"type": "string", "pattern": "^[01]*$"}, "1", "0")

#: Types of which SQLAlchemy does not say what they are in Python: their form, and what drivers may make of them.
_NAMED: Mapping[str, tuple[Form, tuple[type, ...]]] = {
    "INET": (_words("192.0.2.1", "192.0.2.2"), _ADDRESSES),
    "CIDR": (_words("192.0.2.0/24", "198.51.100.0/24"), _ADDRESSES),
    "INET4": (_words("192.0.2.1", "192.0.2.2"), _ADDRESSES),
    "INET6": (_words("2001:db8::1", "2001:db8::2"), _ADDRESSES),
    "MACADDR": (_words("00:00:5e:00:53:01", "00:00:5e:00:53:02"), ()),
    "MACADDR8": (_words("00:00:5e:ff:fe:00:53:01", "00:00:5e:ff:fe:00:53:02"), ()),
    "MONEY": (_words("$99.50", "$9.50"), ()),
    "TSVECTOR": (_words("'text'", "''"), ()),
    "TSQUERY": (_words("'text'", "''"), ()),
    "REGCLASS": (TEXT, ()),
    "REGCONFIG": (TEXT, ()),
    "JSONPATH": (_words("$.a", "$"), ()),
    "JSON_PATH": (_words("$.a", "$"), ()),  # which psycopg calls it
    "POSTGRESQL BIT": (_BITS, ()),
    "MYSQL BIT": (INTEGER, ()),
    "MARIADB BIT": (INTEGER, ()),
    "OID": (INTEGER, ()),
    "YEAR": (replace(INTEGER, example=2026, former=2025), ()),
    "HSTORE": (Form({"type": "object", "additionalProperties": {"type": ["string", "null"]}}, {"key": "text"}, {}), ()),
    "SET": (Form({"type": "array", "items": {"type": "string"}}, [], []), (set,)),
    "JSON": (Form({}, {}, None), ()),
    "JSONB": (Form({}, {}, None), ()),
}
