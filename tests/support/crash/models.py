"""The rows of an application that is killed, and the ledger that says what it has committed."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The tables of the application."""


class Slot(Base):
    """One for each key of `Item`, and always there: who writes to an item locks its slot, and counts there."""

    __tablename__ = "slot"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(default=0)


class Item(Base):
    """What the webhooks are about."""

    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column()
    #: Written once in the world: so a change that was rolled back is like no other.
    mark: Mapped[str] = mapped_column(String(32))


class Ledger(Base):
    """One committed change of an item: written in its transaction, and so there if and only if it committed."""

    __tablename__ = "ledger"

    item: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    operation: Mapped[str] = mapped_column(String(10))
    #: That of the row, as it was written; or as it was before the transaction that deleted it.
    mark: Mapped[str] = mapped_column(String(32))
