"""
Which events an endpoint gets beyond its patterns: a small JSON object, held against their bodies. Pure.

    {"operation": "update", "changes.status.to": "paid", "data.total": {"$gt": 100}}

| part of a filter     | holds if                                                         |
| -------------------- | ---------------------------------------------------------------- |
| path: condition      | what stands there fulfils it; `conditions` has what may be asked |
| "$or": [filter, ...] | any of the filters holds                                         |
| "$not": filter       | the filter does not                                              |

All parts must hold; {} lets everything through.

A path is keys joined by dots, and a number counts the members of a list, from
0: `data.lines.0.sku`. A key that is empty or has a dot in it cannot be named.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeAlias

from sqla_webhooks import conditions
from sqla_webhooks.conditions import MISSING, Test, hold
from sqla_webhooks.errors import InvalidFilter

#: What a path may begin with: the keys of the standard body.
KEYS = (
    *("type", "timestamp", "id", "resource", "resource_id", "operation"),
    *("data", "changes", "links", "context", "truncated"),
)

#: Objects and lists inside each other; operators, plain values, and filters of an `$or`; values in the lists and
#: objects that are compared with; characters of a path; bytes of the whole, as it is written.
DEEPEST, MOST, MOST_VALUES, LONGEST_PATH, LARGEST = 16, 100, 1000, 200, 16_384

_OR, _NOT = "$or", "$not"
# What no database takes in a text.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
#: Of an integer in a filter: some 300 digits.
_MOST_BITS = 1000

#: A key, and the index that it is in a list, if it is one.
_Step: TypeAlias = tuple[str, int | None]
#: The way to a place in a filter.
_At: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter made ready to be held against many bodies, in any thread."""

    tests: tuple[Test, ...]

    @classmethod
    def of(cls, checked: Mapping[str, Any]) -> Filter:
        """Make ready what `check` or `read` has given."""
        return cls(tuple(_part(key, given) for key, given in checked.items()))

    def match(self, body: dict[str, Any]) -> bool:
        """
        Whether an event passes. Never raises; what it costs is bounded by the filter, however large the body is.

        Args:
            body: The event's standard body, of JSON's own types.
        """
        return hold(self.tests, body)


def _part(key: str, given: Any) -> Test:
    if key == _OR:
        return partial(_any_matches, tuple(Filter.of(one) for one in given))
    if key == _NOT:
        return partial(_no_match, Filter.of(given))
    steps = tuple((part, int(part) if _is_index(part) else None) for part in key.split("."))
    return partial(_holds_at, steps, conditions.ready(given))


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")


def _any_matches(filters: tuple[Filter, ...], body: Any) -> bool:
    return any(one.match(body) for one in filters)


def _no_match(one: Filter, body: Any) -> bool:
    return not one.match(body)


def _holds_at(steps: tuple[_Step, ...], tests: tuple[Test, ...], body: Any) -> bool:
    value = body
    for key, index in steps:
        if type(value) is dict:
            value = value.get(key, MISSING)
        elif type(value) is list and index is not None and index < len(value):
            value = value[index]
        else:
            value = MISSING
    return hold(tests, value)


