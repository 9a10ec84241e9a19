"""When an endpoint is left alone, and when it is given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import START
from support.outcomes import PATIENT, later, result_of

from sqla_webhooks import breaker
from sqla_webhooks.deliveries import Answer, Strain, Verdict
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.destination import Health
from sqla_webhooks.errors import Blocked, ConnectFailed, DeliveryError, InvalidAnswer, TimedOut, TLSFailed

OK, REFUSES, DOWN, BUSY = Answer(200), Answer(500), TimedOut("no answer"), Answer(503)


def verdict(outcome: Answer | DeliveryError, at: float = 0) -> Verdict:
    """Of an attempt that started *at* seconds, and took one and a half."""
    return decide(replace(result_of(outcome), started_at=later(at)), PATIENT)


def health(*outcomes: Answer | DeliveryError, every: float = 100) -> Health:
    """After attempts one after the other, each recorded by itself."""
    known = Health()
    for number, outcome in enumerate(outcomes):
        known = breaker.after(known, [verdict(outcome, number * every)])
    return known


def pause(known: Health) -> float:
    assert known.paused_until is not None
    assert known.paused_at is not None
    return (known.paused_until - known.paused_at).total_seconds()


@pytest.mark.parametrize(
    ("outcome", "strain"),
    [
        (OK, Strain.NONE),
        (Answer(204), Strain.NONE),
        (Answer(301), Strain.REFUSED),
        (Answer(400), Strain.REFUSED),
        (Answer(410), Strain.REFUSED),
        (Answer(500), Strain.REFUSED),
        (Blocked("no"), Strain.REFUSED),
        (DeliveryError("no"), Strain.REFUSED),
        (Answer(429), Strain.OVERLOADED),
        (Answer(502), Strain.OVERLOADED),
        (Answer(503), Strain.OVERLOADED),
        (Answer(504), Strain.OVERLOADED),
        (ConnectFailed("no"), Strain.UNREACHABLE),
        (TLSFailed("no"), Strain.UNREACHABLE),
        (TimedOut("no"), Strain.UNREACHABLE),
        (InvalidAnswer("no"), Strain.UNREACHABLE),
    ],
)
def test_what_an_outcome_says_of_its_endpoint(outcome: Answer | DeliveryError, strain: Strain) -> None:
    assert verdict(outcome).strain is strain
    assert verdict(outcome).gone is (outcome == Answer(410))


def test_one_timeout_pauses_nobody_and_a_second_in_a_row_does() -> None:
    assert health(DOWN).paused_until is None
    assert health(DOWN, OK, DOWN).paused_until is None
    assert health(DOWN, DOWN).pauses == 1


def test_refusals_may_be_for_single_deliveries_and_pause_only_when_there_is_nothing_else() -> None:
    assert health(*[REFUSES] * 9).pauses == 0
    assert health(*[REFUSES] * 9, OK, REFUSES).pauses == 0
    assert health(*[REFUSES] * 10).pauses == 1


def test_an_overloaded_endpoint_is_paused_at_once() -> None:
    assert health(BUSY).pauses == 1


def test_each_pause_is_longer_up_to_about_a_minute() -> None:
    known, pauses = Health(), []
    for number in range(8):
        known = breaker.after(known, [verdict(BUSY, number * 100)])
        pauses.append(pause(known))
    for seconds, least in zip(pauses, (5, 10, 20, 40, 64, 64, 64, 64), strict=True):
        assert least <= seconds <= least * 1.1


def test_any_failure_after_a_pause_begins_the_next() -> None:
    assert health(BUSY, REFUSES).pauses == 2


def test_requests_under_way_as_a_pause_begins_do_not_lengthen_it() -> None:
    """Sixteen that time out together are one sign, not sixteen."""
    known = breaker.after(Health(), [verdict(DOWN, number / 100) for number in range(16)])
    assert (known.failures, known.pauses) == (16, 1)
    late = breaker.after(known, [verdict(DOWN, 0.5)])
    assert (late.failures, late.pauses, late.paused_until) == (17, 1, known.paused_until)


def test_success_ends_it_all() -> None:
    known = health(BUSY, BUSY, OK)
    assert known == Health(last_failure_at=later(101.5), last_success_at=later(201.5))


def test_what_it_asks_for_itself_lengthens_a_pause() -> None:
    known = health(Answer(503, headers={"Retry-After": "3600"}))
    assert known.paused_until == later(1.5 + 3600)
    under_way = verdict(Answer(503, headers={"Retry-After": "7200"}), 0.5)
    assert breaker.after(known, [under_way]).paused_until == later(2 + 7200)


def test_the_first_of_the_failures_in_a_row_is_known() -> None:
    known = health(REFUSES, OK, REFUSES, REFUSES)
    assert (known.failures, known.failing_since, known.last_failure_at) == (2, later(200), later(301.5))
    assert known.last_success_at == later(101.5)


def test_enabling_an_endpoint_makes_what_was_before_void() -> None:
    known = health(BUSY, BUSY)
    assert breaker.as_of(known, later(0)) == known
    assert breaker.as_of(known, later(50)) == Health(last_failure_at=known.last_failure_at)


@pytest.mark.parametrize(
    ("hours", "warned", "given_up"),
    [(0, 0, False), (49, 0, False), (50, 1, False), (70, 2, False), (89.9, 2, False), (90, 3, False), (100, 3, True)],
)
def test_warnings_and_the_end(hours: float, warned: int, *, given_up: bool) -> None:
    known, now = replace(health(REFUSES), warned=0), START + timedelta(hours=hours)
    assert breaker.warning(known, 100 * 3600, now=now) == warned
    assert breaker.is_given_up(known, 100 * 3600, now=now) is given_up


def test_nobody_is_given_up_who_need_not_be() -> None:
    now = START + timedelta(days=1000)
    for known, disable_after in ((health(OK), 10.0), (health(REFUSES), None)):
        assert breaker.warning(known, disable_after, now=now) == 0
        assert not breaker.is_given_up(known, disable_after, now=now)


OUTCOMES = st.sampled_from([OK, REFUSES, DOWN, BUSY])


@settings(deadline=None)
@given(st.lists(st.lists(OUTCOMES, min_size=1, max_size=4), max_size=12))
def test_invariants(batches: list[list[Answer | DeliveryError]]) -> None:
    """Against a reckoning that looks at the outcomes alone."""
    known, flat, at = Health(), [], 0.0
    for batch in batches:
        verdicts = [verdict(outcome, at := at + 10) for outcome in batch]
        known = breaker.after(known, verdicts)
        flat += batch
    row: list[Answer | DeliveryError] = []
    for outcome in flat:
        row = [] if outcome == OK else [*row, outcome]
    assert known.failures == len(row)
    assert (known.failing_since is None) == (not row)
    began = next((place for place in range(len(row)) if _begins(row[: place + 1])), len(row))
    assert known.pauses == len(row) - began
    assert (known.paused_until is None) == (known.pauses == 0)


def _begins(row: list[Answer | DeliveryError]) -> bool:
    return row[-1] == BUSY or (row[-1] is DOWN and len(row) > 1) or len(row) >= breaker.REFUSED


def test_an_endpoint_that_is_down_for_an_hour_is_tried_sixty_times_at_most() -> None:
    """Each try at the end of the pause, as by a relay that has always something to send."""
    for _ in range(50):
        known, now, tries = Health(), START, 0
        while now < START + timedelta(hours=1):
            known = breaker.after(known, [replaced(DOWN, now)])
            tries += 1
            now = known.paused_until or now
        assert tries <= 60


def replaced(outcome: Answer | DeliveryError, now: datetime) -> Verdict:
    return decide(replace(result_of(outcome), started_at=now, duration=0.0), PATIENT)
