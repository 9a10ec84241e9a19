"""An endpoint that fails: it is paused, told of, disabled; and how it comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.faults import refusing
from support.local import Install
from support.receiver import Received, Receiver, Reply
from support.shop import Product, put
from tenacity import stop_after_attempt, stop_never, wait_fixed

from sqla_webhooks import (
    DeliveryState,
    Endpoint,
    EndpointError,
    Health,
    InvalidSubscription,
    NewEndpoint,
    Webhooks,
    endpoint_disabled,
    endpoint_failing,
    endpoint_recovered,
)
from sqla_webhooks.errors import ConfigurationError

Sessions = sessionmaker[Session]

DAY = 86400


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


@contextmanager
def heard() -> Iterator[list[tuple[str, Endpoint]]]:
    """The signals about endpoints, as they come."""
    came: list[tuple[str, Endpoint]] = []

    def listener(name: str) -> Any:
        return lambda _sender, *, endpoint: came.append((name, endpoint))

    signals = {"failing": endpoint_failing, "disabled": endpoint_disabled, "recovered": endpoint_recovered}
    with ExitStack() as stack:
        for name, signal in signals.items():
            stack.enter_context(signal.connected_to(listener(name)))
        yield came


def names(came: list[tuple[str, Endpoint]]) -> list[str]:
    return [name for name, _ in came]


# ------------------------------------------------------------------ what is known of it


def test_nothing_is_known_of_a_new_one(endpoint: NewEndpoint) -> None:
    assert endpoint.health == Health()


def test_its_health_is_what_came_of_its_attempts(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    began = clock.now()
    receiver.answer(500, 500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(3)
    put(sessions, "b")
    webhooks.drain()
    known = webhooks.endpoints.get(endpoint.id).health
    assert (known.failures, known.failing_since, known.last_success_at) == (2, began, None)
    assert known.last_failure_at == clock.now()

    clock.advance(10)
    webhooks.drain()
    health = webhooks.endpoints.get(endpoint.id).health
    assert health == Health(last_failure_at=known.last_failure_at, last_success_at=clock.now())


def test_success_is_noted_once_a_second(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, clock: MovedClock
) -> None:
    put(sessions, "a")
    webhooks.drain()
    first = clock.now()
    clock.advance(0.5)
    put(sessions, "b")
    webhooks.drain()
    assert webhooks.endpoints.get(endpoint.id).health.last_success_at == first
    clock.advance(0.5)
    put(sessions, "c")
    webhooks.drain()
    assert webhooks.endpoints.get(endpoint.id).health.last_success_at == clock.now()


# ------------------------------------------------------------------ pauses


def seconds_of_pause(webhooks: Webhooks, endpoint: Endpoint, clock: MovedClock) -> float:
    until = webhooks.endpoints.get(endpoint.id).health.paused_until
    assert until is not None
    return (until - clock.now()).total_seconds()


def test_a_paused_endpoint_is_tried_by_one_request_and_goes_on_when_it_answers(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(503, 503)
    put(sessions, *"abcdefgh")
    webhooks.drain()
    tried = len(receiver.received)
    assert tried <= 2  # as many as are claimed together
    clock.advance(seconds_of_pause(webhooks, endpoint, clock) - 0.001)
    webhooks.drain()
    assert len(receiver.received) == tried

    receiver.answer(503)
    clock.advance(0.001)
    webhooks.drain()
    assert len(receiver.received) == tried + 1

    clock.advance(seconds_of_pause(webhooks, endpoint, clock))
    webhooks.drain()
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.DELIVERED}
    assert sorted({one.event["resource_id"] for one in receiver.received}) == list("abcdefgh")


def test_what_waits_for_its_retry_goes_at_once_when_the_endpoint_answers_again(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, wait=wait_fixed(3600))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(503)
    put(sessions, "a")
    with heard() as came:
        webhooks.drain()
        put(sessions, "b", "c")
        clock.advance(6)
        webhooks.drain()

    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.DELIVERED}
    assert names(came) == ["recovered"]


def test_a_single_delivery_that_is_refused_keeps_its_own_time(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """The endpoint was never paused, so there is nothing to make up for."""
    webhooks = install(sessions, deliver=False, clock=clock, wait=wait_fixed(3600))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(400)
    put(sessions, "a", "b", "c")
    webhooks.drain()
    clock.advance(3599)
    put(sessions, "d")
    webhooks.drain()

    assert [one.event["resource_id"] for one in receiver.received] == list("abcd")
    clock.advance(1)
    webhooks.drain()
    assert [one.event["resource_id"] for one in receiver.received] == list("abcda")


def test_others_are_not_kept_waiting_by_a_pause(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    with Receiver() as other:
        webhooks.endpoints.create(other.url(), events=["*"])
        receiver.answer(503, 503)
        put(sessions, "a", "b", "c")
        webhooks.drain()
        assert sorted(one.event["resource_id"] for one in other.received) == ["a", "b", "c"]
    assert len(receiver.received) <= 2  # claimed together


def test_an_endpoint_asks_to_be_left_alone_with_all_that_waits(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(Reply(429, headers={"Retry-After": "1000"}))
    put(sessions, "a")
    webhooks.drain()
    put(sessions, "b")
    clock.advance(999)
    webhooks.drain()
    assert len(receiver.received) == 1
    clock.advance(1.01)
    webhooks.drain()
    assert sorted(one.event["resource_id"] for one in receiver.received) == ["a", "a", "b"]


def test_enabling_ends_a_pause(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(Reply(429, headers={"Retry-After": "1000"}))
    put(sessions, "a")
    webhooks.drain()
    clock.advance(1)
    webhooks.endpoints.enable(endpoint.id)
    put(sessions, "b")
    webhooks.drain()

    assert webhooks.endpoints.get(endpoint.id).health.failures == 0
    assert [one.event["resource_id"] for one in receiver.received] == ["a", "b", "a"]


@pytest.mark.parametrize("status", [500, 503])
def test_enabling_lets_retries_wait_no_longer(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, status: int
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, wait=wait_fixed(3600))
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(status)
    put(sessions, "a")
    webhooks.drain()
    webhooks.endpoints.disable(endpoint.id)
    clock.advance(10)
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert [one.event["resource_id"] for one in receiver.received] == ["a", "a"]

    receiver.answer(status)
    put(sessions, "b")
    webhooks.drain()
    clock.advance(3599)
    webhooks.drain()
    assert len(receiver.received) == 3  # what has failed since keeps its time


def test_to_retry_a_delivery_by_hand_ends_a_pause(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(Reply(429, headers={"Retry-After": "1000"}), 503)
    put(sessions, "a")
    webhooks.drain()
    put(sessions, "b", "c")
    clock.advance(1)
    (delivery,) = webhooks.deliveries.list(type="product.created", limit=1)
    webhooks.deliveries.retry(delivery.id)
    webhooks.drain()
    assert len(receiver.received) == 2  # one try

    clock.advance(1)
    webhooks.deliveries.retry(delivery.id)
    webhooks.drain()
    assert sorted({one.event["resource_id"] for one in receiver.received[1:]}) == ["a", "b", "c"]


# ------------------------------------------------------------------ given up


def failing(webhooks: Webhooks, sessions: Sessions, clock: MovedClock, *, days: float) -> None:
    """A new event every three hours."""
    end = clock.now() + timedelta(days=days)
    while clock.now() < end:
        put(sessions, f"{clock.now():%d %H:%M:%S.%f}")
        webhooks.drain()
        clock.advance(3 * 3600)


def test_it_is_told_of_and_then_disabled_after_nothing_but_failure(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(
        sessions, deliver=False, clock=clock, disable_after=10 * DAY, wait=wait_fixed(DAY), stop=stop_never
    )
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    began = clock.now()
    receiver.answer(*[500] * 100_000)
    with heard() as came:
        failing(webhooks, sessions, clock, days=11)

    assert names(came) == ["failing", "failing", "failing", "disabled"]
    assert all(one.id == endpoint.id and one.health.failing_since == began for _, one in came)
    days = [(one.health.last_failure_at - began) / timedelta(days=1) for _, one in came if one.health.last_failure_at]
    assert days == pytest.approx([5, 7, 9, 10], abs=0.2)
    now = webhooks.endpoints.get(endpoint.id)
    assert (now.enabled, now.disabled_because) == (False, "failing")
    assert now.disabled_at == came[-1][1].disabled_at
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.HELD}

    receiver.forget()
    receiver._replies.clear()  # noqa: SLF001  # the rest of what it was to answer
    clock.advance(DAY)
    webhooks.drain()
    assert receiver.received == []
    webhooks.endpoints.enable(endpoint.id)
    while not webhooks.drain().complete:
        pass
    assert {one.state for one in webhooks.deliveries.list(limit=1000)} == {DeliveryState.DELIVERED}
    assert webhooks.endpoints.get(endpoint.id).disabled_because is None


def test_a_success_in_between_begins_the_time_anew(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, disable_after=2 * DAY, stop=stop_after_attempt(1))
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(*[500] * 12, 200, *[500] * 12)
    with heard() as came:
        failing(webhooks, sessions, clock, days=25 / 8)

    assert webhooks.endpoints.get(endpoint.id).enabled
    assert names(came) == ["failing", "recovered", "failing"]


def test_after_it_was_enabled_it_is_told_of_and_disabled_again(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, disable_after=DAY, stop=stop_after_attempt(1))
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(*[500] * 1000)
    with heard() as came:
        failing(webhooks, sessions, clock, days=2)
        webhooks.endpoints.enable(endpoint.id)
        failing(webhooks, sessions, clock, days=2)

    assert names(came) == ["failing", "failing", "failing", "disabled"] * 2


def test_none_is_disabled_for_failing_if_so_it_was_said(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, disable_after=None, stop=stop_after_attempt(1))
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(*[500] * 1000)
    with heard() as came:
        failing(webhooks, sessions, clock, days=8)

    assert webhooks.endpoints.get(endpoint.id).enabled
    assert came == []


def test_410_disables_and_keeps_what_waits(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(410)
    put(sessions, "a")
    with heard() as came:
        webhooks.drain()
        put(sessions, "b")
        webhooks.drain()

    assert names(came) == ["disabled"]
    assert webhooks.endpoints.get(endpoint.id).disabled_because == "gone"
    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.HELD] * 2
    assert len(receiver.received) == 1
    clock.advance(6)
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert [one.event["resource_id"] for one in receiver.received] in (["a", "a", "b"], ["a", "b", "a"])


def test_who_subscribes_after_one_could_not_be_disabled_gets_all(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    """The transaction that disables counts a write to the endpoints; rolled back, the next write has that number."""
    webhooks.endpoints.create(receiver.url("/told"), events=["endpoint.disabled"])
    receiver.answer(410)
    put(sessions, "a")
    full = refusing(engine, "INSERT INTO webhook_event", when=lambda: bool(receiver.received))
    with full, pytest.raises(OperationalError):
        webhooks.drain()
    webhooks.endpoints.create(receiver.url("/new"), events=["product.*"])
    put(sessions, "b")
    webhooks.drain()

    assert [one.event["resource_id"] for one in receiver.received if one.path == "/new"] == ["b"]


def test_410_of_a_url_that_is_no_longer_the_endpoint_s_disables_nobody(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    def move(_request: Received) -> None:
        webhooks.endpoints.update(endpoint.id, url=receiver.url("/moved"))

    receiver.on_request = move
    receiver.answer(410)
    put(sessions, "a")
    webhooks.drain()

    assert webhooks.endpoints.get(endpoint.id).enabled


def test_what_is_dropped_while_disabled_is_cancelled(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, while_disabled="drop")
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.endpoints.disable(endpoint.id)
    put(sessions, "a")
    webhooks.drain()
    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.CANCELLED]
    webhooks.endpoints.enable(endpoint.id)
    put(sessions, "a2")
    webhooks.drain()
    assert [one.event["resource_id"] for one in receiver.received] == ["a2"]


def test_whose_doing_it_was_is_known(webhooks: Webhooks, endpoint: NewEndpoint, clock: MovedClock) -> None:
    disabled = webhooks.endpoints.disable(endpoint.id)
    assert (disabled.disabled_because, disabled.disabled_at) == ("asked", clock.now())
    enabled = webhooks.endpoints.enable(endpoint.id)
    assert (enabled.disabled_because, enabled.disabled_at) == (None, None)


# ------------------------------------------------------------------ events of the webhooks themselves


def test_a_dead_letter_and_a_disabled_endpoint_are_events_for_who_asks_for_them_by_name(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, stop=stop_after_attempt(1))
    partner = webhooks.endpoints.create(receiver.url(), events=["product.*"])
    with Receiver() as everything, Receiver() as operator:
        webhooks.endpoints.create(everything.url(), events=["*", "*.deleted"])
        secret = webhooks.endpoints.create(operator.url(), events=["delivery.dead", "endpoint.disabled"]).secret
        receiver.answer(410)
        put(sessions, "a")
        webhooks.drain()

        told = {one.type: one for one in operator.received}
        assert set(told) == {"delivery.dead", "endpoint.disabled"}
        assert all(one.is_signed(secret) for one in operator.received)
        assert everything.types == ["product.created"]
    (dead,) = webhooks.deliveries.list(state="dead")
    assert told["delivery.dead"].event["data"] == {
        "id": dead.id,
        "event_id": dead.event_id,
        "event_type": "product.created",
        "endpoint_id": partner.id,
        "attempts": 1,
        "reason": "status",
        "status": 410,
    }
    data = told["endpoint.disabled"].event["data"]
    assert (data["id"], data["reason"], data["failures"]) == (partner.id, "gone", 1)


def test_a_dead_letter_about_a_dead_letter_is_told_to_nobody(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, stop=stop_after_attempt(1))
    webhooks.endpoints.create(receiver.url(), events=["*", "delivery.dead"])
    receiver.answer(*[500] * 8)
    put(sessions, "a")
    webhooks.drain()

    assert receiver.types == ["product.created", "delivery.dead"]


def test_they_are_no_resources_of_the_application_s(webhooks: Webhooks, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), events=["delivery.dead"])
    for pattern in ("delivery.*", "endpoint.*", "delivery.created", "delivery.gone", "*.dead"):
        with pytest.raises(InvalidSubscription):
            webhooks.endpoints.create(receiver.url(), events=[pattern])


# ------------------------------------------------------------------ its settings


def test_a_rate_limit_is_kept_to(install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"], rate_limit=2)
    assert endpoint.rate_limit == 2.0  # what was given
    put(sessions, *"abcde")
    sent = []
    for _ in range(5):
        webhooks.drain()
        sent.append(len(receiver.received))
        clock.advance(0.5)
    assert sent == [1, 2, 3, 4, 5]
    webhooks.endpoints.update(endpoint.id, rate_limit="unlimited")
    put(sessions, *"fghij")
    webhooks.drain()
    assert len(receiver.received) == 10  # all
    assert webhooks.endpoints.get(endpoint.id).rate_limit is None


@pytest.mark.parametrize("rate_limit", [0, -1, True, "10", float("nan"), float("inf"), 1e9])
def test_a_rate_limit_that_is_none_is_refused(webhooks: Webhooks, receiver: Receiver, rate_limit: Any) -> None:
    with pytest.raises(EndpointError, match="rate_limit is"):
        webhooks.endpoints.create(receiver.url(), events=["*"], rate_limit=rate_limit)


def test_order_that_is_not_wanted_holds_nothing_back(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"], ordering=False)
    assert not endpoint.ordering
    receiver.answer(500)
    put(sessions, "a")
    with sessions.begin() as session:
        session.get_one(Product, "a").stock = 1
    webhooks.drain()
    assert receiver.types == ["product.created", "product.updated"]
    clock.advance(6)
    webhooks.drain()
    assert receiver.types == ["product.created", "product.updated", "product.created"]


def test_order_may_be_asked_for_later(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, endpoint: NewEndpoint
) -> None:
    assert not webhooks.endpoints.update(endpoint.id, ordering=False).ordering
    assert webhooks.endpoints.update(endpoint.id, ordering=True).ordering
    with pytest.raises(ConfigurationError, match="ordering is"):
        webhooks.endpoints.update(endpoint.id, ordering="yes")  # type: ignore[arg-type]  # the mistake
    receiver.answer(500)
    put(sessions, "a")
    with sessions.begin() as session:
        session.get_one(Product, "a").stock = 1
    webhooks.drain()
    assert receiver.types == ["product.created"]


def test_a_row_may_wait_behind_what_was_given_up(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, stop=stop_after_attempt(1), after_last_attempt="hold")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    with sessions.begin() as session:
        session.get_one(Product, "a").stock = 1
    put(sessions, "b")
    webhooks.drain()
    clock.advance(DAY)
    webhooks.drain()

    assert [one.event["resource_id"] for one in receiver.received] == ["a", "b"]
    states = [one.state for one in reversed(webhooks.deliveries.list())]
    assert states == [DeliveryState.DEAD, DeliveryState.PENDING, DeliveryState.DELIVERED]
