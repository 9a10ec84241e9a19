"""What is executed on an engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from support.heard import heard


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """The statements of the block, without their parameters."""
    made: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        made.append(statement)

    with heard(engine, "before_cursor_execute", note):
        yield made
