"""What came of the deliveries that were sent: recorded in batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from sqla_webhooks import models
from sqla_webhooks.events import Attempt, Claim, DeliveryState
from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database

_delivery = models.delivery

_RETRIED = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("number"))
    .values(next_attempt_at=bindparam("due"), lease_token=None, first_attempt_at=bindparam("first"))
    .values(attempts=_delivery.c.attempts + 1)
)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be recorded of one attempt."""

    claim: Claim
    attempt: Attempt
    state: DeliveryState
    #: When the next attempt is due; None when the delivery is finished.
    next_attempt_at: datetime | None

    @property
    def first_attempt_at(self) -> datetime:
        return self.claim.first_attempt_at or self.attempt.started_at


def settle(database: Database, settlements: Sequence[Settlement], *, now: datetime) -> list[Settlement]:
    """
    Record *settlements* in one write transaction, and make due what waited behind those that are finished.

    Only the holder of a lease may record: a delivery whose token has changed,
    because its lease ended and another relay took it, is left alone.

    Returns:
        Those that were recorded.
    """
    if not settlements:
        return []
    with database.write() as connection:
        held = _hold(connection, settlements)
        recorded = [one for one in settlements if (one.claim.delivery_id, one.claim.token) in held]
        if recorded:
            connection.execute(insert(models.attempt), [_attempt_row(one) for one in recorded])
            _update(connection, recorded, now)
            finished = [one.claim.ordering_key for one in recorded if one.next_attempt_at is None]
            queue.advance(connection, [key for key in finished if key is not None], now=now)
    return recorded


def _hold(connection: Connection, settlements: Sequence[Settlement]) -> Collection[tuple[int, str]]:
    """
    Lock the rows that are still ours, and say which they are, each with the token that it shows.

    By an UPDATE that changes nothing, since every database locks by that and
    it opens the transaction with a write (see `Database.write`).
    """
    numbers = sorted(one.claim.delivery_id for one in settlements)
    tokens = {one.claim.token for one in settlements}
    ours = (_delivery.c.id.in_(numbers), _delivery.c.lease_token.in_(tokens))
    locked = connection.execute(update(_delivery).where(*ours).values(lease_token=_delivery.c.lease_token))
    if locked.rowcount == len(settlements) and len(tokens) == 1:
        return {(one.claim.delivery_id, one.claim.token) for one in settlements}
    found = connection.execute(select(_delivery.c.id, _delivery.c.lease_token).where(*ours))
    return {(row.id, row.lease_token) for row in found}


def _update(connection: Connection, recorded: Sequence[Settlement], now: datetime) -> None:
    retried = [one for one in recorded if one.next_attempt_at is not None]
    if retried:
        connection.execute(_RETRIED, [_retry_row(one) for one in retried])
    for state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
        finished = [one for one in recorded if one.next_attempt_at is None and one.state is state]
        _finish(connection, finished, state=state, now=now)


def _finish(connection: Connection, finished: Sequence[Settlement], *, state: DeliveryState, now: datetime) -> None:
    """One statement for all that ended alike."""
    numbers = [one.claim.delivery_id for one in finished]
    if not numbers:
        return
    connection.execute(
        update(_delivery)
        .where(_delivery.c.id.in_(numbers))
        .values(
            state=state,
            attempts=_delivery.c.attempts + 1,
            next_attempt_at=None,
            ordering_key=None,
            lease_token=None,
            finished_at=now,
        )
    )


def _retry_row(one: Settlement) -> dict[str, Any]:
    return {"number": one.claim.delivery_id, "due": one.next_attempt_at, "first": one.first_attempt_at}


def _attempt_row(one: Settlement) -> dict[str, Any]:
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
