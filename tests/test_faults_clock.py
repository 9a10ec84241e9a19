"""A clock that is set back and forth by hours: nothing is lost or out of order, and what waits goes on at last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import START, JumpingClock, MovedClock, SteppedClock
from support.faults import refusing
from support.local import Install
from support.receiver import Received, Receiver, by_row
from support.shop import Product, put
from support.threads import until
from tenacity import stop_never, wait_fixed

from sqla_webhooks import Webhooks, models

pytestmark = pytest.mark.stress

Sessions = sessionmaker[Session]

HOUR, DAY = 3600.0, 86400.0

#: A minute after each failure, for ever.
PATIENT: dict[str, Any] = {"wait": wait_fixed(60), "stop": stop_never, "disable_after": None}


def stock(sessions: Sessions, *numbers: int, sku: str = "a") -> None:
    """Commit each as the stock of a product."""
    for number in numbers:
        with sessions.begin() as session:
            session.merge(Product(sku=sku, stock=number))


def states(webhooks: Webhooks) -> set[str]:
    return {one.state.value for one in webhooks.deliveries.list(limit=10_000)}


def attempts(webhooks: Webhooks) -> int:
    return sum(one.attempts for one in webhooks.deliveries.list(limit=10_000))


# ------------------------------------------------------------------ it jumps between any two steps


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 60))])
def test_two_relays_whose_clocks_jump_between_any_two_steps(
    seed: int, install: Install, engine: Engine, receiver: Receiver
) -> None:
    clocks = [JumpingClock(2 * seed), JumpingClock(2 * seed + 1)]
    factories = [sessionmaker(engine) for _ in clocks]
    relays = [
        install(factory, deliver=False, clock=clock, **PATIENT)
        for factory, clock in zip(factories, clocks, strict=True)
    ]
    relays[0].endpoints.create(receiver.url(), events=["*"])
    relays[0].endpoints.create(receiver.url("/slowly"), events=["*"], rate_limit=0.5)
    receiver.answer(*[500, 200, 503, 200, 200] * 6)
    for number in range(10):
        for row in "abc":
            stock(factories[number % 2], number, sku=row)
        for one, clock in zip(relays, clocks, strict=True):
            one.drain(timeout=1)
            clock.advance(7)
    for clock in clocks:
        clock.calm_down()
        clock.advance(2 * DAY)
    settle(relays, clocks)

    assert states(relays[0]) == {"delivered"}
    assert len(receiver.received) == attempts(relays[0]), "an attempt that is not recorded"
    for path in ("/hooks", "/slowly"):
        rows = by_row(one for one in receiver.received if one.path == path)
        assert len(rows) == 3
        for events in rows.values():
            stocks = [event["data"]["stock"] for event in events]
            assert stocks == sorted(stocks)
            assert set(stocks) == set(range(10))


def settle(relays: list[Webhooks], clocks: list[JumpingClock]) -> None:
    """Go on as long as there is anything to do."""
    for _ in range(200):
        done = [one.drain(timeout=1) for one in relays]
        if states(relays[0]) == {"delivered"} and not any(one.attempts for one in done):
            return
        for clock in clocks:
            clock.advance(100)


# ------------------------------------------------------------------ it is set while a request runs, or a retry waits


@pytest.mark.parametrize("by", [-3 * HOUR, -0.5, 3 * HOUR])
def test_it_is_set_while_a_request_runs(by: float, install: Install, sessions: Sessions, receiver: Receiver) -> None:
    """The result is recorded all the same, with how long it really took."""
    clock = SteppedClock()
    webhooks = install(sessions, deliver=False, clock=clock, **PATIENT)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    def set_it(_request: Received) -> None:
        clock.set_by(by)

    receiver.on_request = set_it
    stock(sessions, 1, 2, 3)
    for _ in range(3):
        webhooks.drain()

    assert [one["data"]["stock"] for one in receiver.events()] == [1, 2, 3]
    assert states(webhooks) == {"delivered"}
    for one in webhooks.deliveries.list():
        (attempt,) = webhooks.deliveries.attempts(one.id)
        assert attempt.duration == 0


@pytest.mark.parametrize("by", [-3 * HOUR, 3 * HOUR])
def test_a_retry_comes_when_the_clock_says_so_and_the_thread_is_idle_until_then(
    by: float, install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    clock = SteppedClock()
    webhooks = install(sessions, clock=clock, batch_window=0, poll_interval=10, **PATIENT)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    until(lambda: attempts(webhooks) == 1)
    clock.advance(10)
    clock.set_by(by)
    before = len(clock.waits)
    for _ in range(10):
        clock.advance(10)
    assert set(clock.waits[before:]) == {10}
    assert len(clock.waits) - before <= 12, "it looks more often than it polls"
    if by < 0:
        assert len(receiver.received) == 1
        clock.set_by(-by)
        clock.advance(10)
    receiver.wait_for(2)
    until(lambda: states(webhooks) == {"delivered"})
    webhooks.stop()


@pytest.mark.parametrize("by", [-DAY, DAY])
def test_the_batch_window_does_not_go_by_the_time_of_day(
    by: float, install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    clock = SteppedClock()
    webhooks = install(sessions, clock=clock, batch_window=10, poll_interval=100, **PATIENT)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    until(lambda: bool(clock.waits))
    before = len(clock.waits)
    put(sessions, "a")
    until(lambda: len(clock.waits) > before)
    clock.set_by(by)
    put(sessions, "b")
    assert clock.waits[-1] == 10
    assert webhooks.events.list() == []
    clock.advance(10)
    assert [one["resource_id"] for one in (request.event for request in receiver.wait_for(2))] == ["a", "b"]
    assert len({one.timestamp for one in webhooks.events.list()}) == 2, "each says when it happened"
    until(lambda: states(webhooks) == {"delivered"})
    webhooks.stop()


# ------------------------------------------------------------------ a clock that was ahead has left its marks


@pytest.fixture
def ahead(install: Install, engine: Engine) -> Webhooks:
    """A relay whose clock is three hours ahead."""
    return install(sessionmaker(engine), deliver=False, clock=MovedClock(START + timedelta(hours=3)), **PATIENT)


@pytest.fixture
def right(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, **PATIENT)


@pytest.mark.parametrize("status", [200, 500, 503])
@pytest.mark.parametrize("rate_limit", [None, 1])
def test_what_one_has_claimed_put_off_or_paused_goes_on_when_the_others_have_come_so_far(
    status: int,
    rate_limit: float | None,
    ahead: Webhooks,
    right: Webhooks,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
) -> None:
    endpoint = right.endpoints.create(receiver.url(), events=["*"], rate_limit=rate_limit)
    receiver.answer(status)
    stock(sessions, 1)
    ahead.drain()
    stock(sessions, 2, 3)
    right.drain()
    clock.advance(3 * HOUR + 61)
    for _ in range(3):
        assert right.drain().complete
        clock.advance(1)

    assert [one["data"]["stock"] for one in receiver.events()] == ([1, 2, 3] if status == 200 else [1, 1, 2, 3])
    assert states(right) == {"delivered"}
    assert right.endpoints.get(endpoint.id).health.pauses == 0


def test_what_one_held_as_it_died_goes_on_when_its_lease_ends(
    ahead: Webhooks, right: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    right.endpoints.create(receiver.url(), events=["*"])
    stock(sessions, 1, 2)

    def die(_request: Received) -> None:
        receiver.on_request = None
        with engine.connect() as connection:  # it holds both leases meanwhile
            left.extend(connection.scalars(select(models.delivery.c.next_attempt_at)))

    left: list[datetime | None] = []
    receiver.on_request = die
    with refusing(engine, "INSERT INTO webhook_attempt"), pytest.raises(OperationalError, match="disk is full"):
        ahead.drain()
    ahead.uninstall()
    assert left == [START + timedelta(hours=3, seconds=60), None]
    right.drain()
    clock.advance(3 * HOUR + 61)
    right.drain()

    assert [one["data"]["stock"] for one in receiver.events()] == [1, 1, 2]
    assert states(right) == {"delivered"}


def test_an_endpoint_that_began_to_fail_in_the_future_is_disabled_no_earlier_and_at_last(
    install: Install, engine: Engine, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    options: dict[str, Any] = {**PATIENT, "disable_after": HOUR, "deliver": False}
    ahead = install(sessionmaker(engine), clock=MovedClock(START + timedelta(hours=3)), **options)
    right = install(sessions, clock=clock, **options)
    endpoint = right.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(*[500] * 1000)
    put(sessions, "a")
    ahead.drain()
    disabled_at = None
    while disabled_at is None and clock.now() < START + timedelta(hours=6):
        right.drain()
        disabled_at = right.endpoints.get(endpoint.id).disabled_at
        clock.advance(100)

    assert disabled_at is not None
    assert START + timedelta(hours=4) <= disabled_at < START + timedelta(hours=4, minutes=5)
