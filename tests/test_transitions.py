"""Domain events that follow from what has become of a row."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session, sessionmaker
from support import mapping
from support.clock import START, MovedClock
from support.databases import clear
from support.local import Install
from support.receiver import Receiver
from support.shop import Animal, Customer, Dog, Opaque, Order, Product, Status, Ticket
from support.told import Told

from sqla_webhooks import (
    Condition,
    ConfigurationError,
    Event,
    InvalidSubscription,
    Operation,
    Webhooks,
    changed,
    models,
    predicate_failed,
)

Sessions = sessionmaker[Session]

CREATE, UPDATE, DELETE = Operation.CREATE, Operation.UPDATE, Operation.DELETE


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, capture="all")


@pytest.fixture
def told(webhooks: Webhooks) -> Told:
    return Told(webhooks)


# --------------------------------------------------------------------------- what has changed


def event(operation: Operation, now: Any, before: Any = ..., **others: Any) -> Event:
    """Of a row whose status is *now*; and was *before*, if that is known."""
    changes = {"status": {**({} if before is ... else {"from": before}), "to": now}} if operation is UPDATE else None
    return Event("evt_1", "order.x", START, "order", "1", operation, {"status": now, **others}, changes)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ({}, "became paid, became other, became paid of nobody knows what"),
        ({"to": "paid"}, "became paid, became paid of nobody knows what, was created paid"),
        ({"from_": "pending"}, "became paid"),
        ({"to": "paid", "from_": "pending"}, "became paid"),
        ({"to": "paid", "from_": "other"}, ""),
        ({"to": None}, ""),
        ({"from_": "paid"}, "became other"),
    ],
)
def test_what_has_changed(asked: dict[str, Any], held: str) -> None:
    events = {
        "became paid": event(UPDATE, "paid", "pending"),
        "became other": event(UPDATE, "other", "paid"),
        "became paid of nobody knows what": event(UPDATE, "paid"),
        "was created paid": event(CREATE, "paid"),
        "was created otherwise": event(CREATE, "pending"),
        "was deleted": event(DELETE, "paid"),
        "changed elsewhere": replace(event(UPDATE, "paid"), changes={"total": {"from": 1, "to": 2}}),
        "was told of": event(Operation.READ, "paid"),
    }
    condition = changed(Order.status, **asked)
    assert ", ".join(name for name, one in events.items() if condition(one)) == held


class Level(Enum):
    LOW = 1


@pytest.mark.parametrize(
    ("sent", "value", "is_it"),
    [
        ("paid", Status.PAID, True),
        (1, Level.LOW, True),
        ("99.50", Decimal("99.50"), True),
        ("99.50", Decimal("99.5"), True),
        ("99.50", 99.5, True),
        ("0.00", 0, True),
        (0.1, Decimal("0.1"), True),
        (1, 1.0, True),
        ("99.50", "99.5", False),
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC), True),
        ("2026-03-01T12:00:00Z", datetime.fromisoformat("2026-03-01T13:00:00+01:00"), True),
        (True, True, True),
        (1, True, False),
        (True, 1, False),
        (None, None, True),
        (None, 0, False),
        ("", None, False),
        ("x", 1, False),
        ({"a": [1]}, {"a": (1,)}, True),
        ({"a": [1]}, {"a": [True]}, False),
        (None, float("nan"), True),
    ],
)
def test_values_are_compared_as_they_are_sent(sent: Any, value: Any, is_it: bool) -> None:  # noqa: FBT001  # a column of the table
    assert changed(Order.status, to=value)(event(CREATE, sent)) is is_it
    assert changed(Order.status, to=value)(event(UPDATE, sent, "before")) is is_it
    assert changed(Order.status, from_=value)(event(UPDATE, "after", sent)) is is_it


Formula = tuple[Any, ...] | bool


def formulas() -> st.SearchStrategy[Formula]:
    return st.recursive(
        st.booleans(),
        lambda inner: st.tuples(st.sampled_from("&|"), inner, inner) | st.tuples(st.just("~"), inner),
        max_leaves=12,
    )


def truth(formula: Formula) -> bool:
    if isinstance(formula, bool):
        return formula
    word, *parts = formula
    values = [truth(part) for part in parts]
    return not values[0] if word == "~" else (all if word == "&" else any)(values)


def made(formula: Formula) -> Any:
    """The same of conditions, and of plain functions where both sides are none."""
    if isinstance(formula, bool):
        return changed(Order.status, to="paid") if formula else (lambda _event: False)
    word, *parts = formula
    built = [made(part) for part in parts]
    if not any(isinstance(one, Condition) for one in built):
        built[0] = changed(Order.status, to="nothing") | built[0]
    if word == "~":
        return ~built[0]
    return built[0] & built[1] if word == "&" else built[0] | built[1]


@settings(deadline=None, max_examples=200)
@given(formulas())
def test_conditions_are_put_together_as_truth_values_are(formula: Formula) -> None:
    condition = made(formula)
    assert condition(event(CREATE, "paid")) is truth(formula)


# --------------------------------------------------------------------------- what follows


def test_an_event_follows_right_behind_that_of_its_row(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.event("order.was_paid", Order)(changed(Order.status, from_="pending", to="paid"))
    webhooks.endpoints.create(receiver.url(), events=["*"])

    @webhooks.enricher(Order)
    def with_customer(order: Order, payload: dict[str, Any]) -> None:
        payload["email"] = order.customer.email if order.customer else None

    with sessions.begin() as session:
        order = Order(customer=Customer(email="a@example.com"))
        session.add_all([order, Product(sku="a")])
    webhooks.drain()
    receiver.forget()
    with sessions.begin() as session:
        session.get_one(Order, 1).status = "paid"
        session.get_one(Product, "a").stock = 1
    webhooks.drain()

    made_public = [one.type for one in webhooks.events.list(limit=3)][::-1]
    assert made_public == ["order.updated", "order.was_paid", "product.updated"]
    own, derived = receiver.events("order.updated") + receiver.events("order.was_paid")
    assert derived["data"]["email"] == "a@example.com"
    assert derived == {**own, "type": "order.was_paid", "operation": "emit", "id": derived["id"]}
    assert derived["id"] != own["id"]
    assert sorted(receiver.ids) == sorted(event["id"] for event in receiver.events())


def test_it_waits_behind_the_event_of_its_row(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.event("product.sold", Product)(changed(Product.stock, to=0))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    with sessions.begin() as session:
        session.add(Product(sku="a", stock=0))
    webhooks.drain()
    assert receiver.types == ["product.created"]

    clock.advance(60)
    webhooks.drain()
    assert receiver.types == ["product.created", "product.created", "product.sold"]


def test_a_predicate_may_be_any_function(webhooks: Webhooks, sessions: Sessions, told: Told) -> None:
    @webhooks.event("product.gone", Product)
    def gone(event: Event) -> bool:
        return event.operation == "delete" and event.data["stock"] > 0

    assert gone.__name__ == "gone"
    with sessions.begin() as session:
        session.add_all([Product(sku="a", stock=1), Product(sku="b")])
    with sessions.begin() as session:
        for sku in "ab":
            session.delete(session.get_one(Product, sku))

    assert told.names()[2:] == ["product.deleted a", "product.gone a", "product.deleted b"]


def test_a_type_that_is_declared_several_times_is_one_event_where_any_holds(
    webhooks: Webhooks, sessions: Sessions, told: Told
) -> None:
    for _ in range(2):
        webhooks.event("product.sold_out", Product)(changed(Product.stock, to=0))
    webhooks.event("product.sold_out", Product)(changed(Product.name, to="sold out"))
    webhooks.event("product.named", Product)(changed(Product.name))
    with sessions.begin() as session:
        session.add_all(
            [Product(sku="a", stock=0), Product(sku="b", stock=0, name="sold out"), Product(sku="c", stock=1)]
        )
    with sessions.begin() as session:
        session.get_one(Product, "c").name = "sold out"

    assert told.names() == [
        *("product.created a", "product.sold_out a", "product.created b", "product.sold_out b", "product.created c"),
        *("product.updated c", "product.sold_out c", "product.named c"),
    ]


def test_rows_of_subclasses_count_and_those_of_bases_do_not(webhooks: Webhooks, sessions: Sessions, told: Told) -> None:
    webhooks.event("animal.named", Animal)(changed(Animal.name, to="Rex"))
    webhooks.event("dog.learned", Dog)(changed(Dog.tricks) | changed(Dog.name, to="Rex"))
    with sessions.begin() as session:
        session.add(Animal(name="Rex"))
        session.flush()
        session.add(Dog(name="Rex"))

    assert told.names() == ["animal.created 1", "animal.named 1", "dog.created 2", "animal.named 2", "dog.learned 2"]


def test_of_two_classes_of_one_name_and_table_each_is_looked_at(
    install: Install, in_memory: Sessions, clock: MovedClock
) -> None:
    """As where an application's classes are mapped for each of its tests anew."""
    with mapping.base() as first, mapping.base() as second:
        classes = mapping.person(first), mapping.person(second)
        first.metadata.create_all(in_memory.kw["bind"])
        webhooks = install(in_memory, deliver=False, clock=clock, capture="all")
        for name, cls in zip(("came", "arrived"), classes, strict=True):
            webhooks.event(f"person.{name}", cls)(changed(cls.first, to="a"))
        told = Told(webhooks)
        for cls in classes:
            with in_memory.begin() as session:
                session.add(cls(first="a"))
            assert sorted(one.partition(" ")[0] for one in told.names()) == [
                *("person.arrived", "person.came", "person.created"),
            ]


