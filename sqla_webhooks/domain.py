"""
Domain events: what happens that is more than a row's change, such as `payment.captured`. Their types. Pure.

They are declared, as `install(domain_events={...})` or with a transition, so
that a subscription that can match nothing is known from one that can.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.subscriptions import check_type

_EXAMPLE = 'domain_events={"payment.captured": Payment, "backup.failed": None}'


def check(given: object) -> Mapping[str, type | None]:
    """
    What `install(domain_events=...)` was given, as a value that nobody changes later.

    Raises:
        ConfigurationError: It is no mapping of types to classes, or one of its types cannot be.
    """
    if not isinstance(given, Mapping):
        message = f"domain_events is {given!r}: give a dict of types and the classes they are about, as in {_EXAMPLE}"
        raise ConfigurationError(message)
    for type_, model in given.items():
        check_type(type_, "domain_events")
        if model is not None and not isinstance(model, type):
            message = f"domain_events has {type_!r}: {model!r}: give a mapped class, or None, as in {_EXAMPLE}"
            raise ConfigurationError(message)
    return MappingProxyType(dict(given))


class Domain:
    """
    The domain events of one installation: each type to the mapped class that it is about, or to None.

    Safe for any thread: all that is declared is one value, replaced as a whole.

    Args:
        declared: What `install()` was told of.
    """

    def __init__(self, declared: Mapping[str, type | None]) -> None:
        self._about: Mapping[str, type | None] = dict(declared)

    def __iter__(self) -> Iterator[str]:
        return iter(self._about)

    def __len__(self) -> int:
        return len(self._about)

    def __contains__(self, type_: object) -> bool:
        return type_ in self._about

    def declare(self, type_: str, model: type[Any]) -> None:
        """
        Add a type, which is about *model*; one that is declared to be about no class may be about any.

        Raises:
            ConfigurationError: It cannot be one, or is about another class.
        """
        check_type(type_, "webhooks.event()")
        about = self._about.get(type_, model)
        if about is not None and about is not model:
            message = (
                f"{type_!r} is about {about.__qualname__}, and cannot be about {model.__qualname__} too: give the "
                "event of the other class another type, for whoever gets it must know what it is about"
            )
            raise ConfigurationError(message)
        self._about = {**self._about, type_: about}

    def about(self, type_: object) -> type | None:
        """
        The class that a declared type is about; None if it is about none in particular.

        Raises:
            ConfigurationError: It is not declared; the message says what to write.
        """
        if isinstance(type_, str) and type_ in self._about:
            return self._about[type_]
        check_type(type_, "emit()")
        close = difflib.get_close_matches(str(type_), self._about, n=1)
        hint = f"did you mean {close[0]!r}? Or write" if close else "write"
        message = (
            f"{type_!r} is no event that was declared, so nobody can have subscribed to it: {hint} "
            f"install(..., domain_events={{{type_!r}: ...}}), with the mapped class that it is about, or None"
        )
        raise ConfigurationError(message)
