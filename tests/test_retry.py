from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import START
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_not_result,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    stop_never,
    wait_chain,
    wait_exponential,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
    wait_random_exponential,
)

from sqla_webhooks.deliveries import Answer
from sqla_webhooks.errors import ConnectFailed, DeliveryError, TimedOut
from sqla_webhooks.retry import (
    RetryPolicy,
    RetryStrategy,
    StopStrategy,
    WaitStrategy,
    retry_standard,
    stop_standard,
    wait_standard,
)

Outcome = Answer | DeliveryError

FAILED = Answer(500, "no")
TIMED_OUT = TimedOut("no answer within 15 s")

#: Standard Webhooks 1.0: immediately, then 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
SCHEDULE = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600]

outcomes = pytest.mark.parametrize("outcome", [FAILED, TIMED_OUT], ids=["answer", "no answer"])


def policy(
    wait: WaitStrategy | None = None, stop: StopStrategy | None = None, retry: RetryStrategy | None = None
) -> RetryPolicy:
    return RetryPolicy(wait or wait_standard(), stop or stop_standard(), retry or retry_standard())


def waits(retries: RetryPolicy, outcome: Outcome = FAILED, *, most: int = 100) -> list[float]:
    """The waits of a delivery that fails and fails, each attempt taking no time."""
    found: list[float] = []
    while len(found) < most:
        delay = retries.next_delay(len(found) + 1, sum(found), outcome=outcome)
        if delay is None:
            break
        found.append(delay)
    return found


# --------------------------------------------------------------------------- the standard


@outcomes
def test_the_standard_schedule_is_that_of_standard_webhooks(outcome: Outcome) -> None:
    for _ in range(50):
        found = waits(policy(), outcome)
        assert len(found) == len(SCHEDULE)
        for seconds, least in zip(found, SCHEDULE, strict=True):
            assert least <= seconds <= least * 1.1


def test_the_jitter_uses_its_room() -> None:
    for attempt, least in enumerate(SCHEDULE, 1):
        found = [policy().next_delay(attempt, 0, outcome=FAILED) or 0 for _ in range(200)]
        assert min(found) < least * 1.02
        assert max(found) > least * 1.08


@outcomes
@pytest.mark.parametrize("attempt", [10, 11, 1000])
def test_the_tenth_attempt_is_the_last(outcome: Outcome, attempt: int) -> None:
    assert policy().next_delay(attempt, 0, outcome=outcome) is None


def test_the_standard_does_not_look_at_the_time_since_the_first_attempt() -> None:
    delay = policy().next_delay(9, 10**9, outcome=FAILED)
    assert delay is not None
    assert delay >= SCHEDULE[8]


@pytest.mark.parametrize("status", [100, 199, 300, 301, 400, 404, 410, 429, 500, 503])
def test_any_status_but_2xx_is_worth_another_attempt(status: int) -> None:
    assert policy().next_delay(1, 0, outcome=Answer(status)) is not None


@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_2xx_answer_is_not(status: int) -> None:
    assert policy().next_delay(1, 0, outcome=Answer(status)) is None


# --------------------------------------------------------------------------- against tenacity itself


def waits_of_tenacity(retries: RetryPolicy, outcome: Outcome, *, most: int = 100) -> list[float]:
    """What tenacity would sleep, running a call that comes to *outcome* each time, in a process that lives on."""

    class Enough(BaseException):
        """Has slept often enough."""

    slept: list[float] = []

    def sleep(seconds: float) -> None:
        if len(slept) == most:
            raise Enough
        slept.append(seconds)

    def take_the_time(state: RetryCallState) -> None:
        state.start_time -= state.upcoming_sleep  # as if it had slept

    def call() -> Answer:
        if isinstance(outcome, DeliveryError):
            raise outcome
        return outcome

    wait: Any = retries.wait
    stop: Any = retries.stop
    retry: Any = retries.retry
    with suppress(RetryError, DeliveryError, Enough):
        Retrying(sleep=sleep, wait=wait, stop=stop, retry=retry, before_sleep=take_the_time)(call)
    return slept


