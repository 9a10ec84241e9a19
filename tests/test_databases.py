"""The whole path on every database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import ELSEWHERE, Database, database_named
from support.receiver import Receiver
from support.shop import Base, Product, put

from sqla_webhooks import Webhooks


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


def test_changes_are_delivered(sessions: sessionmaker[Session], webhooks: Webhooks, receiver: Receiver) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")
    with sessions.begin() as session:
        session.get_one(Product, "a").stock = 2
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))
    drained = webhooks.drain()
    assert (drained.events, drained.attempts, drained.complete) == (3, 3, True)
    assert receiver.types == ["product.created", "product.updated", "product.deleted"]
    assert [one.state for one in webhooks.deliveries.list(endpoint=endpoint.id)] == ["delivered"] * 3


def test_a_failed_delivery_is_made_again(
    sessions: sessionmaker[Session], webhooks: Webhooks, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(10)
    webhooks.drain()
    [delivery] = webhooks.deliveries.list()
    assert [one.status for one in webhooks.deliveries.attempts(delivery.id)] == [500, 200]
    assert receiver.types == ["product.created"] * 2


def test_an_endpoint_is_disabled_enabled_and_deleted(
    sessions: sessionmaker[Session], webhooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.endpoints.disable(endpoint.id)
    put(sessions, "a")
    webhooks.drain()
    assert receiver.types == []
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert receiver.types == ["product.created"]
    put(sessions, "b")
    webhooks.endpoints.delete(endpoint.id)
    webhooks.drain()
    assert receiver.types == ["product.created"]


def test_a_large_change_is_delivered_whole(
    sessions: sessionmaker[Session], webhooks: Webhooks, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    text = "ü" * 100_000
    with sessions.begin() as session:
        session.add(Product(sku="a", details={"text": text}))
    webhooks.drain()
    [event] = receiver.events()
    assert event["data"]["details"] == {"text": text}


def test_times_are_kept_to_the_microsecond(
    sessions: sessionmaker[Session], webhooks: Webhooks, clock: MovedClock
) -> None:
    clock.advance(0.123456)
    endpoint = webhooks.endpoints.create("http://127.0.0.1:1024/", events=["*"])
    assert webhooks.endpoints.get(endpoint.id).created_at == clock.now()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_the_relay_does_not_wait_for_a_transaction_that_is_open(
    sessions: sessionmaker[Session], webhooks: Webhooks, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions() as session:
        session.add(Product(sku="open"))
        session.flush()
        put(sessions, "a", "b", "c")
        assert webhooks.drain().complete
        put(sessions, "d")  # nor does anybody wait for what the relay has done
        session.commit()
    webhooks.drain()
    assert [event["resource_id"] for event in receiver.events()] == ["a", "b", "c", "open", "d"]


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_database_that_is_not_there_is_a_failure_in_ci_and_a_skip_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv(ELSEWHERE, "mysql+pymysql://root@127.0.0.1:1/")
    with pytest.raises(outcome, match=ELSEWHERE), database_named("mariadb", tmp_path):
        pass
