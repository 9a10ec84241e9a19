"""A rate limit, against a reckoning by counting."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import START

from sqla_webhooks import pace

RATES = st.one_of(st.sampled_from([0.1, 0.5, 1, 3, 10, 100, 1000]), st.floats(0.01, 20), st.floats(0.01, 5000))


def test_one_at_a_time_evenly_spread() -> None:
    assert pace.admitted(10, None, now=START) == 1
    at = pace.moved(10, None, count=1, now=START)
    assert pace.admitted(10, at, now=START) == 0
    assert pace.next_at(10, at, now=START) == START + timedelta(seconds=0.1)
    assert pace.admitted(10, at, now=START + timedelta(seconds=0.1)) == 1


def test_many_go_together_by_the_tenth_of_a_second() -> None:
    assert pace.admitted(1000, None, now=START) == 100


def test_what_was_not_used_is_not_saved_up() -> None:
    at = pace.moved(10, None, count=1, now=START)
    assert pace.admitted(10, at, now=START + timedelta(days=1)) == 1


def test_one_may_always_go() -> None:
    """Also of 7.3 a second, whose share is no whole number of microseconds."""
    for tenths in range(1, 2000):
        rate = tenths / 10
        assert pace.admitted(rate, None, now=START) >= 1
        at = pace.moved(rate, None, count=1, now=START)
        assert pace.admitted(rate, at, now=pace.next_at(rate, at, now=START) + timedelta(microseconds=1)) >= 1


@settings(deadline=None)
@given(RATES, st.lists(st.floats(0, 2), min_size=1, max_size=60))
def test_never_more_than_the_rate_and_a_tenth_in_any_second(rate: float, waits: list[float]) -> None:
    """Whoever takes all that is admitted, whenever he looks."""
    at: datetime | None = None
    now, sent = START, []
    for wait in waits:
        now += timedelta(seconds=wait)
        count = pace.admitted(rate, at, now=now)
        if count:
            at = pace.moved(rate, at, count=count, now=now)
            sent.append((now, count))
    for begin, _ in sent:
        within = sum(count for moment, count in sent if begin <= moment < begin + timedelta(seconds=1))
        assert within <= rate + max(1, rate * pace.AHEAD) + 1e-3 + rate * 1e-5


@settings(deadline=None)
@given(RATES)
def test_who_comes_back_at_the_time_said_is_admitted(rate: float) -> None:
    at, now, sent = None, START, 0
    for _ in range(20):
        count = pace.admitted(rate, at, now=now)
        assert count >= 1
        at, sent = pace.moved(rate, at, count=count, now=now), sent + count
        now = pace.next_at(rate, at, now=now) + timedelta(microseconds=2)
    assert sent >= rate * (now - START).total_seconds() * 0.99 - 1
