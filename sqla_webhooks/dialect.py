"""
What a dialect is: a body, headers and a signature that one kind of receiver knows. Pure.

Those that are there already stand in `delivery.dialects`; an application may
have others: `install(dialects=[...])`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event

_NAME = re.compile(r"[a-z0-9-]{1,32}")
_METHODS = ("check_secret", "body", "headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """
    One request, ready to be signed.

    Attributes:
        id: What its receiver knows it by, the same for every attempt: the event's id, or one made of the ids of a
            batch's events.
        endpoint_id: `ep_…`.
        events: In the order of the body. Empty where a standard body is sent as it was stored, which only the standard
            dialect sees.
        body: The very bytes that are sent. Not in a repr.
        batch: Whether the body is an array.
        secrets: Those valid now, the newest first, at least one. Not in a repr.
        now: When the attempt starts, in UTC.
    """

    id: str
    endpoint_id: str
    events: tuple[Event, ...]
    body: bytes = field(repr=False)
    batch: bool
    secrets: tuple[str, ...] = field(repr=False)
    now: datetime

    @property
    def event(self) -> Event:
        """
        The only one.

        Raises:
            ValueError: There are several, or none.
        """
        (only,) = self.events
        return only


class Dialect(Protocol):
    """
    How the events of an endpoint are written and signed.

    An object without state: one serves all endpoints, and is called in any
    thread, the relay's above all, while no transaction of ours is open. The
    `body` and the `headers` of one event must be the same whenever they are
    made, but for what is the attempt's: its time and its signature.
    """

    @property
    def name(self) -> str:
        """What endpoints call it by: lower-case letters, digits and `-`, 32 at the most."""

    @property
    def batches(self) -> bool:
        """Whether several bodies may go in one request, as a JSON array."""

    def check_secret(self, secret: str) -> str:
        """
        The secret, if requests can be signed with it.

        Raises:
            ConfigurationError: They cannot. The message must not repeat it: it is shown, and logged.
        """

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        """
        The bytes of one event.

        Args:
            event: Its values are to be passed on as they are, and not to be changed.
            dumps: Writes any value as compact JSON in UTF-8, as the installation's encoders have it. Never raises.
        """

    def headers(self, post: Post) -> Mapping[str, str]:
        """
        Those of one attempt, `Content-Type` and the signature among them.

        Names are tokens, values printable ASCII. `User-Agent` and
        `Accept-Encoding` are ours; what frames the request is nobody's. What
        is raised here, or cannot be sent, is logged, and the attempt has failed.
        """


def checked(given: Iterable[object]) -> tuple[Dialect, ...]:
    """
    The dialects, if each is one and no two have one name.

    Raises:
        ConfigurationError: One is none; the message says what it lacks.
    """
    dialects = tuple(map(_checked, given))
    names = [one.name for one in dialects]
    for name in names:
        if names.count(name) > 1:
            message = f"dialects has {names.count(name)} that are called {name!r}: give each a name of its own"
            raise ConfigurationError(message)
    return dialects


def _checked(given: Any) -> Dialect:
    if isinstance(given, type):
        message = f"dialects has the class {given.__qualname__}: give an object of it, as in [{given.__name__}()]"
        raise ConfigurationError(message)
    missing = [name for name in _METHODS if not callable(getattr(given, name, None))]
    if missing:
        message = f"dialects has {given!r}, which has no {missing[0]}(): see sqla_webhooks.Dialect for what one has"
        raise ConfigurationError(message)
    name = getattr(given, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"dialects has {given!r}, whose name is {name!r}: write lower-case letters, digits and -, 32 at most"
        raise ConfigurationError(message)
    if not isinstance(batches := getattr(given, "batches", None), bool):
        message = f"dialects has {given!r}, whose batches is {batches!r}: write True or False"
        raise ConfigurationError(message)
    dialect: Dialect = given
    return dialect
