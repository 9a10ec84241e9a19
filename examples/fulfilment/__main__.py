"""
Three orders, two of them paid. Exit status 0 only if the warehouse has reserved what the shop has sold.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from examples.fulfilment.shop import Address, Line, Order, Shop, send_webhooks
from examples.fulfilment.warehouse import Books, Reservation, Shelf, Warehouse
from examples.receiver import PATIENCE, Receiver, Reply
from sqla_webhooks import Webhooks


def main() -> int:
    with TemporaryDirectory() as directory:
        shop, books = (create_engine(f"sqlite:///{Path(directory) / name}.db") for name in ("shop", "warehouse"))
        Shop.metadata.create_all(shop)
        Books.metadata.create_all(books)
        try:
            return play(sessionmaker(shop), Warehouse(sessionmaker(books)))
        finally:
            shop.dispose()
            books.dispose()


def play(sessions: sessionmaker[Session], warehouse: Warehouse) -> int:
    with warehouse.sessions.begin() as session:
        session.add_all([Shelf(sku="MUG", free=10), Shelf(sku="LAMP", free=1)])
    with (
        Receiver(warehouse.take) as receiver,
        send_webhooks(sessions, url=receiver.url, secret=receiver.secret) as webhooks,
    ):
        with sessions.begin() as session:
            home = Address(street="12 St James's Square", city="London")
            for wanted in ({"MUG": 2}, {"MUG": 1, "LAMP": 3}, {"MUG": 5}):
                session.add(Order(address=home, lines=[Line(sku=sku, quantity=n) for sku, n in wanted.items()]))
        pay(sessions, 1)
        receiver.wait_for(2)
        print("order 1 is reserved; no 2xx was answered, so the event came again, and was known")
        pay(sessions, 2)
        refused = receiver.wait_for(3)[-1]
        print(f"order 2 has to wait, all of it: {refused.reply.content}")
        with warehouse.sessions.begin() as session:
            session.get_one(Shelf, "LAMP").free += 10
        receiver.wait_until(lambda receipts: receipts[-1].reply == Reply())
        print("lamps came in; order 2 came again, and is reserved")
        webhooks.drain(timeout=PATIENCE)  # until what was answered is recorded, too
        return settle(sessions, warehouse, webhooks)


def pay(sessions: sessionmaker[Session], order_id: int) -> None:
    with sessions.begin() as session:
        session.get_one(Order, order_id).status = "paid"


def settle(sessions: sessionmaker[Session], warehouse: Warehouse, webhooks: Webhooks) -> int:
    """Whether the warehouse has reserved what the shop's orders say, and nothing else."""
    with sessions() as shop, warehouse.sessions() as books:
        paid = select(Line).join(Order).where(Order.status == "paid")
        sold = {(line.order_id, line.sku, line.quantity) for line in shop.scalars(paid)}
        kept = {(one.order_id, one.sku, one.quantity) for one in books.scalars(select(Reservation))}
        left = {shelf.sku: shelf.free for shelf in books.scalars(select(Shelf))}
    states = [delivery.state for delivery in webhooks.deliveries.list()]
    agree = sold == kept and left == {"MUG": 7, "LAMP": 8} and states == ["delivered", "delivered"]
    print(f"sold {sorted(sold)}", f"reserved {sorted(kept)}", "they agree" if agree else "THEY DIFFER", sep="\n")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
