"""Capture's side of the outbox: one row for one flush."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, false, insert
from sqlalchemy.exc import OperationalError, SQLAlchemyError, StatementError

from sqla_webhooks import models
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import OutboxWriteError
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.sizes import BESIDE_ROW, by_bytes, fits

#: A flush of more changes than this, or of more bytes than fit a statement, is split.
CHANGES_PER_ROW = 500

_INSERT = insert(models.outbox)
# A write that changes nothing.
_NOTHING = delete(models.outbox).where(false())


def write(
    connection: Connection,
    runs: Sequence[sheet.Run],
    *,
    transaction: str,
    captured_at: datetime,
    encoding: Encoding,
    context: str | None = None,
) -> None:
    """
    Write changes beside the rows that changed.

    Runs in the application's thread, on the connection and in the transaction
    of its flush. The changes' values need not be JSON yet: they are encoded
    here.

    Args:
        context: What was said of the circumstances, as JSON.

    Raises:
        OutboxWriteError: The database refused; the flush must fail with it.
    """
    common = {"transaction_id": transaction, "captured_at": captured_at}
    if context is not None:
        common["context"] = context
    try:
        rows = [
            {**common, "changes": text}
            for piece in sheet.pieces(runs, CHANGES_PER_ROW)
            for text in _texts(connection, piece, encoding=encoding)
        ]
        for some in by_bytes(connection, rows, size=_size):
            connection.execute(_INSERT, some)
    except SQLAlchemyError as error:
        raise _refused(connection, error) from error


def _texts(connection: Connection, piece: Sequence[sheet.Run], *, encoding: Encoding) -> Iterator[bytes]:
    """*piece* as JSON; in several parts, if one statement could not carry it. A change is never parted."""
    text = sheet.written(piece, encoding=encoding)
    if (count := sum(len(run) for _, run in piece)) == 1 or fits(connection, len(text)):
        yield text
        return
    for half in sheet.pieces(piece, -(-count // 2)):
        yield from _texts(connection, half, encoding=encoding)


def _size(row: Mapping[str, Any]) -> int:
    return len(row["changes"]) + len(row.get("context", "")) + BESIDE_ROW


def take_write_lock(connection: Connection) -> None:
    """
    On SQLite, wait for the write lock: for a flush that must read before it writes.

    A transaction that has read first is not let wait: its write would fail at
    once with "database is locked" if another has written meanwhile.

    Raises:
        OutboxWriteError: There is no outbox.
    """
    if connection.dialect.name != "sqlite":
        return
    try:
        connection.execute(_NOTHING)
    except OperationalError as error:
        if "no such table" in str(error.orig):
            raise _refused(connection, error) from error
        raise  # the application's own next statement would have raised it


def _refused(connection: Connection, error: SQLAlchemyError) -> OutboxWriteError:
    if isinstance(error, StatementError):
        error.hide_parameters = True  # the parameters are the application's data
    return OutboxWriteError(
        f"the changes of this flush could not be written to webhook_outbox on {connection.engine.url!r}, so the flush "
        "has failed with them: roll back, see that the tables exist there (install() creates them, or your migrations "
        "with create_tables=False), and try again"
    )
