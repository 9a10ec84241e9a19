"""
A shop all of whose events are collected: changes of its rows, and what it says has happened beside them.
"""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from tenacity import stop_after_attempt, wait_none

from sqla_webhooks import CloudEvents, Webhooks, install


class Base(DeclarativeBase):
    """What the shop keeps."""


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    #: Never in an event: its name says secret.
    password_hash: Mapped[str]


class Cart(Base):
    __tablename__ = "carts"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    items: Mapped[int]


def send_webhooks(sessions: sessionmaker[Session], *, url: str, secret: str) -> Webhooks:
    webhooks = install(
        sessions,
        domain_events={"cart.completed": Cart, "search.performed": None},  # a cart's; and about no row
        send_context=["actor", "request_id"],
        dialects=[CloudEvents(source="https://shop.example")],
        # The rest is for a program that ends: it calls drain(), wants no retry to wait, and sends to its own machine.
        deliver=False,
        wait=wait_none(),
        stop=stop_after_attempt(3),
        allow_http=True,
        allow_networks=["127.0.0.1"],
    )
    webhooks.endpoints.register("collector", url=url, events=["*"], dialect="cloudevents", batch=100, secret=secret)
    return webhooks


class CardDeclinedError(Exception):
    """The bank says no."""


class Storefront:
    """What visitors do. Who does it, and in which request, goes with all that is flushed in the block."""

    def __init__(self, sessions: sessionmaker[Session], webhooks: Webhooks) -> None:
        self.sessions, self.webhooks = sessions, webhooks

    def sign_up(self, name: str, *, request_id: str) -> None:
        with self.webhooks.context(actor=name, request_id=request_id), self.sessions.begin() as session:
            session.add(Customer(name=name, password_hash="scrypt$..."))  # noqa: S106  # stands for one

    def search(self, name: str, words: str, *, request_id: str) -> None:
        with self.webhooks.context(actor=name, request_id=request_id), self.sessions.begin() as session:
            self.webhooks.emit(session, "search.performed", data={"words": words})

    def buy(self, customer_id: int, name: str, *, items: int, request_id: str, pays: bool = True) -> None:
        with self.webhooks.context(actor=name, request_id=request_id), self.sessions.begin() as session:
            cart = Cart(customer_id=customer_id, items=items)
            session.add(cart)
            self.webhooks.emit(session, "cart.completed", cart)
            if not pays:
                raise CardDeclinedError  # the transaction is rolled back, and its events with it
