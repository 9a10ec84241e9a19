"""How many bytes a statement may carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection

T = TypeVar("T")

#: Bytes of values that we put into one statement, and into one row of the outbox, where no database says less. MariaDB
#: takes 16 MiB unless it is told otherwise, and drivers may write bytes as twice as many digits.
STATEMENT_BYTES = 4 * 1024 * 1024

#: Bytes that one value may have, where no database says less: PostgreSQL takes a gigabyte with all that belongs to it.
LARGEST_VALUE = 2**28

#: Bytes that fit a statement of any database, so that it need not be asked.
SURE = 128 * 1024

#: Bytes of a statement beside its largest value; and of a row beside what it is measured by.
_BESIDE, BESIDE_ROW = 64 * 1024, 512


def largest_value(connection: Connection) -> int:
    """
    Bytes that one value may have, so that a statement can carry it, however the driver writes it.

    Raises:
        DBAPIError: The database failed; it is asked, if it is MySQL or MariaDB.
    """
    if connection.dialect.name not in ("mysql", "mariadb"):
        return LARGEST_VALUE
    packet: int = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
    return min(LARGEST_VALUE, (packet - _BESIDE) // 2)


def fits(connection: Connection, size: int) -> bool:
    """Whether a statement can carry values of so many bytes, and should."""
    return size <= SURE or size <= min(STATEMENT_BYTES, largest_value(connection))


def by_bytes(connection: Connection, values: Sequence[T], *, size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """*values* in pieces that one statement can carry, as `pieces`."""
    if sum(map(size, values)) <= SURE:
        return pieces(values, size=size, most=SURE)
    return pieces(values, size=size, most=min(STATEMENT_BYTES, largest_value(connection)))


def pieces(values: Sequence[T], *, size: Callable[[T], int], most: int) -> Iterator[Sequence[T]]:
    """*values* in pieces of so many bytes at most; one value that is larger makes a piece of its own."""
    start = total = 0
    for place, value in enumerate(values):
        grown = total + size(value)
        if grown > most and place > start:
            yield values[start:place]
            start, grown = place, grown - total
        total = grown
    if values:
        yield values[start:]
