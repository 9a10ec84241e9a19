"""What the application adds to its payloads."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, joinedload, object_session, selectinload, sessionmaker
from support.faults import refusing
from support.local import Install
from support.receiver import Receiver
from support.shop import Animal, Customer, Dog, Order, Product, Seat, Ticket, put

import sqla_webhooks
from sqla_webhooks import ConfigurationError, Webhooks, enricher_failed, enriching

Sessions = sessionmaker[Session]


@pytest.fixture(autouse=True)
def endpoint(webhooks: Webhooks, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])


@pytest.fixture
def module_level() -> Iterator[None]:
    """Undo what a test registers with the module's `@enricher`."""
    before = dict(enriching.receivers)
    yield
    for receiver in [one for key, one in enriching.receivers.items() if key not in before]:
        enriching.disconnect(receiver)


def sent(webhooks: Webhooks, receiver: Receiver, type_: str | None = None) -> list[Any]:
    webhooks.drain()
    return [event["data"] for event in receiver.events(type_)]


def test_an_enricher_adds_to_the_data(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    @webhooks.enricher(Order, options=[joinedload(Order.customer)])
    def with_customer(order: Order, payload: dict[str, Any]) -> None:
        assert order.customer is not None
        payload["customer"] = {"email": order.customer.email}

    with sessions.begin() as session:
        session.add(Order(customer=Customer(email="a@example.com")))

    (order,) = sent(webhooks, receiver, "order.created")
    assert order["customer"] == {"email": "a@example.com"}
    assert order["quantity"] == 1


def test_the_function_stays_a_function(webhooks: Webhooks) -> None:
    @webhooks.enricher(Order)
    def add(order: Order, payload: dict[str, Any]) -> None:
        payload["double"] = order.quantity * 2

    payload: dict[str, Any] = {}
    add(Order(quantity=2), payload)
    assert payload == {"double": 4}


@pytest.mark.usefixtures("module_level")
def test_several_run_in_the_stated_order(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    def note(word: str) -> Any:
        def add(_row: Any, payload: dict[str, Any]) -> None:
            payload["order"] = [*payload.get("order", []), word]

        return add

    webhooks.enricher(Dog)(note("installation, dog"))
    webhooks.enricher(Animal)(note("installation, animal"))
    sqla_webhooks.enricher(Dog)(note("module, dog 1"))
    sqla_webhooks.enricher(Dog)(note("module, dog 2"))
    sqla_webhooks.enricher(Animal)(note("module, animal"))
    gc.collect()  # registrations are no weak references

    with sessions.begin() as session:
        session.add_all([Dog(name="Rex"), Animal(name="Tom")])

    dog, animal = sent(webhooks, receiver)
    assert dog["order"] == [
        "module, animal",
        "module, dog 1",
        "module, dog 2",
        "installation, animal",
        "installation, dog",
    ]
    assert animal["order"] == ["module, animal", "installation, animal"]


def test_one_installation_s_enrichers_are_its_own(
    webhooks: Webhooks, install: Install, engine: Engine, sessions: Sessions, receiver: Receiver
) -> None:
    other = install(sessionmaker(engine), deliver=False)
    other.enricher(Product)(lambda _product, payload: payload.update(other=True))
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    assert "other" not in sent(webhooks, receiver)[0]


def test_one_that_fails_leaves_no_trace_and_is_told(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[object, str, str]] = []

    @webhooks.enricher(Product)
    def before(_product: Product, payload: dict[str, Any]) -> None:
        payload["before"] = True

    @webhooks.enricher(Product)
    def broken(_product: Product, payload: dict[str, Any]) -> None:
        payload["half"] = True
        payload["details"]["size"].append("more")
        message = "the enricher is broken"
        raise RuntimeError(message)

    @webhooks.enricher(Product)
    def after(_product: Product, payload: dict[str, Any]) -> None:
        payload["after"] = True

    def hear(sender: object, *, enricher: Any, event: Any, error: Exception) -> None:
        told.append((sender, enricher.function.__name__, str(error)))
        assert event.type == "product.created"

    with enricher_failed.connected_to(hear), sessions.begin() as session:
        session.add(Product(sku="a", details={"size": [1]}))
        session.commit()
        (data,) = sent(webhooks, receiver)

    assert data == {
        "sku": "a",
        "name": "",
        "stock": 0,
        "details": {"size": [1]},
        "before": True,
        "after": True,
    }
    assert told == [(Product, "broken", "the enricher is broken")]
    assert "the enricher is broken" in caplog.text
    assert "broken failed; product.created evt_" in caplog.text


def test_a_payload_that_cannot_be_copied_is_the_failure_of_the_next_alone(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.enricher(Product)(lambda _row, payload: payload.update(lazy=(number for number in range(3))))
    webhooks.enricher(Product)(lambda _row, payload: payload.update(after=True))
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    (data,) = sent(webhooks, receiver)
    assert data["lazy"] == {"$unencodable": "builtins.generator"}
    assert "after" not in data


def test_one_that_returns_something_is_told_how_to_be(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks.enricher(Product)(lambda _product, payload: {**payload, "more": 1})  # type: ignore[arg-type]  # the mistake it is about
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    assert "more" not in sent(webhooks, receiver)[0]
    assert "changes the payload in place" in caplog.text


def test_rows_of_a_batch_are_loaded_by_class_and_not_by_event(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    @webhooks.enricher(Customer, options=[selectinload(Customer.orders)])
    def with_orders(customer: Customer, payload: dict[str, Any]) -> None:
        payload["orders"] = [order.id for order in customer.orders]

    with sessions.begin() as session:
        session.add_all([Customer(email=str(number), orders=[Order(), Order()]) for number in range(50)])
    loads: list[str] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _c, _u, statement, *_: loads.append(statement) if "FROM customer" in statement else None,
    )

    customers = sent(webhooks, receiver, "customer.created")

    assert len(customers) == 50
    assert all(len(one["orders"]) == 2 for one in customers)
    assert len(loads) == 1


def test_a_row_that_is_gone_by_then_goes_plain(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    webhooks.enricher(Product)(lambda product, payload: payload.update(seen=product.stock))
    with sessions.begin() as session:
        session.add_all([Product(sku="a"), Product(sku="b")])
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))

    a, b, deleted = sent(webhooks, receiver)
    assert "seen" not in a
    assert b["seen"] == 0
    assert "seen" not in deleted


def test_keys_of_every_kind_are_found(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    for model in (Seat, Ticket):
        webhooks.enricher(model)(lambda _row, payload: payload.update(found=True))
    with sessions.begin() as session:
        session.add_all([Seat(row="A", number=1), Seat(row="A", number=2), Ticket(id=uuid.uuid4())])

    assert [one["found"] for one in sent(webhooks, receiver)] == [True, True, True]


@pytest.mark.parametrize("write", ["commit", "flush", "set and commit"])
def test_an_enricher_that_writes_fails_alone(
    webhooks: Webhooks,
    install: Install,
    engine: Engine,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    write: str,
) -> None:
    """Even where its own session would be captured: with an installation on `Session` itself."""
    webhooks.uninstall()
    webhooks = install(Session, bind=engine, deliver=False)

    @webhooks.enricher(Product)
    def writing(product: Product, payload: dict[str, Any]) -> None:
        session = object_session(product)
        assert session is not None
        payload["half"] = True
        if write != "commit":
            product.stock = 99
        session.flush() if write == "flush" else session.commit()

    webhooks.enricher(Product)(lambda _row, payload: payload.update(after=True))
    with Session(engine) as session:
        session.add(Product(sku="a"))
        session.commit()

    assert sent(webhooks, receiver) == [{"sku": "a", "name": "", "stock": 0, "details": None, "after": True}]
    assert "which is for reading" in caplog.text
    with Session(engine) as session:
        assert session.get_one(Product, "a").stock == 0


def test_rows_that_cannot_be_loaded_go_plain(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks.enricher(Product, options=[joinedload(Order.customer)])(lambda _row, payload: payload.update(found=True))
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    told: list[str] = []

    def hear(_sender: object, *, enricher: Any, event: Any, error: Exception) -> None:
        told.append(event.resource_id)

    with enricher_failed.connected_to(hear):
        assert sent(webhooks, receiver) == [{"sku": "a", "name": "", "stock": 0, "details": None}]
    assert "could not be loaded for the enricher" in caplog.text
    assert told == ["a"]


def test_options_that_cannot_be_loaded_harm_their_own_enricher_only(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.enricher(Product)(lambda _row, payload: payload.update(before=True))
    webhooks.enricher(Product, options=[joinedload(Order.customer)])(lambda _row, payload: payload.update(bad=True))
    webhooks.enricher(Product)(lambda _row, payload: payload.update(after=True))
    with sessions.begin() as session:
        session.add_all([Product(sku="a"), Product(sku="b")])

    plain = {"name": "", "stock": 0, "details": None}
    assert sent(webhooks, receiver) == [{"sku": sku, **plain, "before": True, "after": True} for sku in "ab"]


def test_one_whose_statement_fails_harms_no_other(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    @webhooks.enricher(Order)
    def bad(order: Order, payload: dict[str, Any]) -> None:
        session = object_session(order)
        assert session is not None
        session.execute(text("SELECT nonsense"))

    @webhooks.enricher(Order)
    def good(order: Order, payload: dict[str, Any]) -> None:
        assert order.customer is not None
        payload["email"] = order.customer.email

    with sessions.begin() as session:
        session.add_all([Order(customer=Customer(email="a")), Order(customer=Customer(email="b"))])

    assert [one["email"] for one in sent(webhooks, receiver, "order.created")] == ["a", "b"]


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_one_that_raises_what_is_no_exception_fails_alone_too(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, error: type[BaseException]
) -> None:
    @webhooks.enricher(Product)
    def bad(product: Product, payload: dict[str, Any]) -> None:
        raise error

    webhooks.enricher(Product)(lambda _row, payload: payload.update(after=True))
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    assert sent(webhooks, receiver)[0]["after"] is True


def test_a_keyboard_s_interrupt_ends_a_drain(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    @webhooks.enricher(Product)
    def interrupted(product: Product, payload: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with sessions.begin() as session:
        session.add(Product(sku="a"))
    with pytest.raises(KeyboardInterrupt):
        webhooks.drain()


def test_a_database_that_is_locked_under_an_enricher_s_load_is_waited_for(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    put(sessions, "before")
    webhooks.drain()  # now this relay leads, and asks for that no more
    receiver.forget()
    webhooks.enricher(Product)(lambda _row, payload: payload.update(found=True))
    put(sessions, "a")
    with (
        refusing(engine, "FROM product") as loads,
        refusing(engine, "SELECT webhook_lease.name") as looks,
        pytest.raises(OperationalError, match="disk is full"),
    ):
        webhooks.drain()
    assert (len(loads), len(looks)) == (2, 1)

    assert sent(webhooks, receiver)[0]["found"] is True


def test_a_table_that_cannot_be_read_harms_its_own_events_only(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    """As after a migration that came before the relay."""
    webhooks.enricher(Seat)(lambda _row, payload: payload.update(found=True))
    webhooks.enricher(Product)(lambda _row, payload: payload.update(found=True))
    with sessions.begin() as session:
        session.add_all([Seat(row="A", number=1), Product(sku="a")])
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE seat"))

    assert [one.get("found") for one in sent(webhooks, receiver)] == [None, True]


def test_what_options_have_loaded_stays_loaded_after_another_has_failed(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    """Whatever it failed with: an error of SQLAlchemy's own, or of the database."""

    @webhooks.enricher(Customer)
    def failing(customer: Customer, payload: dict[str, Any]) -> None:
        session = object_session(customer)
        assert session is not None
        if customer.id == 1:
            session.scalars(select(Product)).one()  # NoResultFound
        if customer.id == 2:
            session.execute(text("SELECT nonsense"))

    @webhooks.enricher(Customer, options=[selectinload(Customer.orders)])
    def with_orders(customer: Customer, payload: dict[str, Any]) -> None:
        assert "orders" in sa_inspect(customer).dict
        payload["orders"] = [order.id for order in customer.orders]

    with sessions.begin() as session:
        session.add_all([Customer(email=str(number), orders=[Order()]) for number in range(3)])

    assert [one["orders"] for one in sent(webhooks, receiver, "customer.created")] == [[1], [2], [3]]


def test_a_connection_that_breaks_within_an_enricher_is_made_anew(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    broken: list[int] = []

    @webhooks.enricher(Order)
    def breaking(order: Order, payload: dict[str, Any]) -> None:
        if not broken:
            broken.append(1)
            session = object_session(order)
            assert session is not None
            session.connection().invalidate()
        assert order.customer is not None
        payload["email"] = order.customer.email

    with sessions.begin() as session:
        session.add_all([Order(customer=Customer(email=email)) for email in "ab"])

    assert [one.get("email") for one in sent(webhooks, receiver, "order.created")] in ([None, "b"], ["a", "b"])


def test_another_database_that_goes_away_is_the_failure_of_its_enricher_alone(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    calls: list[str] = []

    @webhooks.enricher(Product)
    def elsewhere(product: Product, payload: dict[str, Any]) -> None:
        calls.append(product.sku)
        if product.sku == "b":
            statement = "SELECT 1"
            raise OperationalError(statement, {}, Exception("gone"), connection_invalidated=True)
        payload["found"] = True

    webhooks.enricher(Product)(lambda _row, payload: payload.update(after=True))
    put(sessions, "a", "b", "c")

    assert [(one.get("found"), one["after"]) for one in sent(webhooks, receiver)] == [
        (True, True),
        (None, True),
        (True, True),
    ]
    assert calls == ["a", "b", "c"]


def test_a_load_that_fails_once_is_made_again(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    webhooks.enricher(Product)(lambda _row, payload: payload.update(found=True))
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    with refusing(engine, "FROM product", times=1) as refused:
        assert sent(webhooks, receiver)[0]["found"] is True
    assert refused


def test_what_an_enricher_adds_is_encoded_like_all_else(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.enricher(Product)(lambda _row, payload: payload.update(key=uuid.UUID(int=1), strange=object()))
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    (data,) = sent(webhooks, receiver)
    assert data["key"] == str(uuid.UUID(int=1))
    assert data["strange"] == {"$unencodable": "builtins.object"}


def test_what_cannot_be_enriched_is_refused(webhooks: Webhooks) -> None:
    with pytest.raises(ConfigurationError, match="name a mapped class"):
        webhooks.enricher(int)

    async def later(_row: Any, _payload: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="write a plain function"):
        webhooks.enricher(Product)(later)  # type: ignore[arg-type]  # the mistake it is about
