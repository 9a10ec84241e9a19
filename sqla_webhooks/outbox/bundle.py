"""Which of the deliveries that are due go in one request: for an endpoint of batches. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqla_webhooks.outbox.turnstile import Share

#: Bytes of the stored bodies in one request, unless a single one has more. What a dialect writes around them has room
#: below the mebibyte that many servers take at the most.
LARGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class Due:
    """
    A delivery that may be taken.

    Attributes:
        lane: See `models.lane_of`.
        size: Bytes of the stored body; not asked for, and 0, where it goes alone.
    """

    number: int
    lane: int
    size: int = 0


def bundles(due: Iterable[Due], shares: Sequence[Share]) -> list[list[Due]]:
    """
    What goes in each request, as many as the shares allow; what is due beyond them is left out.

    So it is known before anything is taken how many requests there will be,
    however large the bodies are: a rate limit, a window and the senders count
    those.
    """
    waiting: dict[int, list[Due]] = {share.lane: [] for share in shares}
    for one in due:
        waiting[one.lane].append(one)
    return [some for share in shares for some in _of_lane(waiting[share.lane], share)]


def _of_lane(due: Sequence[Due], share: Share) -> list[list[Due]]:
    if share.each == 1:
        return [[one] for one in due[: share.limit]]
    made: list[list[Due]] = []
    room = size = 0
    for one in due:
        if not room or size + one.size > LARGEST:
            if len(made) == share.limit:
                break
            made.append([])
            room, size = share.each, 0
        made[-1].append(one)
        room, size = room - 1, size + one.size
    return made
