"""
What is put right by hand while a relay is at work on the same row: nothing is left that nobody wakes.

Each race is run in the one order and in the other: who comes first is held
before the commit until the other has come as far as the locks let it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.databases import Database
from support.interleaving import commit_held, reached, running, statement_held, waits
from support.local import Install
from support.queues import awake, faults
from support.receiver import PATIENCE, Receiver
from support.shop import Base, Product, put
from support.threads import Gate, aside, opened, until

from sqla_webhooks import Delivery, Drained, Webhooks, WrongState, models

pytestmark = [pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True), pytest.mark.stress]

RECORDS, RECORDED = "webhook_delivery.lease_token IN", "INSERT INTO webhook_attempt"
LOCKS, WRITES = "FOR UPDATE", "UPDATE webhook_delivery"
FANS_OUT, FANNED_OUT = "UPDATE webhook_lease", "INSERT INTO webhook_delivery"


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """Where who meets another's lock waits for it."""
    with Database(database.name, database.url).engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


def sell(sessions: sessionmaker[Session], sku: str, *stocks: int) -> None:
    for stock in stocks:
        with sessions.begin() as session:
            session.get_one(Product, sku).stock = stock


@pytest.fixture
def three(webhooks: Webhooks, sessions: sessionmaker[Session], receiver: Receiver, gate: Gate) -> Iterator[Webhooks]:
    """Three of one row, the first of which is being sent, and held by the receiver."""
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    sell(sessions, "a", 1, 2)
    receiver.on_request = gate
    thread, came = aside(webhooks.drain)
    gate.wait()
    yield webhooks
    gate.open()
    thread.join()
    assert not isinstance(came[0], Exception)


@dataclass(frozen=True)
class Sending:
    """The relay of `three`, which is sending the first."""

    receiver: Receiver
    engine: Engine
    #: Where the receiver holds the first.
    gate: Gate


@pytest.fixture
def sending(three: Webhooks, receiver: Receiver, engine: Engine, gate: Gate) -> Sending:
    return Sending(receiver, engine, gate)


def relay_comes_first(sending: Sending, call: Callable[[], object]) -> None:
    """The result of the first is about to be committed when *call* is made, which is over before the next is taken."""
    sending.receiver.on_request = next_one = Gate()
    with commit_held(sending.engine, RECORDED) as commit, opened(next_one):
        sending.gate.open()
        commit.wait()
        with running(sending.engine, call, until=LOCKS) as came:
            commit.open()
    assert not isinstance(came[0], Exception)


def relay_comes_second(sending: Sending, call: Callable[[], object]) -> None:
    """*call* is about to be committed when the result of the first comes."""
    engine = sending.engine
    with commit_held(engine, WRITES) as commit, running(engine, call, until=WRITES) as came:
        commit.wait()
        with reached(engine, RECORDS) as records:
            sending.gate.open()
            assert records.wait(PATIENCE)
        commit.open()
    assert not isinstance(came[0], Exception)


Race = Callable[[Sending, Callable[[], object]], None]
both_orders = pytest.mark.parametrize("race", [relay_comes_first, relay_comes_second])


@both_orders
def test_one_is_cancelled_whose_turn_is_coming(three: Webhooks, sending: Sending, engine: Engine, race: Race) -> None:
    race(sending, lambda: three.deliveries.cancel(2))
    three.drain()
    assert [one.state.value for one in three.deliveries.list()] == ["delivered", "cancelled", "delivered"]
    assert faults(engine) == []


@both_orders
def test_one_is_retried_behind_what_is_being_sent(
    three: Webhooks, sending: Sending, engine: Engine, race: Race
) -> None:
    three.deliveries.cancel(2)
    three.deliveries.cancel(3)
    race(sending, lambda: three.deliveries.retry(3))
    three.drain()
    assert [one.state.value for one in three.deliveries.list()] == ["delivered", "cancelled", "delivered"]
    assert faults(engine) == []


