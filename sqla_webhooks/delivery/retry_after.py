"""How long an answer asks to be left alone: its `Retry-After` (RFC 9110, section 10.2.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Digits of a number of seconds that is read; a longer one is nonsense, and some are meant to be slow to read.
_DIGITS = 10


def retry_after(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """
    Seconds from *now*; 0 for a time that is past, None if nothing that can be read is asked.

    Args:
        headers: The answer's; the case of their names does not matter.
        now: When the answer came. A date is compared with the answer's own `Date` where it has one, since that clock
            has written both.
    """
    named = {name.lower(): value for name, value in headers.items()}
    asked = named.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked) if len(asked) <= _DIGITS else float("inf")
    until = _date(asked)
    if until is None:
        return None
    return max(0.0, (until - (_date(named.get("date", "")) or now)).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):  # whatever a stranger has put there
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date
