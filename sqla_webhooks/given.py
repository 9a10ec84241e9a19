"""What people say of an endpoint, checked before anything is written; each check raises what the message explains."""

from __future__ import annotations

from typing import Any

from sqla_webhooks.asked import NO_TEXT
from sqla_webhooks.errors import ConfigurationError, EndpointError

#: Characters: MariaDB's TEXT ends at 64 KiB, which its letters may fill four bytes each.
LONGEST_DESCRIPTION = 10_000

#: One request in some 28 hours; and more than any relay sends.
_SLOWEST, _FASTEST = 0.00001, 1_000_000

#: Seconds for which an old secret may stay valid: what is more was meant as something else, such as milliseconds.
LONGEST_OVERLAP = 30 * 86400.0


def check_description(given: Any) -> None:
    if not isinstance(given, str):
        message = f"description is {given!r}: give a text"
        raise ConfigurationError(message)
    problem = ""
    if len(given) > LONGEST_DESCRIPTION:
        problem = f"has {len(given):,} characters: {LONGEST_DESCRIPTION:,} are allowed"
    elif NO_TEXT.search(given):
        problem = "has NUL or a lone surrogate in it, which no database takes: leave it out"
    if problem:
        message = f"description {problem}"
        raise EndpointError(message)


def check_ordering(given: Any) -> None:
    if not isinstance(given, bool):
        message = f"ordering is {given!r}: give True or False"
        raise ConfigurationError(message)


def check_rate_limit(given: Any) -> float | None:
    if given is not None and not (_is_number(given) and _SLOWEST <= given <= _FASTEST):
        message = f"rate_limit is {given!r}: give requests a second, from {_SLOWEST} to {_FASTEST:,}, such as 10 or 0.5"
        raise EndpointError(message)
    return None if given is None else float(given)


def check_overlap(given: Any) -> float:
    if not (_is_number(given) and 0 <= given <= LONGEST_OVERLAP):
        message = (
            f"overlap is {given!r}: give the seconds for which older secrets stay valid, from 0, if one has become "
            f"known, to {LONGEST_OVERLAP:,.0f}, which are 30 days"
        )
        raise EndpointError(message)
    return float(given)


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)
