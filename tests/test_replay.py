"""Events that are kept, given to an endpoint again or for the first time: `webhooks.events`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.local import Install
from support.queues import awake, faults
from support.receiver import Receiver
from support.shop import Base, Product, put
from support.threads import aside
from tenacity import stop_after_attempt

from sqla_webhooks import DeliveryState, NewEndpoint, NotFound, Progress, Webhooks
from sqla_webhooks.outbox import pages

Sessions = sessionmaker[Session]


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    """Keeps every event, and gives up after one attempt."""
    return install(sessions, deliver=False, clock=clock, capture="all", stop=stop_after_attempt(1))


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["product.created"])


def sell(sessions: Sessions, sku: str, *stocks: int) -> None:
    for stock in stocks:
        with sessions.begin() as session:
            session.get_one(Product, sku).stock = stock


def ids(webhooks: Webhooks, type_: str | None = None) -> list[str]:
    """Of events, oldest first."""
    return [one.id for one in webhooks.events.list(type=type_)][::-1]


# --------------------------------------------------------------------------- one


def test_an_event_is_sent_to_an_endpoint_that_had_not_asked_for_it(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, "a")
    sell(sessions, "a", 1)
    webhooks.drain()
    [updated] = ids(webhooks, "product.updated")
    receiver.forget()

    delivery = webhooks.events.replay(updated, endpoint=endpoint.id)
    assert (delivery.event_id, delivery.endpoint_id, delivery.state) == (updated, endpoint.id, DeliveryState.PENDING)
    assert webhooks.events.replay(updated, endpoint=endpoint.id) == delivery
    webhooks.drain()
    [request] = receiver.received
    assert (request.id, request.body) == (updated, webhooks.events.get(updated).payload)
    assert request.is_signed(endpoint.secret)


@pytest.mark.parametrize("state", ["delivered", "dead", "cancelled"])
def test_one_that_is_finished_is_sent_again(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, state: str
) -> None:
    receiver.answer(200 if state == "delivered" else 500)
    put(sessions, "a")
    webhooks.drain()
    if state == "cancelled":
        webhooks.deliveries.cancel(1)
    [event] = ids(webhooks)
    assert webhooks.deliveries.get(1).state == state
    again = webhooks.events.replay(event, endpoint=endpoint.id)
    assert (again.id, again.state, again.attempts) == (1, DeliveryState.PENDING, 0)
    webhooks.drain()
    assert receiver.ids == [event, event]
    assert webhooks.deliveries.get(1).state is DeliveryState.DELIVERED


def test_one_that_waits_is_left_as_it_is(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    waiting = webhooks.deliveries.get(1)
    assert webhooks.events.replay(waiting.event_id, endpoint=endpoint.id) == waiting


def test_it_waits_behind_what_waits_of_its_row(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all")
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.created"])
    receiver.answer(500)
    put(sessions, "a")
    sell(sessions, "a", 1)
    webhooks.drain()
    assert webhooks.events.replay(ids(webhooks)[1], endpoint=endpoint.id).next_attempt_at is None
    assert (awake(engine), faults(engine)) == ([1], [])


def test_what_is_not_there_cannot_be_replayed(webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions) -> None:
    put(sessions, "a")
    webhooks.drain()
    [event] = ids(webhooks)
    with pytest.raises(NotFound, match=r"no event that may reach ep_[0-9a-f]+ has the id 'evt_1'"):
        webhooks.events.replay("evt_1", endpoint=endpoint.id)
    with pytest.raises(NotFound, match="no endpoint has the id 'ep_1'"):
        webhooks.events.replay(event, endpoint="ep_1")
    webhooks.endpoints.delete(endpoint.id)
    with pytest.raises(NotFound, match="or it was deleted"):
        webhooks.events.replay(event, endpoint=endpoint.id)
    with pytest.raises(NotFound, match="or it was deleted"):
        webhooks.events.replay_all(endpoint=endpoint.id)


# --------------------------------------------------------------------------- all


@pytest.fixture
def past(webhooks: Webhooks, sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Five events that were given to nobody, in pages of two: three of a row, and two of others."""
    monkeypatch.setattr(pages, "SIZE", 2)
    put(sessions, "a")
    sell(sessions, "a", 1)
    put(sessions, "b")
    sell(sessions, "a", 2)
    put(sessions, "c")
    webhooks.drain()
    return ids(webhooks)


