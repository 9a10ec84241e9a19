"""
What a filter may ask of one value of a body. Pure.

| condition                   | holds if the value                                                    |
| --------------------------- | --------------------------------------------------------------------- |
| a value, or {"$eq": value}  | is equal to it                                                        |
| {"$ne": value}              | is not, or is missing                                                 |
| {"$in": [value, ...]}       | is equal to any of them                                               |
| {"$gt": value}, {"$lt": …}  | is greater, or less; what cannot be compared is neither               |
| {"$exists": true or false}  | is there, or is missing; null is there                                |
| {"$not": condition}         | does not fulfil the condition, be it that it is missing               |

Of several operators in one object, all must hold.

Equal are values of one kind: true is not 1, null is not missing, lists and
objects are compared whole. Numbers are compared as decimals, so 1 is 1.0, and
0.1 is what it reads as. A number of a filter also meets a text that is written
as a number, since a body has decimals as texts: 99.5 is "99.50". A text of a
filter meets texts only, and is compared by its characters, as dates and
instants can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

#: What stands at a path where nothing does.
MISSING = object()

#: Says of a value whether something holds.
Test: TypeAlias = Callable[[Any], bool]

# A number as JSON writes it, by RFC 8259, section 6: what Decimal writes is that too, and "007" and "1_000" are not.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
#: Characters of a text, and bits of an integer, that are taken for a number: some 1,000 digits. No filter has as many,
#: and what has more would take long to read.
_LONGEST_NUMBER, _MOST_BITS = 1000, 3300


def ready(condition: Any) -> tuple[Test, ...]:
    """
    The tests that all must hold of a value, made ready to be asked often.

    They take any value, `MISSING` too, and never raise: what JSON has not is
    equal to nothing.

    Args:
        condition: One that `filters.check` has found to be right.
    """
    operators = condition if isinstance(condition, dict) else {"$eq": condition}
    return tuple(partial(_TESTS[operator], _operand(operator, given)) for operator, given in operators.items())


def compared(condition: Any) -> Iterator[Any]:
    """With what a condition that is right compares a value whole."""
    for operator, given in (condition if isinstance(condition, dict) else {"$eq": condition}).items():
        match operator:
            case "$eq" | "$ne":
                yield given
            case "$in":
                yield from given
            case "$not":
                yield from compared(given)


def hold(tests: tuple[Test, ...], value: Any) -> bool:
    """Whether all of them hold of *value*."""
    for test in tests:  # noqa: SIM110  # all() takes twice as long, for every event and endpoint
        if not test(value):
            return False
    return True


def _operand(operator: str, given: Any) -> Any:
    if operator == "$not":
        return ready(given)
    return _Choice.of(given) if operator == "$in" else _decimals(given)


def _decimals(given: Any) -> Any:
    """*given* with decimals for its numbers."""
    if isinstance(given, list):
        return [_decimals(one) for one in given]
    if isinstance(given, dict):
        return {key: _decimals(one) for key, one in given.items()}
    return given if given is None or isinstance(given, str | bool) else _number(given)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The values of an `$in`: to look among a thousand texts or numbers costs what it costs among two."""

    texts: frozenset[str]
    numbers: frozenset[Decimal]
    others: tuple[Any, ...]

    @classmethod
    def of(cls, given: Collection[Any]) -> _Choice:
        values = [_decimals(one) for one in given]
        texts = frozenset(one for one in values if isinstance(one, str))
        numbers = frozenset(one for one in values if isinstance(one, Decimal))
        return cls(texts, numbers, tuple(one for one in values if not isinstance(one, str | Decimal)))


def _equal(operand: Any, value: Any) -> bool:
    kind = type(operand)
    if kind is Decimal:
        return bool(_number(value) == operand)
    if kind is not type(value):
        return False
    if kind is list:
        return len(operand) == len(value) and all(map(_equal, operand, value))
    if kind is dict:
        return operand.keys() == value.keys() and all(_equal(one, value[key]) for key, one in operand.items())
    return bool(operand == value)


def _unequal(operand: Any, value: Any) -> bool:
    return not _equal(operand, value)


def _among(choice: _Choice, value: Any) -> bool:
    if type(value) is str and value in choice.texts:
        return True
    if choice.numbers and _number(value) in choice.numbers:
        return True
    return any(_equal(one, value) for one in choice.others)


def _greater(operand: Any, value: Any) -> bool:
    comparable = _comparable(operand, value)
    return comparable is not None and bool(comparable > operand)


def _less(operand: Any, value: Any) -> bool:
    comparable = _comparable(operand, value)
    return comparable is not None and bool(comparable < operand)


def _comparable(operand: Any, value: Any) -> Any:
    """*value* as what *operand* is, a number or a text; None if it is no such thing."""
    if type(operand) is Decimal:
        return _number(value)
    return value if type(value) is str else None


def _exists(operand: bool, value: Any) -> bool:  # noqa: FBT001  # as all tests
    return (value is not MISSING) is operand


def _fails(tests: tuple[Test, ...], value: Any) -> bool:
    return not hold(tests, value)


_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": _unequal,
    "$in": _among,
    "$gt": _greater,
    "$lt": _less,
    "$exists": _exists,
    "$not": _fails,
}

#: Their names.
OPERATORS = tuple(_TESTS)


def _number(value: Any) -> Decimal | None:
    """The number that *value* is, or is the text of."""
    kind = type(value)
    if kind is int:
        return Decimal(value) if value.bit_length() <= _MOST_BITS else None
    if kind is float:
        return Decimal(repr(value)) if value - value == 0 else None
    if kind is not str or len(value) > _LONGEST_NUMBER or _NUMBER.fullmatch(value) is None:
        return None
    try:
        return Decimal(value)
    except ArithmeticError:  # an exponent beyond those of decimals
        return None
