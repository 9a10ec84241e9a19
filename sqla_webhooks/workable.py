"""
Whether the value of a setting can work. Pure.

Each check raises `ConfigurationError`, and says what to write instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from sqla_webhooks._clock import Clock
from sqla_webhooks.encoding import JSON_TYPES, Encoders
from sqla_webhooks.errors import ConfigurationError


def several(settings: object, name: str) -> tuple[Any, ...]:
    given = getattr(settings, name)
    if isinstance(given, str) or not isinstance(given, Collection):
        message = f"{name} is {given!r}: give a list, as in {name}=[{given!r}]"
        raise ConfigurationError(message)
    return tuple(given)


def names(given: object) -> Mapping[Any, str]:
    if not isinstance(given, Mapping):
        message = f'names is {given!r}: give a dict, as in names={{Order: "purchase_order"}}'
        raise ConfigurationError(message)
    return MappingProxyType(dict(given))  # which nobody changes later


def encoders(given: object) -> Encoders:
    if not isinstance(given, Mapping):
        message = f"encoders is {given!r}: give a dict of classes and functions, like {_ENCODERS}"
        raise ConfigurationError(message)
    for kind, encoder in given.items():
        if not isinstance(kind, type) or not callable(encoder):
            message = f"encoders has {kind!r}: {encoder!r}: give classes and functions, like {_ENCODERS}"
            raise ConfigurationError(message)
        if kind is object or kind in JSON_TYPES:
            what = "the base of every class" if kind is object else "what JSON has itself"
            message = f"encoders has {kind.__qualname__}, which is {what}: give encoders to classes of your own"
            raise ConfigurationError(message)
    return MappingProxyType(dict(given))


_ENCODERS = "{Money: lambda money: str(money.amount)}"


def check_choice(settings: object, name: str, *choices: str) -> None:
    value = getattr(settings, name)
    if value not in choices:
        message = f"{name} is {value!r}: write {' or '.join(map(repr, choices))}"
        raise ConfigurationError(message)


def check_function(settings: object, name: str) -> None:
    value = getattr(settings, name)
    if value is not None and (not callable(value) or isinstance(value, type) or inspect.iscoroutinefunction(value)):
        message = f"{name} is {value!r}: give a plain function, which is called in a plain thread, or None"
        raise ConfigurationError(message)


def check_tenant(given: object) -> None:
    if given is None or (callable(given) and not inspect.iscoroutinefunction(given)):
        return
    what = f"{given!r}, which is async and runs in a plain thread" if callable(given) else repr(given)
    message = f"tenant is {what}: give a plain function that tells whose a row is, such as lambda row: row.account_id"
    raise ConfigurationError(message)


def check_clock(clock: Clock) -> None:
    if not all(callable(getattr(clock, name, None)) for name in ("now", "monotonic", "wait")):
        message = f"clock is {clock!r}: give an object with now(), monotonic() and wait(event, seconds)"
        raise ConfigurationError(message)
    if clock.now().utcoffset() != timedelta(0):
        message = f"clock is {clock!r}, whose now() is not an aware datetime in UTC: datetime.now(UTC) is one"
        raise ConfigurationError(message)


def check_number(
    settings: object,
    name: str,
    lowest: float,
    *,
    highest: float = float("inf"),
    whole: bool = False,
    may_be_none: bool = False,
) -> None:
    value = getattr(settings, name)
    kind = int if whole else (int, float)
    if may_be_none and value is None:
        return
    what = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value < float("inf"):
        message = f"{name} is {value!r}: give {what} of at least {lowest}"
        raise ConfigurationError(message)
    if value > highest:
        message = f"{name} is {value!r}: give {what} of at most {highest}"
        raise ConfigurationError(message)
