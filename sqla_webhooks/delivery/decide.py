"""What came of an attempt, and what that means for its delivery. Pure; the outbox records it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqla_webhooks.errors import Blocked, DeliveryError
from sqla_webhooks.events import Answer, Attempt, DeliveryState, Result, Verdict
from sqla_webhooks.retry import RetryPolicy


def decide(result: Result, retries: RetryPolicy) -> Verdict:
    """
    2xx is delivered, a blocked address is dead at once, and the rest is up to *retries*.

    Pure, in the relay's thread, outside any transaction.
    """
    attempt = _attempt(result)
    if isinstance(result.outcome, Answer) and result.outcome.ok:
        return Verdict(claim=result.claim, attempt=attempt, state=DeliveryState.DELIVERED)
    ended_at = result.started_at + timedelta(seconds=result.duration)
    delay = None if isinstance(result.outcome, Blocked) else _delay(result, retries, ended_at)
    if delay is None:
        return Verdict(claim=result.claim, attempt=attempt, state=DeliveryState.DEAD)
    next_attempt_at = ended_at + timedelta(seconds=delay)
    return Verdict(claim=result.claim, attempt=attempt, state=DeliveryState.PENDING, next_attempt_at=next_attempt_at)


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
