"""What people ask of what is kept, checked before anything is looked for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from datetime import datetime
from typing import Literal, TypeAlias

from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.errors import ConfigurationError, NotFound

#: As `DeliveryState`, or in a word.
State: TypeAlias = DeliveryState | Literal["pending", "delivered", "dead", "held", "cancelled"]
Unfinished: TypeAlias = DeliveryState | Literal["pending", "held", "dead"]

#: What no database takes in a text.
NO_TEXT = re.compile("[\0\ud800-\udfff]")

#: More rows than anybody can want at once, and few enough for every database's LIMIT.
_MOST = 2**31 - 1

_EXAMPLES = {"event": "evt_…", "endpoint": "ep_…", "type": "order.created"}


def state_of(given: object, among: Collection[DeliveryState] = tuple(DeliveryState)) -> DeliveryState:
    """
    A state, in whatever form it was given.

    Raises:
        ConfigurationError: As for all checks here: the message says what to write instead.
    """
    for state in among:
        if given == state:
            return state
    message = f"state is {given!r}: the states are {', '.join(among)}"
    raise ConfigurationError(message)


def check_number(given: object) -> None:
    if not isinstance(given, int) or isinstance(given, bool):
        message = f"a delivery is named by its number, not by {_kind(given)}: write delivery.id"
        raise ConfigurationError(message)
    if not 0 <= given < 2**63:  # of which some databases make an error
        message = f"no delivery has the number {given}"
        raise NotFound(message)


def check_event_id(given: object) -> None:
    if not isinstance(given, str):
        message = f"an event is named by its id, a text like 'evt_…', not by {_kind(given)}"
        raise ConfigurationError(message)
    check_may_exist(given, "event")


def check_endpoint_id(given: object) -> None:
    if not isinstance(given, str):
        hint = ": write endpoint.id" if isinstance(given, Endpoint) else ""
        message = f"an endpoint is named by its id, a text like 'ep_…', not by {_kind(given)}{hint}"
        raise ConfigurationError(message)
    check_may_exist(given, "endpoint")


def check_may_exist(given: str, what: str) -> None:
    """Raises `NotFound` for an id that no database takes."""
    if NO_TEXT.search(given):
        message = f"no {what} has the id {given!r}"
        raise NotFound(message)


def check_limit(given: object) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _MOST:
        message = f"limit is {given!r}: give a whole number from 1 to {_MOST}"
        raise ConfigurationError(message)


def check_texts(**texts: object) -> None:
    """Texts by their arguments' names; None where none was given."""
    for name, given in texts.items():
        if given is not None and not isinstance(given, str):
            message = f"{name} is {_kind(given)}: give a text like {_EXAMPLES[name]!r}"
            raise ConfigurationError(message)
        if given is not None and NO_TEXT.search(given):
            message = f"{name} is {given!r}: there can be none, for no database takes such text"
            raise NotFound(message)
        if name == "type" and given is not None and "*" in given:
            message = (
                f"type is {given!r}: give one type in full, such as {_EXAMPLES[name]!r}; patterns are what endpoints "
                "subscribe to"
            )
            raise ConfigurationError(message)


def check_times(**times: object) -> None:
    """Instants by their arguments' names; None where none was given."""
    for name, given in times.items():
        if given is not None and (not isinstance(given, datetime) or given.utcoffset() is None):
            message = f"{name} is {_kind(given)}: give a datetime with a time zone, such as datetime.now(UTC)"
            raise ConfigurationError(message)


def _kind(given: object) -> str:
    """Short: the repr of a value of ours is not."""
    return type(given).__name__ if dataclasses.is_dataclass(given) else f"{type(given).__name__} {given!r}"
