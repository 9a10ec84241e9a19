"""What columns of every type can hold, and the JSON of it, written by hand."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.types import TypeEngine


@dataclass(frozen=True, eq=False)
class Held:
    """A value of a column, and the JSON of what the database makes of it."""

    type: TypeEngine[Any]
    value: Any
    json: Any
    name: str = ""


class Colour(Enum):
    RED = "r"
    NESTED = (1, "a")


@dataclass
class Point:
    x: int
    at: date


class InCents(sa.TypeDecorator[Decimal]):
    """Decimals as whole cents."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, _dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, _dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-2)


BIG, SMALL = 2**63 - 1, -(2**63)
DAY, NOON = date(2026, 3, 1), datetime.fromisoformat("2026-03-01T12:00:00.000120")
TOKYO = timezone(timedelta(hours=9))
FIRST, LAST = datetime.fromisoformat("0001-01-01T00:00:00"), datetime.fromisoformat("9999-12-31T23:59:59.999999")
TEXT = "Zoë 😀 \\ \" \n'"
ID_TEXT = "0a1b2c3d-0000-4000-8000-00000000ffff"
ID = uuid.UUID(ID_TEXT)
MIXED = {"a": [1, 2.5, None, True, "é"], "b": {}, "c": -(2**53)}


def several(types: list[TypeEngine[Any]], *pairs: tuple[Any, Any]) -> list[Held]:
    return [Held(type_, value, json) for type_ in types for value, json in pairs]


#: On every database.
GENERIC = [
    *several([sa.Boolean(), sa.BOOLEAN()], (True, True), (False, False)),
    *several([sa.Integer(), sa.INTEGER()], (0, 0), (-(2**31), -(2**31))),
    *several([sa.SmallInteger(), sa.SMALLINT()], (2**15 - 1, 2**15 - 1)),
    *several([sa.BigInteger(), sa.BIGINT()], (BIG, BIG), (SMALL, SMALL)),
    *several([sa.Numeric(10, 2), sa.NUMERIC(10, 2), sa.DECIMAL(10, 2)], (Decimal("-99.50"), "-99.50")),
    *several([sa.Numeric(10, 2, asdecimal=False)], (1.25, 1.25)),
    *several([sa.Double(), sa.DOUBLE_PRECISION()], (1.5, 1.5), (-1e300, -1e300), (0.1, 0.1)),
    *several([sa.Float(53), sa.FLOAT(53), sa.REAL()], (1.5, 1.5)),
    *several([sa.String(40), sa.VARCHAR(40), sa.Unicode(40)], (TEXT, TEXT), ("", "")),
    *several([sa.Text(), sa.TEXT(), sa.UnicodeText()], (TEXT * 99, TEXT * 99)),
    *several([sa.CHAR(3), sa.NCHAR(3)], ("abc", "abc")),
    *several([sa.LargeBinary()], (b"", ""), (b"\xff\x00'", "/wAn")),
    *several([sa.Date(), sa.DATE()], (DAY, "2026-03-01"), (LAST.date(), "9999-12-31")),
    *several([sa.Time(), sa.TIME()], (time(23, 59, 59), "23:59:59"), (time(0), "00:00:00")),
    *several([sa.DateTime()], (NOON.replace(microsecond=0), "2026-03-01T12:00:00Z")),
    *several([sa.TIMESTAMP()], (NOON.replace(microsecond=0), "2026-03-01T12:00:00Z")),
    *several([sa.Interval()], (timedelta(days=1, hours=2), "P1DT2H"), (timedelta(0), "PT0S")),
    *several([sa.Uuid(), sa.UUID()], (ID, ID_TEXT)),
    *several([sa.Uuid(as_uuid=False)], (ID_TEXT, ID_TEXT)),
    *several([sa.Enum(Colour)], (Colour.RED, "r"), (Colour.NESTED, [1, "a"])),
    *several([sa.Enum("small", "größe", name="size")], ("größe", "größe")),
    *several([sa.JSON()], (MIXED, MIXED), ([], []), ("text", "text"), (False, False), ([10**30], [10**30])),
    *several([sa.PickleType()], ({"a": {1, 2}, "b": (Decimal("1.0"), b"\xff")}, {"a": [1, 2], "b": ["1.0", "/w=="]})),
    *several([sa.PickleType()], (Point(1, DAY), {"x": 1, "at": "2026-03-01"})),
    *several([sa.PickleType()], (Range(1, 2), {"lower": 1, "upper": 2, "bounds": "[)", "empty": False})),
    *several([InCents()], (Decimal("12.34"), "12.34")),
    *several([sa.String(9).with_variant(sa.Text(), "postgresql")], ("a", "a")),
]  # fmt: skip

