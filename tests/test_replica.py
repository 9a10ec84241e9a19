"""
The oracle of capture: a replica built from nothing but events equals the database.

Random work on real sessions, with flushes, savepoints, rollbacks and objects
that come and go; then every event is applied to an empty copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import sessionmaker
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


class Work:
    """One application at work, and one replica that hears of it."""

    def __init__(self, directory: str) -> None:
        self.engine = create_engine(f"sqlite:///{Path(directory) / 'shop.db'}")
        event.listen(self.engine, "connect", _driver_does_not_begin)
        event.listen(self.engine, "begin", _begin)
        Base.metadata.create_all(self.engine)
        self.sessions = sessionmaker(self.engine)
        self.receiver = Receiver()
        self.savepoints: list[Any] = []
        self.replica: dict[tuple[str, str], dict[str, Any]] = {}
        self.seen: set[str] = set()

    def run(self, transactions: Sequence[Transaction], *, keep_loaded: bool) -> None:
        """Do the work of each transaction, and look after each whether the replica is right."""
        with self.receiver, sqla_webhooks.install(self.sessions, **_QUIET) as webhooks:
            webhooks.endpoints.create(self.receiver.url(), events=["*"])
            with self.sessions(expire_on_commit=not keep_loaded) as self.session:
                for steps, kept in transactions:
                    for name, *arguments in steps:
                        getattr(self, name)(*arguments)
                    self.end(kept=kept)
                    webhooks.drain()
                    self.hear()
                    assert self.replica == self.database()

    # -------------------------------------------------------------- what an application does

    def put_product(self, sku: str, stock: int) -> None:
        found = self.session.get(Product, sku)
        if found is None:
            self.session.add(Product(sku=sku, stock=stock))
        else:
            found.stock = stock
        self.session.flush()

    def rename_product(self, sku: str, new: str) -> None:
        found = self.session.get(Product, sku)
        if found is not None and self.session.get(Product, new) is None:
            found.sku = new
            self.session.flush()

    def count_up_in_sql(self, sku: str) -> None:
        found = self.session.get(Product, sku)
        if found is not None:
            found.stock = Product.stock + 1

    def replace_product(self, sku: str) -> None:
        found = self.session.get(Product, sku)
        if found is not None:
            self.session.delete(found)
            self.session.add(Product(sku=sku, name="again"))
            self.session.flush()

    def sign_up(self, email: str, orders: int) -> None:
        self.session.add(Customer(email=email, password_hash="h", orders=[Order() for _ in range(orders)]))

    def change_an_order(self, quantity: int, note: str | None, index: int) -> None:
        if (order := self.some(Order, index)) is not None:
            order.quantity, order.note = quantity, note

    def orphan_an_order(self, index: int) -> None:
        customer = self.some(Customer, index)
        if customer is not None and customer.orders:
            customer.orders.pop()

    def edit(self, body: str, index: int) -> None:
        if (document := self.some(Document, index)) is not None:
            document.body = body
        else:
            self.session.add(Document(body=body))

    def delete(self, cls: type[Any], index: int) -> None:
        if (row := self.some(cls, index)) is not None:
            if isinstance(row, Order) and row.customer is not None:
                row.customer.orders.remove(row)  # or the collection would bring it back, as SQLAlchemy says
            self.session.delete(row)

    def flush(self) -> None:
        self.session.flush()

    def expire(self) -> None:
        self.session.flush()
        self.session.expire_all()

    def savepoint(self) -> None:
        self.savepoints.append(self.session.begin_nested())

    def end_savepoint(self, kept: bool) -> None:  # noqa: FBT001  # called by name with what was drawn
        if self.savepoints:
            savepoint = self.savepoints.pop()
            if kept:
                savepoint.commit()
            else:
                savepoint.rollback()

    def end(self, *, kept: bool) -> None:
        self.savepoints.clear()
        if kept:
            self.session.commit()
        else:
            self.session.rollback()

    def some(self, cls: type[Any], index: int) -> Any:
        """A row, or None if there are no more than *index*."""
        rows = self.session.scalars(select(cls).order_by(*sa_inspect(cls).primary_key)).all()
        return rows[index] if index < len(rows) else None

    # -------------------------------------------------------------- what the replica hears

    def hear(self) -> None:
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
                really = {
                    name: {"from": before[name], "to": event["data"][name]}
                    for name in before
                    if before[name] != event["data"][name]
                }
                assert really, "an update without a change"
                assert changes == really
                assert (resource, number) not in self.replica
                self.replica[resource, number] = event["data"]
            case "delete":
                assert self.replica.pop((resource, number)) == event["data"]

    def database(self) -> dict[tuple[str, str], dict[str, Any]]:
        found = {}
        with self.engine.connect() as connection:
            for cls in CLASSES:
                table = cls.__table__
                for row in connection.execute(select(table)).mappings():
                    data = {name: row[name] for name in SENT[table.name]}
                    found[table.name, str(data[SENT[table.name][0]])] = encoding.loads(encoding.dumps(data))
        return found


def _driver_does_not_begin(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    # Nothing here has to survive a power cut.
    connection.execute("PRAGMA synchronous = OFF")


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


_QUIET: dict[str, Any] = {
    "deliver": False,
    "clock": MovedClock(),
    "allow_http": True,
    "allow_networks": ["127.0.0.0/8"],
}

INDEX = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("put_product"), SKUS, st.integers(0, 3)),
    st.tuples(st.just("rename_product"), SKUS, SKUS),
    st.tuples(st.just("count_up_in_sql"), SKUS),
    st.tuples(st.just("replace_product"), SKUS),
    st.tuples(st.just("sign_up"), st.sampled_from(["x", "y"]), st.integers(0, 2)),
    st.tuples(st.just("change_an_order"), st.integers(1, 3), st.sampled_from([None, "n"]), INDEX),
    st.tuples(st.just("orphan_an_order"), INDEX),
    st.tuples(st.just("edit"), st.sampled_from(["p", "q"]), INDEX),
    st.tuples(st.just("delete"), st.sampled_from(CLASSES), INDEX),
    st.tuples(st.just("flush")),
    st.tuples(st.just("expire")),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("end_savepoint"), st.booleans()),
)
#: Steps, and whether they are committed.
Transaction: TypeAlias = tuple[list[tuple[Any, ...]], bool]
TRANSACTIONS = st.lists(
    st.tuples(st.lists(STEPS, min_size=3, max_size=15), st.sampled_from([True, True, True, False])),
    min_size=3,
    max_size=8,
)


def run(transactions: Sequence[Transaction], *, keep_loaded: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        work = Work(directory)
        try:
            work.run(transactions, keep_loaded=keep_loaded)
        finally:
            work.engine.dispose()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TRANSACTIONS, st.booleans())
def test_a_replica_of_the_events_equals_the_database(transactions: Any, keep_loaded: Any) -> None:
    run(transactions, keep_loaded=keep_loaded)


@pytest.mark.long
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TRANSACTIONS, st.booleans())
def test_a_replica_of_the_events_equals_the_database_for_long(transactions: Any, keep_loaded: Any) -> None:
    run(transactions, keep_loaded=keep_loaded)
