"""What was given up, cancelled, or waits, put right by hand: `webhooks.deliveries`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.queues import awake, faults
from support.receiver import Receiver
from support.shop import Product, put
from support.threads import Gate
from tenacity import stop_after_attempt

from sqla_webhooks import (
    ConfigurationError,
    Delivery,
    DeliveryState,
    NewEndpoint,
    NotFound,
    Progress,
    Webhooks,
    WrongState,
)
from sqla_webhooks.outbox import pages

Sessions = sessionmaker[Session]


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    """Gives up after one attempt."""
    return install(sessions, deliver=False, clock=clock, stop=stop_after_attempt(1))


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


def sell(sessions: Sessions, sku: str, *stocks: int) -> None:
    """So many changes of one row, each in a transaction of its own."""
    for stock in stocks:
        with sessions.begin() as session:
            session.get_one(Product, sku).stock = stock


def states(webhooks: Webhooks) -> list[str]:
    """Of all deliveries, oldest first."""
    return [one.state.value for one in webhooks.deliveries.list()][::-1]


def stocks(receiver: Receiver) -> list[int]:
    return [event["data"]["stock"] for event in receiver.events()]


def oldest(webhooks: Webhooks) -> Delivery:
    return webhooks.deliveries.list()[-1]


@pytest.fixture
def dead(webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver) -> Delivery:
    """A dead letter."""
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    receiver.forget()
    return oldest(webhooks)


# --------------------------------------------------------------------------- retry


def test_a_dead_letter_is_sent_again_and_its_attempts_are_counted_anew(
    webhooks: Webhooks, dead: Delivery, receiver: Receiver, clock: MovedClock
) -> None:
    clock.advance(60)
    again = webhooks.deliveries.retry(dead.id)
    assert (again.id, again.state, again.attempts) == (dead.id, DeliveryState.PENDING, 0)
    assert (again.next_attempt_at, again.finished_at) == (clock.now(), None)
    webhooks.drain()

    assert receiver.ids == [dead.event_id]
    assert (oldest(webhooks).state, oldest(webhooks).attempts) == (DeliveryState.DELIVERED, 1)
    assert [(one.number, one.status) for one in webhooks.deliveries.attempts(dead.id)] == [(1, 500), (1, 200)]


def test_the_time_that_strategies_look_at_begins_anew(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    seen: list[tuple[int, float]] = []

    def stop(state: Any) -> bool:
        seen.append((state.attempt_number, state.seconds_since_start))
        return len(seen) == 2

    webhooks = install(sessions, deliver=False, clock=clock, stop=stop, wait=lambda state: 5)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500, 500, 500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(5)
    webhooks.drain()
    clock.advance(3600)
    webhooks.deliveries.retry(oldest(webhooks).id)
    webhooks.drain()
    assert seen == [(1, 0), (2, 5), (1, 0)]


def test_twice_is_the_same_as_once(webhooks: Webhooks, dead: Delivery, receiver: Receiver, clock: MovedClock) -> None:
    first = webhooks.deliveries.retry(dead.id)
    clock.advance(1)
    assert webhooks.deliveries.retry(dead.id) == first
    webhooks.drain()
    assert receiver.ids == [dead.event_id]


def test_a_cancelled_one_can_be_retried(webhooks: Webhooks, dead: Delivery, receiver: Receiver) -> None:
    assert webhooks.deliveries.cancel(dead.id).state is DeliveryState.CANCELLED
    assert webhooks.deliveries.retry(dead.id).state is DeliveryState.PENDING
    webhooks.drain()
    assert receiver.ids == [dead.event_id]


def test_one_that_waits_for_its_retry_is_due_now_and_its_attempts_still_count(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    again = webhooks.deliveries.retry(oldest(webhooks).id)
    assert (again.attempts, again.next_attempt_at) == (1, clock.now())
    webhooks.drain()
    assert [one.number for one in webhooks.deliveries.attempts(again.id)] == [1, 2]


def test_what_cannot_be_retried_is_refused_and_says_why(
    webhooks: Webhooks, endpoint: NewEndpoint, dead: Delivery, sessions: Sessions
) -> None:
    put(sessions, "b")
    webhooks.drain()
    delivered = webhooks.deliveries.list(state="delivered")[0]
    with pytest.raises(WrongState, match=r"was delivered; webhooks\.events\.replay"):
        webhooks.deliveries.retry(delivered.id)
    with pytest.raises(NotFound, match="no delivery has the number 99"):
        webhooks.deliveries.retry(99)
    webhooks.endpoints.delete(endpoint.id)
    with pytest.raises(WrongState, match="was deleted"):
        webhooks.deliveries.retry(dead.id)
    assert webhooks.deliveries.get(dead.id) == dead


def test_to_a_disabled_endpoint_it_is_held(
    webhooks: Webhooks, endpoint: NewEndpoint, dead: Delivery, receiver: Receiver
) -> None:
    webhooks.endpoints.disable(endpoint.id)
    assert webhooks.deliveries.retry(dead.id).state is DeliveryState.HELD
    webhooks.drain()
    assert receiver.ids == []
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert receiver.ids == [dead.event_id]


def test_one_that_is_being_sent_is_left_alone(in_flight: Webhooks, gate: Gate, receiver: Receiver) -> None:
    sent = oldest(in_flight)
    assert in_flight.deliveries.retry(sent.id) == sent
    gate.open()
    receiver.wait_for(1)
    assert in_flight.stop()
    assert oldest(in_flight).state is DeliveryState.DELIVERED
    assert len(receiver.received) == 1


# --------------------------------------------------------------------------- its place


@pytest.fixture
def four_of_one_row(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> Webhooks:
    """The first of a row is dead, the second waits for its retry, and two more wait for that."""
    gives_up = [True, False]
    webhooks = install(sessions, deliver=False, clock=clock, stop=lambda state: gives_up.pop(0))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500, 500)
    put(sessions, "a")
    sell(sessions, "a", 1, 2, 3)
    webhooks.drain()
    assert states(webhooks) == ["dead", "pending", "pending", "pending"]
    assert awake(engine) == [2]
    receiver.forget()
    return webhooks


def test_it_goes_before_what_is_later_of_its_row(four_of_one_row: Webhooks, receiver: Receiver, engine: Engine) -> None:
    four_of_one_row.deliveries.retry(1)
    assert awake(engine) == [1]
    assert faults(engine) == []
    four_of_one_row.drain()
    assert stocks(receiver) == [0, 1, 2, 3]


def test_it_waits_behind_what_is_earlier_of_its_row(
    four_of_one_row: Webhooks, receiver: Receiver, engine: Engine
) -> None:
    webhooks = four_of_one_row
    webhooks.deliveries.cancel(3)
    webhooks.deliveries.retry(1)
    assert webhooks.deliveries.retry(3).next_attempt_at is None
    assert awake(engine) == [1]
    assert faults(engine) == []
    webhooks.drain()
    assert stocks(receiver) == [0, 1, 2, 3]


def test_what_is_later_and_being_sent_is_not_called_back(
    install: Install, sessions: Sessions, receiver: Receiver, gate: Gate, engine: Engine
) -> None:
    webhooks = install(sessions, batch_window=0, stop=stop_after_attempt(1), deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    sell(sessions, "a", 1, 2)
    receiver.on_request = gate
    webhooks.start()
    gate.wait()
    webhooks.deliveries.retry(1)
    assert awake(engine) == [1, 2]  # and not the third, whose time comes with the end of the first
    gate.open()
    receiver.wait_for(4)
    assert webhooks.stop()
    assert stocks(receiver)[-1] == 2
    assert sorted(stocks(receiver)) == [0, 0, 1, 2]
    assert faults(engine) == []


def test_a_change_of_the_key_waits_in_both_queues_again(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    gives_up = [True]
    webhooks = install(sessions, deliver=False, clock=clock, stop=lambda state: gives_up[0])
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "old")
    webhooks.drain()
    with sessions.begin() as session:
        session.get_one(Product, "old").sku = "new"
    receiver.answer(500)
    webhooks.drain()
    gives_up[0] = False
    receiver.answer(500, 500)
    put(sessions, "old")
    sell(sessions, "new", 7)
    webhooks.drain()
    assert states(webhooks) == ["delivered", "dead", "pending", "pending"]
    receiver.forget()

    assert webhooks.deliveries.retry(2).next_attempt_at == clock.now()
    assert awake(engine) == [2]
    webhooks.drain()
    assert [event["resource_id"] for event in receiver.events()] == ["new", "old", "new"]
    assert faults(engine) == []


def test_where_no_order_is_wanted_it_waits_for_nothing(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"], ordering=False)
    receiver.answer(500, 500)
    put(sessions, "a")
    sell(sessions, "a", 1)
    webhooks.drain()
    webhooks.deliveries.retry_all()
    assert awake(engine) == [1, 2]


# --------------------------------------------------------------------------- a row that is held


@pytest.fixture
def held_row(install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock) -> Webhooks:
    """A dead letter that holds two more of its row."""
    webhooks = install(sessions, deliver=False, clock=clock, stop=stop_after_attempt(1), after_last_attempt="hold")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    sell(sessions, "a", 1, 2)
    webhooks.drain()
    assert (states(webhooks), len(receiver.received)) == (["dead", "pending", "pending"], 1)
    receiver.forget()
    return webhooks


def test_a_retry_sends_it_and_then_what_it_held(held_row: Webhooks, receiver: Receiver, engine: Engine) -> None:
    held_row.deliveries.retry(1)
    held_row.drain()
    assert stocks(receiver) == [0, 1, 2]
    assert faults(engine) == []


def test_a_retry_that_fails_holds_them_again(held_row: Webhooks, receiver: Receiver) -> None:
    receiver.answer(500)
    held_row.deliveries.retry(1)
    held_row.drain()
    assert (stocks(receiver), states(held_row)) == ([0], ["dead", "pending", "pending"])


def test_cancelled_it_lets_them_go(held_row: Webhooks, receiver: Receiver, engine: Engine) -> None:
    held_row.deliveries.cancel(1)
    held_row.drain()
    assert stocks(receiver) == [1, 2]
    assert states(held_row) == ["cancelled", "delivered", "delivered"]
    assert faults(engine) == []


def test_a_retry_sends_it_and_what_it_held_though_order_is_wanted_no_more(
    held_row: Webhooks, receiver: Receiver, engine: Engine
) -> None:
    held_row.endpoints.update(held_row.endpoints.list()[0].id, ordering=False)
    held_row.deliveries.retry(1)
    assert faults(engine) == []
    held_row.drain()
    assert stocks(receiver) == [0, 1, 2]


# --------------------------------------------------------------------------- cancel


def test_what_waits_behind_a_cancelled_one_goes_on(
    four_of_one_row: Webhooks, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    four_of_one_row.deliveries.cancel(3)
    four_of_one_row.deliveries.cancel(2)
    assert awake(engine) == [4]
    four_of_one_row.drain()
    assert stocks(receiver) == [3]
    assert states(four_of_one_row) == ["dead", "cancelled", "cancelled", "delivered"]
    assert faults(engine) == []


def test_cancelled_twice_is_the_same_as_once(webhooks: Webhooks, dead: Delivery, clock: MovedClock) -> None:
    first = webhooks.deliveries.cancel(dead.id)
    clock.advance(1)
    assert webhooks.deliveries.cancel(dead.id) == first


def test_a_delivered_one_cannot_be_cancelled(webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions) -> None:
    put(sessions, "a")
    webhooks.drain()
    with pytest.raises(WrongState, match="delivery 1 cannot be cancelled: it was delivered"):
        webhooks.deliveries.cancel(1)
    with pytest.raises(NotFound):
        webhooks.deliveries.cancel(2)


def test_what_comes_of_one_that_was_being_sent_is_not_recorded(
    in_flight: Webhooks, sessions: Sessions, gate: Gate, receiver: Receiver, engine: Engine
) -> None:
    sell(sessions, "a", 1)
    cancelled = in_flight.deliveries.cancel(1)
    gate.open()
    receiver.wait_for(2)
    assert in_flight.stop()
    assert in_flight.deliveries.get(1) == cancelled
    assert in_flight.deliveries.attempts(1) == []
    assert in_flight.deliveries.get(2).state is DeliveryState.DELIVERED
    assert faults(engine) == []


@pytest.mark.parametrize(("state", "left"), [("dead", [2, 3, 4]), ("pending", [1])])
def test_all_in_one_state_are_cancelled(
    four_of_one_row: Webhooks, receiver: Receiver, engine: Engine, state: Any, left: list[int]
) -> None:
    webhooks = four_of_one_row
    assert webhooks.deliveries.cancel_all(state=state) == Progress(4 - len(left), 4 - len(left))
    assert [one.id for one in webhooks.deliveries.list() if one.state is not DeliveryState.CANCELLED][::-1] == left
    assert webhooks.deliveries.cancel_all(state=state) == Progress(0, 0)
    assert faults(engine) == []


def test_what_is_held_can_be_cancelled(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.disable(endpoint.id)
    put(sessions, "a", "b")
    webhooks.drain()
    assert webhooks.deliveries.cancel_all(state="held", endpoint=endpoint.id) == Progress(2, 2)
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert (states(webhooks), receiver.received) == (["cancelled", "cancelled"], [])


# --------------------------------------------------------------------------- all of them


@pytest.fixture
def five_dead(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Five dead letters, of one row and of three others, and pages of two; the ids of their events."""
    monkeypatch.setattr(pages, "SIZE", 2)
    receiver.answer(*[500] * 5)
    put(sessions, "a")
    sell(sessions, "a", 1)
    put(sessions, "b", "c", "d")
    webhooks.drain()
    receiver.forget()
    return [one.event_id for one in webhooks.deliveries.list(state="dead")][::-1]