WAITS: dict[str, WaitStrategy] = {
    "none": wait_none(),
    "fixed": wait_fixed(7),
    "fixed by timedelta": wait_fixed(timedelta(minutes=1)),
    "incrementing": wait_incrementing(start=3, increment=4, max=30),
    "decrementing": wait_incrementing(start=20, increment=-6),
    "exponential": wait_exponential(),
    "exponential, bounded": wait_exponential(multiplier=2, min=5, max=100, exp_base=3),
    "chain": wait_chain(wait_fixed(1), wait_fixed(2), wait_exponential()),
    "sum": wait_fixed(3) + wait_incrementing(increment=2),
    "function": lambda state: state.attempt_number * 10.0,
    "by outcome": lambda state: 90.0 if state.outcome is not None and state.outcome.failed else 9.0,
}
STOPS: dict[str, StopStrategy] = {
    "never": stop_never,
    "after 1 attempt": stop_after_attempt(1),
    "after 5 attempts": stop_after_attempt(5),
    "after delay": stop_after_delay(60.5),
    "before delay": stop_before_delay(60.5),
    "attempts or delay": stop_after_attempt(4) | stop_after_delay(20.5),
    "attempts and delay": stop_after_attempt(4) & stop_after_delay(20.5),
    "function": lambda state: state.upcoming_sleep > 40,
}
RETRIES: dict[str, RetryStrategy] = {
    "standard": retry_standard(),
    "if exception": retry_if_exception_type(DeliveryError),
    "if timed out": retry_if_exception_type(TimedOut),
    "if not timed out": retry_if_not_exception_type(TimedOut),
    "if 5xx": retry_if_result(lambda answer: answer.status >= 500),
    "if not 410": retry_if_not_result(lambda answer: answer.status == 410),
    "either": retry_if_exception_type(ConnectFailed) | retry_if_result(lambda answer: answer.status == 503),
    "both": retry_if_result(lambda answer: answer.status >= 500) & retry_if_not_result(lambda answer: not answer.body),
    "function": lambda state: state.attempt_number < 3,
}
OUTCOMES: dict[str, Outcome] = {
    "500": FAILED,
    "503, no body": Answer(503),
    "410": Answer(410, "gone"),
    "200": Answer(200),
    "timed out": TIMED_OUT,
    "not connected": ConnectFailed("refused"),
}


@settings(deadline=None, max_examples=200)
@given(*(st.sampled_from(sorted(one)) for one in (WAITS, STOPS, RETRIES, OUTCOMES)))
def test_a_delivery_waits_as_a_call_under_tenacity_would(wait: str, stop: str, retry: str, outcome: str) -> None:
    retries = policy(WAITS[wait], STOPS[stop], RETRIES[retry])
    expected = waits_of_tenacity(retries, OUTCOMES[outcome], most=20)
    assert waits(retries, OUTCOMES[outcome], most=20) == expected


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("wait", WAITS)
def test_each_wait_with_each_stop(wait: str, stop: str) -> None:
    retries = policy(WAITS[wait], STOPS[stop])
    assert waits(retries, most=20) == waits_of_tenacity(retries, FAILED, most=20)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("retry", RETRIES)
def test_each_retry_with_each_outcome(retry: str, outcome: str) -> None:
    retries = policy(wait_fixed(1), stop_after_attempt(4), RETRIES[retry])
    assert waits(retries, OUTCOMES[outcome]) == waits_of_tenacity(retries, OUTCOMES[outcome])


# --------------------------------------------------------------------------- by hand, over persisted numbers


def test_waits_by_hand() -> None:
    assert waits(policy(wait_exponential(multiplier=1, max=10), stop_after_attempt(6))) == [1, 2, 4, 8, 10]
    assert waits(policy(wait_incrementing(start=1, increment=2), stop_after_attempt(4))) == [1, 3, 5]


def test_the_attempt_is_what_is_persisted_not_what_this_process_has_seen() -> None:
    retries = policy(wait_exponential(), stop_never)
    assert [retries.next_delay(attempt, 0, outcome=FAILED) for attempt in (8, 1, 8)] == [128, 1, 128]


@pytest.mark.parametrize(("elapsed", "given_up"), [(0, False), (3599.9, False), (3600, True), (7200, True)])
def test_stop_after_delay_looks_at_the_time_since_the_first_attempt(elapsed: float, *, given_up: bool) -> None:
    retries = policy(wait_fixed(60), stop_after_delay(3600))
    assert retries.next_delay(2, elapsed, outcome=FAILED) == (None if given_up else 60)


@pytest.mark.parametrize(("elapsed", "given_up"), [(0, False), (3539.9, False), (3540, True), (3600, True)])
def test_stop_before_delay_looks_at_the_wait_too(elapsed: float, *, given_up: bool) -> None:
    retries = policy(wait_fixed(60), stop_before_delay(3600))
    assert retries.next_delay(2, elapsed, outcome=FAILED) == (None if given_up else 60)


def test_stop_never_never_stops() -> None:
    assert policy(wait_fixed(60), stop_never).next_delay(10**6, 10**9, outcome=FAILED) == 60


