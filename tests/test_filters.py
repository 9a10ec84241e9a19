"""Filters: what they let through, by a reference that works otherwise; what is refused, and where in it."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, FloatOperation, Inexact, localcontext
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.clock import START

from sqla_webhooks import EndpointError, InvalidFilter, Operation
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.thin import thinned
from sqla_webhooks.encoding import TABLE, loads
from sqla_webhooks.events import Event
from sqla_webhooks.filters import (
    DEEPEST,
    KEYS,
    LARGEST,
    LONGEST_PATH,
    MOST,
    MOST_VALUES,
    Filter,
    check,
    read,
    written,
)

pytestmark = pytest.mark.pure

GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")

checked = settings(deadline=None, max_examples=200)

#: The steps to a place in a filter.
Place: TypeAlias = tuple[str | int, ...]


def passes(given_filter: Any, body: Any) -> bool:
    return Filter.of(read(written(check(given_filter)))).match(body)


def refused(given_filter: Any) -> str:
    with pytest.raises(InvalidFilter) as caught:
        check(given_filter)
    assert isinstance(caught.value, EndpointError)
    message = str(caught.value)
    assert message.startswith("filter")
    assert message.encode()
    return message


def body_with(**keys: Any) -> dict[str, Any]:
    """The body of an update."""
    return {
        "type": "order.updated",
        "timestamp": "2026-11-23T10:00:00.123Z",
        "id": "evt_1",
        "resource": "order",
        "resource_id": "42",
        "operation": "update",
        "data": {"id": 42, "status": "paid", "total": "99.50", "lines": [{"sku": "a"}, {"sku": "b"}], "note": None},
        "changes": {"status": {"from": "pending", "to": "paid"}},
    } | keys


# --- by examples


@pytest.mark.parametrize(
    ("given_filter", "expected"),
    [
        ({}, True),
        ({"operation": "update"}, True),
        ({"operation": "create"}, False),
        ({"type": {"$in": ["order.created", "order.updated"]}}, True),
        ({"resource_id": 42}, True),
        ({"data.status": "paid"}, True),
        ({"data.status.x": "paid"}, False),
        ({"data.status.0": "p"}, False),
        ({"data.lines.0.sku": "a"}, True),
        ({"data.lines.1.sku": "b"}, True),
        ({"data.lines.01.sku": "b"}, False),
        ({"data.lines.2.sku": {"$exists": False}}, True),
        ({"data.lines.-1.sku": {"$exists": True}}, False),
        ({"data.lines.²": {"$exists": True}}, False),
        ({"data.lines": {"$eq": [{"sku": "a"}, {"sku": "b"}]}}, True),
        ({"data.lines": {"$ne": [{"sku": "b"}, {"sku": "a"}]}}, True),
        ({"data.note": None}, True),
        ({"data.notes": None}, False),
        ({"data.note": {"$exists": True}}, True),
        ({"data.total": {"$gt": 99, "$lt": 100}}, True),
        ({"data.total": {"$gt": 99, "$lt": 99.5}}, False),
        ({"data.total": {"$gt": "100"}}, True),
        ({"data.id": {"$gt": "1"}}, False),
        ({"changes.status.from": "pending", "changes.status.to": "paid"}, True),
        ({"changes.status.from": "paid", "changes.status.to": "paid"}, False),
        ({"changes.status": {"$exists": True}}, True),
        ({"changes.total": {"$exists": True}}, False),
        ({"links.tags": {"$exists": False}}, True),
        ({"$or": [{"operation": "create"}, {"data.status": "paid"}]}, True),
        ({"$or": [{"operation": "create"}, {"data.status": "new"}]}, False),
        ({"$or": [{"operation": "create"}, {"data.status": "paid"}], "resource": "customer"}, False),
        ({"$not": {"operation": "update", "resource": "customer"}}, True),
        ({"$not": {"$not": {"operation": "update"}}}, True),
        ({"$not": {}}, False),
        ({"data.status": {"$not": "paid"}}, False),
        ({"data.status": {"$not": {"$in": ["draft", "new"]}}}, True),
        ({"data.status": {"$not": {"$not": {"$gt": "p"}}}}, True),
        ({"data.missing": {"$not": {"$gt": 1}, "$ne": 1}}, True),
    ],
)
def test_what_an_update_of_an_order_passes(given_filter: Any, *, expected: bool) -> None:
    assert passes(given_filter, body_with()) is expected


def guide_tables() -> Iterator[list[list[str]]]:
    """The tables of the guide's section, as cells."""
    section = GUIDE[GUIDE.index("### Filters") : GUIDE.index("### Where requests may go")]
    for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        yield [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()[2:]]