def test_encoders_decide_how_values_are_compared(install: Install, sessions: Sessions, clock: MovedClock) -> None:
    encoders = {Status: lambda status: f"the status {status.value}"}
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", encoders=encoders)
    told = Told(webhooks)
    webhooks.event("ticket.was_paid", Ticket)(changed(Ticket.status, to=Status.PAID) & (lambda _event: True))
    with sessions.begin() as session:
        session.add_all([Ticket(id=UUID(int=n), status=status) for n, status in enumerate(Status)])

    types = [type_ for type_, _, data in told() if data["status"] == "the status paid"]
    assert types == ["ticket.created", "ticket.was_paid"]
    assert len(webhooks.events.list()) == 3


STATES = ("new", "open", "paid", "void")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(STATES)), max_size=4),
            st.booleans(),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_random_histories_of_a_status(
    transitions: tuple[Webhooks, Sessions, Told], history: list[tuple[list[tuple[str, str]], bool, bool]]
) -> None:
    """The events are worked out of the values that were committed, and of nothing else."""
    webhooks, sessions, told = transitions
    committed: dict[str, str] = {}
    expected: list[str] = []
    for writes, commits, by_bulk in history:
        now = dict(committed)
        with sessions() as session:
            for sku, state in writes:
                if by_bulk and sku in now:
                    session.execute(update(Product).where(Product.sku == sku).values(name=state))
                else:
                    session.merge(Product(sku=sku, name=state))
                session.flush()
                now[sku] = state
            if not commits:
                continue
            session.commit()
        for sku in dict.fromkeys(sku for sku, state in writes):
            before, after = committed.get(sku), now[sku]
            if after == "paid" != before:
                expected.append(f"product.paid {sku}")
            if before == "paid" != after:
                expected.append(f"product.unpaid {sku}")
            if (before, after) == ("open", "void"):
                expected.append(f"product.lost {sku}")
        committed = now

    names = [name for name in told.names() if not name.startswith(("product.created", "product.updated"))]
    clear(webhooks.engine, Product.__table__, models.event)  # type: ignore[arg-type]  # it is a table
    told.seen = 0
    assert _by_row(names) == _by_row(expected)


