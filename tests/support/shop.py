"""Mapped classes for the tests, and the simplest thing that can be done with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import (
    JSON,
    Computed,
    Engine,
    ForeignKey,
    Numeric,
    String,
    TypeDecorator,
    Uuid,
    create_engine,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, deferred, mapped_column, relationship, sessionmaker


class Base(DeclarativeBase):
    """The shop's tables."""


class Status(Enum):
    PENDING = "pending"
    PAID = "paid"


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str | None] = mapped_column(String(100))
    api_key: Mapped[str | None] = mapped_column(String(100))
    orders: Mapped[list[Order]] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Order(Base):
    """`status` is the server's default, `total` is computed, `touched` changes with every UPDATE."""

    __tablename__ = "order"
    # No number is given twice: a session may hold on to objects of deleted rows.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  # declarative's own form

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))
    status: Mapped[str] = mapped_column(String(20), server_default="pending")
    quantity: Mapped[int] = mapped_column(default=1)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal("9.50"))
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2), Computed("quantity * price", persisted=True))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    note: Mapped[str | None] = deferred(mapped_column(String(200)))
    customer: Mapped[Customer | None] = relationship(back_populates="orders")


class Product(Base):
    """Its key is given, not generated."""

    __tablename__ = "product"

    sku: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), default="")
    stock: Mapped[int] = mapped_column(default=0)
    details: Mapped[Any] = mapped_column(JSON, nullable=True)


class Document(Base):
    """Counts its versions, and notes by itself when it changed."""

    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(100))
    version: Mapped[int] = mapped_column()
    edits: Mapped[int] = mapped_column(default=0, onupdate=text("edits + 1"))

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declarative's own form


class Seat(Base):
    """A composite key."""

    __tablename__ = "seat"

    row: Mapped[str] = mapped_column(String(2), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    taken: Mapped[bool] = mapped_column(default=False)


class Ticket(Base):
    """A key that the application makes and that is no number."""

    __tablename__ = "ticket"

    id: Mapped[Any] = mapped_column(Uuid, primary_key=True)
    status: Mapped[Status] = mapped_column(default=Status.PENDING)


class Anything(TypeDecorator[Any]):
    """Takes any object and stores a word."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, _value: Any, _dialect: Any) -> str:
        return "strange"

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return value


class Opaque(Base):
    __tablename__ = "opaque"

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(Anything)


class Animal(Base):
    """Joined inheritance."""

    __tablename__ = "animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20))

    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "animal"}  # noqa: RUF012  # declarative's own form


class Dog(Animal):
    __tablename__ = "dog"

    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    tricks: Mapped[int] = mapped_column(default=0)

    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012  # declarative's own form


@contextmanager
def shop_at(url: str) -> Iterator[Engine]:
    """A database with the shop's tables."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def put(sessions: sessionmaker[Session], *skus: str) -> None:
    """Commit a new product for each, each in a transaction of its own."""
    for sku in skus:
        with sessions.begin() as session:
            session.add(Product(sku=sku))
