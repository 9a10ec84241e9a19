"""
The terms of an endpoint: what is said of it beside its secrets, checked and brought into the form in which it is kept.

Pure but for the checks that are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from sqla_webhooks import filters, given
from sqla_webhooks.audience import Scope
from sqla_webhooks.config import Several
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.errors import EndpointError

#: What `update(rate_limit=...)` calls no limit, as None leaves it as it is.
UNLIMITED = "unlimited"
Unlimited: TypeAlias = Literal["unlimited"]

#: Seconds for which an old secret is valid beside the new one, unless the caller says otherwise.
OVERLAP = 86400.0

Payload: TypeAlias = Literal["full", "thin", "latest"]


class Terms(TypedDict, total=False):
    """What `create()`, `register()` and `update()` say alike; None for what is not said."""

    url: str | None
    events: Several[str] | None
    filter: Mapping[str, Any] | None
    dialect: str | None
    payload: Payload | None
    batch: int | None
    ordering: bool | None
    rate_limit: float | Unlimited | None
    description: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What an endpoint must be. Each check returns what is stored, or raises an `EndpointError`.

    Attributes:
        check_batch: Whether a dialect takes batches of that many.
        tell_unmet: Told of an endpoint; logs what it asks for that can never come.
    """

    check_url: Callable[[str], str]
    check_events: Callable[[Iterable[str]], tuple[str, ...]]
    check_dialect: Callable[[Any], str]
    check_batch: Callable[[str, int], None]
    tell_unmet: Callable[[Endpoint], None]

    def checked(self, terms: Terms, *, whole: bool = False) -> dict[str, Any]:
        """
        What is said, as it is kept; without what is not said.

        Args:
            whole: Whether all must be said, so that None is a value: of what may have none.

        Raises:
            InvalidURL, InvalidSubscription, InvalidFilter, EndpointError, ConfigurationError: The message says what to
                write instead.
        """
        checks: dict[str, Callable[[Any], Any]] = {
            "url": self.check_url,
            "events": self.check_events,
            "filter": _filter,
            "dialect": self.check_dialect,
            "payload": given.check_payload,
            "batch": given.check_batch,
            "ordering": given.check_ordering,
            "rate_limit": lambda rate: None if rate == UNLIMITED else given.check_rate_limit(rate),
            "description": given.check_description,
        }
        said: Mapping[str, Any] = terms
        if whole:
            return {name: None if _may_be_none(name, said) else check(said[name]) for name, check in checks.items()}
        return {name: check(said[name]) for name, check in checks.items() if said.get(name) is not None}

    def check_together(self, *, dialect: str, batch: int) -> None:
        """
        Whether an endpoint may be all of that.

        Raises:
            EndpointError: It may not.
        """
        if batch:
            self.check_batch(dialect, batch)


def _may_be_none(name: str, said: Mapping[str, Any]) -> bool:
    return name in ("filter", "rate_limit") and said[name] is None


def _filter(given: Any) -> Mapping[str, Any] | None:
    """None for one that lets everything pass."""
    return filters.check(given) or None


def reach(*, tenant: Any, scope: Any) -> dict[str, Any]:
    """
    Whose events an endpoint may get, as it is kept.

    Raises:
        EndpointError: The two contradict each other, or are nothing of the kind.
    """
    if (whose := given.tenant_said(tenant)) is not None:
        if scope is not None:
            message = f"scope is {scope!r}, and tenant is given: an endpoint of a tenant gets its events, and no others"
            raise EndpointError(message)
        return {"tenant": whose, "scope": Scope.TENANT}
    return {"tenant": None, "scope": given.check_scope(scope)}
