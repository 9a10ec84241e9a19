"""What came of the deliveries that were sent: recorded in batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from sqla_webhooks import models
from sqla_webhooks.events import DeliveryState, Verdict
from sqla_webhooks.outbox import queue
from sqla_webhooks.outbox.database import Database

_delivery = models.delivery

_RETRIED = (
    update(_delivery)
    .where(_delivery.c.id == bindparam("number"))
    .values(next_attempt_at=bindparam("due"), lease_token=None, first_attempt_at=bindparam("first"))
    .values(attempts=_delivery.c.attempts + 1)
)


def record(database: Database, verdicts: Sequence[Verdict], *, now: datetime) -> list[Verdict]:
    """
    Write down *verdicts* in one write transaction, and make due what waited behind those that are finished.

    Only the holder of a lease may record: a delivery whose token has changed,
    because its lease ended and another relay took it, is left alone.

    Returns:
        Those that were recorded.
    """
    if not verdicts:
        return []
    with database.write() as connection:
        held = _lock_ours(connection, verdicts)
        recorded = [one for one in verdicts if (one.claim.delivery_id, one.claim.token) in held]
        if recorded:
            connection.execute(insert(models.attempt), [_attempt_row(one) for one in recorded])
            _retry(connection, [one for one in recorded if one.next_attempt_at is not None])
            for state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
                _finish(connection, [one for one in recorded if one.state is state], state=state, now=now)
    return recorded


def _lock_ours(connection: Connection, verdicts: Sequence[Verdict]) -> Collection[tuple[int, str]]:
    """
    Lock the rows that are still ours, and say which they are, each with the token that it shows.

    By an UPDATE that changes nothing, since every database locks by that and
    it opens the transaction with a write (see `Database.write`).
    """
    numbers = sorted(one.claim.delivery_id for one in verdicts)
    tokens = {one.claim.token for one in verdicts}
    ours = (_delivery.c.id.in_(numbers), _delivery.c.lease_token.in_(tokens))
    locked = connection.execute(update(_delivery).where(*ours).values(lease_token=_delivery.c.lease_token))
    if locked.rowcount == len(verdicts) and len(tokens) == 1:
        return {(one.claim.delivery_id, one.claim.token) for one in verdicts}
    found = connection.execute(select(_delivery.c.id, _delivery.c.lease_token).where(*ours))
    return {(row.id, row.lease_token) for row in found}


def _retry(connection: Connection, retried: Sequence[Verdict]) -> None:
    if retried:
        connection.execute(_RETRIED, [_retry_row(one) for one in retried])


def _finish(connection: Connection, finished: Sequence[Verdict], *, state: DeliveryState, now: datetime) -> None:
    """One statement for all that ended alike."""
    if finished:
        queue.finish(
            connection,
            _delivery.c.id.in_([one.claim.delivery_id for one in finished]),
            state=state,
            keys=[one.claim.ordering_key for one in finished],
            now=now,
            attempted=True,
        )


def _retry_row(one: Verdict) -> dict[str, Any]:
    return {"number": one.claim.delivery_id, "due": one.next_attempt_at, "first": one.first_attempt_at}


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
