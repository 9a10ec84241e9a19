"""
How many of an endpoint's deliveries one relay may claim, where all relays must agree on it.

After a pause one of them tries one request: the one whose UPDATE moves the end
of the pause to the end of its lease. And a rate limit (see `pace`) is counted
on the endpoint's row of `webhook_health`, which is locked meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, select, update

from sqla_webhooks import models, pace
from sqla_webhooks.deliveries import Claim
from sqla_webhooks.models import lane_of

_health = models.health


@dataclass(frozen=True, slots=True)
class Share:
    """
    How many requests with deliveries of one lane may be made.

    Attributes:
        batch: How many deliveries one of them may have; 0 for one.
        probe: Whether the endpoint is tried after a pause, by one relay and one request.
        rate_limit: Requests a second that the endpoint gets from all relays together; None for any number.
    """

    endpoint: int
    retry: bool
    limit: int
    probe: bool = False
    rate_limit: float | None = None
    batch: int = 0

    @property
    def each(self) -> int:
        """
        How many deliveries one request may have.

        In the lane of retries each goes alone, so that one that cannot be taken spoils no other.
        """
        return 1 if self.retry else max(self.batch, 1)

    @property
    def lane(self) -> int:
        return lane_of(self.endpoint, retry=self.retry)


@dataclass(frozen=True, slots=True)
class Admission:
    """The shares that may be taken, and what is to be written of it afterwards."""

    shares: tuple[Share, ...]
    #: Endpoints with a rate limit, to that and their virtual time.
    rates: dict[int, tuple[float, datetime | None]] = field(default_factory=dict)


def admit(connection: Connection, shares: Sequence[Share], *, now: datetime, until: datetime) -> Admission:
    """
    What may be taken of *shares*. In the transaction of the claim.

    Args:
        until: The end of the claim's lease, for which no other relay tries an endpoint that this one tries.
    """
    rates = {one.endpoint: one.rate_limit for one in shares if one.rate_limit is not None}
    locked = _lock(connection, {*rates, *(one.endpoint for one in shares if one.probe)})
    virtual = {number: at for number, at in locked.items() if number in rates}
    left = {number: pace.admitted(rates[number], at, now=now) for number, at in virtual.items()}
    admitted: list[Share] = []
    for share in shares:
        limit = share.limit
        if share.endpoint in left:
            limit = min(limit, left[share.endpoint])
            left[share.endpoint] -= limit
        if limit and (not share.probe or _begin_probe(connection, share.endpoint, now=now, until=until)):
            admitted.append(replace(share, limit=limit))
    return Admission(tuple(admitted), {number: (rates[number], at) for number, at in virtual.items()})


def pass_through(connection: Connection, admission: Admission, taken: Iterable[int], *, now: datetime) -> None:
    """
    Note the requests that were taken: they use up a limited rate; a try that found nothing to send was none.

    Args:
        taken: The lane of each.
    """
    requests = Counter(taken)
    counts: Counter[int] = Counter()
    for share in admission.shares:
        counts[share.endpoint] += requests[share.lane]
    for number, (rate_limit, at) in admission.rates.items():
        if counts[number]:
            _write(connection, number, rate_at=pace.moved(rate_limit, at, count=counts[number], now=now))
    for share in admission.shares:
        if share.probe and not counts[share.endpoint]:
            _write(connection, share.endpoint, paused_until=now)


def come_back(connection: Connection, claims: Iterable[Claim], *, now: datetime) -> None:
    """Of what was taken nothing is sent after all: a try after a pause is over, and another may begin now."""
    for endpoint, until in sorted({(one.endpoint, one.until) for one in claims}):
        begun = (_health.c.endpoint_id == endpoint, _health.c.paused_until == until)
        connection.execute(update(_health).where(*begun).values(paused_until=now))


def _lock(connection: Connection, endpoints: Collection[int]) -> dict[int, datetime | None]:
    """All rows that may be written, in the order in which `health` locks them; their virtual times."""
    if not endpoints:
        return {}
    locked = (
        select(_health.c.endpoint_id, _health.c.rate_at)
        .where(_health.c.endpoint_id.in_(sorted(endpoints)))
        .order_by(_health.c.endpoint_id)
        .with_for_update()
    )
    return {row.endpoint_id: row.rate_at for row in connection.execute(locked)}


def _begin_probe(connection: Connection, endpoint: int, *, now: datetime, until: datetime) -> bool:
    over = _health.c.paused_until <= now
    begun = update(_health).where(_health.c.endpoint_id == endpoint, over).values(paused_until=until)
    return bool(connection.execute(begun).rowcount)


def _write(connection: Connection, endpoint: int, **values: datetime) -> None:
    connection.execute(update(_health).where(_health.c.endpoint_id == endpoint).values(**values))
