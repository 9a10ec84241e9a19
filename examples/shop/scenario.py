"""
What happens in the shop: a handful of transactions, as any application has them.

Each function does its work in a session and returns, by hand, the rows that
its transaction writes: the shop's own books, to which everything that the
library and the receiver say is compared in the end.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.shop.models import Customer, Order, OrderLine, Product

Statement: TypeAlias = Literal["INSERT", "UPDATE", "DELETE"]

#: The receiver answers 503 to the first of these.
REFUSED_ONCE = "order.updated"


@dataclass(frozen=True, slots=True)
class Row:
    """One row that a transaction writes."""

    statement: Statement
    kind: str
    key: int | str
    #: For people.
    text: str

    @property
    def event(self) -> tuple[str, str]:
        """The type of the event that should come of it, and the row's key as events write it."""
        verb = {"INSERT": "created", "UPDATE": "updated", "DELETE": "deleted"}[self.statement]
        return f"{self.kind}.{verb}", str(self.key)


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction."""

    title: str
    act: Callable[[Session], list[Row]]
    #: Whether it is committed, or rolled back after its rows were written.
    commits: bool = True
    #: The type of the event whose payload is worth a look, and why it is.
    show: str = ""
    remark: str = ""


def sign_up(session: Session) -> list[Row]:
    ada = Customer(name="Ada Byron", email="ada@example.org", password_hash=_hash("correct horse battery staple"))
    session.add(ada)
    session.flush()
    return [Row("INSERT", "customer", ada.id, f"{ada.name} <{ada.email}>, and a password hash")]


def put_on_sale(session: Session) -> list[Row]:
    products = [
        Product(sku="MUG", name="Mug", price=Decimal("12.50")),
        Product(sku="LAMP", name="Reading lamp", price=Decimal("49.00")),
        Product(sku="GLOBE", name="Globe", price=Decimal("80.00")),
    ]
    session.add_all(products)
    return [Row("INSERT", "product", product.sku, f"{product.name}, {product.price}") for product in products]


def place_order(session: Session) -> list[Row]:
    order = Order(customer=_ada(session), lines=[OrderLine(sku="MUG", quantity=2), OrderLine(sku="LAMP")])
    session.add(order)
    session.flush()
    return _rows(order)


def pay(session: Session) -> list[Row]:
    order = session.scalars(select(Order).where(Order.status == "open")).one()
    order.status = "paid"
    return [Row("UPDATE", "order", order.id, "status: open -> paid")]


def order_a_thousand_lamps(session: Session) -> list[Row]:
    order = Order(customer=_ada(session), lines=[OrderLine(sku="LAMP", quantity=1000)])
    session.add(order)
    session.flush()
    return _rows(order)


def discontinue(session: Session) -> list[Row]:
    globe = session.get_one(Product, "GLOBE")
    session.delete(globe)
    return [Row("DELETE", "product", globe.sku, globe.name)]


STEPS = (
    Step(
        "A customer signs up",
        sign_up,
        show="customer.created",
        remark="without the password hash: its name says secret",
    ),
    Step("Three products go on sale", put_on_sale),
    Step(
        "She orders two of them",
        place_order,
        show="order.created",
        remark="with `customer` and `lines`, which the enricher has added",
    ),
    Step("She pays, while the receiver is having a bad moment", pay),
    Step(
        "She orders a thousand lamps, the card is declined, the shop rolls back", order_a_thousand_lamps, commits=False
    ),
    Step("A product is discontinued", discontinue),
)


def _rows(order: Order) -> list[Row]:
    """An order as one row, and each of its lines as another."""
    lines = [Row("INSERT", "order_line", line.id, f"{line.quantity} x {line.sku}") for line in order.lines]
    return [Row("INSERT", "order", order.id, f"for {order.customer.name}"), *lines]


def _ada(session: Session) -> Customer:
    return session.scalars(select(Customer).where(Customer.email == "ada@example.org")).one()


def _hash(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"
