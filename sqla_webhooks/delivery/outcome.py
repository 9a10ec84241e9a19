"""
What an outcome means for its delivery: decided here, written by the outbox.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqla_webhooks import signals
from sqla_webhooks.errors import Blocked, DeliveryError
from sqla_webhooks.events import Answer, Attempt, Delivery, DeliveryState, Result
from sqla_webhooks.outbox.settle import Settlement
from sqla_webhooks.retry import RetryPolicy

logger = logging.getLogger(__name__)


def decide(result: Result, retries: RetryPolicy) -> Settlement:
    """
    2xx is delivered, a blocked address is dead at once, and the rest is up to *retries*.

    Pure, in the relay's thread, outside any transaction.
    """
    attempt = _attempt(result)
    if isinstance(result.outcome, Answer) and result.outcome.ok:
        return Settlement(result.claim, attempt, DeliveryState.DELIVERED, None)
    ended_at = result.started_at + timedelta(seconds=result.duration)
    delay = None if isinstance(result.outcome, Blocked) else _delay(result, retries, ended_at)
    if delay is None:
        return Settlement(result.claim, attempt, DeliveryState.DEAD, None)
    return Settlement(result.claim, attempt, DeliveryState.PENDING, ended_at + timedelta(seconds=delay))


def announce(webhooks: object, settlement: Settlement, *, now: datetime) -> None:
    """Send the signal of what was recorded. After the commit, in the relay's thread."""
    signal = {
        DeliveryState.DELIVERED: signals.delivered,
        DeliveryState.PENDING: signals.failed,
        DeliveryState.DEAD: signals.dead,
    }[settlement.state]
    claim = settlement.claim
    delivery = Delivery(
        id=claim.delivery_id,
        event_id=claim.event_id,
        event_type=claim.event_type,
        endpoint_id=claim.endpoint_id,
        state=settlement.state,
        attempts=claim.attempt,
        next_attempt_at=settlement.next_attempt_at,
        created_at=claim.created_at,
        finished_at=None if settlement.state is DeliveryState.PENDING else now,
    )
    _log(delivery, settlement.attempt)
    signal.tell(webhooks, delivery=delivery, attempt=settlement.attempt)


def _log(delivery: Delivery, attempt: Attempt) -> None:
    """A failure is news for whoever runs the application; the signals are for programs."""
    about = {"webhooks.event": delivery.event_id, "webhooks.endpoint": delivery.endpoint_id}
    if delivery.state is DeliveryState.PENDING:
        logger.info(
            "attempt %d of %s to %s failed (%s); the next at %s",
            *(attempt.number, delivery.event_id, delivery.endpoint_id, attempt.detail, delivery.next_attempt_at),
            extra=about,
        )
    elif delivery.state is DeliveryState.DEAD:
        logger.warning(
            "%s to %s is given up after attempt %d: %s",
            *(delivery.event_id, delivery.endpoint_id, attempt.number, attempt.detail),
            extra=about,
        )


def _delay(result: Result, retries: RetryPolicy, ended_at: datetime) -> float | None:
    first = result.claim.first_attempt_at or result.started_at
    elapsed = (ended_at - first).total_seconds()
    return retries.next_delay(result.claim.attempt, elapsed, outcome=result.outcome)


def _attempt(result: Result) -> Attempt:
    outcome = result.outcome
    status, response, reason, detail = None, "", None, ""
    if isinstance(outcome, DeliveryError):
        reason, detail = outcome.reason, str(outcome)
    else:
        status, response = outcome.status, outcome.body
        if not outcome.ok:
            reason, detail = "status", f"the endpoint answered {outcome.status}"
    return Attempt(
        number=result.claim.attempt,
        started_at=result.started_at,
        duration=result.duration,
        status=status,
        response=response,
        reason=reason,
        detail=detail,
    )
