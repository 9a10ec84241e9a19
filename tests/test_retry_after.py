"""`Retry-After`: RFC 9110, section 10.2.3."""

from __future__ import annotations

from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import START
from support.outcomes import PATIENT, PENDING, later, result_of
from tenacity import wait_fixed

from sqla_webhooks.deliveries import Answer, DeliveryState, Strain
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.delivery.retry_after import retry_after
from sqla_webhooks.retry import RetryPolicy, retry_standard, stop_standard


def date(seconds: float) -> str:
    return format_datetime(START + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"retry-after": " 0 "}, 0),
        ({"RETRY-AFTER": "9999999999"}, 9999999999),
        ({"Retry-After": "9" * 5000}, float("inf")),
        ({"Retry-After": date(90)}, 90),
        ({"Retry-After": date(-90)}, 0),
        # The answer's own clock is ten minutes fast, and means one minute.
        ({"Retry-After": date(660), "Date": date(600)}, 60),
        ({"Retry-After": date(90), "Date": "yesterday"}, 90),
        ({"Retry-After": "Sun, 01 Mar 2026 12:01:30"}, 90),  # without a zone: HTTP dates are UTC
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "１２"}, None),  # digits, but not HTTP's
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "Sun, 99 Foo 99999 99:99:99 GMT"}, None),
    ],
)
def test_what_is_asked(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=START) == seconds


@settings(deadline=None)
@given(st.text(), st.text())
def test_whatever_a_stranger_writes_is_a_time_or_nothing(asked: str, date: str) -> None:
    seconds = retry_after({"Retry-After": asked, "Date": date}, now=START)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
def test_on_any_failure_no_attempt_comes_earlier_than_asked(status: int) -> None:
    verdict = decide(result_of(Answer(status, headers={"Retry-After": "7200"})), PATIENT)

    assert verdict.state is PENDING
    assert verdict.next_attempt_at == later(1.5 + 7200)


def test_a_shorter_time_than_the_schedule_s_does_not_hasten_it() -> None:
    verdict = decide(result_of(Answer(503, headers={"Retry-After": "1"})), PATIENT)
    assert verdict.next_attempt_at == later(601.5)


def test_nobody_is_left_alone_for_longer_than_the_cap() -> None:
    policy = RetryPolicy(wait_fixed(1), stop_standard(), retry_standard(), 3600)
    verdict = decide(result_of(Answer(503, headers={"Retry-After": "99999999"})), policy)

    assert verdict.next_attempt_at == later(1.5 + 3600)
    assert verdict.not_before == later(1.5 + 3600)


def test_the_stop_strategy_knows_of_it() -> None:
    """One that stops before a time would be passed gives up now, and not after the wait."""
    asked = 61
    policy = RetryPolicy(wait_fixed(1), lambda state: state.upcoming_sleep >= asked, retry_standard())
    verdicts = [
        decide(result_of(Answer(503, headers={"Retry-After": str(seconds)})), policy) for seconds in (asked - 1, asked)
    ]

    assert [one.state for one in verdicts] == [PENDING, DeliveryState.DEAD]


def test_only_who_is_overloaded_asks_for_all_of_its_deliveries() -> None:
    asked, overloaded = {"Retry-After": "60"}, (429, 502, 503, 504)
    verdicts = {status: decide(result_of(Answer(status, headers=asked)), PATIENT) for status in (400, *overloaded)}

    until = {status: one.not_before for status, one in verdicts.items()}
    assert until == {400: None, **dict.fromkeys(overloaded, later(61.5))}
    assert {verdicts[status].strain for status in overloaded} == {Strain.OVERLOADED}
