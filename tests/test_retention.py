"""What is removed for its age, by `webhooks.prune()` and by the relay: nothing else, and nothing that waits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.interleaving import commit_held, running, statement_held
from support.local import Install
from support.queues import faults
from support.receiver import Receiver, Reply
from support.shop import Base, Product, put
from tenacity import stop_after_attempt

from sqla_webhooks import Pruned, Retention, models
from sqla_webhooks.delivery.send import KEPT
from sqla_webhooks.outbox import retention
from sqla_webhooks.relay.upkeep import RARELY

Sessions = sessionmaker[Session]
DAY = 86400.0


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def make(install: Install, sessions: Sessions, clock: MovedClock) -> Any:
    """An installation that gives up after one attempt."""
    return partial(install, sessions, deliver=False, clock=clock, stop=stop_after_attempt(1))


def counts(engine: Engine) -> tuple[int, int, int]:
    """Attempts, deliveries, events."""
    with engine.connect() as connection:
        tables = (models.attempt, models.delivery, models.event)
        counts = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
    return counts[0], counts[1], counts[2]


def test_each_kind_goes_when_its_own_time_is_over(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=Retention(attempts=10, delivered=20, dead=30, events=40))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(200, 500, 500)
    put(sessions, "delivered", "dead", "cancelled")
    webhooks.drain()
    webhooks.deliveries.cancel(3)
    seen = []
    for _ in range(5):
        clock.advance(1)
        webhooks.prune()
        seen.append(counts(engine))
        clock.advance(9)
        assert webhooks.prune() == Pruned()  # it is just so old
    assert seen == [(3, 3, 3), (0, 3, 3), (0, 1, 3), (0, 0, 3), (0, 0, 0)]


def test_deliveries_take_their_attempts_with_them(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=Retention(attempts=None, delivered=10, dead=10, events=10))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a", "b")
    webhooks.drain()
    clock.advance(11)
    assert webhooks.prune() == Pruned(attempts=2, deliveries=2, events=2)
    assert counts(engine) == (0, 0, 0)


def test_what_waits_is_never_removed_nor_its_event(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=10, stop=lambda state: False)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    held = webhooks.endpoints.create(receiver.url("/held"), events=["*"])
    webhooks.endpoints.disable(held.id)
    receiver.answer(500)
    put(sessions, "waits", "delivered")
    webhooks.drain()
    clock.advance(1)
    webhooks.endpoints.disable(endpoint.id)
    clock.advance(DAY)
    webhooks.prune()
    assert [(one.state.value, one.event_type) for one in webhooks.deliveries.list()] == [
        ("held", "product.created")
    ] * 3
    assert counts(engine) == (0, 3, 2)
    assert faults(engine) == []


def test_what_is_to_be_kept_for_ever_is(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=None)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    webhooks.drain()
    clock.advance(10_000 * DAY)
    assert webhooks.prune() == Pruned()
    webhooks.drain()
    assert counts(engine) == (1, 1, 1)


def test_events_that_nobody_was_given_go_too(make: Any, sessions: Sessions, clock: MovedClock, engine: Engine) -> None:
    webhooks = make(retention=10, capture="all")
    put(sessions, "a", "b")
    webhooks.drain()
    clock.advance(11)
    assert webhooks.prune() == Pruned(events=2)


def test_it_goes_by_batches_and_says_how_far_it_is(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SIZE", 2)
    webhooks = make(retention=10)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, *"abcde")
    webhooks.drain()
    clock.advance(11)
    told: list[Pruned] = [Pruned()]
    assert webhooks.prune(progress=told.append) == told[-1] == Pruned(5, 5, 5)
    for before, after in pairwise(told):
        batch = (after.attempts - before.attempts, after.deliveries - before.deliveries, after.events - before.events)
        assert max(batch) <= 2
        assert sum(batch) > 0


def test_events_that_are_needed_do_not_stop_it(
    make: Any,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
) -> None:
    """They are older than those that are not, and more than a batch."""
    monkeypatch.setattr(retention, "SIZE", 2)
    webhooks = make(retention=Retention(attempts=10, delivered=None, dead=10, events=10), capture="all")
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, *"abcde")
    webhooks.drain()
    webhooks.endpoints.delete(endpoint.id)
    put(sessions, *"vwxyz")
    webhooks.drain()
    clock.advance(11)
    assert webhooks.prune() == Pruned(attempts=5, events=5)
    assert counts(engine) == (0, 5, 5)


def test_the_row_that_a_dead_letter_held_goes_on_without_it(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=Retention(dead=10), after_last_attempt="hold")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    with sessions.begin() as session:
        session.get_one(Product, "a").stock = 1
    webhooks.drain()
    clock.advance(11)
    webhooks.prune()
    assert faults(engine) == []
    webhooks.drain()
    assert receiver.types == ["product.created", "product.updated"]


def test_the_relay_does_it_by_itself(
    make: Any,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
) -> None:
    monkeypatch.setattr(retention, "SIZE", 2)
    webhooks = make(retention=10)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, *"abcde")
    webhooks.drain()
    clock.advance(max(11, RARELY))
    webhooks.drain()
    assert counts(engine) == (0, 0, 0)


def test_an_attempt_is_kept_as_text_that_is_not_too_long(make: Any, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = make()
    webhooks.endpoints.create(receiver.url(), events=["*"])
    body = b"\0 \xff \xc3\xbc " + "\N{PILE OF POO}".encode() + b" x" * 100_000
    receiver.answer(Reply(500, body))
    put(sessions, "a")
    webhooks.drain()
    [attempt] = webhooks.deliveries.attempts(1)
    assert (
        attempt.response
        == ("\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER} ü \N{PILE OF POO}" + " x" * KEPT)[:KEPT]
    )


# --------------------------------------------------------------------------- while others are at work

shared = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)


@shared
def test_it_waits_for_nobody(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=10, capture="all")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a", "b")
    webhooks.drain()
    clock.advance(11)
    with engine.connect() as other:
        other.execute(select(models.delivery.c.id).where(models.delivery.c.id == 1).with_for_update())
        assert webhooks.prune() == Pruned(attempts=2, deliveries=1, events=1)
        other.rollback()
    with engine.connect() as other:
        other.execute(select(models.event.c.id).with_for_update())
        assert webhooks.prune() == Pruned(deliveries=1)
    assert webhooks.prune() == Pruned(events=1)


@shared
@pytest.mark.parametrize("hold", [statement_held, commit_held])
def test_an_event_is_not_removed_while_it_is_given_to_somebody(
    hold: Any, make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=10, capture="all")
    put(sessions, "a")
    webhooks.drain()
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    clock.advance(11)

    def replay() -> object:
        return webhooks.events.replay_all(endpoint=endpoint.id)

    with hold(engine, "INSERT INTO webhook_delivery") as held, running(engine, replay, until="SELECT") as came:
        held.wait()
        assert webhooks.prune() == Pruned()
        held.open()
    assert not isinstance(came[0], Exception)
    assert counts(engine) == (0, 1, 1)


@shared
def test_one_that_is_sent_again_meanwhile_is_not_removed(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=10)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(11)
    with (
        commit_held(engine, "UPDATE webhook_delivery") as commit,
        running(engine, lambda: webhooks.deliveries.retry(1), until="UPDATE webhook_delivery") as came,
    ):
        commit.wait()
        assert webhooks.prune() == Pruned(attempts=1)
        commit.open()
    assert not isinstance(came[0], Exception)
    assert webhooks.deliveries.get(1).state == "pending"


@shared
def test_what_is_not_so_old_any_more_once_it_can_be_locked_is_kept(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    """It was found as a dead letter; before it is locked it is sent once more, in vain."""
    webhooks = make(retention=10)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500, 500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(11)
    with statement_held(engine, "SKIP LOCKED") as held, running(engine, webhooks.prune, until="SELECT") as came:
        held.wait()
        webhooks.deliveries.retry(1)
        webhooks.drain()
        held.open()
    assert came == [Pruned(attempts=1)]
    assert webhooks.deliveries.get(1).finished_at == clock.now()


@shared
def test_an_event_that_was_given_to_somebody_before_it_can_be_locked_is_kept(
    make: Any, sessions: Sessions, receiver: Receiver, clock: MovedClock, engine: Engine
) -> None:
    webhooks = make(retention=10, capture="all")
    put(sessions, "a")
    webhooks.drain()
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    clock.advance(11)
    with statement_held(engine, "SKIP LOCKED") as held, running(engine, webhooks.prune, until="SELECT") as came:
        held.wait()
        webhooks.events.replay_all(endpoint=endpoint.id)
        held.open()
    assert came == [Pruned()]
    assert counts(engine) == (0, 1, 1)
