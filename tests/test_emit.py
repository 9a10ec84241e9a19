"""Domain events that the application emits, in its own transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from support.async_databases import application_at
from support.clock import MovedClock
from support.databases import Database, clear
from support.local import Install
from support.receiver import Receiver
from support.shop import Customer, Dog, Opaque, Order, Product
from support.told import Told

from sqla_webhooks import ConfigurationError, NotFound, Webhooks, enriching, models, unencodable

Sessions = sessionmaker[Session]

DECLARED: dict[str, Any] = {"product.sold_out": Product, "stock.counted": None, "backup.failed": None}


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, capture="all", domain_events=DECLARED)


@pytest.fixture
def told(webhooks: Webhooks) -> Told:
    return Told(webhooks)


@pytest.fixture
def shelf(sessions: Sessions, told: Told) -> Told:
    """There are two products, of which all is told."""
    with sessions.begin() as session:
        session.add_all([Product(sku="a"), Product(sku="b")])
    told()
    return told


def waiting(engine: Engine) -> int:
    """How many rows the outbox has."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(models.outbox)).scalar_one()


# --------------------------------------------------------------------------- what comes


def test_an_event_about_a_row_has_the_row_as_it_is_in_the_transaction(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["product.sold_out"])
    with sessions.begin() as session:
        product = Product(sku="a", stock=1)
        session.add(product)
        session.flush()
        session.execute(
            update(Product).values(stock=0, name="of SQL"), execution_options={"synchronize_session": False}
        )
        webhooks.emit(session, "product.sold_out", product)
        product.details = {"later": True}

    webhooks.drain()
    (event,) = receiver.events()
    assert {key: event[key] for key in event.keys() - {"id", "timestamp"}} == {
        "type": "product.sold_out",
        "resource": "product",
        "resource_id": "a",
        "operation": "emit",
        "data": {"sku": "a", "name": "of SQL", "stock": 0, "details": None},
    }