@pytest.mark.parametrize("ordering", [True, False])
def test_one_that_is_being_recorded_cannot_be_cancelled(
    webhooks: Webhooks,
    sessions: sessionmaker[Session],
    receiver: Receiver,
    gate: Gate,
    engine: Engine,
    *,
    ordering: bool,
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"], ordering=ordering)
    put(sessions, "a")
    with commit_held(engine, RECORDED) as commit:
        thread, _ = aside(webhooks.drain)
        commit.wait()
        with running(engine, lambda: webhooks.deliveries.cancel(1), until=LOCKS) as came:
            commit.open()
    thread.join()
    assert isinstance(came[0], WrongState)
    assert webhooks.deliveries.get(1).state == "delivered"


@pytest.fixture
def cancelled(webhooks: Webhooks, sessions: sessionmaker[Session], receiver: Receiver) -> Webhooks:
    """One that was cancelled, and a later change of its row that no relay has seen."""
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    webhooks.endpoints.disable(webhooks.endpoints.list()[0].id)
    webhooks.drain()
    webhooks.deliveries.cancel(1)
    sell(sessions, "a", 1)
    return webhooks


def test_one_is_retried_before_what_is_being_fanned_out(cancelled: Webhooks, engine: Engine) -> None:
    with commit_held(engine, FANNED_OUT) as commit, running(engine, cancelled.drain, until=FANNED_OUT) as drained:
        commit.wait()
        with running(engine, lambda: cancelled.deliveries.retry(1), until=FANS_OUT) as retried:
            commit.open()
    assert isinstance(drained[0], Drained)
    assert isinstance(retried[0], Delivery)
    assert awake(engine) == [1]
    assert faults(engine) == []


def test_one_is_fanned_out_behind_what_is_being_retried(cancelled: Webhooks, engine: Engine) -> None:
    with (
        commit_held(engine, WRITES) as commit,
        running(engine, lambda: cancelled.deliveries.retry(1), until=WRITES) as retried,
    ):
        commit.wait()
        with running(engine, cancelled.drain, until=FANS_OUT) as drained:
            commit.open()
    assert isinstance(drained[0], Drained)
    assert isinstance(retried[0], Delivery)
    assert awake(engine) == [1]
    assert faults(engine) == []


def test_a_deadlock_is_outlived(three: Webhooks, engine: Engine, gate: Gate) -> None:
    """Another has locked the second and comes for the first, which the call has locked on its way to the second."""
    table = models.delivery
    with engine.connect() as other:
        other.execute(update(table).where(table.c.id >= 2).values(attempts=table.c.attempts + 1))
        thread, came = aside(lambda: three.deliveries.cancel(2))
        until(lambda: waits(engine))
        with suppress(OperationalError):  # most often the call gives way, but the database may choose the other
            other.execute(update(table).where(table.c.id == 1).values(attempts=table.c.attempts))
        other.rollback()
        thread.join()
    assert isinstance(came[0], Delivery)
    assert came[0].state == "cancelled"


def test_what_is_put_right_by_hand_while_relays_send(
    install: Install, sessions: sessionmaker[Session], receiver: Receiver, engine: Engine
) -> None:
    """Two relays' threads, and three people who retry, cancel and replay whatever there is."""
    webhooks = install(sessions, batch_window=0, poll_interval=0.05, wait=lambda state: 0.01)
    twin = install(sessionmaker(engine), batch_window=0, poll_interval=0.05, wait=lambda state: 0.01)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    over = threading.Event()

    def retry() -> None:
        while not over.is_set():
            webhooks.deliveries.cancel_all(state="pending")
            webhooks.deliveries.cancel_all(state="dead")

    def replay() -> None:
        while not over.is_set():
            twin.events.replay_all(endpoint=endpoint.id)
            twin.deliveries.retry_all()

    people = [aside(retry), aside(replay)]
    put(sessions, *"abc")
    for stock in range(1, 11):
        for sku in "abc":
            sell(sessions, sku, stock)
    over.set()
    for thread, _ in people:
        thread.join()
    assert [came for _, came in people] == [[None], [None]]
    webhooks.events.replay_all(endpoint=endpoint.id)
    twin.uninstall()
    webhooks.stop()
    webhooks.drain()
    assert faults(engine) == []
    assert {one.state.value for one in webhooks.deliveries.list(limit=1000)} == {"delivered"}
    assert {one.id for one in webhooks.events.list(limit=1000)} == set(receiver.ids)


def test_what_is_fanned_out_behind_two_rows_of_which_results_are_recorded(
    webhooks: Webhooks,
    install: Install,
    sessions: sessionmaker[Session],
    receiver: Receiver,
    engine: Engine,
    database: Database,
) -> None:
    """Of the rows, one has more behind what is recorded, and the other none: both relays lock in one order."""
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    sell(sessions, "a", 1)
    put(sessions, "b")
    patient = Database(database.name, database.url)
    with patient.engine() as other, statement_held(engine, "next_attempt_at IS NULL") as held:
        twin = install(sessionmaker(other), deliver=False, clock=webhooks.settings.clock)
        thread, came = aside(webhooks.drain)
        held.wait()
        sell(sessions, "a", 2)
        sell(sessions, "b", 1)
        with running(other, twin.drain, until=LOCKS) as drained:
            until(lambda: waits(other))
            held.open()
        thread.join()
        twin.uninstall()
    webhooks.drain()
    assert [type(one) for one in (*came, *drained)] == [Drained, Drained]
    assert faults(engine) == []
    assert {one.state.value for one in webhooks.deliveries.list()} == {"delivered"}
