"""
Values as JSON: total, so that nothing a row holds can fail a flush.

| Python value                 | JSON                                                            |
| ---------------------------- | --------------------------------------------------------------- |
| None, bool, int, str         | as they are; a lone surrogate becomes U+FFFD                    |
| float                        | number; NaN and the infinities, which JSON lacks, become null   |
| Decimal                      | string, digits kept: "99.50"; NaN and the infinities: null      |
| datetime                     | string, ISO 8601 in UTC with Z; a naive one is taken to be UTC  |
| date, time                   | string, ISO 8601; a time keeps its offset: "12:30:00+09:00"     |
| timedelta                    | string, ISO 8601 duration: "P1DT2H", "-PT0.5S"                  |
| UUID, IP address, path       | string                                                          |
| bytes, bytearray, memoryview | string, base64                                                  |
| Enum                         | its value, by this table                                        |
| list, tuple, MutableSequence | array, named tuples too                                         |
| set, frozenset               | array, sorted by its members' JSON                              |
| Mapping                      | object; keys that are not strings become strings                |
| dataclass                    | object of its fields, unless it is a mapped class               |
| range                        | {"lower": 1, "upper": 6, "bounds": "[)", "empty": false}        |
| asyncpg's BitString          | string of 0 and 1: "101"                                        |
| asyncpg's Path, Record       | array                                                           |
| anything else                | {"$unencodable": "module.Type"}, logged and signalled           |

A range is SQLAlchemy's or a driver's. Its bound that is null is infinite; one
that is empty has `()`.

Anything else, too: what contains itself or is nested more than 254 levels deep,
an integer of more than 3,900 digits, and a value whose own methods raise.

An `Encoding` may have encoders, which come before the table.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from sqla_webhooks import values
from sqla_webhooks.values import Rule, decode, encode

try:
    import orjson as _orjson
except ImportError:
    _orjson = None  # type: ignore[assignment]  # the extra is not installed

__all__ = [
    "JSON_TYPES",
    "PLACEHOLDER",
    "TABLE",
    "Encoders",
    "Encoding",
    "Key",
    "Report",
    "decode",
    "dumps",
    "encode",
    "loads",
    "same",
    "type_name",
]

logger = logging.getLogger(__name__)

#: An optional speed-up: the standard library gives the same JSON.
orjson: Any = _orjson

#: Told the type of each value that no rule knows.
Report: TypeAlias = Callable[[type], None]

#: By class, what makes a value of it into one that the table has; for the subclasses too.
Encoders: TypeAlias = Mapping[type, Rule]

#: The key that marks a value no rule knows.
PLACEHOLDER = "$unencodable"

#: What JSON has itself: no encoder makes anything else of them.
JSON_TYPES = (type(None), bool, int, str, float, list, tuple, dict)

# What orjson takes.
_DEEPEST = 254
# Python reads no integer of more than 4,300 digits.
_LONGEST_BITS = 13_000


@dataclass(frozen=True, slots=True)
class Key:
    """A part of a primary key, to be written as `Encoding.key_part` has it."""

    value: Any


def _instant(value: datetime) -> Any:
    """`values.instant` by orjson, which is many times as quick, but would leave other time zones as they are."""
    if value.tzinfo is None or value.tzinfo is UTC:
        return orjson.Fragment(orjson.dumps(value, None, orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z))
    return values.instant(value)


#: Rules for orjson that are quicker than those of `values`, and give the same JSON.
_QUICK: Mapping[type, Rule] = {datetime: _instant}


class Encoding:
    """
    How one installation writes values as JSON.

    Safe for any thread. The nearest class of a value decides, be it one of the
    encoders or one of the table: an encoder of `date` leaves datetimes alone.
    An encoder is not asked again about what it has made itself.

    Args:
        encoders: They come before the table. An enum is met by encoders of enums only; its value, by all of them.
        report: Called once with the type of each value replaced by a placeholder.
    """

    def __init__(self, encoders: Encoders | None = None, *, report: Report | None = None) -> None:
        self._encoders = dict(encoders or {})
        self._report = report
        #: Rules whose results are JSON.
        self._scalars = {kind: rule for kind, rule in values.SCALARS.items() if kind not in self._encoders}
        #: The same for orjson.
        self._quick = self._scalars | {kind: rule for kind, rule in _QUICK.items() if kind in self._scalars}
        #: orjson does not ask about these.
        self._hidden = any(kind is UUID or issubclass(kind, Enum) for kind in self._encoders)

    def dumps(self, value: Any) -> bytes:
        """
        Any tree of values as compact JSON in UTF-8.

        Never raises, whatever the values and the encoders do.
        """
        text, unknown = (None, []) if orjson is None or self._hidden else self._fast(value)
        if text is None:
            walk = _Walk(self, self._scalars)
            text, unknown = _text(_plain(value, walk, ())), walk.unknown
        if self._report is not None:
            for kind in unknown:
                self._report(kind)
        return text

    def key_part(self, value: Any) -> Any:
        """
        One part of a primary key: by its encoder or rule, or the value's own text.

        Neither a placeholder nor null, which several keys would share.
        """
        if value is None or type(value) in (int, str):
            return value
        for make in (partial(_simpler, walk=_Walk(self, self._scalars)), str):
            try:
                part = make(value)
                if part is not None and not (type(part) is float and part - part != 0):
                    return part
            except Exception:  # noqa: BLE001, S112  # a stranger's own methods: the next, or `dumps`, will do
                continue
        return value

    def encoder_of(self, kind: type) -> Rule | None:
        """The encoder of a type: that of the nearest class, if the table has none that is nearer."""
        if not self._encoders:
            return None
        is_enum = issubclass(kind, Enum)
        for base in kind.__mro__:
            if is_enum and not issubclass(base, Enum):
                continue  # what it is besides is a matter of its value
            if (encoder := self._encoders.get(base)) is not None or base in values.RULED:
                return encoder
        return None

    def _fast(self, value: Any) -> tuple[bytes | None, list[type]]:
        """What orjson makes of *value*; None if it refuses: a lone surrogate, a key that is no string, a cycle."""
        walk = _Walk(self, self._scalars)
        quick = self._quick

        def simpler(one: Any) -> Any:
            try:
                return quick[type(one)](one)
            except Exception:  # noqa: BLE001  # no scalar, or it has no year in UTC
                return _simpler_or_placeholder(one, walk)

        try:
            return bytes(orjson.dumps(value, default=simpler, option=_ORJSON)), walk.unknown
        except (TypeError, ValueError, RecursionError):
            return None, []


#: The table and nothing else: for JSON of our own.
TABLE = Encoding()


def dumps(value: Any) -> bytes:
    """*value* as JSON, by the table alone. Never raises."""
    return TABLE.dumps(value)


def loads(text: bytes | str) -> Any:
    """
    The value of JSON that `dumps` wrote.

    The standard library's parser: orjson's would turn an integer of more than
    64 bits into a float.
    """
    return json.loads(text)


def same(one: Any, other: Any) -> bool:
    """Whether two values, which are JSON, are equal as such: Python alone would call 1 and true equal."""
    return bool(one == other) and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def type_name(kind: type) -> str:
    """The name of a type, with its module; never raises."""
    try:
        return f"{kind.__module__}.{kind.__qualname__}".encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001  # a stranger's metaclass
        return "a type without a name"


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """Through one tree of values."""

    encoding: Encoding
    scalars: Mapping[type, Rule]
    #: The types of what became placeholders.
    unknown: list[type] = field(default_factory=list)


def _simpler(value: Any, walk: _Walk) -> Any:
    """
    *value* by its encoder or rule.

    Raises:
        TypeError: No rule knows the type.
        Exception: Whatever the value's own methods and its encoder raise.
    """
    if type(value) is Key:
        return walk.encoding.key_part(value.value)
    encoder = walk.encoding.encoder_of(type(value))
    if encoder is not None:
        made = _encoded(value, encoder)
        if walk.encoding.encoder_of(type(made)) is not encoder:
            return made
        value = made
    if isinstance(value, _SETS):
        return sorted((_plain(one, walk, ()) for one in value), key=_text)
    return encode(value)


def _simpler_or_placeholder(value: Any, walk: _Walk) -> Any:
    try:
        return _simpler(value, walk)
    except Exception:  # noqa: BLE001  # whatever a stranger's __str__ or isoformat raises: encoding is total
        return _placeholder(value, walk)


_SETS = (set, frozenset)


def _encoded(value: Any, encoder: Rule) -> Any:
    try:
        return encoder(value)
    except Exception:
        logger.debug("the encoder of %s failed", type_name(type(value)), exc_info=True)
        raise


def _placeholder(value: Any, walk: _Walk) -> dict[str, str]:
    kind = type(value)
    walk.unknown.append(kind)
    return {PLACEHOLDER: type_name(kind)}


# What is plain contains no cycle: each list and each object would be looked up for one.
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _text(plain: Any) -> bytes:
    return _write(plain).encode()


def _plain(value: Any, walk: _Walk, above: tuple[int, ...]) -> Any:
    """
    *value* with nothing left in it that a JSON library could refuse.

    Args:
        above: The ids of what it is nested in.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() <= _LONGEST_BITS else _placeholder(value, walk)
    if kind is float:
        return value if value - value == 0 else None
    if (rule := walk.scalars.get(kind)) is not None:
        return _ruled(value, rule, walk)
    too_deep = len(above) >= _DEEPEST or id(value) in above
    return _placeholder(value, walk) if too_deep else _plain_tree(value, walk, (*above, id(value)))


