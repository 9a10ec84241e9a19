"""An attempt of one delivery, and what came of it: for tests of what that means and of who is told."""

from __future__ import annotations

from datetime import datetime, timedelta

from tenacity import stop_never, wait_fixed

from sqla_webhooks.deliveries import Answer, Claim, DeliveryState, Result
from sqla_webhooks.errors import DeliveryError
from sqla_webhooks.retry import RetryPolicy, retry_standard
from support.clock import START
from support.hostile import claim_for

#: Ten minutes after each failure, for ever.
PATIENT = RetryPolicy(wait_fixed(600), stop_never, retry_standard())
CLAIM = claim_for("https://partner.example/hooks")

DELIVERED, PENDING, DEAD = DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.DEAD


def result_of(outcome: Answer | DeliveryError, claim: Claim = CLAIM, *, duration: float = 1.5) -> Result:
    """The result of an attempt that began at `START` and took *duration* seconds."""
    return Result(claim, START, duration, outcome)


def later(seconds: float) -> datetime:
    """That long after `START`."""
    return START + timedelta(seconds=seconds)
