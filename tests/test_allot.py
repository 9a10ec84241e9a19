"""Who gets the senders that are free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import START
from support.outcomes import CLAIM, PATIENT, later, result_of

from sqla_webhooks import pace
from sqla_webhooks.deliveries import Answer, Claim
from sqla_webhooks.delivery.decide import decide
from sqla_webhooks.destination import Health
from sqla_webhooks.errors import TimedOut
from sqla_webhooks.models import lane_of
from sqla_webhooks.outbox.lanes import Lane
from sqla_webhooks.relay.allot import Allotment, allot
from sqla_webhooks.relay.windows import Windows

MOST = 16
OK, DOWN, REFUSES = Answer(200), TimedOut("no"), Answer(400)


def lane(endpoint: int, *, retry: bool = False, due: float | None = 0, **values: Any) -> Lane:
    given = {
        "open": True,
        "deleted": False,
        "enabled_since": False,
        "rate_limit": None,
        "rate_at": None,
        "health": Health(),
        **values,
    }
    at = None if due is None else later(due)
    return Lane(lane_of(endpoint, retry=retry), endpoint, retry=retry, due=at, **given)


def windows(**sizes: int) -> Windows:
    """By endpoint (`e1=3`), how many it has taken in a row."""
    known = Windows(most=MOST)
    for name, size in sizes.items():
        for _ in range(size):
            note(known, int(name[1:]), OK)
    return known


def claim_of(endpoint: int) -> Claim:
    return replace(CLAIM, destination=replace(CLAIM.destination, endpoint=endpoint))


def note(known: Windows, endpoint: int, outcome: Any) -> None:
    known.note(decide(result_of(outcome, claim_of(endpoint)), PATIENT))


def claims(endpoint: int, count: int, *, attempt: int = 1) -> list[Claim]:
    return [replace(claim_of(endpoint), attempt=attempt)] * count


def allotted(
    lanes: Sequence[Lane],
    known: Windows,
    *,
    free: int = 32,
    under_way: Collection[Claim] = (),
    one_by_one: bool = False,
) -> Allotment:
    return allot(lanes, free=free, under_way=under_way, windows=known, concurrency=32, one_by_one=one_by_one, now=START)


def counts(allotment: Allotment) -> dict[tuple[int, bool], int]:
    return {(one.endpoint, one.retry): one.limit for one in allotment.shares}


# ------------------------------------------------------------------ windows


def test_an_endpoint_that_has_not_answered_gets_one_request() -> None:
    assert counts(allotted([lane(1)], windows())) == {(1, False): 1}
    assert counts(allotted([lane(1)], windows(), under_way=claims(1, 1))) == {}


def test_as_it_answers_it_gets_more() -> None:
    assert counts(allotted([lane(1)], windows(e1=5))) == {(1, False): 5}
    assert counts(allotted([lane(1)], windows(e1=5), under_way=claims(1, 3))) == {(1, False): 2}
    assert counts(allotted([lane(1)], windows(e1=1000))) == {(1, False): MOST}


def test_one_timeout_brings_it_back_and_a_refusal_does_not() -> None:
    known = windows(e1=5)
    note(known, 1, REFUSES)
    assert known.size(1) == 5  # as it was
    note(known, 1, DOWN)
    assert (known.size(1), known.answers(1)) == (1, False)


def test_one_after_the_other_windows_do_not_matter() -> None:
    assert counts(allotted([lane(1)], windows(), free=2, one_by_one=True)) == {(1, False): 2}


# ------------------------------------------------------------------ between endpoints


def test_the_senders_are_shared_evenly_whatever_waits_and_since_when() -> None:
    known = windows(e1=100, e2=100, e3=100)
    lanes = [lane(1, due=-86400), lane(2, due=-3600), lane(3)]
    assert counts(allotted(lanes, known, free=9)) == {(1, False): 3, (2, False): 3, (3, False): 3}


def test_whoever_has_the_fewest_is_next() -> None:
    known = windows(e1=100, e2=100)
    under_way = claims(1, 10)
    assert counts(allotted([lane(1, due=-86400), lane(2)], known, free=4, under_way=under_way)) == {(2, False): 4}


def test_of_equals_the_one_that_is_due_longest() -> None:
    assert counts(allotted([lane(1), lane(2, due=-1)], windows(e1=1, e2=1), free=1)) == {(2, False): 1}


def test_what_one_cannot_use_is_the_others() -> None:
    known = windows(e1=100)
    assert counts(allotted([lane(1), lane(2)], known, free=12)) == {(1, False): 11, (2, False): 1}


def test_half_of_the_senders_is_kept_for_first_attempts_to_endpoints_that_answer() -> None:
    """Forty that hang, and one that answers and has nothing due yet."""
    lanes = [lane(number) for number in range(1, 41)]
    assert sum(counts(allotted(lanes, windows())).values()) == MOST
    hanging = [claim for number in range(1, 17) for claim in claims(number, 1)]
    later_on = [*lanes, lane(50)]
    assert counts(allotted(later_on, windows(e50=3), free=16, under_way=hanging)) == {(50, False): 3}


def test_retries_count_as_doubtful_too() -> None:
    known = windows(**{f"e{number}": 100 for number in range(1, 5)})
    lanes = [lane(number, retry=True) for number in range(1, 5)]
    assert sum(counts(allotted(lanes, known)).values()) == MOST


def test_retries_leave_half_of_the_window() -> None:
    known = windows(e1=10)
    assert counts(allotted([lane(1, retry=True, due=-10), lane(1)], known)) == {(1, True): 5, (1, False): 5}
    under_way = claims(1, 4, attempt=2)
    assert counts(allotted([lane(1, retry=True, due=-10)], known, under_way=under_way)) == {(1, True): 1}


# ------------------------------------------------------------------ who gets none


@pytest.mark.parametrize(
    "closed", [lane(1, open=False), lane(1, open=False, deleted=True), lane(1, due=None), lane(1, due=0.001)]
)
def test_nothing_is_due(closed: Lane) -> None:
    assert allotted([closed], windows(e1=9)).shares == []


def test_while_it_is_paused_an_endpoint_gets_none_and_then_one() -> None:
    paused = Health(failures=3, pauses=1, paused_at=later(-10), paused_until=later(5))
    both = [lane(1, health=paused, due=-7), lane(1, retry=True, health=paused, due=-8)]
    waiting = allotted(both, windows(e1=9))
    assert (waiting.shares, waiting.next_at) == ([], later(5))

    over = replace(paused, paused_until=START)
    both = [replace(one, health=over) for one in both]
    for one_by_one in (False, True):
        (share,) = allotted(both, windows(e1=9), one_by_one=one_by_one).shares
        assert (share.limit, share.retry, share.probe) == (1, True, True)
    assert allotted(both, windows(e1=9), under_way=claims(1, 1)).shares == []


def test_a_rate_limit_is_for_both_lanes_together() -> None:
    limited = [lane(1, rate_limit=30.0), lane(1, retry=True, rate_limit=30.0)]
    shares = allotted(limited, windows(e1=9)).shares
    assert sum(share.limit for share in shares) == pace.admitted(30.0, None, now=START) == 3  # a tenth
    used = [replace(one, rate_at=later(0.1)) for one in limited]
    waiting = allotted(used, windows(e1=9))
    assert waiting.shares == []
    assert waiting.next_at is not None
    assert START < waiting.next_at <= later(0.1)


def test_when_more_is_due_is_known() -> None:
    lanes = [lane(1), lane(2, due=30), lane(3, due=20), lane(4, due=10, open=False), lane(5, due=None)]
    assert allotted(lanes, windows()).next_at == later(20)
    assert allotted([lane(1)], windows()).next_at is None


# ------------------------------------------------------------------ whatever there is


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Lane], Windows, list[Claim], int]:
    known = windows(**{f"e{number}": draw(st.integers(0, 20)) for number in range(1, 7)})
    lanes = []
    for number in range(1, 7):
        of_endpoint = {
            "open": draw(st.integers(0, 5)) > 0,
            "rate_limit": draw(st.sampled_from([None, None, 20.0])),
            "health": draw(st.sampled_from([Health(), Health(pauses=1, paused_until=later(-1)), _PAUSED])),
        }
        due = st.one_of(st.none(), st.integers(-5, 5))
        both = [lane(number, retry=retry, due=draw(due), **of_endpoint) for retry in (False, True)]
        lanes += [one for one in both if draw(st.booleans())]
    under_way = [
        claim
        for number in range(1, 7)
        for attempt in (1, 2)
        for claim in claims(number, draw(st.integers(0, 3)), attempt=attempt)
    ]
    return lanes, known, under_way, draw(st.integers(0, 32))


_PAUSED = Health(pauses=1, paused_until=later(1))


@settings(deadline=None, max_examples=300)
@given(situations())
def test_nobody_gets_more_than_may_be_and_no_sender_is_idle_without_need(
    situation: tuple[list[Lane], Windows, list[Claim], int],
) -> None:
    lanes, known, under_way, free = situation
    allotment = allotted(lanes, known, free=free, under_way=under_way)
    got = counts(allotment)
    busy = Counter(claim.endpoint for claim in under_way)
    by_endpoint: Counter[int] = Counter()
    for (endpoint, _), count in got.items():
        by_endpoint[endpoint] += count
    assert sum(got.values()) <= free
    for share in allotment.shares:
        assert share.limit > 0
        assert by_endpoint[share.endpoint] + busy[share.endpoint] <= known.size(share.endpoint)
        assert not share.probe or by_endpoint[share.endpoint] + busy[share.endpoint] == 1
    doubtful = sum(claim.is_retry or not known.answers(claim.endpoint) for claim in under_way)
    taken = sum(count for (endpoint, retry), count in got.items() if retry or not known.answers(endpoint))
    assert taken <= max(0, MOST - doubtful)
    if sum(got.values()) < free:  # then every first attempt to an endpoint that answers has all that its window allows
        for one in lanes:
            due = one.open and one.due is not None and one.due <= START and not one.health.pauses
            if due and not one.retry and known.answers(one.endpoint) and one.rate_limit is None:
                assert by_endpoint[one.endpoint] + busy[one.endpoint] >= known.size(one.endpoint)


def test_the_time_of_the_next_is_never_in_the_past() -> None:
    limited = lane(1, rate_limit=0.5, rate_at=START + timedelta(seconds=2), due=-100)
    assert allotted([limited], windows(e1=3)).next_at == later(2)
