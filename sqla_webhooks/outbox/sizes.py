"""How many bytes a statement may carry. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

#: Bytes of values that we put into one statement, and into one row of the outbox. MariaDB takes 16 MiB unless it is
#: told otherwise, and drivers may write bytes as twice as many digits.
STATEMENT_BYTES = 4 * 1024 * 1024

#: Bytes that one value may have, where no database says less: PostgreSQL takes a gigabyte with all that belongs to it.
LARGEST_VALUE = 2**28

#: Bytes of a statement beside its largest value.
_BESIDE = 64 * 1024


def largest_in(packet: int) -> int:
    """Bytes that one value may have where a statement may have *packet*."""
    return min(LARGEST_VALUE, (packet - _BESIDE) // 2)


def by_bytes(values: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """*values* in pieces that one statement can carry; one that is too large for that makes a piece of its own."""
    start = total = 0
    for place, value in enumerate(values):
        grown = total + size(value)
        if grown > STATEMENT_BYTES and place > start:
            yield values[start:place]
            start, grown = place, grown - total
        total = grown
    if values:
        yield values[start:]
