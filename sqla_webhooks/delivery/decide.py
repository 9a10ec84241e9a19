"""What came of an attempt, and what that means for its delivery and its endpoint. Pure; the outbox records it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqla_webhooks.deliveries import Answer, Attempt, DeliveryState, Result, Strain, Verdict
from sqla_webhooks.delivery.retry_after import retry_after
from sqla_webhooks.errors import (
    Blocked,
    ConnectFailed,
    DeliveryError,
    InvalidAnswer,
    SigningFailed,
    TimedOut,
    TLSFailed,
)
from sqla_webhooks.retry import RetryPolicy

#: "Gone", by which an endpoint says that it wants no more (Standard Webhooks 1.0, "Deliverability and reliability").
GONE = 410
#: By which it asks for fewer requests, itself or what stands before it (the same section).
OVERLOADED = frozenset({429, 502, 503, 504})

#: The last is no fault of the endpoint, but no other delivery would reach it either.
_UNREACHABLE = (ConnectFailed, TLSFailed, TimedOut, InvalidAnswer, SigningFailed)


def decide(result: Result, retries: RetryPolicy) -> Verdict:
    """
    2xx is delivered, a blocked address is dead at once, and the rest is up to *retries*.

    The next attempt comes no earlier than the answer's `Retry-After` asks, but
    for what is beyond the longest that the policy allows. Pure, in the relay's
    thread, outside any transaction.
    """
    outcome, attempt, strain = result.outcome, _attempt(result), _strain(result.outcome)
    if strain is Strain.NONE:
        return Verdict(claim=result.claim, attempt=attempt, state=DeliveryState.DELIVERED)
    ended_at = result.started_at + timedelta(seconds=result.duration)
    asked = retry_after(outcome.headers, now=ended_at) if isinstance(outcome, Answer) else None
    at_least = min(asked or 0.0, retries.longest_retry_after)
    delay = None if isinstance(outcome, Blocked) else _delay(result, retries, ended_at, at_least=at_least)
    return Verdict(
        claim=result.claim,
        attempt=attempt,
        state=DeliveryState.DEAD if delay is None else DeliveryState.PENDING,
        next_attempt_at=None if delay is None else ended_at + timedelta(seconds=delay),
        strain=strain,
        not_before=ended_at + timedelta(seconds=at_least) if at_least and strain is Strain.OVERLOADED else None,
        gone=isinstance(outcome, Answer) and outcome.status == GONE,
    )


def _strain(outcome: Answer | DeliveryError) -> Strain:
    if isinstance(outcome, DeliveryError):
        return Strain.UNREACHABLE if isinstance(outcome, _UNREACHABLE) else Strain.REFUSED
    if outcome.ok:
        return Strain.NONE
    return Strain.OVERLOADED if outcome.status in OVERLOADED else Strain.REFUSED


def _delay(result: Result, retries: RetryPolicy, ended_at: datetime, *, at_least: float) -> float | None:
    first = result.claim.first_attempt_at or result.started_at
    elapsed = (ended_at - first).total_seconds()
    return retries.next_delay(result.claim.attempt, elapsed, outcome=result.outcome, at_least=at_least)


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