def check(given: object) -> dict[str, Any]:
    """
    The filter as plain JSON values, if it is one.

    Raises:
        InvalidFilter: The message says which place of it, which rule, and what to write instead.
    """
    checked = _Check().filter_at((), given)
    if (size := len(written(checked))) > LARGEST:
        _refuse((), f"is {size:,} bytes as JSON: an endpoint's may have {LARGEST:,}")
    return checked


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What a filter asks of one path.

    Attributes:
        place: Where in the filter, for people.
        values: With what it compares whole: of `$eq`, `$ne` and `$in`.
    """

    path: str
    place: str
    values: tuple[Any, ...]


def asked(checked: Mapping[str, Any], at: _At = ()) -> Iterator[Asked]:
    """What one that `check` or `read` has given asks, path by path."""
    for key, given in checked.items():
        if key == _OR:
            for index, one in enumerate(given):
                yield from asked(one, (*at, key, index))
        elif key == _NOT:
            yield from asked(given, (*at, key))
        else:
            yield Asked(key, _place((*at, key)), tuple(conditions.compared(given)))


def written(checked: Mapping[str, Any]) -> str:
    """As text, to be stored: ASCII, which every database takes."""
    return json.dumps(checked, separators=(",", ":"))


def read(text: str) -> dict[str, Any]:
    """
    What `written` made, checked again: somebody may have been at the table.

    Raises:
        InvalidFilter: It is something else, or would be refused today.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        message = "the filter of the endpoint is no longer what was written: update(filter={...}) writes it anew"
        raise InvalidFilter(message)
    return check(found)


