"""What a flush is seen to have changed: the events of single commits."""

from __future__ import annotations

import gc
import logging
import uuid
import weakref
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, String, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support import shop
from support.local import Install
from support.receiver import Receiver
from support.shop import Animal, Base, Customer, Document, Dog, Opaque, Order, Product, Seat, Status, Ticket

from sqla_webhooks import OutboxWriteError, Webhooks, models, unencodable

Sessions = sessionmaker[Session]
Sent = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def sent(webhooks: Webhooks, receiver: Receiver) -> Sent:
    """What has been sent since the last look."""
    webhooks.endpoints.create(receiver.url(), events=["*"])

    def sent() -> list[dict[str, Any]]:
        webhooks.drain()
        events = receiver.events()
        receiver.forget()
        return events

    return sent


def statements(engine: Engine) -> list[str]:
    """The statements from now on, as they are executed."""
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement))
    return seen


# ------------------------------------------------------------------ created


def test_a_created_row_is_sent_as_the_database_has_it(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Order(quantity=3, price=Decimal("1.25")))
    with sessions() as session:
        created_at = session.scalars(select(Order.created_at)).one()

    (event,) = sent()

    assert event["type"] == "order.created"
    assert event["operation"] == "create"
    assert event["resource_id"] == "1"
    assert event["data"] == {
        "id": 1,
        "customer_id": None,
        "status": "pending",
        "quantity": 3,
        "price": "1.25",
        "total": "3.75",
        "created_at": created_at.isoformat() + "Z",
        "note": None,
    }
    assert "changes" not in event


