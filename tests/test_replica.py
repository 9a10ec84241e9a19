"""
The oracle of capture: a replica built from nothing but events equals the database.

Random work on real sessions, with flushes, savepoints, rollbacks and objects
that come and go; then every event is applied to an empty copy.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.receiver import Receiver
from support.shop import Base, Customer, Document, Order, Product

import sqla_webhooks
from sqla_webhooks import encoding

SKUS = st.sampled_from(["a", "b", "c"])
CLASSES: tuple[type[Any], ...] = (Customer, Order, Product, Document)
#: Attributes that are sent, by class.
SENT = {
    "customer": ("id", "email"),
    "order": ("id", "customer_id", "status", "quantity", "price", "total", "created_at", "note"),
    "product": ("sku", "name", "stock", "details"),
    "document": ("id", "body", "version", "edits"),
}


class Work(RuleBasedStateMachine):
    """One application at work, and one replica that hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.engine = create_engine(f"sqlite:///{Path(self.directory.name) / 'shop.db'}")
        event.listen(self.engine, "connect", _driver_does_not_begin)
        event.listen(self.engine, "begin", _begin)
        Base.metadata.create_all(self.engine)
        sessions = sessionmaker(self.engine)
        self.receiver = Receiver().__enter__()
        self.webhooks = sqla_webhooks.install(
            sessions, deliver=False, clock=MovedClock(), allow_http=True, allow_networks=["127.0.0.0/8"]
        )
        self.webhooks.endpoints.create(self.receiver.url(), events=["*"])
        self.session: Session = sessions()
        self.savepoints: list[Any] = []
        self.replica: dict[tuple[str, str], dict[str, Any]] = {}
        self.seen: set[str] = set()

    def teardown(self) -> None:
        self.session.close()
        self.webhooks.uninstall()
        self.receiver.__exit__()
        self.engine.dispose()
        self.directory.cleanup()

    # -------------------------------------------------------------- what an application does

    @rule(sku=SKUS, stock=st.integers(0, 3))
    def put_product(self, sku: str, stock: int) -> None:
        found = self.session.get(Product, sku)
        if found is None:
            self.session.add(Product(sku=sku, stock=stock))
        else:
            found.stock = stock
        self.session.flush()

    @rule(sku=SKUS, new=SKUS)
    def rename_product(self, sku: str, new: str) -> None:
        found = self.session.get(Product, sku)
        if found is not None and self.session.get(Product, new) is None:
            found.sku = new
            self.session.flush()

    @rule(sku=SKUS)
    def count_up_in_sql(self, sku: str) -> None:
        found = self.session.get(Product, sku)
        if found is not None:
            found.stock = Product.stock + 1

    @rule(sku=SKUS)
    def replace_product(self, sku: str) -> None:
        found = self.session.get(Product, sku)
        if found is not None:
            self.session.delete(found)
            self.session.add(Product(sku=sku, name="again"))
            self.session.flush()

    @rule(email=st.sampled_from(["x", "y"]), orders=st.integers(0, 2))
    def sign_up(self, email: str, orders: int) -> None:
        self.session.add(Customer(email=email, password_hash="h", orders=[Order() for _ in range(orders)]))

    @rule(quantity=st.integers(1, 3), note=st.sampled_from([None, "n"]), index=st.integers(0, 5))
    def change_an_order(self, quantity: int, note: str | None, index: int) -> None:
        orders = self.session.scalars(select(Order).order_by(Order.id)).all()
        if orders:
            order = orders[index % len(orders)]
            order.quantity, order.note = quantity, note

    @rule(index=st.integers(0, 5))
    def orphan_an_order(self, index: int) -> None:
        customers = self.session.scalars(select(Customer).order_by(Customer.id)).all()
        if customers:
            customer = customers[index % len(customers)]
            if customer.orders:
                customer.orders.pop()

    @rule(body=st.sampled_from(["p", "q"]), index=st.integers(0, 2))
    def edit(self, body: str, index: int) -> None:
        documents = self.session.scalars(select(Document).order_by(Document.id)).all()
        if index < len(documents):
            documents[index].body = body
        else:
            self.session.add(Document(body=body))

    @rule(cls=st.sampled_from(CLASSES), index=st.integers(0, 5))
    def delete(self, cls: type[Any], index: int) -> None:
        rows = self.session.scalars(select(cls)).all()
        if rows:
            self.session.delete(rows[index % len(rows)])

    @rule()
    def flush(self) -> None:
        self.session.flush()

    @rule()
    def expire(self) -> None:
        self.session.flush()
        self.session.expire_all()

    @rule()
    def savepoint(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    @precondition(lambda self: self.savepoints)
    @rule(kept=st.booleans())
    def end_savepoint(self, kept: bool) -> None:  # noqa: FBT001  # Hypothesis names its arguments
        savepoint = self.savepoints.pop()
        if kept:
            savepoint.commit()
        else:
            savepoint.rollback()

    @rule(kept=st.booleans())
    def end(self, kept: bool) -> None:  # noqa: FBT001  # Hypothesis names its arguments
        self.savepoints.clear()
        if kept:
            self.session.commit()
        else:
            self.session.rollback()
        self.relay()

    # -------------------------------------------------------------- what the replica hears

    def relay(self) -> None:
        self.webhooks.drain()
        for request in self.receiver.received:
            assert request.id not in self.seen, "one event came twice"
            self.seen.add(request.id)
            self.apply(request.event)
        self.receiver.forget()

    def apply(self, event: dict[str, Any]) -> None:
        """As a receiver would: strictly, so that an invented or a misordered event fails."""
        resource, number = event["resource"], event["resource_id"]
        changes = event.get("changes", {})
        match event["operation"]:
            case "create":
                assert (resource, number) not in self.replica
                self.replica[resource, number] = event["data"]
            case "update":
                key = SENT[resource][0]
                old = str(changes[key]["from"]) if key in changes else number
                before = self.replica.pop((resource, old))
                assert changes, "an update without a change"
                for name, change in changes.items():
                    assert change["from"] == before[name]
                    assert change["to"] == event["data"][name]
                    assert change["from"] != change["to"]
                unchanged = before.keys() - changes.keys()
                assert {name: before[name] for name in unchanged} == {name: event["data"][name] for name in unchanged}
                self.replica[resource, number] = event["data"]
            case "delete":
                assert self.replica.pop((resource, number)) == event["data"]

    @invariant()
    def the_replica_equals_the_database(self) -> None:
        if self.session.in_transaction():
            return
        database = {}
        with self.engine.connect() as connection:
            for cls in CLASSES:
                table = cls.__table__
                resource = table.name
                for row in connection.execute(select(table)).mappings():
                    data = {name: row[name] for name in SENT[resource]}
                    database[resource, str(data[SENT[resource][0]])] = encoding.loads(encoding.dumps(data))
        assert self.replica == database


def _driver_does_not_begin(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    # Nothing here has to survive a power cut.
    connection.execute("PRAGMA synchronous = OFF")


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


TestReplica = Work.TestCase
TestReplica.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
