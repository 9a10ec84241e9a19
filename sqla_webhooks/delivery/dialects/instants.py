"""How bodies write time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def milliseconds(instant: datetime) -> str:
    """ISO 8601 in UTC, with three digits after the second, and `Z`."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
