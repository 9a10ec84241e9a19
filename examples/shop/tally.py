"""
What everybody counted, each in books of their own, and whether it agrees.

The shop wrote down what it did, the library what it made public and sent, and
the receiver, in another process, what it got.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from examples.shop.receiver import Receipt
from examples.shop.scenario import Row
from sqla_webhooks import Delivery, DeliveryState, Drained, StoredEvent


@dataclass(frozen=True, slots=True)
class Books:
    """Everybody's books, at the end."""

    #: The shop's.
    committed: Sequence[Row]
    rolled_back: Sequence[Row]
    password_hashes: Sequence[str]
    #: The library's.
    events: Sequence[StoredEvent]
    deliveries: Sequence[Delivery]
    #: What a last `drain()` found to do.
    left: Drained
    #: The receiver's.
    receipts: Sequence[Receipt]


@dataclass(frozen=True, slots=True)
class Count:
    """One number, what it should be, and what else must hold."""

    what: str
    number: int
    expected: int
    #: Whether the things counted are the right ones, and not just as many.
    same: bool = True

    @property
    def agrees(self) -> bool:
        return self.same and self.number == self.expected

    @property
    def complaint(self) -> str:
        """What is wrong, where something is."""
        return f"should be {self.expected}" if self.number != self.expected else "as many, but not the same ones"


def tally(books: Books) -> list[Count]:
    """Every number, beside what it should be by somebody else's books."""
    rows = [row.event for row in books.committed]
    events = [(event.type, event.resource_id) for event in books.events]
    ids = [event.id for event in books.events]
    delivered = [one.event_id for one in books.deliveries if one.state is DeliveryState.DELIVERED]
    unfinished = len(books.deliveries) - len(delivered) + books.left.events + books.left.attempts
    retried = [one.event_id for one in books.deliveries if one.attempts > 1]
    attempts = sum(one.attempts for one in books.deliveries)
    verified = [one.id for one in books.receipts if one.accepted]
    refused = [one.id for one in books.receipts if not one.accepted]
    unsent = [row for row in books.rolled_back if row.event not in events]
    leaks = [one.id for one in books.receipts if any(secret in one.body for secret in books.password_hashes)]
    return [
        Count("changes committed by the shop", len(rows), len(books.committed)),
        Count("events made public", len(events), len(rows), same=_same(events, rows)),
        Count("deliveries", len(delivered), len(rows), same=_same(delivered, ids)),
        Count("verified by the receiver", len(verified), len(rows), same=_same(verified, ids)),
        Count("refused once and retried", len(refused), 1, same=_same(refused, retried)),
        Count("HTTP requests, retries included", len(books.receipts), attempts),
        Count("rows rolled back and never sent", len(unsent), len(books.rolled_back)),
        Count("still to be sent", unfinished, 0, same=books.left.complete),
        Count("payloads with a password hash", len(leaks), 0),
    ]


def _same(some: Iterable[object], others: Iterable[object]) -> bool:
    """Whether they are the same things, in whichever order."""
    return Counter(some) == Counter(others)
