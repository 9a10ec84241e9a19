"""
Who gets the senders that are free: pure.

Each goes to the endpoint that has the fewest, of those for which something is
due and whose window has room; so a backlog, however old, keeps nobody waiting.
Half of the senders are kept for first attempts to endpoints that answer.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqla_webhooks import pace
from sqla_webhooks.outbox.lanes import Lane
from sqla_webhooks.outbox.turnstile import Share
from sqla_webhooks.relay.windows import Windows


@dataclass(frozen=True, slots=True)
class Allotment:
    """
    What may be claimed now.

    Attributes:
        next_at: When more may be due, or allowed, if nothing else happens; None if nothing waits for its time.
    """

    shares: Sequence[Share]
    next_at: datetime | None


def allot(
    lanes: Sequence[Lane], *, free: int, windows: Windows, concurrency: int, one_by_one: bool, now: datetime
) -> Allotment:
    """
    What may be claimed of *lanes*.

    Args:
        free: Senders that are free.
        windows: What is under way to each endpoint, and what may be.
        concurrency: All senders.
        one_by_one: Whether requests are made one after the other, so that windows do not matter.
    """
    waiting = [(lane, _opens_at(lane, now)) for lane in lanes if lane.open and lane.due is not None]
    rooms = _rooms((lane for lane, at in waiting if at <= now), windows=windows, one_by_one=one_by_one, now=now)
    doubtful = max(1, concurrency // 2) - windows.doubtful
    # By how many requests its endpoint has under way, then by how long it is due.
    heap = [(room.in_flight, lane.due, place) for place, (lane, room) in enumerate(rooms)]
    heapq.heapify(heap)
    taken: Counter[int] = Counter()
    while heap and free > 0:
        in_flight, since, place = heapq.heappop(heap)
        lane, room = rooms[place]
        if in_flight != room.in_flight:  # by its endpoint's other lane
            heapq.heappush(heap, (room.in_flight, since, place))
        elif room.take(lane, may_be_doubtful=doubtful > 0):
            free, doubtful = free - 1, doubtful - (lane.retry or room.doubtful)
            taken[place] += 1
            heapq.heappush(heap, (room.in_flight, since, place))
    shares = [_share(rooms[place][0], count) for place, count in sorted(taken.items())]
    return Allotment(shares, min((at for _, at in waiting if at > now), default=None))


def _opens_at(lane: Lane, now: datetime) -> datetime:
    """When something of a lane may be sent next."""
    times: Iterable[datetime | None] = (lane.due, lane.health.paused_until)
    at = max(time for time in times if time is not None)
    if lane.rate_limit is not None and not pace.admitted(lane.rate_limit, lane.rate_at, now=max(at, now)):
        return max(at, pace.next_at(lane.rate_limit, lane.rate_at, now=max(at, now)))
    return at


def _share(lane: Lane, count: int) -> Share:
    return Share(lane.endpoint, lane.retry, count, probe=lane.health.pauses > 0, rate_limit=lane.rate_limit)


def _rooms(lanes: Iterable[Lane], *, windows: Windows, one_by_one: bool, now: datetime) -> list[tuple[Lane, _Room]]:
    """Each lane with its endpoint's room, which it shares with the other."""
    rooms: dict[int, _Room] = {}
    return [
        (lane, rooms.setdefault(lane.endpoint, _Room.of(lane, windows, one_by_one=one_by_one, now=now)))
        for lane in lanes
    ]


@dataclass(slots=True)
class _Room:
    """What is left for one endpoint, while senders are given out."""

    in_flight: int
    most: int
    retries: int
    doubtful: bool

    @classmethod
    def of(cls, lane: Lane, windows: Windows, *, one_by_one: bool, now: datetime) -> _Room:
        endpoint = lane.endpoint
        most = _ANY if one_by_one else windows.room(endpoint)
        if lane.health.pauses:
            most = min(1, windows.room(endpoint))
        if lane.rate_limit is not None:
            most = min(most, pace.admitted(lane.rate_limit, lane.rate_at, now=now))
        retries = _ANY if one_by_one else windows.room_for_retries(endpoint)
        return cls(windows.in_flight(endpoint), most, retries, doubtful=not windows.answers(endpoint))

    def take(self, lane: Lane, *, may_be_doubtful: bool) -> bool:
        """Whether one more of that lane may be taken; then it is."""
        if self.most <= 0 or (lane.retry and self.retries <= 0) or not (may_be_doubtful or not self._doubts(lane)):
            return False
        self.most -= 1
        self.retries -= lane.retry
        self.in_flight += 1
        return True

    def _doubts(self, lane: Lane) -> bool:
        return lane.retry or self.doubtful


#: More than there are senders.
_ANY = 1_000_000