def test_an_endpoint_is_given_what_it_would_have_got(
    webhooks: Webhooks, past: list[str], receiver: Receiver, engine: Engine
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.updated"])
    assert webhooks.events.replay_all(endpoint=endpoint.id) == Progress(2, 2)
    assert faults(engine) == []
    webhooks.drain()
    assert receiver.ids == [past[1], past[3]]
    assert webhooks.events.replay_all(endpoint=endpoint.id) == Progress(0, 0)


def test_the_events_of_a_row_come_in_their_order(
    webhooks: Webhooks, past: list[str], receiver: Receiver, engine: Engine
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    told: list[Progress] = []
    assert webhooks.events.replay_all(endpoint=endpoint.id, progress=told.append) == Progress(5, 5)
    assert told == [Progress(2, 5), Progress(4, 5), Progress(5, 5)]
    assert [one.event_id for one in webhooks.deliveries.list()][::-1] == past
    webhooks.drain()
    assert sorted(receiver.ids) == sorted(past)
    assert [one["data"]["stock"] for one in receiver.events() if one["resource_id"] == "a"] == [0, 1, 2]
    assert faults(engine) == []


def test_a_type_is_replayed_whether_or_not_it_was_asked_for(
    webhooks: Webhooks, past: list[str], receiver: Receiver
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["order.*"])
    assert webhooks.events.replay_all(endpoint=endpoint.id) == Progress(0, 0)
    assert webhooks.events.replay_all(endpoint=endpoint.id, type="product.created") == Progress(3, 3)


def test_what_is_told_of_others_is_given_to_nobody_who_has_not_asked_for_it(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*", "delivery.dead"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    assert ids(webhooks, "delivery.dead")
    curious = webhooks.endpoints.create(receiver.url("/curious"), events=["*"])
    webhooks.events.replay_all(endpoint=curious.id)
    webhooks.drain()
    assert [one.type for one in receiver.received if one.path == "/curious"] == ["product.created"]


def test_only_what_happened_then(
    webhooks: Webhooks, past: list[str], sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["order.*"])
    clock.advance(60)
    put(sessions, "late")
    webhooks.drain()
    late = clock.now()
    replay_all, type_ = webhooks.events.replay_all, "product.created"
    assert replay_all(endpoint=endpoint.id, type=type_, since=late + timedelta(seconds=1)) == Progress(0, 0)
    assert replay_all(endpoint=endpoint.id, type=type_, since=late) == Progress(1, 1)
    assert replay_all(endpoint=endpoint.id, type=type_, until=late) == Progress(3, 3)


def test_what_was_not_taken_is_given_and_what_was_taken_only_if_asked_for(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500, 500, 200)
    put(sessions, "a", "b", "c")
    webhooks.drain()
    dead, cancelled, delivered = ids(webhooks)
    webhooks.deliveries.cancel(2)
    receiver.forget()

    assert webhooks.events.replay_all(endpoint=endpoint.id) == Progress(2, 2)
    webhooks.drain()
    assert receiver.ids == [dead, cancelled]
    clock.advance(60)
    assert webhooks.events.replay_all(endpoint=endpoint.id) == Progress(0, 0)
    assert webhooks.events.replay_all(endpoint=endpoint.id, again=True) == Progress(3, 3)
    webhooks.drain()
    assert receiver.ids[2:] == [dead, cancelled, delivered]


def test_broken_off_it_goes_on_with_what_was_not_taken_since(
    webhooks: Webhooks, past: list[str], receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.events.replay_all(endpoint=endpoint.id)
    webhooks.drain()
    receiver.forget()

    def break_off(progress: Progress) -> None:
        webhooks.drain()
        raise KeyboardInterrupt

    began = clock.now()
    clock.advance(1)
    with pytest.raises(KeyboardInterrupt):
        webhooks.events.replay_all(endpoint=endpoint.id, again=True, progress=break_off)
    assert receiver.ids == past[:2]
    assert webhooks.events.replay_all(endpoint=endpoint.id, again=True, as_of=began) == Progress(3, 3)
    webhooks.drain()
    assert receiver.ids == past


# --------------------------------------------------------------------------- two at once


@pytest.fixture
def shared(database: Database) -> Iterator[Engine]:
    """Where who meets another's lock waits for it."""
    with Database(database.name, database.url).engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


def test_two_callers_at_once_make_one_delivery(install: Install, shared: Engine, clock: MovedClock) -> None:
    sessions = sessionmaker(shared)
    webhooks = install(sessions, deliver=False, clock=clock, capture="all")
    put(sessions, *"abcd")
    webhooks.drain()
    endpoint = webhooks.endpoints.create("http://127.0.0.1:1024/", events=["*"])
    threads = [aside(lambda: webhooks.events.replay_all(endpoint=endpoint.id)) for _ in range(2)]
    threads += [aside(partial(webhooks.events.replay, event, endpoint=endpoint.id)) for event in ids(webhooks)]
    for thread, _ in threads:
        thread.join()
    assert [came for _, came in threads if isinstance(came[0], Exception)] == []
    assert sorted(one.event_id for one in webhooks.deliveries.list()) == sorted(ids(webhooks))
    assert faults(shared) == []
