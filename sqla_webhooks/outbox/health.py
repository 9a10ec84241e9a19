"""How endpoints have answered, on their rows of `webhook_health`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from sqla_webhooks import breaker, models
from sqla_webhooks.deliveries import Strain, Verdict
from sqla_webhooks.destination import Health
from sqla_webhooks.outbox.lanes import HEALTH, health_of
from sqla_webhooks.outbox.queue import make_due

_health, _endpoint, _delivery = models.health, models.endpoint, models.delivery

#: An endpoint that takes one delivery after the other is noted to have done so once in so long.
_SUCCESS = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Judged:
    """
    What some attempts have made of an endpoint.

    Attributes:
        given_up: Whether it is to be disabled: it did nothing but fail for long enough.
    """

    endpoint: int
    before: Health
    after: Health
    given_up: bool

    @property
    def warned(self) -> bool:
        """Whether it is to be told that it fails."""
        return self.after.warned > self.before.warned

    @property
    def recovered(self) -> bool:
        """Whether it answers again after a pause, or after such a warning."""
        return not self.after.failures and bool(self.before.pauses or self.before.warned)


def judge(
    connection: Connection, verdicts: Sequence[Verdict], *, disable_after: float | None, now: datetime
) -> list[Judged]:
    """
    Note what *verdicts* say of their endpoints; those of which that is news.

    In the transaction that records them, in the relay's thread. What waits for
    a retry, to an endpoint that answers again after a pause, becomes due now.
    """
    of_endpoint: dict[int, list[Verdict]] = {}
    for verdict in verdicts:
        of_endpoint.setdefault(verdict.claim.endpoint, []).append(verdict)
    enabled_at, known = _read(connection, of_endpoint)
    news = [number for number, health in known.items() if _is_news(health, of_endpoint[number], now=now)]
    judged = []
    for number, before in _lock(connection, news, enabled_at).items():
        after = breaker.after(before, of_endpoint[number])
        after = replace(after, warned=max(after.warned, breaker.warning(after, disable_after, now=now)))
        connection.execute(update(_health).where(_health.c.endpoint_id == number).values(asdict(after)))
        if before.pauses and not after.pauses:
            for retry in (False, True):  # what has gone in a batch waits in the first lane
                make_due(connection, models.lane_of(number, retry=retry), now=now)
        judged.append(Judged(number, before, after, breaker.is_given_up(after, disable_after, now=now)))
    return judged


def hasten(connection: Connection, endpoints: Collection[int], *, now: datetime) -> None:
    """End the pauses of these: somebody wants them to be tried. By one request, as after any pause."""
    paused = (_health.c.endpoint_id.in_(sorted(endpoints)), _health.c.paused_until > now)
    connection.execute(update(_health).where(*paused).values(paused_until=now))


def _is_news(health: Health, verdicts: Sequence[Verdict], *, now: datetime) -> bool:
    if health.failures or health.pauses or any(one.strain is not Strain.NONE for one in verdicts):
        return True
    return health.last_success_at is None or abs(now - health.last_success_at) >= _SUCCESS


_OF = select(_health.c.endpoint_id, *HEALTH).order_by(_health.c.endpoint_id)


def _read(connection: Connection, numbers: Collection[int]) -> tuple[dict[int, datetime], dict[int, Health]]:
    """When the endpoints were enabled, and their health."""
    query = _OF.add_columns(_endpoint.c.enabled_at).join(_endpoint, _endpoint.c.id == _health.c.endpoint_id)
    found = connection.execute(query.where(_health.c.endpoint_id.in_(sorted(numbers)))).all()
    enabled_at = {row.endpoint_id: row.enabled_at for row in found}
    return enabled_at, {number: health_of(values, enabled_at[number]) for number, *values, _ in found}


def _lock(connection: Connection, numbers: Collection[int], enabled_at: Mapping[int, datetime]) -> dict[int, Health]:
    """The health of these, which stays so for the rest of the transaction. Of endpoints' own rows none is locked."""
    if not numbers:
        return {}
    found = connection.execute(_OF.where(_health.c.endpoint_id.in_(sorted(numbers))).with_for_update())
    return {number: health_of(values, enabled_at[number]) for number, *values in found}
