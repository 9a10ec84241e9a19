"""Two transactions, the one held before its commit until the other has come as far as it can."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from support.heard import heard
from support.receiver import PATIENCE
from support.threads import Gate, aside, opened


@contextmanager
def commit_held(engine: Engine, statement: str) -> Iterator[Gate]:
    """A gate before the first commit of a transaction in which there was such a statement."""
    gate = Gate()
    made: dict[Any, list[str]] = defaultdict(list)
    held: list[Any] = []

    def note(connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        made[connection.connection.dbapi_connection].append(text)

    def hold(connection: Any) -> None:
        texts = made.pop(connection.connection.dbapi_connection, [])
        if not held and any(statement in text for text in texts):
            held.append(connection)
            gate()

    with heard(engine, "before_cursor_execute", note), heard(engine, "commit", hold), opened(gate):
        yield gate


@contextmanager
def statement_held(engine: Engine, statement: str) -> Iterator[Gate]:
    """A gate before the first such statement."""
    gate = Gate()
    held: list[str] = []

    def hold(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if not held and statement in text:
            held.append(text)
            gate()

    with heard(engine, "before_cursor_execute", hold), opened(gate):
        yield gate


@contextmanager
def reached(engine: Engine, statement: str) -> Iterator[threading.Event]:
    """Set when such a statement is about to be made."""
    there = threading.Event()

    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if statement in text:
            there.set()

    with heard(engine, "before_cursor_execute", note):
        yield there


@contextmanager
def running(engine: Engine, call: Any, *, until: str) -> Iterator[list[Any]]:
    """*call* in a thread, once it makes such a statement, or has ended; in the end, what it returned or raised."""
    with reached(engine, until) as there:
        thread, came = aside(lambda: _then(call, there))
        assert there.wait(PATIENCE)
    yield came
    thread.join()


def _then(call: Any, there: threading.Event) -> Any:
    try:
        return call()
    finally:
        there.set()


def waits(engine: Engine) -> bool:
    """Whether a transaction there waits for another's lock; on MariaDB, one on the whole server."""
    by_name = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()",
        # Not information_schema.innodb_trx, which shows what was there when nobody had looked for a tenth of a second.
        "mysql": "SELECT variable_value FROM information_schema.global_status"
        " WHERE variable_name = 'innodb_row_lock_current_waits'",
    }
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(by_name[engine.dialect.name]).scalar_one()) > 0
