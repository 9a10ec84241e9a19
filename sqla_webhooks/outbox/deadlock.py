"""Transactions that the database has rolled back so that others could go on: they are made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

#: So often a transaction is tried in all; two that meet for ever would be an error of ours.
TRIES = 5

# PostgreSQL's SQLSTATE, and MySQL's number.
_DEADLOCKS = frozenset({"40P01", 1213})


def outlive(transaction: Callable[[], T]) -> T:
    """
    What *transaction* returns, which is a whole one of ours.

    Raises:
        DBAPIError: It failed for another reason, or too often for this one.
    """
    for _ in range(TRIES - 1):
        try:
            return transaction()
        except DBAPIError as error:
            if not is_deadlock(error):
                raise
    return transaction()


def is_deadlock(error: DBAPIError) -> bool:
    """Whether the database has chosen this transaction to give way."""
    said = error.orig
    first = said.args[0] if said is not None and said.args else None
    names = (getattr(said, "sqlstate", None), getattr(said, "pgcode", None), first)
    return any(isinstance(name, str | int) and name in _DEADLOCKS for name in names)
