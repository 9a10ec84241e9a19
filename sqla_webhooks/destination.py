"""Where the deliveries of one claim go, and what signs them: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqla_webhooks.audience import Reach


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
