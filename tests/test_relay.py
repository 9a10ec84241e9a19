"""From the outbox to the record, on a moved clock: retries, order, leases, and a database that fails."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.faults import refusing
from support.local import Install
from support.receiver import Received, Receiver, by_row
from support.shop import Product
from tenacity import retry_if_result, stop_after_attempt, wait_fixed, wait_none

from sqla_webhooks import DeliveryState, NewEndpoint, Webhooks, dead, delivered, failed
from sqla_webhooks.retry import STANDARD_SCHEDULE

Sessions = sessionmaker[Session]


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


def put(sessions: Sessions, sku: str, stock: int = 0) -> None:
    with sessions.begin() as session:
        session.merge(Product(sku=sku, stock=stock))


# ------------------------------------------------------------------ retries


def test_500_500_200_is_three_attempts_of_one_event(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500, 500, 200)
    put(sessions, "a")
    webhooks.drain()
    assert len(receiver.received) == 1
    for seconds in (5 * 1.1, 300 * 1.1):
        webhooks.drain()  # too early
        clock.advance(seconds)
        webhooks.drain()

    first, second, third = receiver.received
    assert first.id == second.id == third.id
    assert first.body == second.body == third.body
    assert first.timestamp < second.timestamp < third.timestamp
    assert len({one.headers["webhook-signature"] for one in receiver.received}) == 3
    assert all(one.is_signed(endpoint.secret) for one in receiver.received)
    assert [one.id for one in webhooks.events.list()] == [first.id]
    (delivery,) = webhooks.deliveries.list()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 3)
    attempts = webhooks.deliveries.attempts(delivery.id)
    assert [(one.number, one.status, one.reason) for one in attempts] == [
        (1, 500, "status"),
        (2, 500, "status"),
        (3, 200, None),
    ]
    assert [int(one.started_at.timestamp()) for one in attempts] == [one.timestamp for one in receiver.received]
    assert attempts[0].response == "ok"


def test_the_whole_schedule_and_then_dead(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(*[500] * 20)
    put(sessions, "a")
    started = clock.now()
    for number, wait in enumerate(STANDARD_SCHEDULE, start=1):
        webhooks.drain()
        assert len(receiver.received) == number
        (delivery,) = webhooks.deliveries.list()
        assert delivery.state is DeliveryState.PENDING
        assert delivery.next_attempt_at is not None
        due_in = (delivery.next_attempt_at - clock.now()).total_seconds()
        assert wait <= due_in <= wait * 1.1
        clock.advance(due_in - 0.001)
        webhooks.drain()
        assert len(receiver.received) == number, "an attempt came before its time"
        clock.advance(0.001)
    webhooks.drain()

    assert len(receiver.received) == 10
    (delivery,) = webhooks.deliveries.list(state="dead")
    assert delivery.attempts == 10
    assert delivery.finished_at == clock.now()
    assert clock.now() - started > timedelta(hours=75)
    clock.advance(10**7)
    webhooks.drain()
    assert len(receiver.received) == 10


def test_strategies_of_the_user_see_the_persisted_count(
    install: Install, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    """Each attempt is made by another installation, as by a process that was restarted."""
    receiver.answer(*[500] * 10)
    options: dict[str, Any] = {"deliver": False, "clock": clock, "wait": wait_fixed(7), "stop": stop_after_attempt(3)}
    for number in range(5):
        sessions = sessionmaker(engine)
        webhooks = install(sessions, **options)
        if number == 0:
            webhooks.endpoints.create(receiver.url(), events=["*"])
            put(sessions, "a")
        webhooks.drain()
        webhooks.uninstall()
        clock.advance(7)

    assert len(receiver.received) == 3
    assert receiver.received[2].timestamp - receiver.received[0].timestamp == 14


def test_a_retry_strategy_may_give_up_at_once(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, retry=retry_if_result(lambda answer: answer.status >= 500))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(410)
    put(sessions, "a")
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DEAD]


def test_nobody_there_is_recorded_with_its_reason(
    webhooks: Webhooks, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver() as gone:
        url = gone.url()
    webhooks.endpoints.create(url, events=["*"])
    put(sessions, "a")
    with caplog.at_level(logging.INFO, "sqla_webhooks"):
        webhooks.drain()

    (delivery,) = webhooks.deliveries.list()
    (attempt,) = webhooks.deliveries.attempts(delivery.id)
    assert (attempt.status, attempt.reason) == (None, "connect")
    assert "refused" in attempt.detail
    assert delivery.event_id in caplog.text


def test_an_address_that_policy_forbids_is_dead_at_once(
    install: Install, engine: Engine, sessions: Sessions, receiver: Receiver
) -> None:
    """It was allowed when the endpoint was written, and is not any more."""
    install(sessionmaker(engine), deliver=False).endpoints.create(receiver.url(), events=["*"])
    webhooks = install(sessions, deliver=False, allow_networks=[])
    put(sessions, "a")
    webhooks.drain()

    (delivery,) = webhooks.deliveries.list(state="dead")
    (attempt,) = webhooks.deliveries.attempts(delivery.id)
    assert attempt.reason == "blocked"
    assert receiver.received == []


def test_signals_say_what_was_recorded(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    heard: list[tuple[str, object, int, Any]] = []

    def listener(name: str) -> Any:
        def hear(sender: object, *, delivery: Any, attempt: Any) -> None:
            recorded = webhooks.deliveries.get(delivery.id)
            assert recorded == delivery
            assert webhooks.deliveries.attempts(delivery.id)[-1].number == attempt.number
            heard.append((name, sender, attempt.number, attempt.status))

        return hear

    receiver.answer(500, 200, *[500] * 10)
    with (
        delivered.connected_to(listener("delivered")),
        failed.connected_to(listener("failed")),
        dead.connected_to(listener("dead")),
    ):
        put(sessions, "a")
        webhooks.drain()
        clock.advance(6)
        webhooks.drain()
        put(sessions, "b")
        for wait in (0, *STANDARD_SCHEDULE):
            clock.advance(wait * 1.1)
            webhooks.drain()

    assert heard[:2] == [("failed", webhooks, 1, 500), ("delivered", webhooks, 2, 200)]
    assert [name for name, *_ in heard[2:]] == ["failed"] * 9 + ["dead"]


# ------------------------------------------------------------------ order


def test_a_row_waits_for_its_failed_predecessor_and_others_do_not(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500)
    put(sessions, "a", stock=1)
    webhooks.drain()
    put(sessions, "a", stock=2)
    put(sessions, "b", stock=1)
    put(sessions, "a", stock=3)
    webhooks.drain()
    assert [(one["resource_id"], one["data"]["stock"]) for one in receiver.events()] == [("a", 1), ("b", 1)]

    clock.advance(6)
    webhooks.drain()

    stocks = {row: [one["data"]["stock"] for one in events] for row, events in by_row(receiver.received).items()}
    assert stocks == {("product", "a"): [1, 1, 2, 3], ("product", "b"): [1]}


def test_the_dead_let_the_next_go_on(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, stop=stop_after_attempt(1))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a", stock=1)
    put(sessions, "a", stock=2)
    webhooks.drain()

    assert [one["data"]["stock"] for one in receiver.events()] == [1, 2]
    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED, DeliveryState.DEAD]


def test_one_endpoint_that_fails_does_not_hold_up_another(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    with Receiver() as gone:
        webhooks.endpoints.create(gone.url(), events=["*"])
    for stock in range(1, 5):
        put(sessions, "a", stock=stock)
    webhooks.drain()

    assert [one["data"]["stock"] for one in receiver.events()] == [1, 2, 3, 4]


# ------------------------------------------------------------------ leases


def test_what_is_claimed_by_a_relay_that_died_is_sent_when_its_lease_ends(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    put(sessions, "a")
    webhooks.drain()
    with engine.begin() as connection:  # as it would be left
        connection.execute(
            text(
                "UPDATE webhook_delivery SET state = 'pending', lease_token = 'gone', attempts = 0, finished_at = NULL,"
                " lane = 2 * endpoint_id, next_attempt_at = :until"
            ),
            {"until": (clock.now() + timedelta(seconds=60)).replace(tzinfo=None).isoformat(" ")},
        )
    receiver.forget()
    clock.advance(59)
    webhooks.drain()
    assert receiver.received == []
    clock.advance(1)
    webhooks.drain()
    assert len(receiver.received) == 1


def test_a_result_that_comes_after_the_lease_has_passed_on_is_not_recorded(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    def taken_over(_request: Received) -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE webhook_delivery SET lease_token = 'another'"))

    receiver.on_request = taken_over
    put(sessions, "a")
    webhooks.drain()

    (delivery,) = webhooks.deliveries.list()
    assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
    assert webhooks.deliveries.attempts(delivery.id) == []


def test_a_lease_given_by_a_clock_that_was_set_back_since_is_not_waited_for(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO webhook_lease VALUES ('fan_out', 'gone', :until)"),
            {"until": (clock.now() + timedelta(hours=1)).replace(tzinfo=None).isoformat(" ")},
        )
    put(sessions, "a")

    assert webhooks.drain(timeout=1).attempts == 1


def test_a_secret_that_was_spoilt_in_the_table_fails_its_own_deliveries_only(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    spoilt = webhooks.endpoints.create(receiver.url("/spoilt"), events=["*"])
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE webhook_secret SET value = 'plain' "
                "WHERE endpoint_id = (SELECT id FROM webhook_endpoint WHERE public_id = :id)"
            ),
            {"id": spoilt.id},
        )
    put(sessions, "a")
    webhooks.drain()

    assert [one.path for one in receiver.received] == ["/hooks"]
    (delivery,) = webhooks.deliveries.list(endpoint=spoilt.id)
    (attempt,) = webhooks.deliveries.attempts(delivery.id)
    assert (delivery.state, attempt.reason) == (DeliveryState.PENDING, "signing")
    assert attempt.detail.startswith("the request could not be signed")


def test_no_transaction_is_open_during_a_request(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    locked: list[str] = []

    def write(_request: Received) -> None:
        """From another thread: fails at once if anybody holds a lock, or reads a snapshot."""
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 0")
            try:
                connection.exec_driver_sql("BEGIN EXCLUSIVE")
                connection.exec_driver_sql("ROLLBACK")
            except OperationalError as error:
                locked.append(str(error))

    receiver.on_request = write
    put(sessions, "a")
    webhooks.drain()

    assert len(receiver.received) == 1
    assert locked == []


def test_two_relays_at_once_send_everything_once(
    install: Install, engine: Engine, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    one = install(sessions, deliver=False, clock=clock)
    other = install(sessionmaker(engine), deliver=False, clock=clock)
    one.endpoints.create(receiver.url(), events=["*"])
    taken: list[str] = []

    @one.enricher(Product)
    def meanwhile(product: Product, _payload: dict[str, Any]) -> None:
        taken.append(product.sku)
        if len(taken) == 1:
            clock.advance(11)  # the lease has ended by now
            other.drain()

    for number in range(3):
        put(sessions, str(number))
    one.drain()

    assert sorted(taken) == ["0", "1", "2"]
    assert [one["resource_id"] for one in receiver.events()] == ["0", "1", "2"]
    assert len(set(receiver.ids)) == 3


# ------------------------------------------------------------------ a database that fails


def test_a_result_whose_record_fails_is_recorded_by_the_next_try(
    install: Install, sessions: Sessions, receiver: Receiver, engine: Engine, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, wait=wait_none())
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    with (
        refusing(engine, "INSERT INTO webhook_attempt", times=1),
        pytest.raises(OperationalError, match="disk is full"),
    ):
        webhooks.drain()
    clock.advance(61)  # its lease has ended, and it is not claimed again: what is in hand is recorded first
    webhooks.drain()

    assert len(receiver.received) == 1
    (delivery,) = webhooks.deliveries.list()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)


def test_a_fan_out_that_fails_is_done_again_whole(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    put(sessions, "a")
    with refusing(engine, "INSERT INTO webhook_delivery"), pytest.raises(OperationalError, match="disk is full"):
        webhooks.drain()
    assert webhooks.events.list() == []
    webhooks.drain()

    assert len(webhooks.events.list()) == len(receiver.received) == 1


# ------------------------------------------------------------------ drain


def test_drain_gives_up_in_time(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.on_request = lambda _request: clock.advance(1)
    for number in range(30):
        put(sessions, str(number))

    drained = webhooks.drain(timeout=10)

    assert not drained.complete
    assert 10 <= drained.attempts < 30
    assert webhooks.drain().complete
    assert len(set(receiver.ids)) == 30


def test_drain_looks_at_least_once(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, "a")

    assert webhooks.drain(timeout=0).attempts == 1


def test_every_event_reconciles_with_what_the_receiver_got(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    for number in range(120):
        receiver.answer(*([500] if number % 7 == 0 else [200]))
    for number in range(120):
        put(sessions, str(number % 20), stock=number)
    while webhooks.drain().attempts:
        clock.advance(3600)

    events = {one.id: one for one in webhooks.events.list(limit=1000)}
    assert {one.id: one.body for one in receiver.received} == {id_: one.payload for id_, one in events.items()}
    assert len(events) == 120
    for rows in by_row(receiver.received).values():
        stocks = [one["data"]["stock"] for one in rows]
        assert stocks == sorted(stocks)
    assert {one.state for one in webhooks.deliveries.list(limit=1000)} == {DeliveryState.DELIVERED}
    assert len(webhooks.deliveries.list(endpoint=endpoint.id, limit=1000)) == 120
    assert len(webhooks.events.list(type="product.updated", limit=1000)) == 100
