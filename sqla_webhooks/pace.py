"""
A rate limit as a virtual time that each request moves on: pure.

The generic cell rate algorithm (ITU-T I.371, annex A): *rate_at* is when the
next request would be due, were all of them spread evenly; each moves it on by
its share of a second, and none may go that would bring it more than `AHEAD`
beyond now. So what one look may take together is a tenth of a second's worth.
"""

from __future__ import annotations

from datetime import datetime, timedelta

#: Seconds' worth of requests that may go together; one may always.
AHEAD = 0.1


def admitted(rate_limit: float, rate_at: datetime | None, *, now: datetime) -> int:
    """How many requests may go now."""
    left = (_horizon(rate_limit, now) - _begin(rate_at, now)).total_seconds()
    return max(0, int((left + _ROUNDING) * rate_limit))


def moved(rate_limit: float, rate_at: datetime | None, *, count: int, now: datetime) -> datetime:
    """The virtual time after *count* more requests."""
    return _begin(rate_at, now) + timedelta(seconds=count / rate_limit)


def next_at(rate_limit: float, rate_at: datetime | None, *, now: datetime) -> datetime:
    """When the next request may go, if none may now."""
    return _begin(rate_at, now) + timedelta(seconds=1 / rate_limit) - (_horizon(rate_limit, now) - now)


#: Seconds: instants are whole microseconds, so that what is left may be a part of one short of a request's share.
_ROUNDING = 1e-6


def _begin(rate_at: datetime | None, now: datetime) -> datetime:
    return now if rate_at is None else max(rate_at, now)


def _horizon(rate_limit: float, now: datetime) -> datetime:
    return now + timedelta(seconds=max(AHEAD, 1 / rate_limit))