class _Check:
    """Goes through one filter and makes a copy; counts on the way, so that what is endless has an end."""

    def __init__(self) -> None:
        self._conditions = 0
        self._values = 0

    def filter_at(self, at: _At, given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            _refuse(at, f'is {_shown(given)}: give an object, such as {{"operation": "update"}}')
        return {key: self._clause((*at, key), one) for key, one in _entries(at, given)}

    def _clause(self, at: _At, given: Any) -> Any:
        if at[-1] == _NOT:
            return self.filter_at(at, given)
        if at[-1] != _OR:
            _check_path(at)
            return self._condition(at, given)
        filters = []
        for index, one in enumerate(_members(at, given, "filters, of which any may hold")):
            self._count_condition()
            filters.append(self.filter_at((*at, index), one))
        return filters

    def _condition(self, at: _At, given: Any) -> Any:
        if isinstance(given, list | tuple):
            _refuse(at, 'is a list: write {"$in": [...]} for any of these, {"$eq": [...]} for the whole list')
        if not isinstance(given, Mapping):
            self._count_condition()
            return self._value(at, given)
        if not given:
            _refuse(at, 'is empty: give a value, or operators such as {"$gt": 100}')
        return {operator: self._operand((*at, operator), one) for operator, one in _entries(at, given)}

    def _operand(self, at: _At, given: Any) -> Any:
        _check_operator(at)
        self._count_condition()
        match at[-1]:
            case "$not":
                return self._condition(at, given)
            case "$in":
                members = _members(at, given, "values, of which any may be the one")
                return [self._counted((*at, index), one) for index, one in enumerate(members)]
            case "$exists" if not isinstance(given, bool):
                _refuse(at, f"is {_shown(given)}: give true or false")
            case "$gt" | "$lt" if isinstance(given, bool) or not isinstance(given, int | float | str):
                _refuse(at, f"is {_shown(given)}: give a number or a text")
        return self._value(at, given)

    def _value(self, at: _At, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {key: self._counted((*at, key), one) for key, one in _entries(at, given)}
        if isinstance(given, list | tuple):
            _check_depth(at)
            return [self._counted((*at, index), one) for index, one in enumerate(given)]
        return _scalar(at, given)

    def _counted(self, at: _At, given: Any) -> Any:
        self._values += 1
        if self._values > MOST_VALUES:
            _refuse((), f"has more than {MOST_VALUES:,} values in the lists and objects that it compares with")
        return self._value(at, given)

    def _count_condition(self) -> None:
        self._conditions += 1
        if self._conditions > MOST:
            _refuse((), f"has more than {MOST} conditions, operators and filters of $or counted")


def _entries(at: _At, given: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of an object, each with its key as a plain text."""
    _check_depth(at)
    for key, one in given.items():
        if not isinstance(key, str):
            _refuse(at, f"has the key {_shown(key)}: give a text")
        yield _scalar(at, key), one


def _members(at: _At, given: Any, what: str) -> Sequence[Any]:
    if not isinstance(given, list | tuple):
        _refuse(at, f"is {_shown(given)}: give a list of {what}")
    if not given:
        _refuse(at, f"is empty, so nothing would ever be sent: give {what}")
    _check_depth(at)
    return given


def _scalar(at: _At, given: Any) -> Any:
    """What JSON has itself, of no class of anybody's: a member of an enum may be a text, or a number."""
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, str):
        if _NO_TEXT.search(given):
            _refuse(at, f"has {_shown(given)}, with NUL or a lone surrogate in it, which no database takes")
        return str.__str__(given)
    if isinstance(given, int):
        if given.bit_length() > _MOST_BITS:
            _refuse(at, f"is {_shown(given)}: give a shorter one")
        return int.__int__(given)
    if not isinstance(given, float):
        _refuse(at, f"is {_shown(given)}: give what JSON has, such as a number or a text")
    if given - given != 0:
        _refuse(at, f"is {_shown(given)}, which JSON lacks: give a number")
    return float.__float__(given)


def _check_depth(at: _At) -> None:
    if len(at) >= DEEPEST:
        _refuse(at, f"is nested too deep: {DEEPEST} objects and lists may be inside each other")


def _check_path(at: _At) -> None:
    path = str(at[-1])
    if path.startswith("$"):
        inside = ": it stands in a condition, as in {path: {operator: value}}" if path in conditions.OPERATORS else ""
        _refuse_word(at, f"is no operator beside paths{inside}", path, known=(_OR, _NOT))
    if len(path) > LONGEST_PATH:
        _refuse(at, f"has {len(path):,} characters: a path may have {LONGEST_PATH}")
    first, *others = path.split(".")
    if not all([first, *others]):
        _refuse(at, 'has an empty part: a path is keys joined by dots, such as "data.total"')
    if first not in KEYS:
        close = next(iter(difflib.get_close_matches(first.lower(), KEYS, n=1)), "")
        instead = ".".join([close, *others]) if close else f"data.{path}"
        _refuse(at, f'leads nowhere: did you mean "{instead}"? A path begins with one of {", ".join(KEYS)}')


def _check_operator(at: _At) -> None:
    operator = str(at[-1])
    if operator in conditions.OPERATORS:
        return
    if operator.startswith("$"):
        beside = ": it stands beside paths, and takes a list of filters" if operator == _OR else ""
        _refuse_word(at, f"is no operator of a condition{beside}", operator, known=conditions.OPERATORS)
    path = next(step for step in reversed(at[:-1]) if not str(step).startswith("$"))
    inside = _shown(f"{path}.{operator}")
    _refuse(at, f'is no operator: write the path {inside}, or {{"$eq": {{...}}}} to compare with an object')


def _refuse_word(at: _At, why: str, word: str, *, known: Collection[str]) -> NoReturn:
    close = next(iter(difflib.get_close_matches(word.lower(), known, n=1)), "")
    hint = f"did you mean {close}? " if close else ""
    _refuse(at, f"{why}; {hint}Known: {', '.join(known)}")


def _refuse(at: _At, problem: str) -> NoReturn:
    message = f"{_place(at)} {problem}"
    raise InvalidFilter(message)


def _place(at: _At) -> str:
    return "".join(("filter", *(f"[{_shown(step)}]" for step in at)))


def _shown(given: Any) -> str:
    """As JSON, as far as it is that and short."""
    if isinstance(given, str):
        short = given if len(given) <= LONGEST_PATH else f"{given[:LONGEST_PATH]}…"
        return json.dumps(short, ensure_ascii=_NO_TEXT.search(short) is not None)
    if isinstance(given, int) and given.bit_length() > _MOST_BITS:
        return "a number of more than 300 digits"
    if given is None or isinstance(given, int | float):
        return json.dumps(given)
    if isinstance(given, Mapping | list | tuple):
        return "an object" if isinstance(given, Mapping) else "a list"
    return f"a {type(given).__name__}"
