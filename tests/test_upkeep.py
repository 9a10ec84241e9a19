"""What one relay does now and then, beside the deliveries, and what it costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.faults import refusing
from support.local import Install
from support.queues import rows_of
from support.receiver import Receiver
from support.shop import put
from support.statements import statements

from sqla_webhooks import DeliveryState, NewEndpoint, Webhooks, models
from sqla_webhooks.outbox import pages
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lease import LENGTH
from sqla_webhooks.relay.upkeep import EVERY, PACE, RARELY, Upkeep

Sessions = sessionmaker[Session]


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


def test_an_idle_relay_makes_fewer_than_three_statements_a_second(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, clock: MovedClock
) -> None:
    put(sessions, "a")
    webhooks.drain()
    seconds = 10 * RARELY
    with statements(engine) as made:
        for _ in range(int(seconds)):
            clock.advance(1)
            webhooks.drain()
    assert len(made) / seconds < 2.5


def test_a_drain_with_nothing_to_do_looks_once(webhooks: Webhooks, engine: Engine, clock: MovedClock) -> None:
    webhooks.drain()
    clock.advance(RARELY)
    before = clock.now()
    with statements(engine) as made:
        assert webhooks.drain().complete
    assert len(made) < 15
    assert clock.now() == before


@pytest.fixture
def four_to_cancel(
    webhooks: Webhooks,
    endpoint: NewEndpoint,
    sessions: Sessions,
    clock: MovedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a deleted endpoint, in pages of two; and it is time."""
    webhooks.endpoints.disable(endpoint.id)
    put(sessions, *"abcd")
    webhooks.drain()
    webhooks.endpoints.delete(endpoint.id)
    monkeypatch.setattr(pages, "SIZE", 2)
    clock.advance(LENGTH.total_seconds())


def waiting(engine: Engine) -> int:
    return sum(row.state == DeliveryState.PENDING for row in rows_of(engine))


@pytest.mark.usefixtures("four_to_cancel")
def test_it_goes_on_a_little_at_a_time(webhooks: Webhooks, engine: Engine, clock: MovedClock) -> None:
    upkeep = Upkeep(Database(engine), webhooks.settings)
    assert upkeep.go_on(hurry=False)
    assert waiting(engine) == 2
    assert upkeep.go_on(hurry=False)
    assert waiting(engine) == 2
    clock.advance(PACE)
    assert upkeep.go_on(hurry=False)
    assert waiting(engine) == 0
    clock.advance(PACE)
    assert not upkeep.go_on(hurry=False)


@pytest.mark.usefixtures("four_to_cancel")
def test_one_relay_at_a_time_does_it(webhooks: Webhooks, engine: Engine, clock: MovedClock) -> None:
    one, other = (Upkeep(Database(engine), webhooks.settings) for _ in range(2))
    assert one.go_on(hurry=True)
    assert not other.go_on(hurry=True)
    assert waiting(engine) == 2
    clock.advance(LENGTH.total_seconds())
    assert other.go_on(hurry=True)
    assert waiting(engine) == 0


@pytest.mark.usefixtures("four_to_cancel")
def test_deliveries_go_on_when_it_fails(
    webhooks: Webhooks,
    sessions: Sessions,
    receiver: Receiver,
    engine: Engine,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "e")
    with refusing(engine, "UPDATE webhook_lease SET token") as refused:
        assert webhooks.drain().complete
    assert len(refused) == 1
    assert [one["resource_id"] for one in receiver.events()] == ["e"]
    assert [record.name for record in caplog.records] == ["sqla_webhooks.relay.upkeep"]
    assert waiting(engine) == 4
    clock.advance(EVERY)
    webhooks.drain()
    assert waiting(engine) == 0


# --------------------------------------------------------------------------- a clock that was set back


@pytest.mark.parametrize(("seconds", "sent"), [(599, False), (601, True)])
def test_what_a_clock_that_ran_ahead_has_leased_is_sent(
    webhooks: Webhooks,
    endpoint: NewEndpoint,
    sessions: Sessions,
    receiver: Receiver,
    engine: Engine,
    clock: MovedClock,
    *,
    seconds: float,
    sent: bool,
) -> None:
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    receiver.forget()
    with engine.begin() as connection:  # as a relay that was killed would have left it
        until = clock.now() + timedelta(seconds=RARELY + seconds)
        connection.execute(update(models.delivery).values(lease_token="gone", next_attempt_at=until))
    clock.advance(RARELY)
    webhooks.drain()
    assert len(receiver.received) == sent


def test_a_retry_that_is_due_in_a_month_is_no_lease(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, wait=lambda state: 30 * 86400.0)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(RARELY)
    webhooks.drain()
    assert len(receiver.received) == 1
