"""
Statements of one bulk operation, as they reach their connection.

The ORM makes its statements late: options are applied, attributes have become
columns. So what must be known of a statement, or asked of it, is seen to where
it is executed: while an operation runs, we listen to its connection, and are
gone with it.

In the application's thread, on the connection and in the transaction of its
statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Connection, Delete, Executable, Insert, Update, event
from sqlalchemy.engine import CursorResult

DML: TypeAlias = Insert | Update | Delete

#: The execution option by which an operation's own statements are told from those that run meanwhile.
OPTION = "sqla_webhooks_watched_by"


class Watcher(Protocol):
    """What looks at the statements of an operation."""

    def before(self, connection: Connection, statement: DML, parameters: Any) -> DML:
        """The statement to execute instead."""
        ...

    def after(self, statement: DML, result: CursorResult[Any], /) -> None:
        """It has been executed; its rows, if it returns any, are still to be read."""
        ...


@contextmanager
def watching(connection: Connection, watcher: Watcher, *, every: bool = False) -> Iterator[None]:
    """
    Show *watcher* the statements of an operation while the block runs.

    Args:
        every: Whether all that write are the operation's own; if not, those
            that are executed with *watcher* under `OPTION`.
    """

    def is_ours(statement: Executable, options: Any) -> bool:
        return isinstance(statement, Insert | Update | Delete) and (every or options.get(OPTION) is watcher)

    def before(connection: Connection, statement: Any, several: Any, one: Any, options: Any) -> tuple[Any, Any, Any]:
        if is_ours(statement, options):
            statement = watcher.before(connection, statement, several or one)
        return statement, several, one

    def after(_: Connection, statement: Any, _several: Any, _one: Any, options: Any, result: Any) -> None:
        if is_ours(statement, options):
            watcher.after(statement, result)

    event.listen(connection, "before_execute", before, retval=True)
    event.listen(connection, "after_execute", after)
    try:
        yield
    finally:
        event.remove(connection, "before_execute", before)
        event.remove(connection, "after_execute", after)
