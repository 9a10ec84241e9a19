"""Events that are sent by hand, of rows to which nothing was done."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session, sessionmaker
from support.async_databases import application_at
from support.clock import MovedClock
from support.databases import Database
from support.interleaving import commit_held, running, waits
from support.local import Install
from support.receiver import Receiver
from support.shop import Dog, Opaque, Order, Product, Seat
from support.threads import until
from support.told import Told

from sqla_webhooks import ConfigurationError, DatabaseBusy, NotFound, Webhooks, models

Sessions = sessionmaker[Session]

WHOLE = {"sku": "a", "name": "", "stock": 1, "details": None}


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, capture="all")


@pytest.fixture
def product(webhooks: Webhooks, sessions: Sessions) -> Product:
    """One that has committed, detached from its session, and expired."""
    with sessions.begin() as session:
        product = Product(sku="a", stock=1)
        session.add(product)
    webhooks.drain()
    return product


@pytest.mark.parametrize("operation", ["create", "update", "delete"])
def test_an_event_of_any_operation_has_the_row_as_it_is(
    webhooks: Webhooks, sessions: Sessions, product: Product, receiver: Receiver, operation: str
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.execute(update(Product).values(name="of SQL"))
    webhooks.drain()
    receiver.forget()

    assert webhooks.trigger(f"product.{operation}d", product) is True
    webhooks.drain()
    (event,) = receiver.events()
    assert {key: event[key] for key in event.keys() - {"id", "timestamp"}} == {
        "type": f"product.{operation}d",
        "resource": "product",
        "resource_id": "a",
        "operation": operation,
        "data": {**WHOLE, "name": "of SQL"},
        **({"changes": {}} if operation == "update" else {}),
    }


def test_each_time_it_is_an_event_of_its_own(webhooks: Webhooks, product: Product) -> None:
    for _ in range(3):
        webhooks.trigger("product.updated", product)
    webhooks.drain()

    assert len({one.id for one in webhooks.events.list()}) == 4


def test_enrichers_add_to_it(webhooks: Webhooks, product: Product) -> None:
    @webhooks.enricher(Product)
    def with_label(product: Product, payload: dict[str, Any]) -> None:
        payload["label"] = product.sku.upper()

    webhooks.trigger("product.updated", product)
    assert Told(webhooks)()[-1] == ("product.updated", "a", {**WHOLE, "label": "A"})


@pytest.mark.parametrize("make", [lambda: Seat(row="A", number=3), lambda: Dog(name="Rex"), Order])
def test_composite_keys_joined_classes_and_computed_columns(
    webhooks: Webhooks, sessions: Sessions, make: Callable[[], Any]
) -> None:
    with sessions.begin() as session:
        row = make()
        session.add(row)
    resource = type(row).__name__.lower()
    webhooks.trigger(f"{resource}.updated", row)
    created, sent = Told(webhooks)()

    assert sent == (f"{resource}.updated", *created[1:])


def test_what_nobody_has_asked_for_is_not_written(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), events=["product.updated"])
    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
    webhooks.drain()

    assert webhooks.trigger("product.created", product) is False
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(models.outbox)) == 0
    assert webhooks.trigger("product.updated", product) is True


def test_the_relay_is_woken(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions, batch_window=0, poll_interval=3600)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
    until(lambda: bool(webhooks.deliveries.list(state="delivered")))
    webhooks.trigger("product.updated", product)

    assert [one.type for one in receiver.wait_for(2)] == ["product.created", "product.updated"]


def test_in_an_async_application_it_is_a_plain_call(install: Install, tmp_path: Any) -> None:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        webhooks = install(application.sessions, deliver=False, capture="all")
        product = Product(sku="a", stock=1)
        application.put(product)

        async def main() -> None:
            assert webhooks.trigger("product.updated", product)

        application.run(main)
        assert Told(webhooks).names() == ["product.created a", "product.updated a"]
        webhooks.uninstall()


# --------------------------------------------------------------------------- what cannot be


def refused(webhooks: Webhooks, type_: Any, obj: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        webhooks.trigger(type_, obj)
    return str(caught.value)


@pytest.mark.parametrize("type_", ["order.updated", "product.read", "product.sold", "product.*", "product", None])
def test_a_type_that_the_object_has_no_event_of_is_refused(webhooks: Webhooks, product: Product, type_: Any) -> None:
    said = refused(webhooks, type_, product)
    assert said == (f"{type_!r} is no event of Product: write one of product.created, product.updated, product.deleted")


def test_operations_and_classes_that_are_left_out_are_refused(
    install: Install, sessions: Sessions, clock: MovedClock
) -> None:
    left_out = [(Product, "delete"), Opaque]
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", exclude=left_out)
    with sessions.begin() as session:
        product, opaque = Product(sku="a"), Opaque(value=1)
        session.add_all([product, opaque])

    assert refused(webhooks, "product.deleted", product).endswith("write one of product.created, product.updated")
    assert "Opaque is not captured" in refused(webhooks, "opaque.updated", opaque)


def test_an_object_without_a_row_is_refused(webhooks: Webhooks) -> None:
    assert "obj is Product, without a row" in refused(webhooks, "product.updated", Product(sku="a"))
    assert "obj is the class Product: give an object" in refused(webhooks, "product.updated", Product)
    assert "obj is str, without a row" in refused(webhooks, "product.updated", "a")


def test_a_row_that_is_gone_is_not_found(webhooks: Webhooks, sessions: Sessions, product: Product) -> None:
    with sessions.begin() as session:
        session.execute(delete(Product))

    with pytest.raises(NotFound, match=r"there is no product with the key \('a',\)"):
        webhooks.trigger("product.deleted", product)


def test_a_session_that_has_written_must_commit_before(webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions() as session:
        product = Product(sku="a")
        session.add(product)
        session.flush()
        assert "commit first" in refused(webhooks, "product.updated", product)
        session.commit()
        assert product.stock == 0  # which begins another transaction
        assert webhooks.trigger("product.updated", product)


def test_in_memory_it_waits_for_no_transaction_of_the_applications(
    install: Install, in_memory: Sessions, clock: MovedClock
) -> None:
    webhooks = install(in_memory, deliver=False, clock=clock, capture="all")
    with in_memory.begin() as session:
        product = Product(sku="a")
        session.add(product)
    with in_memory() as session:
        session.add(Product(sku="b"))
        session.flush()
        with pytest.raises(DatabaseBusy):
            webhooks.trigger("product.updated", product)
    assert webhooks.trigger("product.updated", product)


# --------------------------------------------------------------------------- while others change the row


@pytest.fixture
def everywhere(database: Database, install: Install, clock: MovedClock) -> Iterator[tuple[Webhooks, Engine, Sessions]]:
    """An installation on each database, with one product."""
    with database.patient.engine() as engine:
        Product.__table__.create(engine)  # type: ignore[attr-defined]  # a table's own method
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False, clock=clock, capture="all")
        with sessions.begin() as session:
            session.add(Product(sku="a", stock=0))
        yield webhooks, engine, sessions
        webhooks.uninstall()


def stream(webhooks: Webhooks) -> list[tuple[bool, int]]:
    """Of each event of the row, in their order: whether it was by hand, and the stock."""
    webhooks.drain()
    bodies = [json.loads(one.payload) for one in webhooks.events.list(limit=1000)[::-1]]
    return [(body.get("changes") == {}, body["data"]["stock"]) for body in bodies]


def test_it_waits_for_whoever_changes_the_row_and_shows_what_came_of_it(
    everywhere: tuple[Webhooks, Engine, Sessions],
) -> None:
    webhooks, engine, sessions = everywhere

    def change() -> None:
        with sessions.begin() as session:
            session.get_one(Product, "a").stock = 7

    with sessions() as session:
        product = session.get_one(Product, "a")
    word = "DELETE FROM webhook_outbox" if engine.dialect.name == "sqlite" else "FOR UPDATE"
    with commit_held(engine, "UPDATE product") as gate:
        changer = threading.Thread(target=change)
        changer.start()
        gate.wait()
        with running(engine, lambda: webhooks.trigger("product.updated", product), until=word) as came:
            if engine.dialect.name != "sqlite":
                until(lambda: waits(engine))
            assert came == []
            gate.open()
        changer.join()

    assert came == [True]
    assert stream(webhooks) == [(False, 0), (False, 7), (True, 7)]


@pytest.mark.stress
def test_whenever_it_is_sent_it_shows_the_row_after_the_event_before(
    everywhere: tuple[Webhooks, Engine, Sessions],
) -> None:
    webhooks, _, sessions = everywhere
    with sessions() as session:
        product = session.get_one(Product, "a")
    chance = random.Random(7)
    numbers = iter(range(1, 10_000))

    def change(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(25):
            with sessions() as session:
                session.execute(update(Product).values(stock=next(numbers)))
                if mine.random() < 0.3:
                    session.rollback()
                else:
                    session.commit()

    threads = [threading.Thread(target=change, args=(chance.random(),)) for _ in range(2)]
    threads += [threading.Thread(target=lambda: [webhooks.trigger("product.updated", product) for _ in range(25)])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    told = stream(webhooks)
    assert sum(by_hand for by_hand, _ in told) == 25
    for (_, before), (by_hand, stock) in pairwise(told):
        assert not by_hand or stock == before
    with sessions() as session:
        assert told[-1][1] == session.get_one(Product, "a").stock
