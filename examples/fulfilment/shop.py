"""
A shop that tells its warehouse of every order that is paid, with the lines and the address to pack by.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)
from tenacity import wait_fixed

from sqla_webhooks import Webhooks, changed, enricher, install


class Shop(DeclarativeBase):
    """What the shop keeps."""


class Address(Shop):
    __tablename__ = "addresses"
    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str]
    city: Mapped[str]


class Order(Shop):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="open")
    address_id: Mapped[int] = mapped_column(ForeignKey(Address.id))
    address: Mapped[Address] = relationship()
    lines: Mapped[list[Line]] = relationship()


class Line(Shop):
    __tablename__ = "lines"
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]


@enricher(Order, options=[joinedload(Order.address), selectinload(Order.lines)])
def add_what_to_pack(order: Order, payload: dict[str, Any]) -> None:
    payload["address"] = {"street": order.address.street, "city": order.address.city}
    payload["lines"] = [{"sku": line.sku, "quantity": line.quantity} for line in order.lines]


def send_webhooks(sessions: sessionmaker[Session], *, url: str, secret: str) -> Webhooks:
    """What the shop does at every start, in every process: there is one endpoint of that key, however often."""
    # The receiver is on this machine, which needs the two settings; and nobody wants to wait five seconds for a retry.
    webhooks = install(sessions, allow_http=True, allow_networks=["127.0.0.1"], wait=wait_fixed(0.5))
    webhooks.event("order.paid", Order)(changed(Order.status, to="paid"))
    webhooks.endpoints.register("warehouse", url=url, events=["order.paid"], secret=secret)
    return webhooks
