"""What a process remembers of the subscriptions: never what did not commit, never what is older than it seems."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.receiver import Receiver
from support.shop import Order, Product, put

from sqla_webhooks import Webhooks
from sqla_webhooks.capture.interest import FRESH, UNDATED, Interest
from sqla_webhooks.subscriptions import Patterns

Sessions = sessionmaker[Session]


@pytest.fixture
def elsewhere(install: Install, engine: Engine, clock: MovedClock) -> Webhooks:
    """Another process, as good as: nobody here is told what it does."""
    return install(sessionmaker(engine), deliver=False, clock=clock)


def arrived(webhooks: Webhooks, receiver: Receiver) -> list[str]:
    webhooks.drain()
    return [event["resource_id"] for event in receiver.events()]


# ------------------------------------------------------------------ what did not commit


def test_a_subscription_that_was_rolled_back_is_not_remembered_in_place_of_the_next(
    webhooks: Webhooks, elsewhere: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """The revision that the rollback has given back is given out again."""
    with sessions() as session:
        webhooks.endpoints.create(receiver.url(), events=["order.*"], session=session)
        session.add(Product(sku="rolled back"))
        session.flush()
        session.rollback()
    elsewhere.endpoints.create(receiver.url(), events=["product.*"])
    clock.advance(FRESH)

    put(sessions, "a")

    assert arrived(webhooks, receiver) == ["a"]


@pytest.mark.parametrize("write", ["delete", "update"])
def test_a_subscription_whose_end_was_rolled_back_goes_on(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock, write: str
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.*"])
    clock.advance(FRESH)
    with sessions() as session:
        if write == "delete":
            webhooks.endpoints.delete(endpoint.id, session=session)
        else:
            webhooks.endpoints.update(endpoint.id, events=["order.*"], session=session)
        session.add(Product(sku="rolled back"))
        session.flush()
        session.rollback()

    put(sessions, "a")

    assert arrived(webhooks, receiver) == ["a"]


def test_a_subscription_counts_in_its_own_transaction_only_while_it_stands(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        endpoint = webhooks.endpoints.create(receiver.url(), events=["product.*"], session=session)
        session.add(Product(sku="a"))
        session.flush()
        webhooks.endpoints.delete(endpoint.id, session=session)
        session.add(Product(sku="b"))
        webhooks.endpoints.create(receiver.url(), events=["order.*"], session=session)
        session.add_all([Order(id=7), Product(sku="c")])

    assert arrived(webhooks, receiver) == ["7"]


def test_an_old_value_is_known_though_the_subscription_is_made_in_the_same_transaction(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, "a")
    with sessions.begin() as session:
        product = session.get_one(Product, "a")
        session.expire(product)
        webhooks.endpoints.create(receiver.url(), events=["product.*"], session=session)
        product.stock = 5
    webhooks.drain()

    assert receiver.events()[0]["changes"] == {"stock": {"from": 0, "to": 5}}


def test_endpoints_enabled_in_a_transaction_are_served_when_it_commits(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    """And not at the next poll, which is an hour away."""
    webhooks = install(sessions, poll_interval=3600.0)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.*"])
    webhooks.endpoints.disable(endpoint.id)
    put(sessions, "a")
    webhooks.drain()
    assert receiver.received == []

    with sessions.begin() as session:
        webhooks.endpoints.enable(endpoint.id, session=session)

    assert [one.event["resource_id"] for one in receiver.wait_for(1)] == ["a"]


# ------------------------------------------------------------------ what is older than it seems


def test_a_look_is_as_old_as_the_transaction_it_was_made_in(
    webhooks: Webhooks, engine: Engine, clock: MovedClock, receiver: Receiver
) -> None:
    interest = Interest(clock, everything=False)
    with engine.connect() as connection:
        begun_at = clock.monotonic()
        clock.advance(FRESH)
        interest.look(connection, as_of=begun_at)
        assert not interest.fresh
        interest.look(connection, as_of=clock.monotonic())
        assert interest.fresh


def test_an_older_look_does_not_replace_a_later_one(
    webhooks: Webhooks, engine: Engine, clock: MovedClock, receiver: Receiver
) -> None:
    """Under REPEATABLE READ, a long transaction sees what was when it began."""
    interest = Interest(clock, everything=False)
    clock.advance(5)
    with engine.connect() as before:
        assert interest.look(before, as_of=UNDATED) == Patterns()
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with engine.connect() as after:
        assert interest.look(after, as_of=5) == Patterns(everything=True)
    webhooks.endpoints.update(webhooks.endpoints.list()[0].id, events=["order.*"])
    with engine.connect() as later:
        assert interest.look(later, as_of=4) == Patterns(resources=frozenset({"order"}))
        assert interest.patterns == Patterns(everything=True)
        assert interest.look(later, as_of=UNDATED) == Patterns(resources=frozenset({"order"}))
        assert interest.patterns == Patterns(everything=True)


def test_a_look_during_which_an_endpoint_is_written_here_is_not_remembered(
    webhooks: Webhooks, engine: Engine, clock: MovedClock, receiver: Receiver
) -> None:
    """Whatever the clock says: it may stand still."""
    interest = Interest(clock, everything=False)
    with engine.connect() as connection:

        @event.listens_for(connection, "after_cursor_execute")
        def write(*_: object) -> None:
            interest.forget_age()

        interest.look(connection, as_of=clock.monotonic())

    assert not interest.fresh


def test_an_endpoint_written_in_a_session_of_nobody_s_counts_at_the_next_look(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    put(sessions, "before")
    with Session(engine) as foreign:
        webhooks.endpoints.create(receiver.url(), events=["*"], session=foreign)
        foreign.commit()
        assert foreign.info == {}
    put(sessions, "a")

    assert arrived(webhooks, receiver) == ["a"]


def test_a_session_joined_to_an_older_transaction_does_not_date_its_look(
    webhooks: Webhooks, elsewhere: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    looks: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "webhook_revision" in statement:
            looks.append(statement)

    elsewhere.endpoints.create(receiver.url(), events=["*"])
    clock.advance(FRESH)
    with engine.begin() as connection, sessions(bind=connection) as session:
        looks.clear()
        session.add(Product(sku="a"))
        session.flush()
        session.add(Product(sku="b"))
        session.commit()
        assert len(looks) == 2
    put(sessions, "c")
    put(sessions, "d")
    assert len(looks) == 3

    assert arrived(webhooks, receiver) == ["a", "b", "c", "d"]


def test_a_session_that_was_open_before_install_does_not_date_its_look(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    with sessions() as session:
        session.get(Product, "a")
        webhooks = install(sessions, deliver=False, clock=clock)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        session.add(Product(sku="a"))
        session.commit()
        session.add(Product(sku="b"))
        session.commit()

    assert arrived(webhooks, receiver) == ["a", "b"]
