"""
Where events go: values.

An `Endpoint` is what people see of one; a `Destination`, what a claim needs of
it to send and to sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqla_webhooks.audience import Reach, Scope


@dataclass(frozen=True, slots=True)
class Health:
    """
    How an endpoint has answered.

    Attributes:
        failures: Failed attempts in a row, up to now.
        failing_since: When the first of them started.
        pauses: Pauses in a row: nothing is sent until the end of each, and then one request.
        paused_at: When the last of them was set.
        paused_until: When it ends.
        warned: How far it was told that the endpoint fails: a place in `breaker.WARNINGS`, counted from 1.
    """

    failures: int = 0
    failing_since: datetime | None = None
    last_failure_at: datetime | None = None
    last_success_at: datetime | None = None
    pauses: int = 0
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    warned: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Where events go, as `webhooks.endpoints` shows it.

    Attributes:
        filter: What its events must be, beside their types; None for anything.
        scope: Whose events it may get: those of its `tenant`, those that belong to no tenant, or all.
        key: What the application calls it; None if it was not registered by a key.
        dialect: Which headers, body and signature its requests have.
        payload: What of a row it gets: "full", all as it was at the commit; "thin", its key and version; "latest", the
            row as it is when sent.
        batch: How many events one request may have, in an array; 0 for each by itself.
        ordering: Whether the events of one row come in the order of its changes.
        rate_limit: Requests a second, at most; None for any number.
        header_names: The headers that its requests have beside ours; their values are shown to nobody.
        disabled_because: `asked`; `gone`, since it answered 410; `failing`, since it did nothing else for
            `disable_after` seconds. None while it is enabled.
    """

    id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    description: str
    created_at: datetime
    updated_at: datetime
    filter: Mapping[str, Any] | None = field(default=None, hash=False)
    scope: Scope = Scope.ALL
    tenant: str | None = None
    key: str | None = None
    dialect: str = "standard"
    payload: Literal["full", "thin", "latest"] = "full"
    batch: int = 0
    ordering: bool = True
    rate_limit: float | None = None
    header_names: tuple[str, ...] = ()
    disabled_at: datetime | None = None
    disabled_because: str | None = None
    health: Health = field(default_factory=Health)

    @property
    def reach(self) -> Reach:
        """Which events it may get."""
        return Reach(self.scope, self.tenant)


@dataclass(frozen=True, slots=True)
class NewEndpoint(Endpoint):
    """
    An endpoint with its newest secret: what `create()`, `rotate_secret()` and a `register()` that has added it return.

    Nothing else ever shows it.

    Attributes:
        secret: To be given to the receiver: `whsec_…`, unless another form was given. Never in a repr.
    """

    secret: str = field(repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SecretState:
    """
    One secret of an endpoint, without the secret.

    Attributes:
        expires_at: Until when requests are signed with it too; None for the newest, which is so until another comes.
    """

    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Secret:
    """
    One secret of an endpoint: sealed as it lies in the table, or open.

    Attributes:
        value: Never in a repr.
    """

    value: str = field(repr=False)
    expires_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        return self.expires_at is None or self.expires_at > now


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Where the deliveries of one claim for one endpoint go, as it stood then; they share it.

    Attributes:
        endpoint: The endpoint's number, which its health and its lanes go by.
        secrets: The newest first, sealed.
        headers: The endpoint's own, sealed; None for none.
        dialect, payload, batch: As in `Endpoint`.
        reach: Whose events it may get.
    """

    endpoint: int
    endpoint_id: str
    url: str
    secrets: tuple[Secret, ...] = field(repr=False)
    headers: str | None = field(repr=False)
    dialect: str = "standard"
    payload: str = "full"
    batch: int = 0
    reach: Reach = field(default_factory=Reach)
