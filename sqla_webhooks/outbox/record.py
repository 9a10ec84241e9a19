"""What came of the deliveries that were sent: recorded in batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.exc import DataError

from sqla_webhooks import models, operational
from sqla_webhooks.deliveries import Claim, DeliveryState, Verdict
from sqla_webhooks.events import Event
from sqla_webhooks.models import lane_of
from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.health import Judged, judge
from sqla_webhooks.outbox.publish import Message, Publication
from sqla_webhooks.outbox.turnstile import come_back
from sqla_webhooks.outbox.write import take_write_lock

_delivery = models.delivery

_RETRIED = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("number"))
    .values(lane=bindparam("to"), next_attempt_at=bindparam("due"), lease_token=None)
    .values(first_attempt_at=bindparam("first"), attempts=_delivery.c.attempts + 1)
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was recorded, and what it has made of the endpoints of which that is news."""

    verdicts: Sequence[Verdict] = ()
    judged: Sequence[Judged] = ()


class Recording:
    """
    Writes down what came of one relay's attempts.

    Used by one thread at a time: the relay's, or that of `drain()`.

    Args:
        hold: Whether what waits behind a delivery that is given up keeps waiting.
        disable_after: Seconds of nothing but failure after which an endpoint is given up; None for never.
        render: Makes of an event the body that is sent.
    """

    def __init__(
        self,
        database: Database,
        publication: Publication,
        *,
        hold: bool,
        disable_after: float | None,
        render: Callable[[Event], bytes],
    ) -> None:
        self._database = database
        self._publication = publication
        self._hold = hold
        self._disable_after = disable_after
        self._render = render

    def record(self, verdicts: Sequence[Verdict], *, now: datetime) -> Recorded:
        """
        Write down *verdicts* in one write transaction, and make due what waited behind those that are finished.

        Only the holder of a lease may record: a delivery whose token has
        changed, because its lease ended and another relay took it, is left
        alone.
        """
        if not verdicts:
            return Recorded()
        try:
            return outlive(partial(self._record, verdicts, now=now))
        except (DataError, UnicodeError):  # of a database that does not have all letters, and strangers' that it lacks
            return outlive(partial(self._record, [_in_ascii(one) for one in verdicts], now=now))

    def drop(self, claims: Sequence[Claim], *, now: datetime) -> None:
        """
        Cancel what the application will not have sent after all. In a write transaction, in the relay's thread.

        As with a result: only what is still held by its lease.
        """
        if claims:
            outlive(partial(self._drop, claims, now=now))

    def _drop(self, claims: Sequence[Claim], *, now: datetime) -> None:
        with self._database.write() as connection:
            dropped = _still_ours(connection, claims)
            self._finish(connection, dropped, state=DeliveryState.CANCELLED, now=now, attempted=False)
            come_back(connection, dropped, now=now)

    def give_back(self, claims: Sequence[Claim], *, now: datetime) -> None:
        """
        Let be due again what was not sent, and is not to wait for the end of its lease.

        In a write transaction, in the relay's thread; only what is still held by its lease.
        """
        if claims:
            outlive(partial(self._give_back, claims, now=now))

    def _give_back(self, claims: Sequence[Claim], *, now: datetime) -> None:
        with self._database.write() as connection:
            unsent = _still_ours(connection, claims)
            numbers = sorted(one.delivery_id for one in unsent)
            due = update(_delivery).where(_delivery.c.id.in_(numbers)).values(lease_token=None, next_attempt_at=now)
            connection.execute(due)
            come_back(connection, unsent, now=now)

    def _record(self, verdicts: Sequence[Verdict], *, now: datetime) -> Recorded:
        with self._database.write() as connection:
            held = _lock_ours(connection, [one.claim for one in verdicts])
            recorded = [one for one in verdicts if (one.claim.delivery_id, one.claim.token) in held]
            if not recorded:
                return Recorded()
            connection.execute(insert(models.attempt), [_attempt_row(one) for one in recorded])
            _retry(connection, [one for one in recorded if one.next_attempt_at is not None])
            for state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
                self._finish(connection, [one.claim for one in recorded if one.state is state], state=state, now=now)
            self._tell_of_dead(connection, recorded, now=now)
            judged = judge(connection, recorded, disable_after=self._disable_after, now=now)
        return Recorded(recorded, judged)

    def _finish(
        self,
        connection: Connection,
        finished: Sequence[Claim],
        *,
        state: DeliveryState,
        now: datetime,
        attempted: bool = True,
    ) -> None:
        """One statement for all that ended alike."""
        if finished:
            queue.finish(
                connection,
                _delivery.c.id.in_([one.delivery_id for one in finished]),
                state=state,
                keys=[key for one in finished for key in one.keys],
                now=now,
                attempted=attempted,
                leave=not (self._hold and state is DeliveryState.DEAD),
            )

    def _tell_of_dead(self, connection: Connection, recorded: Sequence[Verdict], *, now: datetime) -> None:
        """What became a dead letter is an event; but for such events themselves, which would go on for ever."""
        dead = [
            one for one in recorded if one.state is DeliveryState.DEAD and one.claim.event_type not in operational.TYPES
        ]
        if not dead:
            return
        self._publication.refresh(connection)
        if self._publication.is_wanted(operational.DEAD):
            events = [operational.dead(one, now=now) for one in dead]
            self._publication.insert(connection, [Message(one, self._render(one)) for one in events], now=now)


def _still_ours(connection: Connection, claims: Sequence[Claim]) -> list[Claim]:
    """Those of them that are, locked."""
    held = _lock_ours(connection, claims)
    return [one for one in claims if (one.delivery_id, one.token) in held]


def _lock_ours(connection: Connection, claims: Sequence[Claim]) -> Collection[tuple[int, str]]:
    """Lock the rows that are still ours, in the order in which everybody does; each with the token that it shows."""
    numbers = sorted(one.delivery_id for one in claims)
    tokens = {one.token for one in claims}
    take_write_lock(connection)
    ours = select(_delivery.c.id, _delivery.c.lease_token).where(
        _delivery.c.id.in_(numbers), _delivery.c.lease_token.in_(tokens)
    )
    found = connection.execute(ours.order_by(_delivery.c.id).with_for_update())
    return {(row.id, row.lease_token) for row in found}


def _retry(connection: Connection, retried: Sequence[Verdict]) -> None:
    if retried:
        connection.execute(_RETRIED, [_retry_row(one) for one in retried])


def _retry_row(one: Verdict) -> dict[str, Any]:
    return {
        "number": one.claim.delivery_id,
        "to": lane_of(one.claim.endpoint, retry=one.goes_alone),
        "due": one.next_attempt_at,
        "first": one.first_attempt_at,
    }


def _in_ascii(one: Verdict) -> Verdict:
    attempt = one.attempt
    return replace(one, attempt=replace(attempt, response=_escaped(attempt.response), detail=_escaped(attempt.detail)))


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def _attempt_row(one: Verdict) -> dict[str, Any]:
    return {
        "delivery_id": one.claim.delivery_id,
        "number": one.attempt.number,
        "started_at": one.attempt.started_at,
        "duration_ms": round(one.attempt.duration * 1000),
        "status": one.attempt.status,
        "response": one.attempt.response,
        "reason": one.attempt.reason,
        "detail": one.attempt.detail,
    }
