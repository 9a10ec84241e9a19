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
        done: How many deliveries, events or rows it has dealt with.
        total: How many there were for it when it began.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """
    How many rows were removed for their age.

    Attributes:
        secrets: Secrets of endpoints that expired more than a day ago.
    """

    attempts: int = 0
    deliveries: int = 0
    events: int = 0
    secrets: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(
            attempts=self.attempts + other.attempts,
            deliveries=self.deliveries + other.deliveries,
            events=self.events + other.events,
            secrets=self.secrets + other.secrets,
        )


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """
    What became of the secrets and headers that the first key had not encrypted.

    Attributes:
        rewritten: How many rows it has encrypted now.
        unreadable: How many rows none of the keys opens; they are as they were, and the log names their endpoints.
    """

    rewritten: int = 0
    unreadable: int = 0

    def __add__(self, other: Reencrypted) -> Reencrypted:
        return Reencrypted(self.rewritten + other.rewritten, self.unreadable + other.unreadable)


#: Called after each batch, in the caller's thread, outside of transactions. If it raises, the call ends with that.
Report: TypeAlias = Callable[[Progress], object]
