"""An application for the measurements: rows that count their versions, a database, an installation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from benchmarks.databases import NewDatabase, databases
from benchmarks.delivery.receiver import Receipt
from sqla_webhooks import Webhooks, install

#: Settings that let it send to this machine.
LOCAL: dict[str, Any] = {"allow_http": True, "allow_networks": ["127.0.0.0/8"]}


class Base(DeclarativeBase):
    """The application's tables."""


class Item(Base):
    """Each change makes its version one higher. About a kilobyte as JSON."""

    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    text: Mapped[str]


TEXT = "x" * 700


@contextmanager
def places(name: str) -> Iterator[NewDatabase]:
    """Databases of a kind; SQLite in files."""
    if name != "sqlite":
        with databases(name) as new_database:
            yield new_database
        return
    with TemporaryDirectory(prefix="sqla_webhooks-") as directory:
        numbers = count(1)
        yield lambda: f"sqlite:///{Path(directory) / f'{next(numbers)}.db'}"


def engine_at(url: str) -> Engine:
    """An engine; SQLite with a write-ahead log."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode = WAL"))
    return engine


@contextmanager
def site(url: str, **settings: Any) -> Iterator[tuple[sessionmaker[Session], Webhooks]]:
    """A factory of sessions and its installation, for as long as the block lasts."""
    engine = engine_at(url)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    webhooks = install(sessions, **LOCAL, **settings)
    try:
        yield sessions, webhooks
    finally:
        webhooks.uninstall()
        engine.dispose()


def add(sessions: sessionmaker[Session], numbers: Iterable[int]) -> None:
    """Commit a new row for each."""
    with sessions.begin() as session:
        session.add_all([Item(id=number, version=1, text=TEXT) for number in numbers])


def change(sessions: sessionmaker[Session], number: int) -> None:
    """Commit the next version of a row."""
    with sessions.begin() as session:
        session.get_one(Item, number).version += 1


def version_of(receipt: Receipt) -> tuple[int, int]:
    """The row and its version."""
    data = json.loads(receipt.body)["data"]
    return data["id"], data["version"]


def out_of_order(receipts: Iterable[Receipt]) -> int:
    """How many requests came after a later version of their row had come."""
    latest: dict[int, int] = {}
    wrong = 0
    for receipt in receipts:
        number, version = version_of(receipt)
        wrong += version < latest.get(number, 0)
        latest[number] = max(version, latest.get(number, 0))
    return wrong
