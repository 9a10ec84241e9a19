"""Public ids: what the outside sees of events and endpoints."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def event_id(at: datetime) -> str:
    """
    A new one: `evt_`, 48 bits of time and 80 random ones in hexadecimal.

    The time comes first so that the ids of a day are neighbours in an index.
    """
    return f"evt_{(at - _EPOCH) // timedelta(milliseconds=1):012x}{secrets.token_hex(10)}"


#: What the id of an example begins with, by which a receiver knows that nothing has happened.
EXAMPLE = "evt_test_"


def example_id(at: datetime) -> str:
    """That of an event that is sent to try a receiver: `evt_test_`, and as any other."""
    return EXAMPLE + event_id(at).removeprefix("evt_")


def endpoint_id() -> str:
    """A new one: `ep_` and 128 random bits in hexadecimal."""
    return f"ep_{secrets.token_hex(16)}"
