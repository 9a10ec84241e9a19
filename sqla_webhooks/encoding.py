"""
Column values as JSON: total, so that nothing a row holds can fail a flush.

| Python value                 | JSON                                                            |
| ---------------------------- | --------------------------------------------------------------- |
| None, bool, int, str         | as they are; a lone surrogate becomes U+FFFD                    |
| float                        | number; NaN and the infinities, which JSON lacks, become null   |
| Decimal                      | string, digits kept: "99.50"                                    |
| datetime                     | string, ISO 8601 in UTC with Z; a naive one is taken to be UTC  |
| date, time                   | string, ISO 8601                                                |
| timedelta                    | string, ISO 8601 duration: "P1DT2H", "-PT0.5S"                  |
| UUID, IP address, path       | string                                                          |
| bytes, bytearray, memoryview | string, base64                                                  |
| Enum                         | its value, by this table                                        |
| list, tuple, set             | array; a set is sorted by its members' JSON                     |
| dict                         | object; keys that are not strings become strings                |
| anything else                | {"$unencodable": "module.Type"}, logged and signalled           |

Anything else, too: what contains itself or is nested more than 254 levels deep,
an integer of more than 3,900 digits, and a value whose own methods raise.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

try:
    import orjson as _orjson
except ImportError:
    _orjson = None  # type: ignore[assignment]  # the extra is not installed

#: An optional speed-up: the standard library gives the same JSON.
orjson: Any = _orjson

#: Told the type of each value that no rule knows.
Report: TypeAlias = Callable[[type], None]

#: The key that marks a value no rule knows.
PLACEHOLDER = "$unencodable"

# What orjson takes.
_DEEPEST = 254
# Python reads no integer of more than 4,300 digits.
_LONGEST_BITS = 13_000


def dumps(value: Any, *, report: Report | None = None) -> bytes:
    """
    *value* as compact JSON in UTF-8. Never raises.

    Args:
        value: Any tree of values.
        report: Called once with the type of each value replaced by a placeholder.
    """
    text, unknown = (None, []) if orjson is None else _fast(value)
    if text is None:
        unknown = []
        text = _text(_plain(value, unknown, ()))
    if report is not None:
        for kind in unknown:
            report(kind)
    return text


def _fast(value: Any) -> tuple[bytes | None, list[type]]:
    """What orjson makes of *value*; None if it refuses: a lone surrogate, a key that is no string, a cycle."""
    unknown: list[type] = []
    try:
        return bytes(orjson.dumps(value, default=partial(_simpler, unknown=unknown), option=_ORJSON)), unknown
    except (TypeError, ValueError, RecursionError):
        return None, unknown


def loads(text: bytes | str) -> Any:
    """
    The value of JSON that `dumps` wrote.

    The standard library's parser: orjson's would turn an integer of more than
    64 bits into a float.
    """
    return json.loads(text)


def encode(value: Any) -> Any:
    """
    One value by the table above, where the JSON library has no rule for it.

    Raises:
        TypeError: No rule knows the type.
    """
    kind = type(value)
    rule = _RULES.get(kind) or next((one for base, one in _RULES.items() if isinstance(value, base)), None)
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


def key_part(value: Any) -> Any:
    """
    One part of a primary key: as `encode` says, or the value's own text.

    Not a placeholder, which all keys of a type would share.
    """
    if value is None or type(value) in (int, str):
        return value
    try:
        try:
            return encode(value)
        except TypeError:
            return str(value)
    except Exception:  # noqa: BLE001  # a stranger's own methods: `dumps` will make it a placeholder
        return value


def _simpler(value: Any, *, unknown: list[type]) -> Any:
    """*value* by its rule, or its placeholder."""
    try:
        if isinstance(value, set | frozenset):
            return sorted((_plain(one, unknown, ()) for one in value), key=_text)
        return encode(value)
    except Exception:  # noqa: BLE001  # whatever a stranger's __str__ or isoformat raises: encoding is total
        return _placeholder(value, unknown)


def _placeholder(value: Any, unknown: list[type]) -> dict[str, str]:
    kind = type(value)
    unknown.append(kind)
    return {PLACEHOLDER: type_name(kind)}


def type_name(kind: type) -> str:
    """The name of a type, with its module; never raises."""
    try:
        return f"{kind.__module__}.{kind.__qualname__}".encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001  # a stranger's metaclass
        return "a type without a name"


def _text(plain: Any) -> bytes:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any, unknown: list[type], above: tuple[int, ...]) -> Any:
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
        return value if value.bit_length() <= _LONGEST_BITS else _placeholder(value, unknown)
    if kind is float:
        return value if value - value == 0 else None
    if len(above) >= _DEEPEST or id(value) in above:
        return _placeholder(value, unknown)
    return _plain_tree(value, unknown, (*above, id(value)))


def _plain_tree(value: Any, unknown: list[type], above: tuple[int, ...]) -> Any:
    try:
        if isinstance(value, Enum):
            return _plain(value.value, unknown, above)
        if type(value) is dict or isinstance(value, Mapping):  # the first is quick, and usual
            return {_key(key, unknown, above): _plain(item, unknown, above) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [_plain(item, unknown, above) for item in value]
    except Exception:  # noqa: BLE001  # a stranger's __iter__ or items
        return _placeholder(value, unknown)
    return _plain(_simpler(value, unknown=unknown), unknown, above)


def _key(key: Any, unknown: list[type], above: tuple[int, ...]) -> str:
    if type(key) is str and key.isascii():
        return key
    plain = _plain(key, unknown, above)
    return plain if isinstance(plain, str) else _text(plain).decode()


def instant(value: datetime) -> str:
    """An instant as ISO 8601 in UTC with `Z`; a naive datetime is taken to be UTC."""
    aware = value.replace(tzinfo=UTC) if value.utcoffset() is None else value.astimezone(UTC)
    return aware.replace(tzinfo=None).isoformat() + "Z"


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


def _base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(bytes(value)).decode("ascii")


# Searched from the top: a subclass before its base (datetime before date, bool before int), and `Enum` before all,
# since a `class Colour(str, Enum)` is a str as well.
_RULES: dict[type, Callable[[Any], Any]] = {
    Enum: lambda value: value.value,
    Decimal: str,
    datetime: instant,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: duration,
    UUID: str,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
    tuple: list,
    list: list,
    str: str.__str__,
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    Mapping: dict,
    PurePath: str,
    **dict.fromkeys((IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network), str),
}

# What undoes a rule, where the type itself does not read its own text.
_READ: dict[type, Callable[[str], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: _timedelta,
    bytes: base64.b64decode,
}

# Types that orjson has rules of its own for are passed to ours. It offers no such
# switch for UUID and Enum, whose rules are the same, nor for NaN, which is null too.
_ORJSON = (
    0
    if orjson is None
    else orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)