def _by_row(names: list[str]) -> dict[str, list[str]]:
    """Which row is told of first in a transaction is another matter."""
    return {sku: [name for name in names if name.endswith(sku)] for sku in "ab"}


@pytest.fixture
def transitions(webhooks: Webhooks, sessions: Sessions, told: Told) -> tuple[Webhooks, Sessions, Told]:
    webhooks.event("product.paid", Product)(changed(Product.name, to="paid"))
    webhooks.event("product.unpaid", Product)(changed(Product.name, from_="paid") & ~changed(Product.name, to="paid"))
    webhooks.event("product.lost", Product)(changed(Product.name, from_="open", to="void"))
    return webhooks, sessions, told


# --------------------------------------------------------------------------- who asks for it


@pytest.mark.parametrize("pattern", ["payment.captured", "payment.*", "*.captured"])
def test_who_asks_for_what_follows_wakes_the_capture_of_its_rows_alone(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock, pattern: str
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.event("payment.captured", Order)(changed(Order.status, to="paid"))
    webhooks.endpoints.create(receiver.url(), events=[pattern])
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(models.outbox)) == 0

    with sessions.begin() as session:
        order = Order()
        session.add(order)
    with sessions.begin() as session:
        session.execute(update(Order).values(status="paid"))
    webhooks.drain()
    assert receiver.types == ["payment.captured"]
    assert receiver.events()[0]["changes"] == {"status": {"from": "pending", "to": "paid"}}


