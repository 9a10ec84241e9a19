"""Transactions that the database has rolled back so that others could go on: they are made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

T = TypeVar("T")

#: So often a transaction is tried in all; two that meet for ever would be an error of ours.
TRIES = 8

#: Seconds between two tries, at random, so that the two do not meet again: up to this the first time, then twice it.
_APART = 0.01

# PostgreSQL's SQLSTATE, and MySQL's number.
_DEADLOCKS = frozenset({"40P01", 1213})


def outlive(transaction: Callable[[], T]) -> T:
    """
    What *transaction* returns, which is a whole one of ours.

    In the calling thread, which waits between two tries, while no transaction
    is open.

    Raises:
        DBAPIError: It failed for another reason, or too often for this one.
    """
    retrying = Retrying(
        retry=retry_if_exception(_is_deadlock),
        stop=stop_after_attempt(TRIES),
        wait=wait_random_exponential(multiplier=_APART, max=0.5),
        reraise=True,
    )
    return retrying(transaction)


def _is_deadlock(error: BaseException) -> bool:
    """Whether the database has chosen a transaction to give way."""
    if not isinstance(error, DBAPIError):
        return False
    said = error.orig
    first = said.args[0] if said is not None and said.args else None
    names = (getattr(said, "sqlstate", None), getattr(said, "pgcode", None), first)
    return any(isinstance(name, str | int) and name in _DEADLOCKS for name in names)
