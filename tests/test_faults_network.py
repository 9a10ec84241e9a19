"""Receivers that refuse, break off, stall, lie and recover: all is delivered, in order, and nobody else is held up."""

from __future__ import annotations

import random
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support.clock import HurriedClock
from support.local import Install
from support.moody import HEALTHY, MOODS, STALLS, Mood, Moody, check, reasons_of
from support.receiver import Receiver, by_row
from support.shop import Product, put
from support.threads import until
from tenacity import stop_never, wait_fixed

from sqla_webhooks import DeliveryState, Webhooks

pytestmark = pytest.mark.stress

Sessions = sessionmaker[Session]

#: Retries and pauses take no time; a request has a second, which is long for a healthy receiver on a busy machine.
HURRIED: dict[str, Any] = {
    "wait": wait_fixed(5),
    "stop": stop_never,
    "timeout": 1.0,
    "lease": 1_000_000,
    "poll_interval": 0.05,
    "batch_window": 0.01,
    "disable_after": None,
}


@pytest.fixture
def webhooks(install: Install, sessions: Sessions) -> Webhooks:
    return install(sessions, clock=HurriedClock(wall=500), **HURRIED)


def change(sessions: Sessions, *, rows: int, times: int, before: int = 0) -> int:
    """Change each row so often, which was changed so often before; how many events that makes."""
    for stock in range(before, before + times):
        for row in range(rows):
            with sessions.begin() as session:
                session.merge(Product(sku=f"row {row}", stock=stock))
    return rows * times


def are_delivered(webhooks: Webhooks, count: int) -> bool:
    return len(webhooks.deliveries.list(state=DeliveryState.DELIVERED, limit=10_000)) == count


@pytest.mark.parametrize("mood", MOODS, ids=lambda mood: mood.name)
def test_a_mood_that_comes_and_goes(mood: Mood, webhooks: Webhooks, sessions: Sessions) -> None:
    """On a new connection, and on one that was kept."""
    with Moody([mood, HEALTHY, HEALTHY, mood, HEALTHY, mood]) as moody:
        endpoint = webhooks.endpoints.create(moody.url, events=["*"])
        count = change(sessions, rows=2, times=4)
        until(partial(are_delivered, webhooks, count))
        webhooks.stop()
    assert sum(one.mood is mood for one in moody.seen) == 3
    check(moody, webhooks, endpoint=endpoint.id, events=count)


@pytest.mark.parametrize(
    ("seed", "receivers", "rows", "times"),
    [(1, 8, 5, 5), *(pytest.param(n, 20, 10, 20, marks=pytest.mark.long) for n in range(2, 5))],
)
def test_many_receivers_of_changing_moods(
    seed: int, receivers: int, rows: int, times: int, webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    """Each in another order, with healthy times between; and one that is healthy all the time."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        moodies = [
            stack.enter_context(Moody(chance.sample([*MOODS, *[HEALTHY] * len(MOODS)], 2 * len(MOODS))))
            for _ in range(receivers)
        ]
        ids = [webhooks.endpoints.create(one.url, events=["*"]).id for one in moodies]
        webhooks.endpoints.create(receiver.url(), events=["*"])
        count = change(sessions, rows=rows, times=times)
        receiver.wait_for(count)
        until(partial(are_delivered, webhooks, count * (receivers + 1)))
        webhooks.stop()
    for moody, id_ in zip(moodies, ids, strict=True):
        check(moody, webhooks, endpoint=id_, events=count)
    assert len(receiver.received) == count
    assert all(
        [one["data"]["stock"] for one in events] == list(range(times)) for events in by_row(receiver.received).values()
    )


def test_a_receiver_that_is_away_and_comes_back(webhooks: Webhooks, sessions: Sessions) -> None:
    with Moody() as moody:
        endpoint = webhooks.endpoints.create(moody.url, events=["*"])
        count = change(sessions, rows=2, times=2)
        until(partial(are_delivered, webhooks, count))
        for before in (2, 4):
            moody.refuse()
            count += change(sessions, rows=2, times=2, before=before)
            until(partial(has_refused, webhooks, 3))
            moody.listen()
            until(partial(are_delivered, webhooks, count))
        webhooks.stop()
    check(moody, webhooks, endpoint=endpoint.id, events=count)


def has_refused(webhooks: Webhooks, times: int) -> bool:
    """Whether what is pending has been tried so often."""
    tried = [reasons_of(webhooks, one) for one in webhooks.deliveries.list(state=DeliveryState.PENDING)]
    return any(reasons == ["connect"] * len(reasons) and len(reasons) >= times for reasons in tried)


def test_many_receivers_that_hang_leave_the_senders_to_one_that_answers(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    """There are more of them than senders, and nothing ends before the test does."""
    webhooks = install(sessions, concurrency=4, **{**HURRIED, "timeout": 60})
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    until(partial(are_delivered, webhooks, 1))
    with ExitStack() as stack:
        hanging = [stack.enter_context(Moody([STALLS] * 100)) for _ in range(6)]
        for one in hanging:
            webhooks.endpoints.create(one.url, events=["*"])
        count = change(sessions, rows=5, times=5)
        receiver.wait_for(1 + count)
        assert sum(len(one.seen) for one in hanging) <= 2, "half of the senders"
    webhooks.stop()


def test_a_new_endpoint_waits_for_no_more_than_the_first_requests_of_many_that_hang(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    """The time of day stands still: however long the machine takes for the changes, no pause ends meanwhile."""
    webhooks = install(sessions, clock=HurriedClock(wall=0), concurrency=4, **{**HURRIED, "timeout": 0.3})
    with ExitStack() as stack:
        hanging = [stack.enter_context(Moody([STALLS] * 100)) for _ in range(6)]
        for one in hanging:
            webhooks.endpoints.create(one.url, events=["*"])
        change(sessions, rows=5, times=1)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        put(sessions, "new")
        receiver.wait_for(1)
        assert sum(len(one.seen) for one in hanging) <= 2 * len(hanging)
    webhooks.stop()
