"""
What the application says of the circumstances of its changes: who makes them, and for which request. Pure.

It is said for a block of code, and recorded with what is flushed in it, in its
thread or task. So a session that is flushed later, when the block is over, has
another context, or none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqla_webhooks import encoding
from sqla_webhooks.asked import NO_TEXT
from sqla_webhooks.errors import ConfigurationError

#: Names in one context, and the bytes of it: it stands in every outbox row and with every event.
MOST_NAMES, MOST_BYTES = 20, 4096

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: An integer that every database and every reader of JSON takes.
_WIDEST = 2**63


@dataclass(frozen=True, slots=True)
class _Said:
    values: Mapping[str, Any]
    #: The same as JSON, as it stands in the outbox.
    text: str


class Circumstances:
    """What one installation's application says of its circumstances, in each thread and each task by itself."""

    def __init__(self) -> None:
        # In an instance: installations know nothing of each other. Its contexts hold on to it, and are as few.
        self._said: ContextVar[_Said | None] = ContextVar("sqla_webhooks.context", default=None)

    @property
    def text(self) -> str | None:
        """What is said here and now, as JSON; None for nothing."""
        said = self._said.get()
        return None if said is None else said.text

    @contextmanager
    def say(self, values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """
        For the block, say *values* beside what is said around it; the inner wins.

        Raises:
            ConfigurationError: It cannot be written, or is too much; or the block ends in another task than it began.
        """
        around = self._said.get()
        said = _checked(values if around is None else {**around.values, **values})
        token = self._said.set(said)
        try:
            yield said.values
        finally:
            try:
                self._said.reset(token)
            except ValueError as error:
                raise ConfigurationError(_ELSEWHERE) from error


_ELSEWHERE = (
    "the block of webhooks.context() ended in another thread or task than it began, so it has counted for nothing "
    "between: open it where the changes are flushed, as in a middleware or an async dependency"
)


def check_names(given: Iterable[Any]) -> tuple[str, ...]:
    """
    The names in `send_context`.

    Raises:
        ConfigurationError: One can be in no context.
    """
    names = tuple(given)
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            message = f"send_context has {name!r}: give names as webhooks.context() has them, such as 'request_id'"
            raise ConfigurationError(message)
    return names


def sent(context: Mapping[str, Any] | None, names: Collection[str]) -> dict[str, Any] | None:
    """What of *context* is sent, in its own order; None if it is nothing."""
    return {name: value for name, value in (context or {}).items() if name in names} or None


def _checked(values: Mapping[str, Any]) -> _Said:
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            _refuse(f"has {name!r}", "names are of letters of ASCII, digits and _, and begin with no digit")
        if not _is_plain(value):
            what = f"{name} is a {type(value).__name__}" if value is not None else name
            _refuse(f"cannot have this: {what}", _PLAIN)
    if len(values) > MOST_NAMES:
        _refuse(f"has {len(values)} names", f"{MOST_NAMES} are allowed")
    text = encoding.dumps(values).decode()
    if len(text.encode()) > MOST_BYTES:
        _refuse(f"has {len(text.encode()):,} bytes", f"{MOST_BYTES:,} are allowed: say what identifies, and no more")
    return _Said(MappingProxyType(dict(values)), text)


_PLAIN = (
    "give texts without NUL and lone surrogates, whole numbers of 64 bits, finite numbers, True, False or None; of "
    "anything else its id, as in actor=user.id"
)


def _is_plain(value: Any) -> bool:
    """Whether every database and every reader of JSON takes it. Enums and the like are left to whoever says them."""
    if value is None or type(value) is bool:
        return True
    if type(value) is str:
        return NO_TEXT.search(value) is None
    if type(value) is int:
        return -_WIDEST <= value < _WIDEST
    return type(value) is float and math.isfinite(value)


def _refuse(what: str, instead: str) -> None:
    message = f"webhooks.context() {what}: {instead}"
    raise ConfigurationError(message)
