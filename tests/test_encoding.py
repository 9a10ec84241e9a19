from __future__ import annotations

import base64
import json
import logging
import re
import time as time_module
from array import array
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, Self
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range as PsycopgRange
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from sqla_webhooks import encoding, values

#: The ways to encode that this environment has.
PATHS = ["stdlib"] if encoding.orjson is None else ["orjson", "stdlib"]

by_each_path = pytest.mark.parametrize("path", PATHS)
needs_both = pytest.mark.skipif(len(PATHS) < 2, reason="orjson is not installed, so there is one way only")
checked = settings(deadline=None, max_examples=150)


def dumps(path: str, value: Any, report: Callable[[type], None] | None = None) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        if path == "stdlib":
            patch.setattr(encoding, "orjson", None)
        return encoding.Encoding(report=report).dumps(value)


# --------------------------------------------------------------------------- the table, by example


class Colour(Enum):
    RED = "red"
    PRICE = Decimal("1.50")
    NESTED = (1, "a")


class Status(str, Enum):  # noqa: UP042  # what applications have
    PAID = "paid"


class Mode(StrEnum):
    FAST = "fast"


class Priority(IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not the text itself"


class Count(int):
    def __repr__(self) -> str:
        return "not the number itself"


class Ratio(float):
    def __repr__(self) -> str:
        return "not the number itself"


Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024  # without types, as in older code


class Later(datetime):
    pass


@dataclass
class Data:
    number: Any = 1
    inner: Any = None


@dataclass(frozen=True, slots=True)
class Slotted:
    one: Any


TOKYO = timezone(timedelta(hours=9))

EXAMPLES: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-7, "-7"),
    (2**63, "9223372036854775808"),
    (2**64, "18446744073709551616"),
    (-(2**200), str(-(2**200))),
    ("", '""'),
    ("Zoë 😀", '"Zoë 😀"'),
    ('"\\\n\x00', '"\\"\\\\\\n\\u0000"'),
    ("a\ud800b", '"a\ufffdb"'),
    ("a\udfff", '"a\ufffd"'),
    ("\ud83d\ude00", '"😀"'),
    (Name("x"), '"x"'),
    (Count(5), "5"),
    (Ratio(0.5), "0.5"),
    (1.5, "1.5"),
    (-0.0, "-0.0"),
    (float("nan"), "null"),
    (float("inf"), "null"),
    (float("-inf"), "null"),
    (Decimal("99.50"), '"99.50"'),
    (Decimal("1E+5"), '"1E+5"'),
    (Decimal("NaN"), "null"),
    (Decimal("sNaN12"), "null"),
    (Decimal("Infinity"), "null"),
    (Decimal("-Infinity"), "null"),
    (Decimal("12345678901234567890.123456789"), '"12345678901234567890.123456789"'),
    (datetime.fromisoformat("2026-03-01T12:00:00"), '"2026-03-01T12:00:00Z"'),
    (datetime.fromisoformat("2026-03-01T12:00:00.000120"), '"2026-03-01T12:00:00.000120Z"'),
    (datetime(2026, 3, 1, 12, tzinfo=UTC), '"2026-03-01T12:00:00Z"'),
    (datetime(2026, 3, 1, 2, tzinfo=TOKYO), '"2026-02-28T17:00:00Z"'),
    (datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), '"2026-07-01T10:00:00Z"'),
    (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=0), '"2026-10-25T00:30:00Z"'),
    (datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1), '"2026-10-25T01:30:00Z"'),
    (Later(2026, 3, 1, tzinfo=UTC), '"2026-03-01T00:00:00Z"'),
    (date(2026, 3, 1), '"2026-03-01"'),
    (time(12, 30), '"12:30:00"'),
    (time(12, 30, 0, 5), '"12:30:00.000005"'),
    (time(12, 30, tzinfo=TOKYO), '"12:30:00+09:00"'),
    (timedelta(days=1, hours=2), '"P1DT2H"'),
    (timedelta(seconds=-0.5), '"-PT0.5S"'),
    (UUID("12345678-1234-5678-1234-567812345678"), '"12345678-1234-5678-1234-567812345678"'),
    (ip_address("192.0.2.1"), '"192.0.2.1"'),
    (ip_address("2001:db8::1"), '"2001:db8::1"'),
    (ip_interface("192.0.2.1/24"), '"192.0.2.1/24"'),
    (ip_interface("2001:db8::1/64"), '"2001:db8::1/64"'),
    (ip_network("192.0.2.0/24"), '"192.0.2.0/24"'),
    (ip_network("2001:db8::/32"), '"2001:db8::/32"'),
    (PurePosixPath("/a/b"), '"/a/b"'),
    (PureWindowsPath("C:\\a"), '"C:\\\\a"'),
    (PurePosixPath("caf\udce9"), '"caf\ufffd"'),
    (b"", '""'),
    (b"\xff\x00", '"/wA="'),
    (bytearray(b"abc"), '"YWJj"'),
    (memoryview(b"abc"), '"YWJj"'),
    (memoryview(b"a-b-c")[::2], '"YWJj"'),
    (Colour.RED, '"red"'),
    (Colour.PRICE, '"1.50"'),
    (Colour.NESTED, '[1,"a"]'),
    (Status.PAID, '"paid"'),
    (Mode.FAST, '"fast"'),
    (Priority.HIGH, "3"),
    ([], "[]"),
    ([1, "a", None], '[1,"a",null]'),
    ((1, 2), "[1,2]"),
    (Point(1, 2), "[1,2]"),
    (deque([1, Decimal(2)]), '[1,"2"]'),
    (array("h", [1, 2]), "[1,2]"),
    (Data(5), '{"number":5,"inner":null}'),
    (Data(Decimal("1.0"), Data(date(2026, 3, 1))), '{"number":"1.0","inner":{"number":"2026-03-01","inner":null}}'),
    (Slotted({1}), '{"one":[1]}'),
    (Range(1, 6), '{"lower":1,"upper":6,"bounds":"[)","empty":false}'),
    (Range(1, 5, bounds="[]"), '{"lower":1,"upper":5,"bounds":"[]","empty":false}'),
    (Range(None, Decimal("5.0"), bounds="[]"), '{"lower":null,"upper":"5.0","bounds":"(]","empty":false}'),
    (Range(date(2026, 3, 1), None, bounds="[]"), '{"lower":"2026-03-01","upper":null,"bounds":"[)","empty":false}'),
    (Range(None, None, bounds="[]"), '{"lower":null,"upper":null,"bounds":"()","empty":false}'),
    (Range(empty=True), '{"lower":null,"upper":null,"bounds":"()","empty":true}'),
    (Range(5, 5), '{"lower":null,"upper":null,"bounds":"()","empty":true}'),
    (Range(5, 5, bounds="[]"), '{"lower":5,"upper":5,"bounds":"[]","empty":false}'),
    (PsycopgRange(1, None, "[)"), '{"lower":1,"upper":null,"bounds":"[)","empty":false}'),
    (PsycopgRange(empty=True), '{"lower":null,"upper":null,"bounds":"()","empty":true}'),
    (Multirange([PsycopgRange(1, 2)]), '[{"lower":1,"upper":2,"bounds":"[)","empty":false}]'),
    (asyncpg.Range(1, 6), '{"lower":1,"upper":6,"bounds":"[)","empty":false}'),
    (asyncpg.Range(empty=True), '{"lower":null,"upper":null,"bounds":"()","empty":true}'),
    (asyncpg.BitString.from_int(0b1010101011, 10), '"1010101011"'),
    (asyncpg.BitString(), '""'),
    (asyncpg.Path(asyncpg.Point(0, 0), asyncpg.Point(1.5, 2)), "[[0.0,0.0],[1.5,2.0]]"),
    (set(), "[]"),
    ({"b", "a"}, '["a","b"]'),
    ({2, 10}, "[10,2]"),
    (frozenset({Decimal(2), Decimal(1)}), '["1","2"]'),
    ({"a", 1, None}, '["a",1,null]'),
    ({frozenset({2, 1}), frozenset({0})}, "[[0],[1,2]]"),
    ({}, "{}"),
    ({"b": 1, "a": 2}, '{"b":1,"a":2}'),
    (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (MappingProxyType({"a": 1}), '{"a":1}'),
    (UserDict({"a": (1,)}), '{"a":[1]}'),
    ({1: 2, None: 3, 1.5: 4}, '{"1":2,"null":3,"1.5":4}'),
    ({True: 1, False: 2}, '{"true":1,"false":2}'),
    ({2**70: 1}, f'{{"{2**70}":1}}'),
    ({float("nan"): 1}, '{"null":1}'),
    ({date(2026, 3, 1): 1, Decimal("1.0"): 2}, '{"2026-03-01":1,"1.0":2}'),
    ({b"\xff": 1, Status.PAID: 2, Colour.RED: 3}, '{"/w==":1,"paid":2,"red":3}'),
    ({"\ud800": 1}, '{"\ufffd":1}'),
    (
        {"a": [{"at": datetime(2026, 3, 1, tzinfo=UTC), "in": ({UUID(int=1)}, float("nan"), 2**64)}]},
        '{"a":[{"at":"2026-03-01T00:00:00Z","in":[["00000000-0000-0000-0000-000000000001"],null,18446744073709551616]}]}',
    ),
]