def in_cell(cell: str) -> list[Any]:
    """What a cell names: values, and a lack of one."""
    codes = [json.loads(code) for code in re.findall(r"`([^`]*)`", cell)]
    return [body_with(data={"x": value}) for value in codes] + [body_with(data={})] * ("missing" in cell)


def test_what_the_guide_says_of_conditions_is_true() -> None:
    _, rows = guide_tables()
    assert len(rows) == 15
    for cell, held, not_held in rows:
        for condition in map(json.loads, re.findall(r"`([^`]*)`", cell)):
            assert [passes({"data.x": condition}, body) for body in in_cell(held)] == [True] * len(in_cell(held)), cell
            assert not any(passes({"data.x": condition}, body) for body in in_cell(not_held)), cell


def test_filters_of_the_guide_are_filters() -> None:
    rows, _ = guide_tables()
    (block,) = re.findall(r"```json\n(\{\"operation.*?)```", GUIDE, re.DOTALL)
    filters = [json.loads(text) for text in [block, *(cell.strip("`") for _, cell in rows)]]
    assert [passes(one, body_with()) for one in filters] == [False, True, True, True, True, True]


def test_a_condition_is_of_one_value_and_a_path_of_one_place() -> None:
    first, second = {"status": "paid", "total": "1"}, {"status": "new", "total": "200"}
    asked = {"data.lines.0.status": "paid", "data.lines.0.total": {"$gt": 100}}
    assert not passes(asked, body_with(data={"lines": [first, second]}))
    assert passes(asked, body_with(data={"lines": [first | second | {"status": "paid"}]}))


def test_a_key_of_digits_is_a_key_of_an_object() -> None:
    assert passes({"data.by_year.2026": 1, "data.by_year.01": 2}, body_with(data={"by_year": {"2026": 1, "01": 2}}))


# --- against a reference

keys = st.sampled_from(["a", "b", "0", "1", "status", "$x", "ü"])
odd_keys = keys | st.sampled_from(["", "a.b", "."])
#: As JSON writes numbers, and as it does not.
NUMBERS = (
    "0",
    "-0",
    "1",
    "1.0",
    "1.50",
    "-2",
    "1e0",
    "1E+2",
    "1e-1",
    "0E-8",
    "10",
    "99.50",
    "0.1",
    "100000000000000000000",
)
NO_NUMBERS = (
    "01",
    "-01",
    "+1",
    " 1",
    "1 ",
    "1\n",
    "1.",
    ".5",
    "1_0",
    "１",
    "NaN",
    "Infinity",
    "-",
    "1e",
    "0x1",
    "true",
    "",
)

number_texts = st.sampled_from(NUMBERS)
no_numbers = st.sampled_from(NO_NUMBERS)
texts = st.one_of(
    number_texts,
    no_numbers,
    st.sampled_from(["", "paid", "pending", "Paid", "é", "\U0001f600"]),
    st.sampled_from(["2026-01-01", "2026-01-01T10:00:00Z", "2026-01-01T10:00:00.5Z", "2026-01-01T10:00:00"]),
)
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([10, 10**20, 2**53 + 1, 0.0, -0.0, 1.0, 1.5, 0.1, 99.5, 1e20, 2.0**53, 5e-324, 1.7e308]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)


def trees(keys: Any) -> Any:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=5,
    )


