"""What one request carries: a delivery, or several of a batch. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqla_webhooks.deliveries import Claim
from sqla_webhooks.events import Event

#: Bytes of the bodies in one request, unless a single one has more.
LARGEST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """
    What one delivery sends.

    Attributes:
        event: What the body says; None where it is sent as it was stored.
    """

    claim: Claim
    body: bytes = field(repr=False)
    event: Event | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """
    What one request carries.

    Attributes:
        claims: The deliveries, in the order of the body.
        batch: Whether the body is an array.
    """

    claims: tuple[Claim, ...]
    body: bytes = field(repr=False)
    events: tuple[Event, ...] = field(default=(), repr=False)
    batch: bool = False

    @classmethod
    def of(cls, piece: Piece) -> Parcel:
        """One delivery by itself."""
        return cls((piece.claim,), piece.body, _events([piece]))

    @property
    def id(self) -> str:
        """The event's id; of several, one that is made of theirs: the same for the same."""
        first, *others = [claim.event_id for claim in self.claims]
        if not others:
            return first
        return f"batch_{hashlib.blake2b(','.join((first, *others)).encode(), digest_size=16).hexdigest()}"


def pack(pieces: Iterable[Piece]) -> Iterator[Parcel]:
    """
    Each piece by itself, but those for an endpoint of batches together, in their order.

    Where order is wanted, no row is twice in one request, since only the first
    waiting event of a row can be claimed. What is sent again goes alone: one
    that cannot be taken spoils no other.
    """
    waiting: dict[int, list[Piece]] = {}
    for piece in pieces:
        batch = piece.claim.destination.batch
        if not batch:
            yield Parcel.of(piece)
        elif piece.claim.is_retry:
            yield _together([piece])
        else:
            some = waiting.setdefault(piece.claim.endpoint, [])
            if some and (len(some) == batch or _size(some) + len(piece.body) > LARGEST):
                yield _together(some)
                some.clear()
            some.append(piece)
    yield from map(_together, filter(None, waiting.values()))


def _together(pieces: list[Piece]) -> Parcel:
    body = b"[" + b",".join(one.body for one in pieces) + b"]"
    return Parcel(tuple(one.claim for one in pieces), body, _events(pieces), batch=True)


def _events(pieces: list[Piece]) -> tuple[Event, ...]:
    return tuple(one.event for one in pieces if one.event is not None)


def _size(pieces: list[Piece]) -> int:
    return sum(len(one.body) for one in pieces)