def test_rows_of_one_flush_come_in_the_order_of_their_adding(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add_all([Product(sku="b"), Product(sku="a"), Product(sku="c")])

    assert [event["data"]["sku"] for event in sent()] == ["b", "a", "c"]


def test_a_foreign_key_is_known_though_only_the_relationship_was_set(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Order(customer=Customer(email="a@example.com")))

    order, customer = sent()

    assert order["data"]["customer_id"] == customer["data"]["id"]


def test_a_composite_key_is_joined_and_stands_in_the_data(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Seat(row="A", number=7))

    (event,) = sent()

    assert event["resource_id"] == "A,7"
    assert event["data"] == {"row": "A", "number": 7, "taken": False}


def test_a_uuid_key_and_an_enum(sent: Sent, sessions: Sessions) -> None:
    key = uuid.uuid4()
    with sessions.begin() as session:
        session.add(Ticket(id=key))

    (event,) = sent()

    assert event["resource_id"] == str(key)
    assert event["data"] == {"id": str(key), "status": "pending"}


def test_a_sql_expression_is_sent_as_the_value_it_came_to(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        product = Product(sku="a", stock=2)
        session.add(product)
        session.flush()
        product.stock = Product.stock + 40

    (event,) = sent()

    assert event["data"]["stock"] == 42


def test_joined_inheritance_is_one_event_of_the_class_itself(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add_all([Dog(name="Rex"), Animal(name="Tom")])
    with sessions.begin() as session:
        found = session.scalars(select(Dog)).one()
        found.name, found.tricks = "Max", 1

    created, other, updated = sent()

    assert created["type"] == "dog.created"
    assert created["data"] == {"id": updated["data"]["id"], "kind": "dog", "name": "Rex", "tricks": 0}
    assert other["type"] == "animal.created"
    assert updated["changes"] == {"name": {"from": "Rex", "to": "Max"}, "tricks": {"from": 0, "to": 1}}


# ------------------------------------------------------------------ updated


@pytest.fixture
def order(sent: Sent, sessions: Sessions) -> int:
    """The number of an order whose creation has been sent."""
    with sessions.begin() as session:
        order = Order(note="first")
        session.add(order)
        session.flush()
        number = order.id
    sent()
    return number


def test_an_update_says_what_changed(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        session.get_one(Order, order).status = "paid"

    (event,) = sent()

    assert event["type"] == "order.updated"
    assert event["data"]["status"] == "paid"
    assert event["data"]["note"] == "first"
    assert event["changes"] == {"status": {"from": "pending", "to": "paid"}}


def test_a_computed_value_that_changed_with_it_is_among_the_changes(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        session.get_one(Order, order).quantity = 2

    (event,) = sent()

    assert event["changes"] == {"quantity": {"from": 1, "to": 2}, "total": {"from": "9.50", "to": "19.00"}}


def test_setting_the_same_value_is_no_update(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        session.get_one(Order, order).status = "pending"
        session.get_one(Order, order).price = Decimal("9.5")

    assert sent() == []


def test_setting_a_value_and_setting_it_back_is_no_update(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        found = session.get_one(Order, order)
        found.status = "paid"
        session.flush()
        found.status = "pending"

    assert sent() == []


def test_a_relationship_that_only_looks_changed_is_no_update(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        customer = Customer(email="a@example.com")
        session.add(customer)
        session.get_one(Order, order).customer = customer
    with sessions.begin() as session:
        found = session.get_one(Order, order)
        found.customer = session.get_one(Customer, 1)

    assert [event["type"] for event in sent()] == ["customer.created", "order.updated"]


def test_the_old_value_of_an_expired_attribute_is_known(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions() as session:
        found = session.get_one(Order, order)
        session.commit()  # which expires it
        found.status = "paid"
        session.commit()

    (event,) = sent()

    assert event["changes"] == {"status": {"from": "pending", "to": "paid"}}


def test_a_deferred_column_that_was_never_loaded_is_in_the_data(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        found = session.get_one(Order, order)
        assert "note" not in found.__dict__
        found.note = "second"

    (event,) = sent()

    assert event["changes"] == {"note": {"from": "first", "to": "second"}}


def test_a_column_that_updates_itself_is_among_the_changes(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Document(body="a"))
    with sessions.begin() as session:
        session.get_one(Document, 1).body = "b"

    created, updated = sent()

    assert created["data"] == {"id": 1, "body": "a", "version": 1, "edits": 0}
    assert updated["changes"] == {
        "body": {"from": "a", "to": "b"},
        "version": {"from": 1, "to": 2},
        "edits": {"from": 0, "to": 1},
    }


def test_a_primary_key_that_changes(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="old"))
    with sessions.begin() as session:
        session.get_one(Product, "old").sku = "new"

    event = sent()[-1]

    assert event["resource_id"] == "new"
    assert event["changes"] == {"sku": {"from": "old", "to": "new"}}


def test_json_changed_from_sql_null_to_a_value(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="a", details={"size": [1, 2]}))
    with sessions.begin() as session:
        session.get_one(Product, "a").details = {"size": [1, 3]}

    created, updated = sent()

    assert created["data"]["details"] == {"size": [1, 2]}
    assert updated["changes"] == {"details": {"from": {"size": [1, 2]}, "to": {"size": [1, 3]}}}


# ------------------------------------------------------------------ deleted


def test_a_deleted_row_is_sent_as_it_was(sent: Sent, sessions: Sessions, order: int) -> None:
    with sessions.begin() as session:
        found = session.get_one(Order, order)
        found.status = "never written"
        session.delete(found)

    (event,) = sent()

    assert event["type"] == "order.deleted"
    assert event["operation"] == "delete"
    assert event["data"]["status"] == "pending"
    assert event["data"]["note"] == "first"
    assert event["data"]["total"] == "9.50"


def test_orphans_and_cascades_are_deleted_too(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Customer(email="a@example.com", orders=[Order(), Order()]))
    sent()
    with sessions.begin() as session:
        customer = session.get_one(Customer, 1)
        customer.orders.pop(0)
    with sessions.begin() as session:
        session.delete(session.get_one(Customer, 1))

    assert [(event["type"], event["resource_id"]) for event in sent()] == [
        ("order.deleted", "1"),
        ("customer.deleted", "1"),
        ("order.deleted", "2"),
    ]


def test_deleted_and_added_again_under_one_key_is_an_update(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="a", name="old", stock=1))
    sent()
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))
        session.add(Product(sku="a", name="new", stock=1))

    (event,) = sent()

    assert event["type"] == "product.updated"
    assert event["changes"] == {"name": {"from": "old", "to": "new"}}


def test_created_and_deleted_in_one_transaction_is_nothing(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        order = Order()
        session.add(order)
        session.flush()
        session.delete(order)

    assert sent() == []


# ------------------------------------------------------------------ what is not sent


def test_columns_that_say_secret_are_left_out(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Customer(email="a@example.com", password_hash="hash", api_key="key"))
    with sessions.begin() as session:
        session.get_one(Customer, 1).password_hash = "another"

    (event,) = sent()  # the change of a secret alone is no event

    assert event["data"] == {"id": 1, "email": "a@example.com"}


def test_a_secret_column_is_sent_if_it_is_named(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions, deliver=False, include=[Customer.api_key], exclude=[Customer.email, Product])
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add_all([Customer(email="a@example.com", api_key="key", password_hash="hash"), Product(sku="a")])
    webhooks.drain()

    (event,) = receiver.events()

    assert event["data"] == {"id": 1, "api_key": "key"}


def test_a_class_named_in_include_keeps_the_others_out(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False, include=[Animal])
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add_all([Dog(name="Rex"), Product(sku="a")])
    webhooks.drain()

    assert receiver.types == ["dog.created"]


def test_our_own_tables_are_never_captured(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    class Registry(Base):
        __table__ = models.endpoint
        metadata = models.metadata

    try:
        webhooks.endpoints.create(receiver.url(), events=["*"])
        with sessions.begin() as session:
            row: Any = session.scalars(select(Registry)).one()
            row.description = "changed"
        webhooks.drain()
    finally:
        Base.registry._dispose_cls(Registry)  # noqa: SLF001  # there is no other way to unmap one class

    assert receiver.received == []


def test_nothing_is_written_when_nobody_asks(webhooks: Webhooks, sessions: Sessions, engine: Engine) -> None:
    webhooks.endpoints.create("http://127.0.0.1:1024/", events=["product.*"])
    seen = statements(engine)
    with sessions.begin() as session:
        session.add(Order())
    assert not [one for one in seen if "webhook_outbox" in one]

    with sessions.begin() as session:
        session.add(Product(sku="a"))
    assert len([one for one in seen if "webhook_outbox" in one]) == 1


def test_one_row_of_the_outbox_for_one_flush(webhooks: Webhooks, sessions: Sessions, engine: Engine) -> None:
    webhooks.endpoints.create("http://127.0.0.1:1024/", events=["*"])
    seen = statements(engine)
    with sessions.begin() as session:
        session.add_all([Product(sku=str(number)) for number in range(100)])

    assert len([one for one in seen if "INTO webhook_outbox" in one]) == 1


def test_a_large_flush_is_split_and_is_still_one_transaction(sent: Sent, sessions: Sessions, engine: Engine) -> None:
    with sessions.begin() as session:
        session.add_all([Product(sku=f"{number:04}") for number in range(1203)])
        session.flush()
        written = session.execute(text("SELECT count(*), count(DISTINCT transaction_id) FROM webhook_outbox")).one()

    assert tuple(written) == (3, 1)
    assert [event["data"]["sku"] for event in sent()] == [f"{number:04}" for number in range(1203)]


# ------------------------------------------------------------------ promise 3: it does not break the application


class Strange:
    """No rule says how to write it as JSON."""

    def __repr__(self) -> str:
        message = "not even this"
        raise RuntimeError(message)


def test_a_value_that_no_rule_knows_does_not_fail_the_flush(
    sent: Sent, sessions: Sessions, webhooks: Webhooks, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[object, type]] = []

    def listen(sender: object, *, kind: type) -> None:
        told.append((sender, kind))

    with unencodable.connected_to(listen), sessions.begin() as session:
        session.add(Opaque(id=1, value=Strange()))

    with sessions() as session:
        assert session.execute(text("SELECT value FROM opaque")).scalar() == "strange"
    (event,) = sent()
    assert event["data"] == {"id": 1, "value": {"$unencodable": f"{__name__}.Strange"}}
    assert told == [(webhooks, Strange)]
    assert f"{__name__}.Strange" in caplog.text


def test_an_outbox_that_cannot_be_written_fails_the_flush(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.execute(text("DROP TABLE webhook_outbox"))

    with sessions() as session:
        session.add(Product(sku="private data"))
        with pytest.raises(OutboxWriteError, match="could not be written to webhook_outbox") as raised:
            session.commit()

    assert "private data" not in f"{raised.value}{raised.value.__cause__}"
    with sessions() as session:
        assert session.scalars(select(Product)).all() == []
        models.outbox.create(session.connection())
        session.commit()
    assert sent() == []


def test_a_flush_that_fails_by_itself_leaves_nothing(sent: Sent, sessions: Sessions) -> None:
    with sessions() as session:
        session.add(Product(sku="a"))
        session.commit()
        session.add_all([Product(sku="b"), Seat(row="A", number=1)])
        session.flush()
        session.add(Product(sku="a"))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        session.add(Product(sku="c"))
        session.commit()

    assert [event["resource_id"] for event in sent()] == ["a", "c"]


def test_the_session_keeps_nothing_alive_and_nothing_of_ours(sent: Sent, sessions: Sessions) -> None:
    with sessions() as session:
        session.add(Product(sku="a"))
        session.commit()
        before = dict(session.info)
        session.get_one(Product, "a").stock = 5
        session.commit()

        assert session.info == before == {}
        rows = [Product(sku="d"), Product(sku="e")]
        session.add_all(rows)
        session.flush()
        rows[0].stock = 1
        session.flush()
        gone = [weakref.ref(row) for row in rows]
        del rows
        gc.collect()

        assert [one() for one in gone] == [None, None]  # though the transaction is open


def test_a_subscription_made_in_a_transaction_counts_in_it(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        webhooks.endpoints.create(receiver.url(), events=["product.*"], session=session)
        session.add_all([Product(sku="a"), Order()])
    webhooks.drain()

    assert receiver.types == ["product.created"]


def test_a_subscription_of_another_process_counts_within_a_second(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: Any
) -> None:
    here = install(sessions, deliver=False, clock=clock)
    there = install(sessionmaker(engine), deliver=False, clock=clock)
    with sessions.begin() as session:
        session.add(Product(sku="a"))  # now `here` knows that nobody asks
    there.endpoints.create(receiver.url(), events=["*"])
    clock.advance(1)

    with sessions.begin() as session:
        session.add(Product(sku="b"))
    here.drain()

    assert [event["resource_id"] for event in receiver.events()] == ["b"]


def test_two_classes_of_one_name_are_kept_apart(
    install: Install, engine: Engine, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    class Elsewhere(DeclarativeBase):
        pass

    class Product(Elsewhere):
        __tablename__ = "other_product"
        sku: Mapped[str] = mapped_column(String(40), primary_key=True)

    ours, theirs = shop.Product, Product
    try:
        Elsewhere.metadata.create_all(engine)
        webhooks = install(sessions, deliver=False)
        webhooks.enricher(ours)(lambda _row, payload: payload.update(ours=True))
        webhooks.enricher(theirs)(lambda _row, payload: payload.update(theirs=True))
        webhooks.endpoints.create(receiver.url(), events=["product.*"])
        with sessions.begin() as session:
            session.add_all([ours(sku="a"), theirs(sku="a")])
        with sessions.begin() as session:
            session.get_one(ours, "a").stock = 1
            session.delete(session.get_one(theirs, "a"))
        webhooks.drain()
    finally:
        Elsewhere.registry.dispose()

    assert [(one["type"], one["data"]) for one in receiver.events()] == [
        ("product.created", {"sku": "a", "name": "", "stock": 0, "details": None, "ours": True}),
        ("product.created", {"sku": "a"}),
        ("product.updated", {"sku": "a", "name": "", "stock": 1, "details": None, "ours": True}),
        ("product.deleted", {"sku": "a"}),
    ]
    assert "are both sent as 'product'" in caplog.text


def test_what_a_listener_sets_during_the_flush_is_compared_too(sent: Sent, sessions: Sessions, order: int) -> None:
    def touch(_mapper: object, _connection: object, target: Order) -> None:
        target.note = "first"  # as it was

    event.listen(Order, "before_update", touch)
    try:
        with sessions() as session:
            found = session.get_one(Order, order)
            session.commit()
            found.status = "pending"  # as it was, too
            session.commit()
            assert sent() == []
            found.status = "paid"
            session.commit()
    finally:
        event.remove(Order, "before_update", touch)

    assert [one["changes"] for one in sent()] == [{"status": {"from": "pending", "to": "paid"}}]


def test_attributes_stand_in_the_order_of_the_class(sent: Sent, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Order(price=1, customer_id=None))
    with sessions.begin() as session:
        session.get_one(Order, 1).quantity = 2
    with sessions.begin() as session:
        session.delete(session.get_one(Order, 1))

    orders = [list(one["data"]) for one in sent()]
    assert orders == [["id", "customer_id", "status", "quantity", "price", "total", "created_at", "note"]] * 3


def test_left_out_secrets_are_logged_once(
    install: Install, sessions: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sqla_webhooks"):
        install(sessions, deliver=False, capture="all")
        for number in (1, 2):
            with sessions.begin() as session:
                session.add(Customer(id=number, email="a@example.com"))

    assert caplog.text.count("['api_key', 'password_hash']") == 1


def test_an_enum_that_changes_is_sent_by_its_values(sent: Sent, sessions: Sessions) -> None:
    key = uuid.uuid4()
    with sessions.begin() as session:
        session.add(Ticket(id=key))
    with sessions.begin() as session:
        session.get_one(Ticket, key).status = Status.PAID

    assert sent()[-1]["changes"] == {"status": {"from": "pending", "to": "paid"}}