@st.composite
def bodies(draw: Any) -> dict[str, Any]:
    body: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {"operation": st.sampled_from(["create", "update"]), "data": st.dictionaries(odd_keys, trees(odd_keys))},
            optional={
                "changes": st.dictionaries(keys, st.fixed_dictionaries({"to": scalars}, optional={"from": scalars})),
                "links": st.dictionaries(keys, st.just({"added": ["3"], "removed": []}), max_size=1),
                "truncated": st.sampled_from([True]),
            },
        )
    )
    return body


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every place of a tree that a path can name."""
    places = {path: value} if path else {}
    inside: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inside = [(key, one) for key, one in value.items() if key and "." not in key]
    elif isinstance(value, list):
        inside = [(str(index), one) for index, one in enumerate(value)]
    for key, one in inside:
        places |= flat(one, f"{path}.{key}" if path else key)
    return places


def others_like(value: Any) -> Any:
    """Values that may be taken for this one, or be its neighbours."""
    near = [st.just(value), scalars]
    if isinstance(value, int | float) and not isinstance(value, bool):
        near += [st.sampled_from([value + 1, value - 1, value / 2, str(value), bool(value)])]
    if isinstance(value, str):
        near += [st.sampled_from([f"{value}0", value[:-1], [value]])]
        near += [st.just(json.loads(value))] if is_number(value) else []
    if isinstance(value, list):
        near += [st.just([*value, None]), st.just(value[::-1]), st.tuples(*map(others_like, value)).map(list)]
    if isinstance(value, dict):
        near += [st.just(value | {"a": 1}), st.fixed_dictionaries({key: others_like(value[key]) for key in value})]
    return st.one_of(near)


@st.composite
def filters_for(draw: Any, body: dict[str, Any], depth: int = 2) -> dict[str, Any]:
    """A filter that asks for what is in *body*, or for something like it."""
    there = flat(body)
    found: dict[str, Any] = {}
    for _ in range(draw(st.integers(0 if depth == 2 else 1, 3))):
        kind = draw(st.sampled_from(["path", "path", "path", "$or", "$not"])) if depth else "path"
        if kind == "$or":
            found["$or"] = draw(st.lists(filters_for(body, depth - 1), min_size=1, max_size=3))
        elif kind == "$not":
            found["$not"] = draw(filters_for(body, depth - 1))
        else:
            path = draw(st.sampled_from(sorted(there)))
            value = there[path]
            path += draw(st.sampled_from([""] * 9 + [".a", ".0", ".1", ".01", ".-1", "x"]))
            found[path if path.split(".")[0] in KEYS else "data.zz"] = draw(conditions_for(value))
    return found


@st.composite
def conditions_for(draw: Any, value: Any, depth: int = 2) -> Any:
    near = others_like(value)
    comparable = near.filter(lambda one: isinstance(one, int | float | str) and not isinstance(one, bool))
    operators = {
        "$eq": near,
        "$ne": near,
        "$in": st.lists(near, min_size=1, max_size=3),
        "$gt": comparable,
        "$lt": comparable,
        "$exists": st.booleans(),
    }
    if depth:
        operators["$not"] = conditions_for(value, depth - 1)
    if draw(st.integers(0, 3)) == 0:
        return draw(near.filter(lambda one: not isinstance(one, dict | list)))
    chosen = draw(st.lists(st.sampled_from(sorted(operators)), min_size=1, max_size=2, unique=True))
    return {operator: draw(operators[operator]) for operator in chosen}


def is_number(text: str) -> bool:
    """Whether a parser of JSON takes it for a number, and for nothing around one."""
    try:
        value = json.loads(text, parse_constant=lambda _: None)
    except ValueError:
        return False
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not text[0].isspace()
        and text == text.strip()
    )


def meaning(operand: Any) -> str:
    """What a filter means by a value: values that mean the same are the same text."""
    if isinstance(operand, list):
        return f"[{','.join(map(meaning, operand))}]"
    if isinstance(operand, dict):
        return f"{{{','.join(f'{key!r}:{meaning(operand[key])}' for key in sorted(operand))}}}"
    if isinstance(operand, int | float) and not isinstance(operand, bool):
        return f"number {Fraction(str(operand))}"
    return f"{type(operand).__name__} {operand!r}"


def readings(value: Any) -> set[str]:
    """All that a value of a body can be read as: a text of a number has two readings, and what is missing none."""
    if isinstance(value, list):
        return {f"[{','.join(each)}]" for each in itertools.product(*map(readings, value))}
    if isinstance(value, dict):
        each = [[f"{key!r}:{reading}" for reading in readings(value[key])] for key in sorted(value)]
        return {f"{{{','.join(one)}}}" for one in itertools.product(*each)}
    return {meaning(value)} | ({f"number {Fraction(value)}"} if isinstance(value, str) and is_number(value) else set())


class Reference:
    """Filters as the text of a Python expression, about a table of all that is in a body."""

    def __init__(self, body: Any) -> None:
        self.places = flat(body)

    def holds(self, given_filter: dict[str, Any]) -> bool:
        names = {"read": self.read, "order": self.order}
        return bool(eval(self.expression(given_filter), names))

    def expression(self, given_filter: dict[str, Any]) -> str:
        parts = ["True"]
        for key, one in given_filter.items():
            if key == "$or":
                parts.append(" or ".join(map(self.expression, one)))
            elif key == "$not":
                parts.append(f"not {self.expression(one)}")
            else:
                parts.append(self.condition(f"{key!r}", one))
        return f"({' and '.join(f'({part})' for part in parts)})"

    def condition(self, path: str, given_condition: Any) -> str:
        if not isinstance(given_condition, dict):
            return f"{meaning(given_condition)!r} in read({path})"
        forms = {
            "$eq": lambda one: f"{meaning(one)!r} in read({path})",
            "$ne": lambda one: f"{meaning(one)!r} not in read({path})",
            "$in": lambda one: f"read({path}) & {set(map(meaning, one))!r}",
            "$gt": lambda one: f"order({path}, {meaning(one)!r}, {one!r}) == 1",
            "$lt": lambda one: f"order({path}, {meaning(one)!r}, {one!r}) == -1",
            "$exists": lambda one: f"bool(read({path})) == {one!r}",
            "$not": lambda one: f"not ({self.condition(path, one)})",
        }
        return " and ".join(f"({forms[operator](one)})" for operator, one in given_condition.items())

    def read(self, path: str) -> set[str]:
        return readings(self.places[path]) if path in self.places else set()

    def order(self, path: str, meant: str, operand: Any) -> int | None:
        """1 if what is there is greater, -1 if it is less."""
        for reading in self.read(path):
            if meant.startswith("number ") and reading.startswith("number "):
                difference = Fraction(reading.removeprefix("number ")) - Fraction(meant.removeprefix("number "))
                return (difference > 0) - (difference < 0)
            if meant.startswith("str ") and reading.startswith("str "):
                one, other = list(map(ord, self.places[path])), list(map(ord, operand))
                return (one > other) - (one < other)
        return None


@pytest.mark.parametrize("text", [*NUMBERS, *NO_NUMBERS])
def test_a_text_is_a_number_if_json_says_so(text: str) -> None:
    assert passes({"data.x": {"$lt": 10**30}}, {"data": {"x": text}}) is is_number(text) is (text in NUMBERS)


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, "x", 2, "2.0"])
def test_any_of_the_values_of_a_choice_may_be_the_one(value: Any) -> None:
    choice = {"$in": [None, True, [1], {"a": 1}, "x", "y", 1, 2]}
    assert passes({"data.x": choice}, {"data": {"x": value}})
    assert not passes({"data.x": {"$not": choice}}, {"data": {"x": value}})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_lacks_is_no_number(value: float) -> None:
    for condition in ({"$gt": 0}, {"$lt": 0}, 0, {"$in": [0, 1]}):
        assert not passes({"data.x": condition}, {"data": {"x": value}})


@checked
@given(st.data(), bodies())
def test_a_filter_lets_through_what_the_reference_does(data: Any, body: dict[str, Any]) -> None:
    given_filter = data.draw(filters_for(body))
    before = copy.deepcopy(body)
    assert passes(given_filter, body) is Reference(body).holds(given_filter)
    assert body == before


@checked
@given(st.data(), st.lists(trees(keys), min_size=2, max_size=6))
def test_a_condition_holds_where_the_reference_says_so(data: Any, values: list[Any]) -> None:
    condition = data.draw(conditions_for(values[0]))
    for value in values:
        body = {"data": {"x": value}}
        assert passes({"data.x": condition}, body) is Reference(body).holds({"data.x": condition})


def event(data: dict[str, Any], **more: Any) -> Event:
    return Event("evt_1", "order.updated", START, "order", "1", Operation.UPDATE, data, **more)


def rendered(data: dict[str, Any]) -> Any:
    """The body of such a row, as it is stored."""
    return loads(Standard().body(event(data), dumps=TABLE.dumps))


decimals = (
    st.decimals(allow_nan=False, allow_infinity=False) | st.integers(-5, 5).map(Decimal) | st.just(Decimal("0.1"))
)


@checked
@given(decimals, st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.just(0.1))
@example(Decimal("1E+999999999999"), 1)
@example(Decimal("-1E+999999999999"), 1)
@example(Decimal("1E-999999999999"), 0)
@example(Decimal(1).scaleb(-7), 1e-7)
def test_a_number_meets_the_decimals_that_a_row_holds(held: Decimal, asked: float) -> None:
    body = rendered({"total": held})
    number = Decimal(repr(asked))
    assert passes({"data.total": asked}, body) is (held == number)
    assert passes({"data.total": {"$in": ["x", asked]}}, body) is (held == number)
    assert passes({"data.total": {"$gt": asked}}, body) is (held > number)
    assert passes({"data.total": {"$lt": asked}}, body) is (held < number)


@checked
@given(st.data(), st.datetimes(datetime.fromisoformat("1000-01-02"), timezones=st.just(UTC)))
def test_an_instant_without_its_z_divides_what_was_before_it_from_what_was_not(data: Any, held: datetime) -> None:
    asked = held.replace(microsecond=0) + timedelta(seconds=data.draw(st.sampled_from([0, 0, 1, -1, 60, -86400])))
    body = rendered({"at": held})
    text = asked.replace(tzinfo=None).isoformat()
    assert passes({"data.at": {"$gt": text}}, body) is (held >= asked)
    assert passes({"data.at": {"$lt": text}}, body) is (held < asked)


def test_every_key_of_a_body_may_begin_a_path() -> None:
    full = event({"id": 1}, changes={"id": {"from": 2, "to": 1}}, links={"tags": {"added": ["3"], "removed": []}})
    bodies = [
        loads(Standard().body(full, dumps=TABLE.dumps)),
        loads(Standard().body(thinned(full, ["id"]), dumps=TABLE.dumps)),
    ]
    assert set().union(*bodies) <= set(KEYS)
    for body in bodies:
        assert passes({key: {"$exists": key in body} for key in KEYS}, body)


# --- nothing raises

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), number_texts, no_numbers),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | keys, inner, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(
    ["$eq", "$ne", "$in", "$gt", "$lt", "$exists", "$not", "$or", "$and", "data", "data.a", "changes.a.to", "data.0.a"]
)
nearly_filters = st.recursive(
    st.one_of(scalars, st.just({}), st.dictionaries(words, scalars, max_size=2)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@checked
@given(nearly_filters | st.dictionaries(words, nearly_filters), json_values | bodies())
@example({"data.a": {"$in": [1, [1], True, "1"]}}, {"data": {"a": float("nan")}})
@example({"data.a": {"$gt": 1}}, {"data": {"a": float("inf")}})
@example({"data.a": {"$gt": 1, "$lt": 2}}, {"data": {"a": "9" * 100_000}})
@example({"data.a": {"$gt": 1}}, {"data": {"a": "1E+" + "9" * 30}})
@example({"data.a": {"$ne": 1}}, {"data": {"a": 10**5000}})
@example({"data.a": {"$in": [1, 2]}}, {"data": {"a": object()}})
@example({"data.a": {"$gt": 1}}, {"data": {"a": Decimal("sNaN")}})
@example({"data.a": {"$gt": "x"}}, {"data": {"a": "\ud800"}})
def test_what_is_accepted_can_be_held_against_anything(given_filter: Any, body: Any) -> None:
    try:
        accepted = check(given_filter)
    except InvalidFilter:
        return
    assert Filter.of(accepted).match(body) in (True, False)


def test_a_body_may_be_as_deep_as_it_likes() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert not passes({"data.0.0": {"$eq": [[1]]}}, {"data": deep})
    assert passes({"data.0.0": {"$ne": [[1]]}}, {"data": deep})
    assert passes({"data": {"$exists": True}}, {"data": deep})


@pytest.mark.parametrize("traps", [[], [FloatOperation, Inexact]])
@pytest.mark.parametrize("value", [1.5, "1.5", 1, "1E+9", "1E+" + "9" * 30, "sNaN"])
def test_the_decimal_context_of_the_thread_changes_nothing(traps: list[Any], value: Any) -> None:
    asked = {"data.a": {"$gt": 1.2, "$lt": 10, "$ne": 3, "$in": [1.5, 7]}}
    expected = Filter.of(check(asked)).match({"data": {"a": value}})
    with localcontext(Context(prec=1, traps=traps, capitals=0)):
        assert Filter.of(check(asked)).match({"data": {"a": value}}) is expected
    assert expected is (value in (1.5, "1.5"))


# --- what is stored


@settings(deadline=None, max_examples=50)
@given(st.data(), bodies())
def test_a_filter_comes_back_as_it_was_written(data: Any, body: dict[str, Any]) -> None:
    given_filter = data.draw(filters_for(body))
    stored = written(check(given_filter))
    assert stored.isascii()
    assert written(read(stored)) == written(given_filter) == stored


class Number(IntEnum):
    THREE = 3


class Text(str):
    __slots__ = ()


def test_what_is_checked_is_a_copy_of_jsons_own_types() -> None:
    lines = [Number.THREE]
    given_filter = {Text("operation"): Operation.UPDATE, "$or": ({"data.a": {"$eq": MappingProxyType({"b": lines})}},)}
    accepted = check(MappingProxyType(given_filter))
    lines.append(Number.THREE)
    assert accepted == {"operation": "update", "$or": [{"data.a": {"$eq": {"b": [3]}}}]}
    assert [type(key) for key in accepted] == [str, str]
    assert type(accepted["operation"]) is str
    assert type(accepted["$or"]) is list
    assert type(accepted["$or"][0]["data.a"]["$eq"]) is dict
    assert type(accepted["$or"][0]["data.a"]["$eq"]["b"][0]) is int


@pytest.mark.parametrize(
    "stored", ["", "x", "[]", "null", "7", '"{}"', "[" * 100_000, '{"a":' * 100_000, "1" * 5000, '{"data.a":']
)
def test_what_is_no_filter_any_more_is_said_to_be_none(stored: str) -> None:
    with pytest.raises(InvalidFilter, match="no longer what was written") as caught:
        read(stored)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("stored", ['{"status":1}', '{"data.a":{"$gt":NaN}}', '{"data.a":{"$regex":"(a+)+"}}'])
def test_what_somebody_has_put_into_the_table_is_checked(stored: str) -> None:
    with pytest.raises(InvalidFilter, match=r'^filter\["'):
        read(stored)


# --- what is refused


@pytest.mark.parametrize(
    ("given_filter", "says"),
    [
        (None, 'filter is null: give an object, such as {"operation": "update"}'),
        ([], "filter is a list: give an object"),
        ('{"operation": "update"}', 'filter is "{\\"operation\\": \\"update\\"}": give an object'),
        ({7: 1}, "filter has the key 7: give a text"),
        ({"\0": 1}, 'filter has "\\u0000", with NUL or a lone surrogate in it'),
        ({"data.\ud800": 1}, 'filter has "data.\\ud800", with NUL'),
        (
            {"status": "paid"},
            'filter["status"] leads nowhere: did you mean "data.status"? A path begins with one of type,',
        ),
        ({"operations": 1}, 'filter["operations"] leads nowhere: did you mean "operation"?'),
        ({"DATA.total": 1}, 'filter["DATA.total"] leads nowhere: did you mean "data.total"?'),
        ({"change.status.to": 1}, 'did you mean "changes.status.to"?'),
        ({"": 1}, 'filter[""] has an empty part: a path is keys joined by dots'),
        ({"data.": 1}, 'filter["data."] has an empty part'),
        ({".data": 1}, 'filter[".data"] has an empty part'),
        ({"data..x": 1}, 'filter["data..x"] has an empty part'),
        ({"$and": []}, 'filter["$and"] is no operator beside paths; Known: $or, $not'),
        ({"$nor": []}, 'filter["$nor"] is no operator beside paths; did you mean $or? Known: $or, $not'),
        ({"$gt": 1}, 'filter["$gt"] is no operator beside paths: it stands in a condition, as in {path: {operator'),
        (
            {"data.x": {"$gte": 1}},
            'filter["data.x"]["$gte"] is no operator of a condition; did you mean $gt? Known: $eq,',
        ),
        ({"data.x": {"$GT": 1}}, "did you mean $gt?"),
        ({"data.x": {"$regex": "(a+)+"}}, 'filter["data.x"]["$regex"] is no operator of a condition; Known: $eq, $ne,'),
        ({"data.x": {"$or": [1]}}, "it stands beside paths, and takes a list of filters"),
        ({"data.x": {"id": 1}}, 'filter["data.x"]["id"] is no operator: write the path "data.x.id", or {"$eq": {...}}'),
        ({"data.x": {"$not": {"id": 1}}}, 'write the path "data.x.id"'),
        ({"data.x": {}}, 'filter["data.x"] is empty: give a value, or operators'),
        ({"data.x": {"$not": {}}}, 'filter["data.x"]["$not"] is empty'),
        ({"data.x": [1]}, 'filter["data.x"] is a list: write {"$in": [...]} for any of these'),
        ({"data.x": {"$not": [1]}}, 'filter["data.x"]["$not"] is a list'),
        ({"data.x": {"$in": 1}}, 'filter["data.x"]["$in"] is 1: give a list of values'),
        ({"data.x": {"$in": "paid"}}, 'filter["data.x"]["$in"] is "paid": give a list'),
        ({"data.x": {"$in": []}}, 'filter["data.x"]["$in"] is empty, so nothing would ever be sent'),
        ({"$or": []}, 'filter["$or"] is empty, so nothing would ever be sent'),
        ({"$or": {"data.x": 1}}, 'filter["$or"] is an object: give a list of filters'),
        ({"$or": [{}, 1]}, 'filter["$or"][1] is 1: give an object'),
        ({"$not": [{}]}, 'filter["$not"] is a list: give an object'),
        ({"data.x": {"$exists": 1}}, 'filter["data.x"]["$exists"] is 1: give true or false'),
        ({"data.x": {"$gt": None}}, 'filter["data.x"]["$gt"] is null: give a number or a text'),
        ({"data.x": {"$lt": {"a": 1}}}, 'filter["data.x"]["$lt"] is an object: give a number or a text'),
        (
            {"$or": [{}, {"data.total": {"$gt": True}}]},
            'filter["$or"][1]["data.total"]["$gt"] is true: give a number or',
        ),
        ({"data.x": float("nan")}, 'filter["data.x"] is NaN, which JSON lacks: give a number'),
        ({"data.x": {"$gt": float("-inf")}}, 'filter["data.x"]["$gt"] is -Infinity, which JSON lacks'),
        ({"data.x": {"$eq": [0, {"a": float("inf")}]}}, 'filter["data.x"]["$eq"][1]["a"] is Infinity'),
        ({"data.x": 10**400}, 'filter["data.x"] is a number of more than 300 digits: give a shorter one'),
        ({"data.x": {"$exists": 10**9999}}, "is a number of more than 300 digits: give true or false"),
        ({"data.x": Decimal("1.5")}, 'filter["data.x"] is a Decimal: give what JSON has'),
        ({"data.x": {"$gt": START}}, 'filter["data.x"]["$gt"] is a datetime: give a number or a text'),
        ({"data.x": {"$eq": {"a": {1}}}}, 'filter["data.x"]["$eq"]["a"] is a set: give what JSON has'),
        ({"data.x": {"$eq": {None: 1}}}, 'filter["data.x"]["$eq"] has the key null: give a text'),
        ({"data.x": {"$eq": ["\udcff"]}}, 'filter["data.x"]["$eq"][0] has "\\udcff", with NUL or a lone surrogate'),
    ],
)
def test_what_is_wrong_is_named_by_its_place(given_filter: Any, says: str) -> None:
    assert says in refused(given_filter)


def places(given_filter: Any) -> list[tuple[Place, str]]:
    """Every place of a filter, and what stands there."""
    found: list[tuple[Place, str]] = [((), "filter")]
    for key, one in given_filter.items():
        if key == "$or":
            found.append((("$or",), "filters"))
            found += [(("$or", index, *at), kind) for index, each in enumerate(one) for at, kind in places(each)]
        elif key == "$not":
            found += [(("$not", *at), kind) for at, kind in places(one)]
        else:
            found.append(((key,), "path"))
            found += [((key, *at), kind) for at, kind in places_of_condition(one)]
    return found


def places_of_condition(given_condition: Any) -> list[tuple[Place, str]]:
    if not isinstance(given_condition, dict):
        return [((), "condition")]
    found: list[tuple[Place, str]] = [((), "condition")]
    for operator, one in given_condition.items():
        found.append(((operator,), "operator"))
        if operator == "$not":
            found += [((operator, *at), kind) for at, kind in places_of_condition(one)]
        else:
            found.append(((operator,), operator))
            found += [((operator, *at), "value") for at in insides(one) if at or operator in {"$eq", "$ne"}]
    return found


def insides(value: Any) -> list[Place]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *at) for key, one in entries for at in insides(one))]


#: What cannot stand where such a thing stands.
NO_JSON = (b"x", {1}, 1j, float("nan"), 10**400, Decimal(1), "\0", "\ud800", START)
WRONG: dict[str, tuple[Any, ...]] = {
    "filter": (None, True, 1, "x", [{}], NO_JSON[0]),
    "filters": (None, 1, "x", [], {}, {"data.x": 1}),
    "condition": ([], [1], {}, *NO_JSON),
    "$in": (None, 1, "x", [], {}, {"a": 1}),
    "$gt": (None, True, [1], {"a": 1}, *NO_JSON),
    "$lt": (None, False, [], {}, *NO_JSON),
    "$exists": (None, 0, 1, "true", [], {}),
    "$eq": NO_JSON,
    "$ne": NO_JSON,
    "value": NO_JSON,
}
WRONG_KEYS = {
    "path": ("status", "$gt", "$and", "", "data.", "data..x", "date.x"),
    "operator": ("$gte", "$or", "$", "", "id", "$EQ", "$regex"),
}


def with_key(tree: Any, at: Place, key: str) -> Any:
    *above, last = at
    parent = tree
    for step in above:
        parent = parent[step]
    entries = list(parent.items())
    parent.clear()
    parent.update((key if name == last else name, one) for name, one in entries)
    return tree


def with_value(tree: Any, at: Place, value: Any) -> Any:
    if not at:
        return value
    parent = tree
    for step in at[:-1]:
        parent = parent[step]
    parent[at[-1]] = value
    return tree


@settings(deadline=None, max_examples=100)
@given(st.data(), bodies())
def test_a_filter_that_is_broken_at_one_place_is_refused_with_that_place(data: Any, body: dict[str, Any]) -> None:
    good = data.draw(filters_for(body))
    check(good)
    at, kind = data.draw(st.sampled_from(places(good)))
    broken = json.loads(json.dumps(good))
    if kind in WRONG_KEYS:
        key = data.draw(st.sampled_from(WRONG_KEYS[kind]))
        broken, at = with_key(broken, at, key), (*at[:-1], key)
    else:
        broken = with_value(broken, at, data.draw(st.sampled_from(WRONG[kind])))
    place = "".join(f"[{json.dumps(step, ensure_ascii=False)}]" for step in at)
    assert refused(broken).startswith(f"filter{place} ")


# --- how much there may be


def depth(tree: Any) -> int:
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


def at_depth(levels: int, core: Any) -> dict[str, Any]:
    found = core
    for _ in range(levels):
        found = {"$not": found}
    return {**found}


@pytest.mark.parametrize(
    "core",
    [
        {},
        {"data.x": 1},
        {"$or": [{}]},
        {"data.x": {"$in": [1]}},
        {"data.x": {"$eq": []}},
        {"data.x": {"$eq": {}}},
        {"data.x": {"$eq": [[{}]]}},
        {"data.x": {"$not": {"$not": {"$gt": 1}}}},
    ],
)
def test_filters_are_so_deep_and_no_deeper(core: Any) -> None:
    deepest = at_depth(DEEPEST - depth(core), core)
    assert depth(deepest) == DEEPEST
    assert passes(deepest, {}) in (True, False)
    assert f"is nested too deep: {DEEPEST} objects and lists may be inside each other" in refused({"$not": deepest})


@pytest.mark.parametrize(
    "many",
    [
        lambda count: {f"data.x{number}": 1 for number in range(count)},
        lambda count: {f"data.x{number}": None for number in range(count - 2)} | {"data.x": {"$gt": 1, "$lt": 2}},
        lambda count: {"$or": [{}] * count},
        lambda count: {"$or": [{"id": "x"}] * 20, "$not": {f"data.x{number}": 1 for number in range(count - 40)}},
        lambda count: {f"data.x{number}": {"$in": [1, 2]} for number in range(count - 2)} | {"data.x": {"$not": 1}},
    ],
)
def test_conditions_are_so_many_and_no_more(many: Any) -> None:
    assert check(many(MOST))
    assert refused(many(MOST + 1)) == f"filter has more than {MOST} conditions, operators and filters of $or counted"


@pytest.mark.parametrize(
    "many",
    [
        lambda count: {"data.x": {"$in": [1] * count}},
        lambda count: {"data.x": {"$eq": [1] * count}},
        lambda count: {"data.x": {"$ne": {f"{number}": 1 for number in range(count)}}},
        lambda count: {"data.x": {"$in": [[1]] * (count // 2) + [1] * (count % 2)}},
    ],
)
def test_values_are_so_many_and_no_more(many: Any) -> None:
    assert check(many(MOST_VALUES))
    assert "filter has more than 1,000 values in the lists" in refused(many(MOST_VALUES + 1))


def test_a_path_is_so_long_and_no_longer() -> None:
    longest = "data." + "x" * (LONGEST_PATH - 5)
    assert passes({longest: 1}, {"data": {longest[5:]: 1}})
    assert f"has {LONGEST_PATH + 1} characters: a path may have {LONGEST_PATH}" in refused({longest + "y": 1})


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600", '"'])
def test_the_whole_is_so_large_and_no_larger(letter: str) -> None:
    each = len(json.dumps(letter)) - 2
    room, rest = divmod(LARGEST - len('{"data.x":""}'), each)
    largest = {"data.x": letter * room + "y" * rest}
    assert len(written(largest)) == LARGEST
    assert check(largest) == largest
    assert "filter is 16,385 bytes as JSON: an endpoint's may have 16,384" in refused(
        {"data.x": largest["data.x"] + "z"}
    )


def test_an_integer_is_so_long_and_no_longer() -> None:
    assert passes({"data.x": {"$lt": 2**1000 - 1}}, {"data": {"x": 2**1000 - 2}})
    refused({"data.x": 2**1000})
    refused({"data.x": -(2**1000)})


def test_what_is_inside_itself_or_has_many_places_comes_to_an_end() -> None:
    filter_: dict[str, Any] = {}
    filter_["$not"] = filter_
    assert "is nested too deep" in refused(filter_)
    filter_ = {}
    filter_["$or"] = [filter_] * 10
    assert "is nested too deep" in refused(filter_)
    values: list[Any] = []
    values += [values] * 10
    assert "is nested too deep" in refused({"data.x": {"$eq": values}})
    many: Any = [1]
    for _ in range(10):
        many = [many] * 1000
    assert "more than 1,000 values" in refused({"data.x": {"$eq": many}})
    ors: Any = {}
    for _ in range(5):
        ors = {"$or": [ors] * 1000}
    assert "more than 100 conditions" in refused(ors)


def test_a_message_is_short_whatever_was_given() -> None:
    long = "x" * 1_000_000
    for given_filter in (long, {long: 1}, {"$" + long: 1}, {"data.x": {"$" + long: 1}}, {"data.x": {"$in": long}}):
        assert len(refused(given_filter)) < 1000
    assert len(refused({"data.x": {long: 1}})) < 1000


@pytest.mark.parametrize(("digits", "is_one"), [(990, True), (1001, False)])
def test_a_number_of_a_thousand_digits_is_one(digits: int, *, is_one: bool) -> None:
    for value in ("1" * digits, 10 ** (digits - 1)):
        assert passes({"data.x": {"$gt": 1}}, {"data": {"x": value}}) is is_one
        assert passes({"data.x": {"$ne": 1}}, {"data": {"x": value}})
