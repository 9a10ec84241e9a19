"""
A shop whose stock is offered by several channels, each of which has names of its own for what it sells.

Each gets no more than it needs: by its filter the products that it lists, or
only what has run out; by `payload` the row as it is when sent, or its key.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload, sessionmaker

from sqla_webhooks import Endpoint, Event, Webhooks, endpoint_enricher, install


class Base(DeclarativeBase):
    """What the shop keeps."""


class Product(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    stock: Mapped[int]
    #: What the shop pays, and no channel's business.
    cost: Mapped[int]
    listings: Mapped[list[Listing]] = relationship()


class Listing(Base):
    """What a channel calls a product."""

    __tablename__ = "listings"
    channel: Mapped[str] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(ForeignKey(Product.sku), primary_key=True)
    name: Mapped[str]


@endpoint_enricher(Product, options=[selectinload(Product.listings)])
def add_name_there(product: Product, payload: dict[str, Any], endpoint: Endpoint) -> None:
    names = {listing.channel: listing.name for listing in product.listings}
    payload["item"] = names.get(endpoint.key or "")


def only_what_they_need(event: Event, _endpoint: Endpoint) -> Event | None:
    """The `transform` of all endpoints: what it returns is sent; None sends nothing."""
    if event.data.get("item") is None:
        return None  # it is not listed there, or is gone by now
    return replace(
        event, data={name: event.data[name] for name in ("item", "stock") if name in event.data}, changes=None
    )


def send_webhooks(sessions: sessionmaker[Session]) -> Webhooks:
    """The two settings are for channels on this machine."""
    return install(sessions, transform=only_what_they_need, allow_http=True, allow_networks=["127.0.0.1"])


def open_bazaar(webhooks: Webhooks, *, url: str, secret: str) -> Endpoint:
    """Sells some of the products, and may be asked ten times a second. However late it hears: it hears what is true."""
    return webhooks.endpoints.register(
        "bazaar",
        url=url,
        events=["product.updated"],
        filter={"data.sku": {"$in": ["MUG", "LAMP"]}, "changes.stock": {"$exists": True}},
        payload="latest",
        rate_limit=10,
        secret=secret,
    )


def open_boutique(webhooks: Webhooks, *, url: str, secret: str) -> Endpoint:
    """Sells everything for as long as there is any: it wants to know what has run out, and nothing else."""
    return webhooks.endpoints.register(
        "boutique", url=url, events=["product.updated"], filter={"changes.stock.to": 0}, payload="thin", secret=secret
    )


def open_outlet(webhooks: Webhooks, *, url: str, secret: str) -> Endpoint:
    """Joins later: first it is told of every product that there is already, and of each change from now on."""
    outlet = webhooks.endpoints.register("outlet", url=url, events=["product.updated"], payload="latest", secret=secret)
    webhooks.backfill(Product, where=Product.listings.any(Listing.channel == "outlet"), endpoint=outlet.id)
    return outlet