@by_each_path
@pytest.mark.parametrize(("value", "text"), EXAMPLES, ids=[ascii(text)[:60] for _, text in EXAMPLES])
def test_the_table_by_example(path: str, value: Any, text: str) -> None:
    told: list[type] = []
    assert dumps(path, value, told.append) == text.encode()
    assert told == []


class Level(str, Enum):  # noqa: UP042  # its text is not its value
    """A text for people, with a value of its own."""

    LOW = ("low", 1)

    def __new__(cls, text: str, number: int) -> Self:
        level = str.__new__(cls, text)
        level._value_ = number
        return level


@by_each_path
def test_an_enum_of_str_is_its_value_even_where_its_text_is_another(path: str) -> None:
    assert dumps(path, Level.LOW) == b"1"
    assert dumps(path, {"level": [Level.LOW]}) == b'{"level":[1]}'


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own zone is not UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time_module.tzset()
    yield
    monkeypatch.undo()
    time_module.tzset()


class NoOffset(tzinfo):
    """A zone that does not know its offset: Python calls such a datetime naive."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> None:
        return None


@by_each_path
@pytest.mark.parametrize("zone", [None, NoOffset()], ids=["no zone", "zone without offset"])
def test_a_naive_datetime_is_utc_whatever_the_zone_of_the_machine(
    path: str, zone: tzinfo | None, in_tokyo: None
) -> None:
    naive = datetime(2026, 3, 1, 12, tzinfo=zone)
    assert dumps(path, naive) == b'"2026-03-01T12:00:00Z"'


@by_each_path
def test_a_key_that_is_no_scalar_is_its_json_as_text(path: str) -> None:
    (key,) = json.loads(dumps(path, {(1, Colour.PRICE, None): 1}))
    assert json.loads(key) == [1, "1.50", None]


@by_each_path
def test_one_list_in_two_places_is_written_twice(path: str) -> None:
    shared = [1]
    assert dumps(path, [shared, shared]) == b"[[1],[1]]"


@needs_both
@pytest.mark.parametrize("beside", ["plain", "\ud800"], ids=ascii)
def test_a_set_of_floats_is_sorted_the_same_on_both_paths(beside: str) -> None:
    fast, slow = (json.loads(dumps(path, [beside, {1e-07, 1e-10}])) for path in PATHS)
    assert fast == slow


# --------------------------------------------------------------------------- placeholders


class Unknown:
    pass


class Raising:
    """Whatever is asked of it raises."""

    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        return "<Raising>"

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        return id(self)

    def isoformat(self) -> str:
        raise RuntimeError


class BrokenPath(PurePosixPath):
    def __str__(self) -> str:
        raise RuntimeError


class BrokenUUID(UUID):
    def __str__(self) -> str:
        raise RuntimeError


class BrokenDecimal(Decimal):
    def __str__(self) -> str:
        raise RuntimeError


class BrokenDatetime(datetime):
    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        raise RuntimeError


class BrokenList(list[int]):
    def __iter__(self) -> Iterator[int]:
        raise RuntimeError


class BrokenTuple(tuple[int, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError


class BrokenSet(set[int]):
    def __iter__(self) -> Iterator[int]:
        raise RuntimeError


class BrokenDict(dict[str, int]):
    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def keys(self) -> Any:
        raise RuntimeError

    def items(self) -> Any:
        raise RuntimeError


class BrokenMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class Unbound:
    """As a proxy that stands for nothing yet: even its class cannot be asked for."""

    @property  # type: ignore[misc]  # object has it as an attribute
    def __class__(self) -> type:
        raise RuntimeError


class Misnamed:
    __qualname__ = "\ud800"


#: Made anew for each test, since pytest cannot hold some of them.
STRANGERS: list[Callable[[], Any]] = [
    object,
    lambda: Unknown,
    Unknown,
    SimpleNamespace,
    lambda: iter([1]),
    lambda: len,
    complex,
    lambda: range(3),
    Raising,
    lambda: BrokenPath("a"),
    lambda: BrokenUUID(int=1),
    lambda: BrokenDecimal(1),
    lambda: BrokenDatetime(2026, 3, 1, tzinfo=UTC),
    lambda: BrokenSet({1}),
    BrokenMapping,
    Unbound,
]

#: What the standard library's encoder would open by itself, and what has a name that is no Unicode.
WORSE: list[Callable[[], Any]] = [
    lambda: BrokenList([1]),
    lambda: BrokenTuple((1,)),
    lambda: BrokenDict(a=1),
    Misnamed,
]


def type_name(make: Callable[[], Any]) -> str:
    return str(type.__getattribute__(type(make()), "__name__"))


class MappedBase(MappedAsDataclass, DeclarativeBase):
    pass


class User(MappedBase):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]


@by_each_path
def test_a_row_is_no_object_of_its_fields_for_they_may_be_secret(path: str) -> None:
    told: list[type] = []
    assert b"hunter2" not in dumps(path, User(1, "hunter2"), told.append)
    assert told == [User]


@by_each_path
@pytest.mark.parametrize("make", STRANGERS, ids=type_name)
def test_a_value_that_no_rule_knows_is_a_placeholder_told_once(path: str, make: Callable[[], Any]) -> None:
    told: list[type] = []
    value = make()
    kind = type(value)

    text = dumps(path, {"a": 1, "b": [value]}, told.append)

    assert json.loads(text) == {"a": 1, "b": [{"$unencodable": f"{kind.__module__}.{kind.__qualname__}"}]}
    assert told == [kind]


@by_each_path
@pytest.mark.parametrize("make", [*STRANGERS, *WORSE], ids=type_name)
@pytest.mark.parametrize("refused", [None, float("nan"), "\ud800", 2**64, {1: 2}], ids=ascii)
def test_no_value_makes_it_raise_whatever_stands_beside_it(path: str, make: Callable[[], Any], refused: Any) -> None:
    text = dumps(path, [refused, {"a": [make()]}, {"b"}])
    assert b"$unencodable" in text
    parsed = json.loads(text.decode())
    assert parsed[0] == json.loads(dumps(path, refused))
    assert parsed[2] == ["b"]


@by_each_path
@pytest.mark.parametrize("refused", ["\ud800", 2**64, {1: 2}, float("nan")], ids=ascii)
def test_a_placeholder_is_told_once_also_when_everything_is_encoded_again(path: str, refused: Any) -> None:
    told: list[type] = []
    text = dumps(path, [Unknown(), 1j, Unknown(), refused], told.append)
    assert text.count(b"$unencodable") == 3
    assert told == [Unknown, complex, Unknown]


@by_each_path
def test_strangers_in_sets_and_as_keys_are_told_once(path: str) -> None:
    told: list[type] = []
    text = dumps(path, [{Unknown()}, {Raising(): 1}], told.append)
    name = f"{__name__}.Unknown"
    assert json.loads(text)[0] == [{"$unencodable": name}]
    assert list(json.loads(text)[1].values()) == [1]
    assert told == [Unknown, Raising]


@by_each_path
def test_an_instant_that_has_no_year_in_utc_is_a_placeholder(path: str) -> None:
    told: list[type] = []
    first = datetime(1, 1, 1, tzinfo=TOKYO)
    assert dumps(path, first, told.append) == b'{"$unencodable":"datetime.datetime"}'
    assert told == [datetime]


@by_each_path
def test_an_integer_longer_than_python_will_print_does_not_raise(path: str) -> None:
    text = dumps(path, {"a": 10**5000, "b": 1})
    parsed = encoding.loads(text)
    assert parsed["b"] == 1


# --------------------------------------------------------------------------- cycles and depth


class TooMany(BaseException):
    """Ends what would not end."""


class Counted(PurePosixPath):
    """Counts how often it is written."""

    written = 0

    def __str__(self) -> str:
        Counted.written += 1
        if Counted.written > 5000:
            raise TooMany
        return "a"


@pytest.fixture
def leaf() -> Counted:
    Counted.written = 0
    return Counted("a")


def list_in_itself(leaf: Counted) -> Any:
    value: list[Any] = [leaf]
    value.append(value)
    return value


def dict_in_itself(leaf: Counted) -> Any:
    value: dict[str, Any] = {"leaf": leaf}
    value["self"] = value
    return value


def list_twice_in_itself(leaf: Counted) -> Any:
    value: list[Any] = [leaf]
    value.extend([value, value])
    return value


def tree_with_parents(leaf: Counted) -> Any:
    root: dict[str, Any] = {"leaf": leaf}
    root["children"] = [{"leaf": leaf, "parent": root} for _ in range(5)]
    return root


@by_each_path
@pytest.mark.parametrize("make", [list_in_itself, dict_in_itself, list_twice_in_itself, tree_with_parents])
def test_a_cycle_ends_in_few_placeholders(path: str, make: Callable[[Counted], Any], leaf: Counted) -> None:
    told: list[type] = []

    text = dumps(path, make(leaf), told.append)

    json.loads(text)
    assert 1 <= text.count(b"$unencodable") == len(told) < 1000
    assert set(told) <= {list, dict}


@by_each_path
def test_sets_in_sets_do_not_double_the_work_at_each_level(path: str, leaf: Counted) -> None:
    value: Any = leaf
    for _ in range(12):
        value = frozenset([value])
    assert dumps(path, value) == b"[" * 12 + b'"a"' + b"]" * 12
    assert Counted.written <= 24


def nested(depth: int, innermost: Any) -> Any:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


@by_each_path
@pytest.mark.parametrize("depth", [10, 60])
@pytest.mark.parametrize("innermost", [1, float("nan"), "\ud800"], ids=ascii)
def test_reasonable_depth_is_kept(path: str, depth: int, innermost: Any) -> None:
    told: list[type] = []
    assert dumps(path, nested(depth, innermost), told.append) == (b"[" * depth + dumps(path, innermost) + b"]" * depth)
    assert told == []


@needs_both
@pytest.mark.parametrize("depth", [65, 66, 100, 253, 254, 255, 256, 300, 600, 5000, 100_000])
@pytest.mark.parametrize("innermost", [1, float("nan"), "\ud800"], ids=ascii)
def test_what_is_too_deep_is_the_same_on_both_paths(depth: int, innermost: Any) -> None:
    value = nested(depth, innermost)
    fast, slow = (dumps(path, value) for path in PATHS)
    assert fast == slow


@needs_both
@pytest.mark.parametrize("depth", [127, 128, 253, 254, 255])
@pytest.mark.parametrize("innermost", [1, Decimal(1)], ids=repr)
def test_objects_are_as_deep_as_lists(depth: int, innermost: Any) -> None:
    value = innermost
    for _ in range(depth):
        value = Data(None, value)
    fast, slow = (dumps(path, value) for path in PATHS)
    assert fast == slow
    assert (b"$unencodable" in fast) == (depth > 254)


@by_each_path
@pytest.mark.parametrize("depth", [255, 2000, 100_000])
def test_any_depth_gives_json_that_can_be_read(path: str, depth: int) -> None:
    encoding.loads(dumps(path, nested(depth, 1)))
    encoding.loads(dumps(path, [nested(depth, Unknown()), "\ud800"]))


# --------------------------------------------------------------------------- any tree, against a reference


def reference(value: Any) -> Any:  # noqa: C901, PLR0911, PLR0912  # the table again, row by row
    """What the JSON of *value* says, from the docstring's table and nothing else."""
    match value:
        case Enum():
            return reference(value.value)
        case None | bool() | int():
            return value
        case str():
            joined = re.sub("([\ud800-\udbff])([\udc00-\udfff])", _join, value)
            return re.sub("[\ud800-\udfff]", "\ufffd", joined)
        case float():
            return value if abs(value) < float("inf") else None
        case Decimal() if not value.is_finite():
            return None
        case Decimal() | UUID():
            return f"{value!s}"
        case PurePath():
            return reference(f"{value!s}")
        case IPv4Address() | IPv6Address() | IPv4Interface() | IPv6Interface() | IPv4Network() | IPv6Network():
            return f"{value!s}"
        case datetime():
            utc = value - (value.utcoffset() or timedelta(0))
            return f"{_date(utc)}T{_time(utc)}Z"
        case date():
            return _date(value)
        case time():
            return _time(value)
        case timedelta():
            return _duration(value)
        case bytes() | bytearray() | memoryview():
            return base64.standard_b64encode(bytes(value)).decode()
        case Data():
            return {"number": reference(value.number), "inner": reference(value.inner)}
        case Range(empty=True):
            return {"lower": None, "upper": None, "bounds": "()", "empty": True}
        case Range(lower=lower, upper=upper, bounds=bounds):
            signs = ("(" if lower is None else bounds[0]) + (")" if upper is None else bounds[1])
            return {"lower": reference(lower), "upper": reference(upper), "bounds": signs, "empty": False}
        case set() | frozenset():
            return sorted(map(reference, value), key=_json)
        case list() | tuple() | deque():
            return [reference(item) for item in value]
        case Mapping():
            return {_reference_key(key): reference(item) for key, item in value.items()}
    pytest.fail(f"the table has no {type(value)}")