def test_random_waits_stay_in_their_window() -> None:
    retries = policy(wait_random_exponential(multiplier=2, max=20), stop_never)
    for attempt, most in ((1, 2), (2, 4), (3, 8), (10, 20)):
        found = [retries.next_delay(attempt, 0, outcome=FAILED) for _ in range(100)]
        assert all(seconds is not None and 0 <= seconds <= most for seconds in found)
        assert len(set(found)) > 90


def test_no_wait_is_a_wait() -> None:
    assert policy(wait_none()).next_delay(1, 0, outcome=FAILED) == 0


def test_a_strategy_sees_the_outcome_and_the_numbers() -> None:
    seen: list[RetryCallState] = []

    def retry(state: RetryCallState) -> bool:
        seen.append(state)
        return True

    policy(retry=retry).next_delay(3, 42.5, outcome=FAILED)
    policy(retry=retry).next_delay(4, 43.5, outcome=TIMED_OUT)

    answered, failed = seen
    assert (answered.attempt_number, answered.seconds_since_start) == (3, 42.5)
    assert (failed.attempt_number, failed.seconds_since_start) == (4, 43.5)
    assert answered.outcome is not None
    assert answered.outcome.result() is FAILED
    assert failed.outcome is not None
    assert failed.outcome.exception() is TIMED_OUT


# --------------------------------------------------------------------------- strategies that fail


def raising(state: RetryCallState) -> Any:
    message = "a bug in a strategy"
    raise RuntimeError(message)


def answering(value: Any) -> Callable[[RetryCallState], Any]:
    return lambda state: value


#: A wait that leaves no instant for the next attempt is nonsense too: the calendar ends with the year 9999.
BAD_WAITS: dict[str, WaitStrategy] = {
    "raises": raising,
    **{repr(value): answering(value) for value in (float("nan"), -1, -0.001, float("inf"), None, "soon", 1e12, 1e300)},
    "a timedelta": answering(timedelta(seconds=5)),
    "raises further on": wait_fixed(1) + wait_random(0, 1) + raising,  # type: ignore[operator]  # tenacity takes a function
}


@pytest.mark.parametrize("wait", BAD_WAITS)
def test_a_wait_that_fails_is_replaced_by_the_standard_one(wait: str, caplog: pytest.LogCaptureFixture) -> None:
    retries = policy(wait=BAD_WAITS[wait])
    for attempt, least in enumerate(SCHEDULE, 1):
        caplog.clear()
        delay = retries.next_delay(attempt, 0, outcome=FAILED)
        assert delay is not None
        assert least <= delay <= least * 1.1
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("sqla_webhooks.retry", logging.ERROR)
        assert record.exc_info is not None
        assert record.__dict__["webhooks.attempt"] == attempt


def test_a_stop_that_raises_is_replaced_by_the_standard_one(caplog: pytest.LogCaptureFixture) -> None:
    retries = policy(stop=raising)
    assert len(waits(retries)) == len(SCHEDULE)
    assert len(caplog.records) == len(SCHEDULE) + 1


def test_a_retry_that_raises_is_replaced_by_the_standard_one(caplog: pytest.LogCaptureFixture) -> None:
    retries = policy(retry=raising)
    assert len(waits(retries)) == len(SCHEDULE)
    assert len(caplog.records) == len(SCHEDULE) + 1


def test_only_the_strategy_that_fails_is_replaced() -> None:
    assert waits(policy(wait=raising, stop=stop_after_attempt(1))) == []
    assert waits(policy(wait=wait_fixed(7), stop=raising)) == [7] * len(SCHEDULE)
    assert waits(policy(wait=wait_fixed(7), stop=stop_after_attempt(3), retry=raising)) == [7, 7]


def test_a_delivery_is_not_lost_to_a_wait_that_fails_late() -> None:
    delay = policy(wait=raising, stop=stop_never).next_delay(20, 0, outcome=FAILED)
    assert delay is not None
    assert 86400 <= delay <= 86400 * 1.1


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 20), st.floats(0, 1e9), st.floats() | st.integers() | st.none() | st.text(max_size=3))
def test_whatever_a_wait_answers_there_is_an_instant_for_the_next_attempt(
    attempt: int, elapsed: float, answer: Any
) -> None:
    delay = policy(answering(answer), stop_never).next_delay(attempt, elapsed, outcome=FAILED)
    assert delay is not None
    assert START + timedelta(seconds=delay) >= START


def test_what_is_logged_is_only_what_failed(caplog: pytest.LogCaptureFixture) -> None:
    waits(policy())
    waits(policy(wait_fixed(1), stop_after_attempt(3)))
    assert caplog.records == []
