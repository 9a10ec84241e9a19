"""An event exists if and only if its change committed."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker
from support.receiver import Receiver
from support.shop import Product

from sqla_webhooks import Webhooks

Sessions = sessionmaker[Session]


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """
    SQLite with savepoints that work.

    By SQLAlchemy's own recipe, "Serializable isolation / Savepoints /
    Transactional DDL" of its SQLite page: the driver is kept from beginning
    transactions by itself.
    """

    @event.listens_for(engine, "connect")
    def no_begin_by_the_driver(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    engine.dispose()
    return engine


@pytest.fixture(autouse=True)
def endpoint(webhooks: Webhooks, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])


def sent(webhooks: Webhooks, receiver: Receiver) -> list[str]:
    webhooks.drain()
    return [event["resource_id"] for event in receiver.events()]


def test_a_rollback_leaves_no_event(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()
        session.rollback()

    assert sent(webhooks, receiver) == []


def test_a_session_closed_without_commit_leaves_no_event(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions() as session:
        session.add(Product(sku="a"))
        session.flush()

    assert sent(webhooks, receiver) == []


def test_a_savepoint_rolled_back_inside_a_committed_transaction(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="before"))
        savepoint = session.begin_nested()
        session.add(Product(sku="inside"))
        session.flush()
        savepoint.rollback()
        session.add(Product(sku="after"))

    assert sent(webhooks, receiver) == ["before", "after"]


def test_a_savepoint_released_inside_a_committed_transaction(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session, session.begin_nested():
        session.add(Product(sku="inside"))

    assert sent(webhooks, receiver) == ["inside"]


def test_what_a_savepoint_changed_is_not_in_the_net_change_when_it_is_rolled_back(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        product = Product(sku="a", stock=1)
        session.add(product)
        session.flush()
        savepoint = session.begin_nested()
        product.stock = 2
        session.flush()
        savepoint.rollback()

    webhooks.drain()
    (created,) = receiver.events()
    assert created["type"] == "product.created"
    assert created["data"]["stock"] == 1


def test_a_session_joined_to_an_outer_transaction_that_rolls_back(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    with engine.connect() as connection, connection.begin() as outer:
        with sessions(bind=connection, join_transaction_mode="create_savepoint") as session:
            session.add(Product(sku="a"))
            session.commit()
        outer.rollback()

    assert sent(webhooks, receiver) == []


@pytest.mark.parametrize("mode", ["conditional_savepoint", "create_savepoint", "control_fully", "rollback_only"])
def test_a_session_joined_to_an_outer_transaction_that_commits(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver, mode: Any
) -> None:
    with engine.connect() as connection, connection.begin() as outer:
        with sessions(bind=connection, join_transaction_mode=mode) as session:
            session.add(Product(sku="a"))
            session.commit()
        if mode != "control_fully":
            outer.commit()

    assert sent(webhooks, receiver) == ["a"]


def test_committed_by_the_outer_connection_only(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    with engine.begin() as connection, sessions(bind=connection, join_transaction_mode="rollback_only") as session:
        session.add(Product(sku="a"))
        session.flush()  # the session itself never commits
        session.expunge_all()
        connection.commit()

    assert sent(webhooks, receiver) == ["a"]


def test_two_transactions_of_one_session_are_two_events(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions() as session:
        product = Product(sku="a")
        session.add(product)
        session.commit()
        product.stock = 1
        session.commit()
        product.stock = 2
        session.flush()
        product.stock = 3
        session.commit()

    webhooks.drain()
    assert receiver.types == ["product.created", "product.updated", "product.updated"]
    assert receiver.events()[-1]["changes"] == {"stock": {"from": 1, "to": 3}}


def test_coalesce_off_makes_an_event_of_each_flush(install: Any, engine: Engine, receiver: Receiver) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False, coalesce=False)
    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
        session.flush()
        product.stock = 1
        session.flush()
        session.delete(product)

    webhooks.drain()
    assert receiver.types == ["product.created", "product.updated", "product.deleted"]
