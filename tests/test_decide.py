"""What an outcome means for its delivery."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.clock import START
from support.outcomes import CLAIM, DEAD, DELIVERED, PATIENT, PENDING, later, result_of
from tenacity import retry_if_result, retry_never, stop_after_attempt, stop_after_delay, stop_never, wait_fixed

from sqla_webhooks.deliveries import Answer, Attempt, DeliveryState
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.errors import (
    Blocked,
    ConnectFailed,
    DeliveryError,
    InvalidAnswer,
    TimedOut,
    TLSFailed,
)
from sqla_webhooks.retry import RetryPolicy, retry_standard, stop_standard, wait_standard


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    verdict = decide(result_of(Answer(status, "thanks")), PATIENT)

    assert (verdict.state, verdict.next_attempt_at) == (DELIVERED, None)
    assert verdict.claim is CLAIM
    assert verdict.attempt == Attempt(
        number=1, started_at=START, duration=1.5, status=status, response="thanks", reason=None, detail=""
    )


@pytest.mark.parametrize("status", [199, 300, 301, 304, 307, 400, 404, 410, 429, 500, 503, 599])
def test_any_other_status_is_tried_again(status: int) -> None:
    verdict = decide(result_of(Answer(status, "no")), PATIENT)

    assert (verdict.state, verdict.next_attempt_at) == (PENDING, later(601.5))
    assert verdict.attempt == Attempt(
        number=1,
        started_at=START,
        duration=1.5,
        status=status,
        response="no",
        reason="status",
        detail=f"the endpoint answered {status}",
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeliveryError("something"), "failed"),
        (ConnectFailed("no connection"), "connect"),
        (TLSFailed("TLS failed"), "tls"),
        (TimedOut("too long"), "timeout"),
        (InvalidAnswer("broke"), "invalid_answer"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_answer_is_tried_again(error: DeliveryError, reason: str) -> None:
    verdict = decide(result_of(error), PATIENT)

    assert (verdict.state, verdict.next_attempt_at) == (PENDING, later(601.5))
    assert verdict.attempt == Attempt(
        number=1, started_at=START, duration=1.5, status=None, response="", reason=reason, detail=str(error)
    )


def test_a_blocked_address_is_dead_at_once() -> None:
    always = RetryPolicy(wait_fixed(1), stop_never, lambda _state: True)

    verdict = decide(result_of(Blocked("not public")), always)

    assert (verdict.state, verdict.next_attempt_at) == (DEAD, None)
    assert (verdict.attempt.reason, verdict.attempt.detail) == ("blocked", "not public")


@pytest.mark.parametrize("outcome", [Answer(500), TimedOut("too long")], ids=["answer", "error"])
def test_it_is_dead_when_the_retry_strategy_says_no(outcome: Answer | DeliveryError) -> None:
    verdict = decide(result_of(outcome), replace(PATIENT, retry=retry_never))

    assert (verdict.state, verdict.next_attempt_at) == (DEAD, None)


def test_the_retry_strategy_sees_the_answer() -> None:
    only_503 = replace(PATIENT, retry=retry_if_result(lambda answer: answer.status == 503))

    assert decide(result_of(Answer(503)), only_503).state is PENDING
    assert decide(result_of(Answer(404)), only_503).state is DEAD


def test_a_retry_strategy_cannot_undo_a_delivery() -> None:
    always = replace(PATIENT, retry=lambda _state: True)

    assert decide(result_of(Answer(200)), always).state is DELIVERED


@pytest.mark.parametrize(("attempt", "state"), [(1, PENDING), (2, PENDING), (3, DEAD), (4, DEAD)])
def test_it_is_dead_when_the_stop_is_reached(attempt: int, state: DeliveryState) -> None:
    claim = replace(CLAIM, attempt=attempt, first_attempt_at=later(-1000))

    verdict = decide(result_of(Answer(500), claim), replace(PATIENT, stop=stop_after_attempt(3)))

    assert verdict.state is state
    assert verdict.attempt.number == attempt
    assert (verdict.next_attempt_at is None) is (state is DEAD)


@pytest.mark.parametrize(("first", "state"), [(-97.0, PENDING), (-99.0, DEAD)])
def test_the_time_gone_is_from_the_first_attempts_start_to_this_ones_end(first: float, state: DeliveryState) -> None:
    claim = replace(CLAIM, attempt=2, first_attempt_at=later(first))

    verdict = decide(result_of(Answer(500), claim, duration=2.0), replace(PATIENT, stop=stop_after_delay(100)))

    assert verdict.state is state


@pytest.mark.parametrize(("duration", "state"), [(99.0, PENDING), (101.0, DEAD)])
def test_in_the_first_attempt_the_time_gone_is_its_duration(duration: float, state: DeliveryState) -> None:
    verdict = decide(result_of(Answer(500), duration=duration), replace(PATIENT, stop=stop_after_delay(100)))

    assert verdict.state is state


def test_the_wait_counts_from_the_end_of_the_attempt() -> None:
    quick = decide(result_of(Answer(500), duration=0.0), PATIENT)
    slow = decide(result_of(Answer(500), duration=15.0), PATIENT)

    assert (quick.next_attempt_at, slow.next_attempt_at) == (later(600), later(615))


def test_the_first_attempt_is_noted_and_kept() -> None:
    first = decide(result_of(Answer(500)), PATIENT)
    second = decide(result_of(Answer(500), replace(CLAIM, attempt=2, first_attempt_at=later(-700))), PATIENT)

    assert (first.first_attempt_at, second.first_attempt_at) == (START, later(-700))


def test_by_default_there_are_ten_attempts_on_the_standard_schedule() -> None:
    standard = RetryPolicy(wait_standard(), stop_standard(), retry_standard())
    waits = []
    for attempt in range(1, 10):
        claim = replace(CLAIM, attempt=attempt, first_attempt_at=START)
        due = decide(result_of(Answer(500), claim, duration=0.0), standard).next_attempt_at
        assert due is not None
        waits.append((due - START).total_seconds())
    last = decide(result_of(Answer(500), replace(CLAIM, attempt=10, first_attempt_at=START)), standard)

    schedule = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert all(least <= wait <= least * 1.1 for least, wait in zip(schedule, waits, strict=True))
    assert last.state is DEAD
