"""
The shop's API. Nothing in its views knows of webhooks: they commit, or do not.

`create_app()` is given what stands in a configuration: the database, and the
partner that is told of orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from flask import Blueprint, Flask, abort, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import joinedload, selectinload

from examples.shop.models import Base, Customer, Order, OrderLine
from sqla_webhooks import Webhooks, install

#: The shop's models are those of `db`, as `class Order(db.Model)` would make them.
db = SQLAlchemy(model_class=Base)
views = Blueprint("shop", __name__)


def create_app(database: str, *, partner_url: str, partner_secret: str) -> Flask:
    """
    The application.

    Args:
        database: Its URL, such as `sqlite:////var/lib/shop.db`.
    """
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    db.init_app(app)
    app.register_blueprint(views)
    with app.app_context():
        db.create_all()
        webhooks = install(
            db.session,
            bind=db.engine,
            send_context=["request_id"],
            allow_http=True,  # the partner is on this machine
            allow_networks=["127.0.0.1"],
        )
    describe_orders(webhooks)
    webhooks.endpoints.register("partner", url=partner_url, events=["order.*"], secret=partner_secret)
    app.extensions["sqla_webhooks"] = webhooks
    app.wsgi_app = SayWhichRequest(app.wsgi_app, webhooks)  # type: ignore[method-assign]  # as Flask says to do it
    return app


def describe_orders(webhooks: Webhooks) -> None:
    """What an order's own row does not say."""

    @webhooks.enricher(Order, options=[joinedload(Order.customer), selectinload(Order.lines)])
    def add_customer_and_lines(order: Order, payload: dict[str, Any]) -> None:
        payload["customer"] = {"name": order.customer.name, "email": order.customer.email}
        payload["lines"] = [{"sku": line.sku, "quantity": line.quantity} for line in order.lines]


class SayWhichRequest:
    """A middleware: what is changed in a request is recorded with its id, which is sent."""

    def __init__(self, app: Callable[..., Iterable[bytes]], webhooks: Webhooks) -> None:
        self.app, self.webhooks = app, webhooks

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request_id = environ.get("HTTP_X_REQUEST_ID") or uuid4().hex
        with self.webhooks.context(request_id=request_id):
            return self.app(environ, start_response)  # the view has ended when it returns


@views.post("/orders")
def place_order() -> tuple[dict[str, int], int]:
    wanted = request.get_json()  # {"customer": 1, "lines": {"MUG": 2}}
    if db.session.get(Customer, wanted["customer"]) is None:
        abort(404)
    lines = [OrderLine(sku=sku, quantity=quantity) for sku, quantity in wanted["lines"].items()]
    order = Order(customer_id=wanted["customer"], lines=lines)
    db.session.add(order)
    db.session.commit()
    return {"id": order.id}, 201


@views.post("/orders/<int:order_id>/pay")
def pay_order(order_id: int) -> tuple[dict[str, str], int]:
    order = db.session.get(Order, order_id, with_for_update=True)
    if order is None:
        abort(404)
    order.status = "paid"
    db.session.flush()
    if request.get_json()["card"] == "declined":  # as a bank would say, after all that was written
        db.session.rollback()  # and the event with it
        return {"error": "the card was declined"}, 402
    db.session.commit()
    return {"status": order.status}, 200
