"""The table that is written: ten columns of the usual types, no relationships, nothing that expires."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import Numeric, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    #: Asks for SQLAlchemy-Continuum, where that is installed; means nothing to anybody else.
    __versioned__: ClassVar[dict[str, Any]] = {}

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    number: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(20))
    quantity: Mapped[int]
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    weight: Mapped[float]
    gift: Mapped[bool]
    placed_at: Mapped[datetime]
    note: Mapped[str | None] = mapped_column(Text)


def new(number: int) -> dict[str, Any]:
    """The values of one order, as an application would have them."""
    return {
        "customer_id": number % 997,
        "number": f"2026-{number:08d}",
        "status": "new",
        "quantity": number % 9 + 1,
        "total": Decimal(number % 90_000 + 1000) / 100,
        "weight": number % 700 / 8,
        "gift": number % 5 == 0,
        "placed_at": _OPENED + timedelta(seconds=number),
        "note": "Please ring twice: the bell is hard to hear in the yard." if number % 3 == 0 else None,
    }


def changed(edition: int) -> dict[str, Any]:
    """Two values that an order has not had in the edition before."""
    return {"status": _STATUSES[edition % len(_STATUSES)], "total": Decimal(edition % 90_000 + 100_000) / 100}


_OPENED = datetime(2026, 1, 1, 9, 30)  # noqa: DTZ001  # as most tables have it, without a time zone
_STATUSES = ("paid", "packed", "shipped")
