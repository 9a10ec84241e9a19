"""What a receiver says of one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """
    One request, and what came of it.

    Attributes:
        error: Why it was refused, or None.
        headers: By lower-case name.
        body: As JSON; None if it was none.
        events: What was read of it, where it was accepted.
    """

    path: str
    error: str | None
    headers: dict[str, str]
    body: Any
    events: list[Any]