def _ruled(value: Any, rule: Rule, walk: _Walk) -> Any:
    try:
        return rule(value)
    except Exception:  # noqa: BLE001  # an instant that has no year in UTC: encoding is total
        return _placeholder(value, walk)


def _plain_tree(value: Any, walk: _Walk, above: tuple[int, ...]) -> Any:
    try:
        tree = value
        if type(value) not in _TREES and not _opens(value, walk):
            tree = _simpler(value, walk)
            if type(tree) not in _TREES:
                return _plain(tree, walk, above)
        if isinstance(tree, _LISTS):
            return [_plain(item, walk, above) for item in tree]
        return {_key(key, walk, above): _plain(item, walk, above) for key, item in tree.items()}
    except Exception:  # noqa: BLE001  # whatever a stranger's __iter__ or items raises
        return _placeholder(value, walk)


# Not `list | tuple`, which is made anew each time.
_LISTS = (list, tuple)
_TREES = frozenset({dict, *_LISTS})


def _opens(value: Any, walk: _Walk) -> bool:
    """Whether it is opened as it is, before any rule."""
    is_tree = isinstance(value, list | tuple | Mapping) and not isinstance(value, Enum)
    return is_tree and walk.encoding.encoder_of(type(value)) is None


def _key(key: Any, walk: _Walk, above: tuple[int, ...]) -> str:
    if type(key) is str and key.isascii():
        return key
    plain = _plain(key, walk, above)
    return plain if isinstance(plain, str) else _text(plain).decode()


# Types that orjson has rules of its own for are passed to ours. It offers no such
# switch for UUID and Enum, whose rules are the same, nor for NaN, which is null too.
_ORJSON = (
    0
    if orjson is None
    else orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)
