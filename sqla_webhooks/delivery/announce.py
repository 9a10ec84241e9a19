"""What was recorded of an attempt, told: by a signal, to programs, and by the log, to people."""

from __future__ import annotations

import logging
from datetime import datetime

from sqla_webhooks import signals
from sqla_webhooks.events import Attempt, Delivery, DeliveryState, Verdict

logger = logging.getLogger(__name__)


def announce(webhooks: object, verdict: Verdict, *, now: datetime) -> None:
    """Send the signal of what was recorded. After the commit, in the relay's thread."""
    signal = {
        DeliveryState.DELIVERED: signals.delivered,
        DeliveryState.PENDING: signals.failed,
        DeliveryState.DEAD: signals.dead,
    }[verdict.state]
    claim = verdict.claim
    delivery = Delivery(
        id=claim.delivery_id,
        event_id=claim.event_id,
        event_type=claim.event_type,
        endpoint_id=claim.endpoint_id,
        state=verdict.state,
        attempts=claim.attempt,
        next_attempt_at=verdict.next_attempt_at,
        created_at=claim.created_at,
        finished_at=None if verdict.state is DeliveryState.PENDING else now,
    )
    _log(delivery, verdict.attempt)
    signal.tell(webhooks, delivery=delivery, attempt=verdict.attempt)


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