SQLITE = [
    *several([sa.DateTime(), sa.DATETIME()], (FIRST, "0001-01-01T00:00:00Z"), (LAST, "9999-12-31T23:59:59.999999Z")),
    Held(sa.Time(), time(1, 2, 3, 40), "01:02:03.000040"),
    Held(sa.Interval(), timedelta(days=-1, microseconds=1), "-PT23H59M59.999999S"),
    *several([sa.BLOB(), sa.BINARY(3), sa.VARBINARY(3)], (b"\xff\x00'", "/wAn")),
    *several([sa.CLOB(), sa.NVARCHAR(9)], (TEXT, TEXT)),
    *several([sa.DOUBLE(), sa.Float()], (1e-300, 1e-300), (float("inf"), None), (float("-inf"), None)),
    Held(sa.Float(), float("nan"), None),
    *several([sa.types.MatchType()], (True, True)),
]


def span(lower: Any, upper: Any, bounds: str = "[)", *, empty: bool = False) -> dict[str, Any]:
    return {"lower": lower, "upper": upper, "bounds": bounds, "empty": empty}


NOTHING = span(None, None, "()", empty=True)
EVERYTHING = span(None, None, "()")


def ranges(single: Any, multi: Any, pair: tuple[Any, Any], json: tuple[Any, Any]) -> list[Held]:
    lower, upper = pair
    return [
        Held(single(), Range(lower, upper), span(*json)),
        Held(single(), Range(lower, None), span(json[0], None)),
        Held(single(), Range(None, upper, bounds="[)"), span(None, json[1], "()")),
        Held(single(), Range(None, None, bounds="[]"), EVERYTHING),
        Held(single(), Range(empty=True), NOTHING),
        Held(single(), Range(lower, lower), NOTHING),
        Held(multi(), [Range(lower, upper)], [span(*json)]),
        Held(multi(), [Range(None, lower), Range(upper, None)], [span(None, json[0], "()"), span(json[1], None)]),
        Held(multi(), [], []),
        Held(pg.ARRAY(single()), [Range(lower, upper), None], [span(*json), None]),
    ]


def _zoned(value: datetime, zone: timezone) -> datetime:
    return value.replace(tzinfo=zone)


_NOONS = (NOON, NOON + timedelta(days=1)), ("2026-03-01T12:00:00.000120Z", "2026-03-02T12:00:00.000120Z")
_ZONED = (_zoned(NOON, TOKYO), _zoned(NOON, UTC)), ("2026-03-01T03:00:00.000120Z", "2026-03-01T12:00:00.000120Z")

