"""
A day of sales. Exit status 0 only if every channel offers what the shop has, and nothing that it does not list.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import Session, sessionmaker

from examples.inventory.channel import Channel
from examples.inventory.shop import (
    Base,
    Listing,
    Product,
    open_bazaar,
    open_boutique,
    open_outlet,
    send_webhooks,
)
from examples.receiver import PATIENCE, Receiver


def main() -> int:
    with TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{Path(directory) / 'shop.db'}")
        Base.metadata.create_all(engine)
        try:
            return play(sessionmaker(engine))
        finally:
            engine.dispose()


def play(sessions: sessionmaker[Session]) -> int:
    bazaar, boutique, outlet = Channel(), Channel(), Channel()
    put_on_sale(sessions)
    with ExitStack() as stack:
        at_bazaar, at_boutique, at_outlet = (
            stack.enter_context(Receiver(channel.take)) for channel in (bazaar, boutique, outlet)
        )
        webhooks = stack.enter_context(send_webhooks(sessions))
        open_bazaar(webhooks, url=at_bazaar.url, secret=at_bazaar.secret)
        open_boutique(webhooks, url=at_boutique.url, secret=at_boutique.secret)
        for sku in ("MUG", "MUG", "LAMP", "GLOBE"):
            sell(sessions, sku)
        at_boutique.wait_for(1)
        print(f"sold two mugs, a lamp, a globe; the boutique offers {boutique.offers}")
        open_outlet(webhooks, url=at_outlet.url, secret=at_outlet.secret)
        at_outlet.wait_for(2)
        print(f"the outlet joins, and offers {outlet.offers}")
        count_stock(sessions)
        at_bazaar.wait_until(lambda _: bazaar.offers == listed(sessions, "bazaar"))
        at_outlet.wait_until(lambda _: outlet.offers == listed(sessions, "outlet"))
        webhooks.drain(timeout=PATIENCE)
    right = [listed(sessions, "bazaar"), {"b-3": 0}, listed(sessions, "outlet")]
    return settle({"bazaar": bazaar, "boutique": boutique, "outlet": outlet}, right)


def put_on_sale(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.add_all(
            [
                Product(sku="MUG", stock=12, cost=4, listings=_listings(bazaar="B/77", boutique="b-1")),
                Product(sku="LAMP", stock=5, cost=20, listings=_listings(bazaar="B/78", boutique="b-2", outlet="7001")),
                Product(sku="GLOBE", stock=1, cost=35, listings=_listings(boutique="b-3", outlet="7002")),
                Product(sku="CHAIR", stock=2, cost=50),
            ]
        )


def _listings(**names: str) -> list[Listing]:
    return [Listing(channel=channel, name=name) for channel, name in names.items()]


def sell(sessions: sessionmaker[Session], sku: str) -> None:
    with sessions.begin() as session:
        session.get_one(Product, sku).stock -= 1


def count_stock(sessions: sessionmaker[Session]) -> None:
    """One statement about many rows: each row that has changed is an event."""
    with sessions.begin() as session:
        session.execute(update(Product).where(Product.stock > 1).values(stock=Product.stock + 10))


def listed(sessions: sessionmaker[Session], channel: str) -> dict[str, int]:
    """What a channel should offer, by what the shop's database says."""
    rows = select(Listing.name, Product.stock).join(Product, Product.sku == Listing.sku)
    with sessions() as session:
        return {row.name: row.stock for row in session.execute(rows.where(Listing.channel == channel))}


def settle(channels: dict[str, Channel], right: list[dict[str, int]]) -> int:
    agree = True
    for (name, channel), offers in zip(channels.items(), right, strict=True):
        is_right = channel.offers == offers and channel.known <= {"item", "stock"}  # and never the cost
        verdict = "as it should be" if is_right else f"SHOULD BE {offers}; IT KNOWS {channel.known}"
        print(f"{name:<9} {channel.offers}: {verdict}")
        agree &= is_right
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
