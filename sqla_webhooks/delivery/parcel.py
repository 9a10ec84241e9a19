"""What one request carries: a delivery, or several of a batch. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqla_webhooks.deliveries import Claim
from sqla_webhooks.events import Event


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
    Each piece by itself, but what was claimed as a batch together, in the order of the pieces.

    Where an endpoint wants order, no row is twice in one request, since only
    the first waiting event of a row can be claimed.
    """
    batches: dict[int, list[Piece]] = {}
    for piece in pieces:
        if piece.claim.batch is not None:
            batches.setdefault(piece.claim.batch, []).append(piece)
        elif piece.claim.destination.batch:
            yield _together([piece])
        else:
            yield Parcel.of(piece)
    yield from map(_together, batches.values())


def _together(pieces: list[Piece]) -> Parcel:
    body = b"[" + b",".join(one.body for one in pieces) + b"]"
    return Parcel(tuple(one.claim for one in pieces), body, _events(pieces), batch=True)


def _events(pieces: list[Piece]) -> tuple[Event, ...]:
    return tuple(one.event for one in pieces if one.event is not None)