def _reference_key(key: Any) -> str:
    plain = reference(key)
    return plain if isinstance(plain, str) else _json(plain).decode()


def _join(pair: re.Match[str]) -> str:
    return chr(0x10000 + ((ord(pair[1]) - 0xD800) << 10) + (ord(pair[2]) - 0xDC00))


def _date(value: date) -> str:
    return f"{value.year:04}-{value.month:02}-{value.day:02}"


def _time(value: datetime | time) -> str:
    fraction = f".{value.microsecond:06}" if value.microsecond else ""
    return f"{value.hour:02}:{value.minute:02}:{value.second:02}{fraction}"


def _duration(value: timedelta) -> str:
    microseconds = abs(value // timedelta(microseconds=1))
    seconds = Decimal(microseconds % 60_000_000).scaleb(-6)
    second = f"{seconds:f}".rstrip("0").rstrip(".") if seconds else ""
    date_parts = [(microseconds // 86_400_000_000, "D")]
    time_parts = [(microseconds // 3_600_000_000 % 24, "H"), (microseconds // 60_000_000 % 60, "M"), (second, "S")]
    days, clock = ("".join(f"{many!s}{unit}" for many, unit in parts if many) for parts in (date_parts, time_parts))
    return (
        ("-" if value < timedelta(0) else "") + "P" + (f"{days}T{clock}".removesuffix("T") if microseconds else "T0S")
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


any_text = st.text(st.characters(codec=None, categories=None), max_size=8)
instants = st.datetimes(
    min_value=datetime.fromisoformat("0002-01-01"),
    max_value=datetime.fromisoformat("9998-12-31"),
    timezones=st.none() | st.sampled_from([UTC, TOKYO, timezone(timedelta(hours=-9, minutes=-30))]),
)
_hashable_leaves: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | any_text
    | st.floats()
    | st.decimals().filter(lambda number: not number.is_snan())
    | instants
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.builds(ip_interface, st.ip_addresses())
    | st.builds(ip_network, st.ip_addresses())
    | any_text.filter(lambda text: "\0" not in text).map(PurePosixPath)
    | st.binary(max_size=8)
    | st.sampled_from([*Colour, *Status, *Mode, *Priority])
    | st.builds(Name, any_text)
    | st.builds(Count, st.integers())
    | st.builds(Ratio, st.floats())
)


@st.composite
def hashable_leaf(draw: st.DrawFn) -> Any:
    """Short to write out, which Hypothesis does again and again."""
    return draw(_hashable_leaves)


def view(raw: bytes) -> memoryview:
    return memoryview(raw)


scalar_keys = hashable_leaf().filter(lambda key: key is not Colour.NESTED)
leaves: st.SearchStrategy[Any] = hashable_leaf() | st.binary().map(bytearray) | st.binary().map(view)
hashables = st.recursive(
    hashable_leaf(), lambda one: st.frozensets(one, max_size=4) | st.tuples(one, one), max_leaves=8
)
#: Not of equal bounds, which may be nothing.
ranges: st.SearchStrategy[Any] = st.just(Range(empty=True)) | st.builds(
    lambda bounds, signs: Range(*bounds, bounds=signs),
    st.tuples(st.none() | st.decimals(-9, 0, places=2), st.none() | st.decimals(1, 9, places=2))
    | st.tuples(st.none(), st.none() | instants),
    st.sampled_from(["[)", "()", "(]", "[]"]),
)
trees = st.recursive(
    leaves | st.sets(hashables, max_size=4) | hashables,
    lambda one: (
        st.lists(one, max_size=4)
        | st.lists(one, max_size=4).map(deque)
        | st.builds(Data, one, one)
        | ranges
        | st.tuples(one)
        | st.builds(Point, one, one)
        | st.dictionaries(scalar_keys, one, max_size=4)
        | st.dictionaries(any_text, one, max_size=4).map(MappingProxyType)
        | st.dictionaries(any_text, one, max_size=4).map(OrderedDict)
    ),
    max_leaves=12,
)


@by_each_path
@checked
@given(trees)
@example([{1e-07, 1e-10}])
def test_any_tree_of_the_table_says_what_the_reference_says(path: str, value: Any) -> None:
    told: list[type] = []
    text = dumps(path, value, told.append)
    assert told == []
    parsed = encoding.loads(text)
    assert parsed == reference(value)
    # Equal is not enough: 1, 1.0 and true are.
    assert _json(parsed) == _json(reference(value))


@needs_both
@checked
@given(trees)
def test_both_paths_say_the_same(value: Any) -> None:
    fast, slow = (_json(encoding.loads(dumps(path, value))) for path in PATHS)
    assert fast == slow


@by_each_path
@checked
@given(trees)
def test_what_was_read_is_written_back_the_same(path: str, value: Any) -> None:
    once = encoding.loads(dumps(path, value))
    assert _json(encoding.loads(dumps(path, once))) == _json(once)


anything: st.SearchStrategy[Any] = st.recursive(
    leaves | st.sampled_from([one for one in [*STRANGERS, *WORSE] if one is not Unbound]).map(lambda make: make()),
    lambda one: (
        st.lists(one, max_size=4)
        | st.dictionaries(st.sampled_from([object(), Raising(), 1, "a", "\ud800", 1j]), one, max_size=3)
        | st.builds(lambda item: MappingProxyType({"a": item}), one)
        | st.builds(UserDict, st.dictionaries(any_text, one, max_size=2))
    ),
    max_leaves=8,
)


@by_each_path
@checked
@given(anything)
def test_it_is_total(path: str, value: Any) -> None:
    told: list[type] = []
    text = dumps(path, value, told.append)
    json.loads(text.decode("utf-8", "strict"))
    assert text.count(b"$unencodable") == len(told)


# --------------------------------------------------------------------------- encoders


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str


class Euros(Money):
    pass


class Labelled:
    label = "a label"


class Weekday(Labelled, Enum):
    MONDAY = date(2026, 3, 2)


class Fruit(Labelled, str):
    __slots__ = ()


class Price(Decimal):
    pass


class Numbers(list[int]):
    pass


MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def each_path(encoders: dict[type, Callable[[Any], Any]], value: Any) -> tuple[Any, list[type]]:
    """What *value* becomes on each way to encode, and what was reported: the same on each."""
    found = []
    for path in PATHS:
        told: list[type] = []
        with pytest.MonkeyPatch.context() as patch:
            if path == "stdlib":
                patch.setattr(encoding, "orjson", None)
            found.append((encoding.Encoding(encoders, report=told.append).dumps(value), told))
    assert all(one == found[0] for one in found)
    return json.loads(found[0][0]), found[0][1]


def as_object(money: Money) -> dict[str, Any]:
    return {"amount": money.amount, "currency": money.currency}


@pytest.mark.parametrize(
    ("encoders", "value", "expected"),
    [
        ({Money: as_object}, Money(Decimal("1.50"), "EUR"), {"amount": "1.50", "currency": "EUR"}),
        ({Money: as_object, Decimal: float}, Euros(Decimal("1.50"), "€"), {"amount": 1.5, "currency": "€"}),
        ({Money: lambda _: 0, Euros: lambda _: 1}, [Euros(Decimal(1), ""), Money(Decimal(1), "")], [1, 0]),
        ({Decimal: float}, [Decimal("1.5"), Price("2.5")], [1.5, 2.5]),
        ({datetime: datetime.timestamp}, [MIDNIGHT, date(2026, 3, 1)], [1772323200, "2026-03-01"]),
        ({date: lambda day: day.year}, [date(2026, 3, 1), MIDNIGHT], [2026, "2026-03-01T00:00:00Z"]),
        ({datetime: lambda at: at.replace(tzinfo=TOKYO)}, datetime(2026, 3, 1, 9, tzinfo=UTC), "2026-03-01T00:00:00Z"),
        ({UUID: lambda one: one.hex}, [UUID(int=1), {"a": UUID(int=2)}], [f"{1:032}", {"a": f"{2:032}"}]),
        ({Enum: lambda one: one.name}, [Colour.RED, Status.PAID, Priority.HIGH], ["RED", "PAID", "HIGH"]),
        ({IntEnum: lambda one: one.name}, [Colour.RED, Priority.HIGH], ["red", "HIGH"]),
        ({Colour: lambda one: one.name}, {Colour.RED: Colour.PRICE}, {"RED": "PRICE"}),
        ({Labelled: lambda one: one.label}, [Weekday.MONDAY, Fruit("apple")], ["2026-03-02", "a label"]),
        ({date: lambda day: day.year}, Weekday.MONDAY, 2026),
        ({Name: lambda _: "a name"}, [Name("x"), "x", {Name("k"): 1}], ["a name", "x", {"a name": 1}]),
        ({Numbers: sum}, [Numbers([1, 2]), [1, 2]], [3, [1, 2]]),
        ({Point: lambda point: point._asdict()}, Point(1, 2), {"x": 1, "y": 2}),
        ({OrderedDict: list}, OrderedDict(b=1, a=2), ["b", "a"]),
        ({set: lambda one: one}, {2, 1}, [1, 2]),
        ({set: len}, [{2, 1}, frozenset({2, 1})], [2, [1, 2]]),
        ({bytes: bytes.hex}, [b"\xff", bytearray(b"\xff")], ["ff", "/w=="]),
        ({Range: str}, [Range(1, 6)], ["[1,6)"]),
        ({complex: lambda one: [one.real, one.imag]}, 1 + 2j, [1.0, 2.0]),
        ({PurePath: lambda path: path.name}, PurePosixPath("/a/b"), "b"),
        ({IPv4Address: int}, [ip_address("0.0.0.1"), ip_interface("0.0.0.1/24")], [1, "0.0.0.1/24"]),
    ],
    ids=lambda one: ascii(one)[:40],
)  # fmt: skip
def test_the_encoder_of_the_nearest_class_comes_before_the_table(
    encoders: dict[type, Callable[[Any], Any]], value: Any, expected: Any
) -> None:
    assert each_path(encoders, value) == (expected, [])


def test_an_encoder_is_met_beside_what_orjson_refuses() -> None:
    value = ["\ud800", 2**70, Money(Decimal(1), "EUR"), {Money(Decimal(2), "EUR")}]
    assert each_path({Money: lambda money: money.amount}, value) == (["\ufffd", 2**70, "1", ["2"]], [])


def test_an_encoder_that_raises_gives_a_placeholder_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    found, told = each_path({Decimal: lambda one: one / 0}, [1, Decimal(1), Unknown()])
    assert found == [
        1,
        {"$unencodable": "decimal.Decimal"},
        {"$unencodable": f"{__name__}.Unknown"},
    ]
    assert told == [Decimal, Unknown]
    assert "the encoder of decimal.Decimal failed" in caplog.text
    assert "DivisionByZero" in caplog.text


def test_encoders_that_never_end_do() -> None:
    found, told = each_path({Money: lambda money: [Money(money.amount, "EUR")]}, Money(Decimal(1), "EUR"))
    assert "$unencodable" in json.dumps(found)
    assert told == [Money]


def test_encoders_that_send_each_other_round_end_too() -> None:
    found, _ = each_path({Decimal: lambda one: Money(one, ""), Money: lambda one: one.amount}, [Decimal(1)])
    assert "$unencodable" in json.dumps(found)


def test_the_part_of_a_key_is_as_its_value_and_never_null_or_a_placeholder() -> None:
    encoding_of = encoding.Encoding({Money: as_object, Unknown: lambda _: None})
    assert encoding_of.key_part(Money(Decimal(1), "EUR")) == {"amount": Decimal(1), "currency": "EUR"}
    assert encoding_of.key_part(Decimal("NaN")) == "NaN"
    assert encoding_of.key_part(float("inf")) == "inf"
    assert encoding_of.key_part(UUID(int=1)) == f"{UUID(int=1)}"
    unknown = Unknown()
    assert encoding_of.key_part(unknown) == str(unknown)
    raising = Raising()
    assert encoding_of.key_part(raising) is raising
    keys = [encoding.Key(one) for one in (Money(Decimal(1), "EUR"), None, 5, UUID(int=1))]
    assert json.loads(encoding_of.dumps(keys)) == [{"amount": "1", "currency": "EUR"}, None, 5, f"{UUID(int=1)}"]


# --------------------------------------------------------------------------- the rest of the module


def test_loads_keeps_what_orjson_would_round() -> None:
    assert encoding.loads(b"18446744073709551617") == 2**64 + 1
    assert encoding.loads('{"a":[1.5,null]}') == {"a": [1.5, None]}


def test_encode_says_which_type_has_no_rule() -> None:
    with pytest.raises(TypeError, match=re.escape(f"{__name__}.Unknown")):
        encoding.encode(Unknown())


@checked
@given(
    st.one_of(
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.uuids(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.binary(),
        st.integers(),
    )
)
def test_what_can_be_a_key_comes_back(value: Any) -> None:
    plain = json.loads(json.dumps(encoding.encode(value)))
    assert encoding.decode(plain, type(value)) == value


@checked
@given(st.datetimes(timezones=st.timezones()))
def test_instants_come_back(value: datetime) -> None:
    assert encoding.decode(encoding.encode(value), datetime) == value.astimezone(UTC)


def test_what_does_not_fit_is_refused() -> None:
    for plain, kind in (("P1Y", timedelta), ("soon", datetime), (3, Colour)):
        with pytest.raises(ValueError, match=r".+"):
            encoding.decode(plain, kind)


@checked
@given(st.binary())
def test_bytes_come_back(value: bytes) -> None:
    assert encoding.decode(encoding.encode(value), bytes) == value
    assert base64.standard_b64decode(encoding.encode(bytearray(value))) == value


_DURATION = re.compile(
    r"(?P<sign>-?)P(?:(?P<days>\d+)D)?"
    r"(?P<clock>T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:\.(?P<fraction>\d{1,6}))?S)?)?"
)


def parse_duration(text: str) -> timedelta:
    """An ISO 8601 duration of days to seconds, refusing what the standard does not allow."""
    found = _DURATION.fullmatch(text)
    assert found is not None, text
    assert found["clock"] != "T", "a T with nothing after it"
    assert found["days"] or found["clock"], "a P with nothing after it"
    microseconds = int((found["fraction"] or "").ljust(6, "0"))
    for name, size in (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1)):
        microseconds += int(found[name] or 0) * size * 1_000_000
    return timedelta(microseconds=-microseconds if found["sign"] else microseconds)


@settings(deadline=None, max_examples=300)
@given(st.timedeltas() | st.timedeltas(timedelta(days=-2), timedelta(days=2)))
@example(timedelta.min)
@example(timedelta.max)
@example(timedelta.resolution)
def test_a_duration_comes_back(value: timedelta) -> None:
    assert parse_duration(values.duration(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "PT0S"),
        (timedelta(days=1), "P1D"),
        (timedelta(hours=25), "P1DT1H"),
        (timedelta(minutes=90), "PT1H30M"),
        (timedelta(seconds=61), "PT1M1S"),
        (timedelta(microseconds=10), "PT0.00001S"),
        (timedelta(days=-1), "-P1D"),
        (timedelta(days=-1, hours=1), "-PT23H"),
        (timedelta(days=400, seconds=1.5), "P400DT1.5S"),
    ],
)
def test_durations_are_written_the_short_way(value: timedelta, text: str) -> None:
    assert values.duration(value) == text