def test_old_values_are_read_for_what_follows_too(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.event("payment.captured", Order)(changed(Order.status, from_="pending", to="paid"))
    webhooks.endpoints.create(receiver.url(), events=["payment.captured"])
    with sessions() as session:
        order = Order()
        session.add(order)
        session.commit()
        order.status = "paid"  # of an object that has expired
        session.commit()
    webhooks.drain()

    assert receiver.types == ["payment.captured"]


def test_of_operations_that_are_left_out_nothing_follows(
    install: Install, sessions: Sessions, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", exclude=[(Product, "create")])
    webhooks.event("product.named", Product)(changed(Product.name, to="x"))
    with sessions.begin() as session:
        session.add(Product(sku="a", name="x"))
    assert Told(webhooks).names() == []


def test_what_follows_from_what_is_emitted_or_sent_by_hand_is_nothing(
    install: Install, sessions: Sessions, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, capture="all", domain_events={"stock.counted": None})
    asked: list[str] = []

    @webhooks.event("product.any", Product)
    def always(event: Event) -> bool:
        asked.append(event.type)
        return True

    with sessions.begin() as session:
        product = Product(sku="a")
        session.add(product)
        webhooks.emit(session, "stock.counted", product)
    webhooks.trigger("product.created", product)

    assert Told(webhooks).names() == ["product.created a", "product.any a", "stock.counted a", "product.created a"]
    assert asked == ["product.created"]


# --------------------------------------------------------------------------- predicates that fail


@pytest.mark.parametrize(
    ("fault", "error"), [(lambda _event: 1 / 0, ZeroDivisionError), (lambda _event: None, TypeError)]
)
def test_a_predicate_that_fails_is_told_of_and_stops_no_other(
    webhooks: Webhooks,
    sessions: Sessions,
    told: Told,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Event], Any],
    error: type[Exception],
) -> None:
    heard: list[tuple[Any, ...]] = []

    def note(model: type, *, predicate: Any, type: str, event: Event, error: Exception) -> None:
        heard.append((model, predicate, type, event.type, error.__class__))

    webhooks.event("product.a", Product)(fault)
    webhooks.event("product.b", Product)(~changed(Product.name, to="x") & fault)
    webhooks.event("product.c", Product)(changed(Product.name, to=""))
    with predicate_failed.connected_to(note), sessions.begin() as session:
        session.add(Product(sku="a"))
    with predicate_failed.connected_to(note), caplog.at_level(logging.ERROR):
        assert told.names() == ["product.created a", "product.c a"]

    assert [(one[0], one[2], one[3], one[4]) for one in heard] == [
        (Product, "product.a", "product.created", error),
        (Product, "product.b", "product.created", error),
    ]
    assert heard[0][1] is fault
    assert "the predicate of product.a failed, and no event came of it" in caplog.text


