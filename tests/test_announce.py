"""What was recorded of an attempt, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

import pytest
from support.clock import START
from support.outcomes import CLAIM, DEAD, DELIVERED, PATIENT, PENDING, later, result_of

from sqla_webhooks import signals
from sqla_webhooks.deliveries import Answer, Delivery, DeliveryState
from sqla_webhooks.delivery.announce import Announcer
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.errors import (
    Blocked,
    DeliveryError,
    TimedOut,
)

#: What signals were sent with: name, sender, arguments.
Told: TypeAlias = list[tuple[str, object, dict[str, Any]]]


class Sender:
    """Stands where the `Webhooks` of an installation stands."""


@pytest.fixture
def told() -> Iterator[Told]:
    """What the three signals of deliveries are sent."""
    told: Told = []

    def listener(name: str) -> Any:
        def receive(sender: object, **arguments: Any) -> None:
            told.append((name, sender, arguments))

        return receive

    with ExitStack() as stack:
        for name in ("delivered", "failed", "dead"):
            stack.enter_context(getattr(signals, name).connected_to(listener(name)))
        yield told


@pytest.mark.parametrize(
    ("outcome", "name", "expected"),
    [
        (Answer(204), "delivered", (DELIVERED, None, later(2))),
        (Answer(500), "failed", (PENDING, later(601.5), None)),
        (TimedOut("too long"), "failed", (PENDING, later(601.5), None)),
        (Blocked("not public"), "dead", (DEAD, None, later(2))),
    ],
    ids=["2xx", "5xx", "timeout", "blocked"],
)
def test_the_one_signal_that_fits_is_sent_with_the_delivery_and_the_attempt(
    told: Told,
    outcome: Answer | DeliveryError,
    name: str,
    expected: tuple[DeliveryState, datetime | None, datetime | None],
) -> None:
    sender = Sender()
    claim = replace(CLAIM, delivery_id=7, attempt=3, first_attempt_at=later(-900))
    verdict = decide(result_of(outcome, claim), PATIENT)

    Announcer(sender).attempt(verdict, now=later(2))

    state, due, finished_at = expected
    delivery = Delivery(
        id=7,
        event_id="evt_1",
        event_type="order.created",
        endpoint_id="ep_1",
        state=state,
        attempts=3,
        next_attempt_at=due,
        created_at=CLAIM.created_at,
        finished_at=finished_at,
    )
    assert told == [(name, sender, {"delivery": delivery, "attempt": verdict.attempt})]


def test_a_receiver_that_raises_keeps_no_other_from_being_told(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_sender: object, **_: Any) -> None:
        message = "mine"
        raise RuntimeError(message)

    with signals.delivered.connected_to(fail):
        Announcer(Sender()).attempt(decide(result_of(Answer(200)), PATIENT), now=START)

    assert [name for name, *_ in told] == ["delivered"]
    assert "a receiver of a webhook signal failed" in caplog.text


@pytest.mark.parametrize(
    ("outcome", "level", "words"),
    [
        (Answer(500), logging.INFO, ["attempt 1", "evt_1", "ep_1", "the endpoint answered 500", str(later(601.5))]),
        (Blocked("not public"), logging.WARNING, ["evt_1", "ep_1", "given up", "attempt 1", "not public"]),
    ],
    ids=["failed", "dead"],
)
def test_a_failure_is_logged(
    caplog: pytest.LogCaptureFixture, outcome: Answer | DeliveryError, level: int, words: list[str]
) -> None:
    caplog.set_level(logging.INFO)

    Announcer(Sender()).attempt(decide(result_of(outcome), PATIENT), now=START)

    (logged,) = caplog.records
    assert logged.levelno == level
    assert [word for word in words if word not in logged.getMessage()] == []


def test_a_success_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    Announcer(Sender()).attempt(decide(result_of(Answer(200)), PATIENT), now=START)

    assert caplog.records == []
