"""All that the shop says about webhooks: one call, and one function that adds to its payloads."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session, selectinload, sessionmaker
from tenacity import wait_fixed

from examples.shop.models import Order, OrderLine
from sqla_webhooks import Webhooks, enricher, install


def send_webhooks(sessions: sessionmaker[Session]) -> Webhooks:
    """
    Send webhooks for what these sessions commit.

    In production `install(sessions)` is enough. The demo's receiver is on this
    machine and speaks plain http, and nobody wants to wait five seconds for a
    retry.
    """
    return install(sessions, allow_http=True, allow_networks=["127.0.0.0/8"], wait=wait_fixed(1))


@enricher(Order, options=[selectinload(Order.customer), selectinload(Order.lines).selectinload(OrderLine.product)])
def add_customer_and_lines(order: Order, payload: dict[str, Any]) -> None:
    """Who ordered, and what: an order's own row does not say."""
    payload["customer"] = {"name": order.customer.name, "email": order.customer.email}
    payload["lines"] = [
        {"product": line.product.name, "quantity": line.quantity, "price": line.product.price} for line in order.lines
    ]
