"""How far a long call has come: the values that it returns and reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far a call has come that does its work in batches.

    Attributes:
        done: How many deliveries, or events, it has dealt with.
        total: How many there were for it when it began.
    """

    done: int
    total: int


#: Called after each batch, in the caller's thread, outside of transactions. If it raises, the call ends with that.
Report: TypeAlias = Callable[[Progress], object]
