"""What people say of an endpoint, checked before anything is written; each check raises what the message explains."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqla_webhooks.asked import NO_TEXT
from sqla_webhooks.audience import Scope
from sqla_webhooks.errors import ConfigurationError, EndpointError

#: Characters: MariaDB's TEXT ends at 64 KiB, which its letters may fill four bytes each.
LONGEST_DESCRIPTION = 10_000

#: One request in some 28 hours; and more than any relay sends.
_SLOWEST, _FASTEST = 0.00001, 1_000_000

#: Seconds for which an old secret may stay valid: what is more was meant as something else, such as milliseconds.
LONGEST_OVERLAP = 30 * 86400.0


#: Events that one request may have.
LARGEST_BATCH = 100

#: Characters of a tenant, and of what an endpoint is registered by.
LONGEST_NAME = 500

#: Python writes no integer of more than some 14,000 bits; and no tenant is one of more digits than a name has letters.
_LONGEST_BITS = 4 * LONGEST_NAME

PAYLOADS = ("full", "thin", "latest")
_SCOPES = (Scope.ALL, Scope.SHARED)


class Unsaid(Enum):
    """That nothing was said, where None is likely to be a mistake: `tenant=user.account_id` of a user without one."""

    UNSAID = "unsaid"

    def __repr__(self) -> str:
        return "UNSAID"


UNSAID: Final = Unsaid.UNSAID

#: What a tenant is called by.
TenantName: TypeAlias = str | int | UUID


def check_payload(given: Any) -> str:
    if given not in PAYLOADS:
        message = (
            f"payload is {given!r}: give 'full', 'thin' (only the key of the row) or 'latest' (as it is when sent)"
        )
        raise EndpointError(message)
    return str(given)


def check_batch(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= LARGEST_BATCH:
        message = f"batch is {given!r}: give how many events one request may have, to {LARGEST_BATCH}; 0 for each alone"
        raise EndpointError(message)
    return given


def check_scope(given: Any) -> Scope:
    if given is None:
        return Scope.ALL
    for scope in _SCOPES:
        if given == scope:
            return scope
    message = (
        f"scope is {given!r}: give 'all', or 'shared' for what belongs to no tenant, or tenant=... for one of them"
    )
    raise EndpointError(message)


def check_tenant(given: Any) -> str:
    """A tenant as text, as it is compared; a member of an enum of texts or integers is its value."""
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(int(given)) if given.bit_length() < _LONGEST_BITS else given
    given = str(given) if isinstance(given, UUID) else given
    return str.__str__(_name("tenant", given, others="; an int or a UUID is its text"))


def tenant_said(given: Any) -> str | None:
    """A tenant as text; None where none was said."""
    if given is None:
        message = "tenant is None, which is no tenant: leave it out to mean everybody's, or give whose it is"
        raise EndpointError(message)
    return None if given is UNSAID else check_tenant(given)


def check_key(given: Any) -> str:
    return _name("key", given)


def _name(what: str, given: Any, *, others: str = "") -> str:
    if not isinstance(given, str) or not 1 <= len(given) <= LONGEST_NAME or NO_TEXT.search(given):
        message = (
            f"{what} is {given!r}: give a text of 1 to {LONGEST_NAME} characters, without NUL and lone surrogates"
            f"{others}"
        )
        raise EndpointError(message)
    return given


def check_description(given: Any) -> str:
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
    return given


def check_ordering(given: Any) -> bool:
    if not isinstance(given, bool):
        message = f"ordering is {given!r}: give True or False"
        raise ConfigurationError(message)
    return given


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
