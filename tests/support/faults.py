"""A database that refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from support.heard import heard


@contextmanager
def refusing(
    engine: Engine, fragment: str, *, times: float = float("inf"), when: Callable[[], bool] = lambda: True
) -> Iterator[list[str]]:
    """
    Refuse statements that contain *fragment*, so often; what was refused is in the list.

    Args:
        when: Asked for each, in its thread, whether to refuse it.
    """
    refused: list[str] = []

    def refuse(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if fragment in statement and len(refused) < times and when():
            refused.append(statement)
            raise OperationalError(statement, {}, Exception("the disk is full"))

    with heard(engine, "before_cursor_execute", refuse):
        yield refused
