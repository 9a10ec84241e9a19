"""
A warehouse, whose books are right whatever happens on the way of an event.

It reserves all of an order or nothing, and once for each event, however often
that comes. Packing takes longer than anybody waits for an answer, so it is done
afterwards, by the reservations.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from examples.receiver import Reply


class Books(DeclarativeBase):
    """What the warehouse keeps, in a database of its own."""


class Seen(Books):
    __tablename__ = "seen"
    event_id: Mapped[str] = mapped_column(primary_key=True)


class Shelf(Books):
    __tablename__ = "shelves"
    sku: Mapped[str] = mapped_column(primary_key=True)
    free: Mapped[int]


class Reservation(Books):
    __tablename__ = "reservations"
    order_id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]


class OutOfStockError(Exception):
    """There is not enough of something."""


class Warehouse:
    """Takes what is paid. It breaks down once, after its work is done and before it has said so."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.breaks_down = True

    def take(self, event: dict[str, Any]) -> Reply:
        try:
            with self.sessions.begin() as session:  # one transaction: all of it, or nothing
                if session.get(Seen, event["id"]):
                    return Reply()
                session.add(Seen(event_id=event["id"]))
                self._reserve(session, event["data"])
        except OutOfStockError as error:
            # Not seen, then, and it comes again. 503 would say that nothing is taken at all: then nothing is sent.
            return Reply(HTTPStatus.CONFLICT, str(error))
        if self.breaks_down:
            self.breaks_down = False
            return Reply(HTTPStatus.INTERNAL_SERVER_ERROR)
        return Reply()

    def _reserve(self, session: Session, order: dict[str, Any]) -> None:
        for line in order["lines"]:
            shelf = session.get_one(Shelf, line["sku"], with_for_update=True)
            if shelf.free < line["quantity"]:
                message = f"{line['quantity']} x {shelf.sku} are wanted, {shelf.free} are there"
                raise OutOfStockError(message)
            shelf.free -= line["quantity"]
            session.add(Reservation(order_id=order["id"], **line))