# --------------------------------------------------------------------------- what cannot be


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call()
    return str(caught.value)


def test_what_cannot_be_declared_is_refused(install: Install, sessions: Sessions) -> None:
    webhooks = install(
        sessions, deliver=False, domain_events={"stock.counted": None, "order.lost": Order}, exclude=[Opaque]
    )
    paid = changed(Order.status, to="paid")

    async def later(_event: Event) -> bool:
        return True

    assert "'.updated' is what rows tell" in refused(lambda: webhooks.event("order.updated", Order)(paid))
    assert "name a mapped class" in refused(lambda: webhooks.event("order.paid", str)(paid))
    assert "Opaque is not captured (exclude)" in refused(lambda: webhooks.event("a.b", Opaque)(lambda _event: True))
    assert "is no predicate" in refused(lambda: webhooks.event("order.paid", Order)(later))  # type: ignore[type-var]
    assert "is no predicate" in refused(lambda: webhooks.event("order.paid", Order)("paid"))  # type: ignore[type-var]
    assert "is no predicate" in refused(lambda: paid & True)  # type: ignore[operator]
    assert "is about Order, and cannot be about Product" in refused(
        lambda: webhooks.event("order.lost", Product)(lambda _event: True)
    )
    assert "Order.status is nothing of Product" in refused(lambda: webhooks.event("order.paid", Product)(paid))
    assert "Customer.api_key is not sent (secret name)" in refused(
        lambda: webhooks.event("customer.keyed", Customer)(~changed(Customer.api_key) | changed(Customer.email))
    )
    for value in ("PAID", 1, Opaque):
        condition = changed(Ticket.status, from_=Status.PENDING, to=None) & ~changed(Ticket.status, to=value)
        assert refused(partial(webhooks.event("ticket.paid", Ticket), condition)) == (
            f"changed(Ticket.status) asks for {value!r}, which is never sent: write one of 'pending', 'paid'"
        )
    webhooks.event("ticket.paid", Ticket)(changed(Ticket.status, from_="pending") | changed(Ticket.status, to="paid"))
    for no_attribute in (Order, "status", Order.customer, None):
        assert "name a column of a mapped class" in refused(partial(changed, no_attribute))
    assert refused(lambda: changed(Order.customer)).startswith("changed(Order.customer): name")
    with pytest.raises(InvalidSubscription, match="no event of 'order' is called 'paid'"):
        webhooks.endpoints.create("https://a.example", events=["order.paid"])


def test_a_type_that_is_declared_may_be_subscribed_to_and_emitted(
    webhooks: Webhooks, sessions: Sessions, told: Told
) -> None:
    webhooks.event("order.paid", Order)(changed(Order.status, to="paid"))
    webhooks.event("order.paid", Order)(changed(Order.note, to="paid"))
    webhooks.endpoints.create("https://a.example", events=["order.paid"])
    with sessions.begin() as session:
        order = Order(note="paid")
        session.add(order)
        webhooks.emit(session, "order.paid", order, data={"by": "hand"})

    assert [(name, data.get("by")) for name, _, data in told()] == [
        ("order.created", None),
        ("order.paid", None),
        ("order.paid", "hand"),
    ]
    assert [json.loads(one.payload)["operation"] for one in webhooks.events.list()] == ["emit", "emit", "create"]
