"""What was made public or recorded, told: by a signal, to programs, and by the log, to people."""

from __future__ import annotations

import logging
from datetime import datetime

from sqla_webhooks import signals
from sqla_webhooks.deliveries import Attempt, Delivery, DeliveryState, Verdict
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.events import Event

logger = logging.getLogger(__name__)


class Announcer:
    """
    Tells of what one installation has recorded, after the commit; and of what it could not tell. In the relay's thread.

    Args:
        webhooks: The sender of the signals.
    """

    def __init__(self, webhooks: object) -> None:
        self._webhooks = webhooks
        #: Of which resources it was said why nobody knows whose they are.
        self._said: set[tuple[str, str, type]] = set()

    def attempt(self, verdict: Verdict, *, now: datetime) -> None:
        """What came of an attempt."""
        delivery = _delivery(verdict, now)
        _log(delivery, verdict.attempt)
        _SIGNALS[verdict.state].tell(self._webhooks, delivery=delivery, attempt=verdict.attempt)

    def oversized(self, event: Event, *, size: int, limit: int) -> None:
        """An event was made public without what is in its row."""
        logger.warning(
            "%s %s would have %d bytes, and payload_limit or the database allows %d: it is sent without what is in the "
            "row; raise payload_limit, leave attributes out with exclude=[...], or let the receiver fetch the row",
            *(event.type, event.id, size, limit),
            extra={"webhooks.event": event.id},
        )
        signals.oversized.tell(self._webhooks, event_id=event.id, event_type=event.type, size=size, limit=limit)

    def tenant_unknown(self, event: Event, error: BaseException) -> None:
        """It cannot be told whose an event is. In the log once for each resource and kind of error."""
        kind = (event.resource, event.table, type(error))
        if kind not in self._said:
            self._said.add(kind)
            logger.warning(
                "it cannot be told whose %s %s is, so that no tenant gets it, only endpoints of everybody's events; "
                "this is logged once for its resource, and each is told of by the signal tenant_unknown",
                *(event.type, event.id),
                exc_info=error,
                extra={"webhooks.event": event.id},
            )
        signals.tenant_unknown.tell(self._webhooks, event=event, error=error)

    def failing(self, endpoint: Endpoint) -> None:
        """An endpoint keeps failing."""
        health = endpoint.health
        logger.warning(
            "endpoint %s has done nothing but fail since %s, %d times",
            *(endpoint.id, health.failing_since, health.failures),
            extra={"webhooks.endpoint": endpoint.id},
        )
        signals.endpoint_failing.tell(self._webhooks, endpoint=endpoint)

    def disabled(self, endpoint: Endpoint) -> None:
        """An endpoint was disabled for it."""
        logger.warning(
            "endpoint %s was disabled: it is %s; webhooks.endpoints.enable() sends what is held",
            *(endpoint.id, endpoint.disabled_because),
            extra={"webhooks.endpoint": endpoint.id},
        )
        signals.endpoint_disabled.tell(self._webhooks, endpoint=endpoint)

    def recovered(self, endpoint: Endpoint) -> None:
        """An endpoint answers again."""
        logger.info("endpoint %s answers again", endpoint.id, extra={"webhooks.endpoint": endpoint.id})
        signals.endpoint_recovered.tell(self._webhooks, endpoint=endpoint)


_SIGNALS = {
    DeliveryState.DELIVERED: signals.delivered,
    DeliveryState.PENDING: signals.failed,
    DeliveryState.DEAD: signals.dead,
}


def _delivery(verdict: Verdict, now: datetime) -> Delivery:
    claim = verdict.claim
    return Delivery(
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