def test_an_event_about_no_row_is_one_of_a_kind(webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions.begin() as session:
        webhooks.emit(session, "backup.failed", data={"size": Decimal("1.50"), "at": (1, 2)})
        webhooks.emit(session, "backup.failed")
    webhooks.drain()

    last, first = webhooks.events.list()
    for one, data in ((first, {"size": "1.50", "at": [1, 2]}), (last, {})):
        assert (one.resource, one.resource_id, one.operation) == ("backup", one.id, "emit")
        assert json.loads(one.payload)["data"] == data


def test_data_that_is_given_is_all_that_is_sent(shelf: Told, webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions.begin() as session:
        webhooks.emit(session, "product.sold_out", session.get_one(Product, "a"), data={"left": 0})

    assert shelf() == [("product.sold_out", "a", {"left": 0})]


def test_enrichers_add_to_the_data_of_the_row_and_to_none_that_is_given(
    shelf: Told, webhooks: Webhooks, sessions: Sessions
) -> None:
    @webhooks.enricher(Product)
    def with_label(product: Product, payload: dict[str, Any]) -> None:
        payload["label"] = product.sku.upper()

    with sessions.begin() as session:
        webhooks.emit(session, "product.sold_out", session.get_one(Product, "a"))
        webhooks.emit(session, "product.sold_out", session.get_one(Product, "a"), data={"left": 0})

    whole = {"sku": "a", "name": "", "stock": 0, "details": None, "label": "A"}
    assert shelf() == [("product.sold_out", "a", whole), ("product.sold_out", "a", {"left": 0})]
    assert not enriching.receivers


def test_what_cannot_be_written_becomes_a_placeholder_and_is_told_of(
    shelf: Told, webhooks: Webhooks, sessions: Sessions
) -> None:
    kinds: list[type] = []

    def note(_webhooks: Webhooks, *, kind: type) -> None:
        kinds.append(kind)

    with unencodable.connected_to(note), sessions.begin() as session:
        webhooks.emit(session, "backup.failed", data={"by": object(), "size": 1})

    assert kinds == [object]
    ((_, _, data),) = shelf()
    assert data == {"by": {"$unencodable": "builtins.object"}, "size": 1}


def test_an_object_that_was_added_has_its_key_and_its_own_event_before(
    told: Told, webhooks: Webhooks, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        order = Order(customer=Customer(email="a@example.com"))
        session.add(order)
        webhooks.emit(session, "stock.counted", order)

    assert told.names() == ["order.created 1", "customer.created 1", "stock.counted 1"]


def test_a_row_of_a_subclass_is_one_of_the_class(
    install: Install, sessions: Sessions, engine: Engine, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", domain_events={"dog.barked": Dog})
    told = Told(webhooks)
    with sessions.begin() as session:
        dog = Dog(name="Rex", tricks=3)
        session.add(dog)
        webhooks.emit(session, "dog.barked", dog)

    data = {"id": 1, "kind": "dog", "name": "Rex", "tricks": 3}
    assert told() == [("dog.created", "1", data), ("dog.barked", "1", data)]


def test_without_coalescing_it_stands_between_the_changes_of_its_row(
    install: Install, sessions: Sessions, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", domain_events=DECLARED, coalesce=False)
    told = Told(webhooks)
    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
        webhooks.emit(session, "product.sold_out", product)
        product.stock = 2
        webhooks.emit(session, "product.sold_out", product)

    assert told.names() == ["product.created a", "product.sold_out a", "product.updated a", "product.sold_out a"]


def test_it_waits_behind_the_changes_of_its_row_and_for_nothing_else(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
        webhooks.emit(session, "product.sold_out", product)
        webhooks.emit(session, "backup.failed")
        webhooks.emit(session, "backup.failed")

    webhooks.drain()
    assert receiver.types == ["product.created", "backup.failed", "backup.failed"]
    clock.advance(60)
    webhooks.drain()
    assert receiver.types[3:] == ["product.created", "product.sold_out"]


# --------------------------------------------------------------------------- if and only if it commits


@dataclass
class Model:
    """What becomes of a transaction, told by its steps alone: savepoints are marks in a list."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def expected(self) -> list[str]:
        """Each row's net change where it was first changed, and what was emitted where it was."""
        lines: list[str] = []
        for kind, name in self.steps:
            line = f"product.updated {name}" if kind == "change" else f"{kind} {name}"
            if kind != "change" or line not in lines:
                lines.append(line)
        return lines


steps = st.lists(
    st.tuples(st.sampled_from(["change", "emit", "emit"]), st.sampled_from("ab"))
    | st.tuples(st.just("emit"), st.just(""))
    | st.tuples(st.sampled_from(["begin", "release", "undo"]), st.just("")),
    max_size=10,
)


def play(session: Session, webhooks: Webhooks, plan: list[tuple[str, str]], count: Iterator[int]) -> list[str]:
    """Do what the plan says; what is to come of it if it commits."""
    model, savepoints = Model(), []
    for kind, name in plan:
        if kind == "begin":
            savepoints.append(session.begin_nested())
            model.marks.append(len(model.steps))
        elif kind in ("release", "undo"):
            if savepoints:
                savepoint, mark = savepoints.pop(), model.marks.pop()
                if kind == "release":
                    savepoint.commit()
                else:
                    savepoint.rollback()
                    del model.steps[mark:]
        elif kind == "change":
            session.get_one(Product, name).stock = next(count)
            model.steps.append((kind, name))
        else:
            number = next(count)
            obj = session.get_one(Product, name) if name else None
            webhooks.emit(session, "stock.counted", obj, data={"number": number})
            model.steps.append((f"stock.counted {number}", name))
    return model.expected()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(steps, st.booleans()), max_size=4))
@example([([("begin", ""), ("emit", "a"), ("undo", ""), ("emit", "b")], True), ([("emit", "a")], False)])
@example([([("emit", "a"), ("change", "a"), ("emit", "a"), ("change", "b"), ("emit", ""), ("change", "a")], True)])
def test_what_was_emitted_comes_if_and_only_if_it_committed_and_in_its_place(
    everywhere: tuple[Webhooks, Sessions, Told], plans: list[tuple[list[tuple[str, str]], bool]]
) -> None:
    webhooks, sessions, told = everywhere
    count = iter(range(1, 10_000))
    with sessions.begin() as session:
        for name in "ab":
            session.merge(Product(sku=name, stock=-1))
    told()
    with sessions.begin() as session:
        for name in "ab":
            session.get_one(Product, name).stock = 0
    told()
    clear(webhooks.engine, models.event)
    told.seen = 0
    expected: list[str] = []
    for plan, commits in plans:
        with sessions() as session:
            lines = play(session, webhooks, plan, count)
            if commits:
                session.commit()
                expected += lines

    came = [
        f"{type_} {data['number']} {row if len(row) == 1 else ''}" if type_ == "stock.counted" else f"{type_} {row}"
        for type_, row, data in told()
    ]
    assert came == expected


@pytest.fixture
def everywhere(database: Database, install: Install, clock: MovedClock) -> Iterator[tuple[Webhooks, Sessions, Told]]:
    """An installation on each database, with the table of products."""
    with database.engine() as engine:
        Product.__table__.create(engine)  # type: ignore[attr-defined]  # a table's own method
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False, clock=clock, capture="all", domain_events=DECLARED)
        yield webhooks, sessions, Told(webhooks)
        webhooks.uninstall()


# --------------------------------------------------------------------------- if anybody has asked for it


def test_nothing_is_written_that_nobody_has_asked_for(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, domain_events=DECLARED)
    webhooks.endpoints.create(receiver.url(), events=["product.sold_out"])
    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
        webhooks.emit(session, "stock.counted", product)
        webhooks.emit(session, "backup.failed")
    assert waiting(engine) == 0

    with sessions.begin() as session:
        webhooks.emit(session, "product.sold_out", session.get_one(Product, "a"))
    assert waiting(engine) == 1


@pytest.mark.parametrize("pattern", ["*", "backup.*", "*.failed", "backup.failed"])
def test_every_kind_of_subscription_counts_in_its_own_transaction_already(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, pattern: str
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, domain_events=DECLARED)
    with sessions.begin() as session:
        webhooks.endpoints.create(receiver.url(), events=[pattern], session=session)
        webhooks.emit(session, "backup.failed", data={"n": 1})
    webhooks.drain()

    assert [event["data"] for event in receiver.events()] == [{"n": 1}]


def test_a_subscription_of_another_process_counts_when_what_is_known_is_old(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, domain_events=DECLARED)
    other = install(sessionmaker(engine), deliver=False, domain_events=DECLARED)
    other.endpoints.create(receiver.url(), events=["backup.failed"])
    clock.advance(2)
    with sessions.begin() as session:
        webhooks.emit(session, "backup.failed")

    assert waiting(engine) == 1


# --------------------------------------------------------------------------- whose it is


def test_a_tenant_that_is_said_is_the_events(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url("/seven"), events=["*"], tenant=7)
    webhooks.endpoints.create(receiver.url("/eight"), events=["*"], tenant=8)
    webhooks.endpoints.create(receiver.url("/all"), events=["*"])
    with sessions.begin() as session:
        webhooks.emit(session, "backup.failed", tenant=7)
    webhooks.drain()

    assert sorted(one.path for one in receiver.received) == ["/all", "/seven"]
    assert webhooks.events.list()[0].tenant == "7"


# --------------------------------------------------------------------------- what cannot be


def refused(webhooks: Webhooks, session: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        webhooks.emit(session, *arguments, **options)
    return str(caught.value)


def test_a_type_that_is_not_declared_is_refused_with_what_to_write(webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions() as session:
        assert "install(..., domain_events={'backup.done': ...})" in refused(webhooks, session, "backup.done")
        assert "did you mean 'backup.failed'?" in refused(webhooks, session, "backup.faild")
        assert "'.created' is what rows tell of themselves" in refused(webhooks, session, "backup.created")
        assert "give two words" in refused(webhooks, session, "backup")
        assert "give two words" in refused(webhooks, session, None)


def test_what_an_event_cannot_be_about_is_refused(webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions.begin() as other:
        other.add(Product(sku="a"))
    with sessions() as session, sessions() as other:
        order, theirs = Order(), other.get_one(Product, "a")
        session.add(order)
        assert "about Product, and is emitted about Order" in refused(webhooks, session, "product.sold_out", order)
        assert "about Product, and is emitted about nothing" in refused(webhooks, session, "product.sold_out")
        assert "this Product has no row" in refused(webhooks, session, "product.sold_out", Product(sku="b"))
        assert "this Product has no row in the session's" in refused(webhooks, session, "product.sold_out", theirs)
        assert "obj is str: give an object of a mapped class" in refused(webhooks, session, "stock.counted", "a")
        session.delete(order)
        assert "delete it after" in refused(webhooks, session, "stock.counted", order)


def test_an_object_of_a_class_that_is_not_captured_is_refused(
    install: Install, sessions: Sessions, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, domain_events=DECLARED, exclude=[Opaque])
    with sessions() as session:
        opaque = Opaque(value=1)
        session.add(opaque)
        assert "Opaque is not captured" in refused(webhooks, session, "stock.counted", opaque)


def test_other_arguments_that_cannot_be_are_refused(webhooks: Webhooks, sessions: Sessions, engine: Engine) -> None:
    with sessions() as session, Session(engine) as strange:
        product = Product(sku="a")
        session.add(product)
        assert "data is a list" in refused(webhooks, session, "backup.failed", data=[1])
        assert "keys are texts" in refused(webhooks, session, "backup.failed", data={1: 2})
        assert "tenant is ''" in refused(webhooks, session, "backup.failed", tenant="")
        assert "from the row itself" in refused(webhooks, session, "stock.counted", product, tenant=7)
        assert "none of those that install() was called for" in refused(webhooks, strange, "backup.failed")
        assert "session is str" in refused(webhooks, "session", "backup.failed")


def test_a_row_that_is_gone_is_not_found(webhooks: Webhooks, sessions: Sessions) -> None:
    with sessions() as session:
        product = Product(sku="a")
        session.add(product)
        session.flush()
        session.execute(delete(Product), execution_options={"synchronize_session": False})
        with pytest.raises(NotFound, match="the row of this Product is not there"):
            webhooks.emit(session, "product.sold_out", product)


# --------------------------------------------------------------------------- other sessions


def test_a_scoped_session_is_that_of_its_thread(install: Install, sessions: Sessions, clock: MovedClock) -> None:
    scope = scoped_session(sessions)
    webhooks = install(scope, deliver=False, clock=clock, capture="all", domain_events=DECLARED)
    webhooks.emit(scope, "backup.failed")
    scope.commit()
    scope.remove()

    assert [name.split()[0] for name in Told(webhooks).names()] == ["backup.failed"]


def test_an_async_session_emits_where_it_is_at_work(install: Install, tmp_path: Path) -> None:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        webhooks = install(application.sessions, deliver=False, capture="all", domain_events=DECLARED)

        async def main() -> None:
            async with application.sessions.begin() as session:
                product = Product(sku="a")
                session.add(product)
                await session.run_sync(lambda plain: webhooks.emit(plain, "product.sold_out", product))
                assert "await session.run_sync(lambda session: webhooks.emit(" in refused(
                    webhooks, session, "backup.failed"
                )
                with pytest.raises(ConfigurationError, match="run_sync"):
                    webhooks.emit(session.sync_session, "backup.failed")
            async with application.sessions() as session:
                await session.run_sync(lambda plain: webhooks.emit(plain, "backup.failed"))
                await session.rollback()

        application.run(main)
        assert Told(webhooks).names() == ["product.created a", "product.sold_out a"]