def test_all_dead_letters_are_sent_again_in_their_order(
    webhooks: Webhooks, five_dead: list[str], receiver: Receiver, engine: Engine
) -> None:
    told: list[Progress] = []
    assert webhooks.deliveries.retry_all(progress=told.append) == Progress(5, 5)
    assert told == [Progress(2, 5), Progress(4, 5), Progress(5, 5)]
    assert faults(engine) == []
    webhooks.drain()
    assert sorted(receiver.ids) == sorted(five_dead)
    assert stocks(receiver)[:2] != [1, 0]
    assert webhooks.deliveries.retry_all(progress=told.append) == Progress(0, 0)
    assert len(told) == 3


def test_one_that_dies_again_meanwhile_is_not_taken_twice(
    webhooks: Webhooks, five_dead: list[str], receiver: Receiver
) -> None:
    receiver.answer(*[500] * 5)
    webhooks.deliveries.retry_all(progress=lambda progress: webhooks.drain())
    webhooks.drain()
    assert sorted(receiver.ids) == sorted(five_dead)
    assert states(webhooks) == ["dead"] * 5


def test_only_those_that_were_dead_as_the_call_began(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third dies while the first two are retried, and a sixth at the very instant at which it began."""
    monkeypatch.setattr(pages, "SIZE", 2)
    gives_up = [True, True, False, True, True, *[True] * 9]
    webhooks = install(sessions, deliver=False, clock=clock, stop=lambda state: gives_up.pop(0))
    webhooks.endpoints.create(receiver.url(), events=["*"], ordering=False)
    receiver.answer(*[500] * 9)
    put(sessions, *"abcde")
    webhooks.drain()
    assert states(webhooks) == ["dead", "dead", "pending", "dead", "dead"]

    def die(progress: Progress) -> None:
        if progress.done == 2:
            put(sessions, "f")
            webhooks.drain()
            clock.advance(6)
            webhooks.drain()
            assert states(webhooks)[2] == states(webhooks)[5] == "dead"

    assert webhooks.deliveries.retry_all(progress=die) == Progress(4, 4)
    assert (states(webhooks)[2], states(webhooks)[5]) == ("dead", "dead")


def test_broken_off_and_called_again_it_goes_on(webhooks: Webhooks, five_dead: list[str], receiver: Receiver) -> None:
    def break_off(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        webhooks.deliveries.retry_all(progress=break_off)
    assert len(webhooks.deliveries.list(state="dead")) == 3
    assert webhooks.deliveries.retry_all() == Progress(3, 3)
    webhooks.drain()
    assert sorted(receiver.ids) == sorted(five_dead)


def test_all_means_those_that_match(
    webhooks: Webhooks, five_dead: list[str], sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    other = webhooks.endpoints.create(receiver.url("/other"), events=["*"])
    clock.advance(100)
    died = clock.now()
    receiver.answer(500, 500)
    put(sessions, "late")
    webhooks.drain()
    retry_all = webhooks.deliveries.retry_all
    calls: list[tuple[Callable[[], Progress], int]] = [
        (lambda: retry_all(until=died - timedelta(seconds=100)), 0),
        (lambda: retry_all(since=died + timedelta(seconds=1)), 0),
        (lambda: retry_all(type="product.deleted"), 0),
        (lambda: retry_all(type="product.updated"), 1),
        (lambda: retry_all(endpoint=other.id), 1),
        (lambda: retry_all(since=died), 1),
        (lambda: retry_all(until=died), 4),
        (retry_all, 0),
    ]
    for call, count in calls:
        assert call() == Progress(count, count)


# --------------------------------------------------------------------------- the list


def test_the_list_of_what_was_given_up_lately(webhooks: Webhooks, five_dead: list[str], clock: MovedClock) -> None:
    died = clock.now()
    second = timedelta(seconds=1)
    listed = webhooks.deliveries.list
    assert len(listed(state="dead", since=died)) == 5
    assert listed(state="dead", since=died + second) == []
    assert listed(state="dead", until=died) == []
    assert [one.event_type for one in listed(state="dead", type="product.updated")] == ["product.updated"]


def test_what_is_not_finished_is_listed_by_when_it_was_made(four_of_one_row: Webhooks, clock: MovedClock) -> None:
    made = clock.now()
    clock.advance(10)
    four_of_one_row.deliveries.cancel(4)
    assert [one.id for one in four_of_one_row.deliveries.list(until=clock.now())] == [3, 2, 1]
    assert [one.id for one in four_of_one_row.deliveries.list(since=clock.now())] == [4]
    assert len(four_of_one_row.deliveries.list(since=made)) == 4


def test_pages_of_the_list(webhooks: Webhooks, five_dead: list[str]) -> None:
    seen: list[int] = []
    page = webhooks.deliveries.list(limit=2)
    while page:
        seen += [one.id for one in page]
        page = webhooks.deliveries.list(limit=2, before=page[-1].id)
    assert seen == [5, 4, 3, 2, 1]


def test_what_cannot_be_looked_for_is_refused(webhooks: Webhooks, endpoint: NewEndpoint) -> None:
    given: Any = endpoint
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  # that is the point
    delivered: Any = "delivered"
    deliveries, events = webhooks.deliveries, webhooks.events
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: deliveries.list(since=naive), "since is datetime .*: give a datetime with a time zone"),
        (lambda: deliveries.list(before=given), "write delivery.id"),
        (lambda: deliveries.list(type=given), "type is NewEndpoint: give a text like 'order.created'"),
        (lambda: deliveries.list(type="order.*"), r"type is 'order\.\*': give one type in full"),
        (lambda: deliveries.retry_all(type="*"), "give one type in full"),
        (lambda: deliveries.cancel_all(state="held", type="*.created"), "give one type in full"),
        (lambda: events.list(type="order.*"), "give one type in full"),
        (lambda: events.replay_all(endpoint=endpoint.id, type="order.*"), "give one type in full"),
        (lambda: deliveries.retry(given), "write delivery.id"),
        (lambda: deliveries.cancel(given), "write delivery.id"),
        (lambda: deliveries.retry_all(endpoint=given), "endpoint is NewEndpoint"),
        (lambda: deliveries.retry_all(until=naive), "until is datetime"),
        (lambda: deliveries.cancel_all(state=delivered), "the states are pending, held, dead"),
        (lambda: events.replay(given, endpoint=endpoint.id), "named by its id, a text like 'evt_…'"),
        (lambda: events.replay("evt_1", endpoint=given), "write endpoint.id"),
        (lambda: events.replay_all(endpoint=given), "write endpoint.id"),
        (lambda: events.replay_all(endpoint=endpoint.id, as_of=naive), "as_of is datetime"),
    ]
    for call, says in calls:
        with pytest.raises(ConfigurationError, match=says):
            call()
