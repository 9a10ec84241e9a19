"""A SQLite file as its users have it: either journal, each way to begin, and nobody waits for a lock."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from support.shop import Base


@dataclass(frozen=True)
class Mode:
    #: "delete", the rollback journal, or "wal".
    journal: str
    #: "legacy", as the driver comes; "explicit", the recipe for savepoints; or "driver", which is `autocommit=False`.
    begin: str

    def __str__(self) -> str:
        return f"{self.journal}-{self.begin}"


BEGINS = ("legacy", "explicit", "driver") if sys.version_info >= (3, 12) else ("legacy", "explicit")
MODES = [Mode(*one) for one in product(("delete", "wal"), BEGINS)]
EXPLICIT, EXPLICIT_WAL = Mode("delete", "explicit"), Mode("wal", "explicit")


@contextmanager
def file_at(path: Path, mode: Mode, **options: Any) -> Iterator[Engine]:
    """An engine with the shop's tables; *options* are those of its pool."""
    arguments = {"timeout": 0} | ({"autocommit": False} if mode.begin == "driver" else {})
    engine = create_engine(f"sqlite:///{path}", connect_args=arguments, **options)
    begin_as(engine, mode)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode.journal}")  # it stays so
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def begin_as(engine: Engine, mode: Mode) -> None:
    """SQLAlchemy's recipe, where the driver shall not begin by itself."""
    if mode.begin != "explicit":
        return

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")