POSTGRESQL = [
    *several([pg.ARRAY(sa.Integer)], ([], []), ([1, None, -2], [1, None, -2])),
    *several([sa.ARRAY(sa.Integer)], ([[1, None], [2, 3]], [[1, None], [2, 3]])),
    *several([pg.ARRAY(sa.Text, dimensions=3)], ([[["a", None]], [["", "é"]]], [[["a", None]], [["", "é"]]])),
    *several([pg.ARRAY(sa.Numeric)], ([Decimal("1.50"), Decimal("NaN")], ["1.50", None])),
    *several([pg.ARRAY(sa.Float)], ([1.5, float("nan"), float("inf")], [1.5, None, None])),
    *several([pg.ARRAY(sa.Uuid)], ([ID], [ID_TEXT])),
    *several([pg.ARRAY(sa.DateTime(timezone=True))], ([_zoned(NOON, TOKYO)], ["2026-03-01T03:00:00.000120Z"])),
    *several([pg.ARRAY(sa.LargeBinary)], ([b"\xff", b""], ["/w==", ""])),
    *several([pg.ARRAY(pg.JSONB)], ([MIXED, [1]], [MIXED, [1]])),
    *several([pg.ARRAY(pg.INET)], ([ip_address("192.0.2.1"), None], ["192.0.2.1", None])),
    *several([pg.ARRAY(sa.Enum(Colour))], ([Colour.RED, Colour.NESTED], ["r", [1, "a"]])),
    *several([pg.ARRAY(sa.Text, as_tuple=True)], (("a", "b"), ["a", "b"])),
    *ranges(pg.INT4RANGE, pg.INT4MULTIRANGE, (1, 6), (1, 6)),
    *ranges(pg.INT8RANGE, pg.INT8MULTIRANGE, (-(2**62), 2**62), (-(2**62), 2**62)),
    *ranges(pg.NUMRANGE, pg.NUMMULTIRANGE, (Decimal("1.50"), Decimal("1000.0")), ("1.50", "1000.0")),
    *ranges(pg.DATERANGE, pg.DATEMULTIRANGE, (DAY, LAST.date()), ("2026-03-01", "9999-12-31")),
    *ranges(pg.TSRANGE, pg.TSMULTIRANGE, *_NOONS),
    *ranges(pg.TSTZRANGE, pg.TSTZMULTIRANGE, *_ZONED),
    Held(pg.INT4RANGE(), Range(1, 5, bounds="[]"), span(1, 6)),
    Held(pg.NUMRANGE(), Range(Decimal(1), Decimal(5), bounds="(]"), span("1", "5", "(]")),
    *several([pg.JSON(), pg.JSONB()], (MIXED, MIXED), ("é", "é"), (0, 0), (10**30, 10**30)),
    *several([pg.INET()], (ip_address("192.0.2.1"), "192.0.2.1"), (ip_interface("2001:db8::1/64"), "2001:db8::1/64")),
    *several([pg.CIDR()], (ip_network("192.0.2.0/24"), "192.0.2.0/24"), (ip_network("::/0"), "::/0")),
    Held(pg.INET(), "192.0.2.1", "192.0.2.1"),
    Held(pg.MACADDR(), "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    Held(pg.MACADDR8(), "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:05"),
    *several([pg.INTERVAL()], (timedelta(days=428, microseconds=1), "P428DT0.000001S"), (-timedelta(1), "-P1D")),
    *several([pg.BIT(10)], ("1010101011", "1010101011")),
    *several([pg.BIT(varying=True)], ("1", "1"), ("", "")),
    *several([sa.Uuid(), pg.UUID()], (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000")),
    *several([pg.ENUM(Colour, name="colour_of_pg")], (Colour.RED, "r")),
    *several([pg.ENUM("a", "é", name="letter")], ("é", "é")),
    *several([pg.DOMAIN("positive", sa.Integer, check="VALUE > 0")], (1, 1)),
    Held(pg.MONEY(), "$1,234.50", "$1,234.50"),
    Held(pg.TSVECTOR(), "'a' 'fat'", "'a' 'fat'"),
    Held(pg.TSQUERY(), "'fat' & 'cat'", "'fat' & 'cat'"),
    Held(pg.OID(), 2**32 - 1, 2**32 - 1),
    Held(pg.REGCLASS(), "pg_class", "pg_class"),
    Held(pg.REGCONFIG(), "english", "english"),
    Held(pg.JSONPATH(), '$."a"', '$."a"'),
    Held(pg.CITEXT(), "Zoë", "Zoë"),
    *several([pg.HSTORE()], ({"a": "1", "b": None, "é": ""}, {"a": "1", "b": None, "é": ""}), ({}, {})),
    *several([pg.BYTEA()], (b"", ""), (bytes(range(252, 256)), "/P3+/w==")),
    *several([pg.TIMESTAMP()], (NOON, "2026-03-01T12:00:00.000120Z"), (LAST, "9999-12-31T23:59:59.999999Z")),
    *several([pg.TIMESTAMP(timezone=True)], (_zoned(NOON, TOKYO), "2026-03-01T03:00:00.000120Z")),
    *several([sa.DateTime(timezone=True)], (_zoned(NOON, TOKYO), "2026-03-01T03:00:00.000120Z")),
    *several([pg.TIME()], (time(1, 2, 3, 40), "01:02:03.000040")),
    *several([pg.TIME(timezone=True)], (time(12, 30, tzinfo=TOKYO), "12:30:00+09:00")),
    *several([sa.Numeric()], (Decimal("NaN"), None), (Decimal("Infinity"), None)),
    *several([sa.Numeric()], (Decimal("1e-30"), "1E-30"), (Decimal(10**40 + 1), str(10**40 + 1))),
    *several([sa.Float(), sa.Double()], (float("nan"), None), (float("-inf"), None)),
]  # fmt: skip

MARIADB = [
    *several([mysql.SET("a", "b", "é")], ({"é", "a"}, ["a", "é"]), (set(), [])),
    *several([mysql.YEAR()], (2026, 2026), (1901, 1901)),
    *several([mysql.BIT(10)], (0b1010101011, 683)),
    *several([mysql.TIME(fsp=6), mysql.TIME()], (time(23, 59, 59), "23:59:59")),
    Held(mysql.TIME(fsp=6), time(1, 2, 3, 40), "01:02:03.000040"),
    *several([mysql.DATETIME(fsp=6), mysql.TIMESTAMP(fsp=6)], (NOON, "2026-03-01T12:00:00.000120Z")),
    *several([mysql.ENUM("a", "é")], ("é", "é")),
    *several([mysql.ENUM(Colour)], (Colour.RED, "r")),
    *several([mysql.JSON()], (MIXED, MIXED)),
    *several([mysql.BIGINT(unsigned=True)], (2**64 - 1, 2**64 - 1)),
    *several([mysql.INTEGER(), mysql.MEDIUMINT()], (-(2**23), -(2**23))),
    *several([mysql.SMALLINT(), mysql.TINYINT()], (127, 127)),
    *several([mysql.DECIMAL(65, 30), mysql.NUMERIC(65, 30)], (Decimal(1).scaleb(-30), "1E-30")),
    *several([mysql.DOUBLE(asdecimal=False), mysql.REAL(asdecimal=False), mysql.FLOAT()], (-1.5, -1.5)),
    *several([mysql.CHAR(9), mysql.NCHAR(9), mysql.VARCHAR(9), mysql.NVARCHAR(9)], ("Zoë", "Zoë")),
    *several([mysql.TINYTEXT(), mysql.TEXT(), mysql.MEDIUMTEXT(), mysql.LONGTEXT()], (TEXT[:3], "Zoë")),
    *several([mysql.TINYBLOB(), mysql.MEDIUMBLOB(), mysql.LONGBLOB(), sa.BLOB()], (b"\xff\x00'", "/wAn"), (b"", "")),
    *several([sa.BINARY(3), sa.VARBINARY(3)], (b"\xff\x00'", "/wAn")),
    # Without fractions of a second, and cut off.
    Held(sa.Interval(), timedelta(days=-1, microseconds=1), "-P1D"),
]

if hasattr(mysql, "INET6"):  # since SQLAlchemy 2.1
    MARIADB += [Held(mysql.INET4(), "192.0.2.1", "192.0.2.1"), Held(mysql.INET6(), "2001:db8::1", "2001:db8::1")]

HELD = {
    name: [replace(one, name=f"t{number}") for number, one in enumerate([*GENERIC, *own])]
    for name, own in (("sqlite", SQLITE), ("postgresql", POSTGRESQL), ("mariadb", MARIADB))
}
