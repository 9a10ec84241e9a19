"""
Who gets the senders that are free: pure.

Each goes to the endpoint that has the fewest, of those for which something is
due and whose window has room; so a backlog, however old, keeps nobody waiting.
Half of the senders are kept for first attempts to endpoints that answer.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqla_webhooks import pace
from sqla_webhooks.deliveries import Claim
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
    lanes: Sequence[Lane],
    *,
    free: int,
    under_way: Collection[Claim],
    windows: Windows,
    concurrency: int,
    one_by_one: bool,
    now: datetime,
) -> Allotment:
    """
    What may be claimed of *lanes*.

    Args:
        free: Senders that are free.
        under_way: What the others are at.
        windows: How many requests may be under way to each endpoint.
        concurrency: All senders.
        one_by_one: Whether requests are made one after the other, so that windows do not matter.
    """
    waiting = [(lane, _opens_at(lane, now)) for lane in lanes if lane.open and lane.due is not None]
    load = _Load.of(under_way, windows)
    rooms: dict[int, _Room] = {}
    due = [(lane, at) for lane, at in waiting if at <= now]
    for lane, _ in due:
        if lane.endpoint not in rooms:
            rooms[lane.endpoint] = _room(lane, load, windows, one_by_one=one_by_one, now=now)
    taken = _give_out(due, rooms, free=free, doubtful=max(1, concurrency // 2) - load.doubtful)
    shares = [_share(due[place][0], count) for place, count in sorted(taken.items())]
    return Allotment(shares, min((at for _, at in waiting if at > now), default=None))


def _give_out(
    due: Sequence[tuple[Lane, datetime]], rooms: Mapping[int, _Room], *, free: int, doubtful: int
) -> Counter[int]:
    """How many each lane gets, by its place in *due*, which says since when it is open; *doubtful* of the doubtful."""
    # By how many requests its endpoint has under way, then by how long it is open. Not by how long it is due: after
    # each pause, endpoints that hang would be before all whose changes are younger than theirs.
    heap = [(rooms[lane.endpoint].in_flight, since, lane.due, place) for place, (lane, since) in enumerate(due)]
    heapq.heapify(heap)
    taken: Counter[int] = Counter()
    while heap and free > 0:
        in_flight, since, first, place = heapq.heappop(heap)
        lane, _ = due[place]
        room = rooms[lane.endpoint]
        doubts = lane.retry or room.doubtful
        if in_flight != room.in_flight:  # by its endpoint's other lane
            heapq.heappush(heap, (room.in_flight, since, first, place))
        elif (doubtful > 0 or not doubts) and room.take(retry=lane.retry):
            free, doubtful = free - 1, doubtful - doubts
            taken[place] += 1
            heapq.heappush(heap, (room.in_flight, since, first, place))
    return taken


def _opens_at(lane: Lane, now: datetime) -> datetime:
    """When something of a lane may be sent next."""
    times: Iterable[datetime | None] = (lane.due, lane.health.paused_until)
    at = max(time for time in times if time is not None)
    if lane.rate_limit is not None and not pace.admitted(lane.rate_limit, lane.rate_at, now=max(at, now)):
        return max(at, pace.next_at(lane.rate_limit, lane.rate_at, now=max(at, now)))
    return at


def _share(lane: Lane, count: int) -> Share:
    probe = lane.health.pauses > 0
    return Share(lane.endpoint, lane.retry, count, probe=probe, rate_limit=lane.rate_limit, batch=lane.batch)


@dataclass(frozen=True, slots=True)
class _Load:
    """What is under way, counted."""

    by_endpoint: Counter[int]
    retries: Counter[int]
    #: Retries, and what goes to endpoints of which it is not known that they answer.
    doubtful: int

    @classmethod
    def of(cls, under_way: Collection[Claim], windows: Windows) -> _Load:
        return cls(
            Counter(claim.endpoint for claim in under_way),
            Counter(claim.endpoint for claim in under_way if claim.is_retry),
            sum(claim.is_retry or not windows.answers(claim.endpoint) for claim in under_way),
        )


@dataclass(slots=True)
class _Room:
    """What is left for one endpoint, for its two lanes together, while senders are given out."""

    in_flight: int
    most: int
    #: Of *most*: half of the window is for first attempts.
    retries: int
    #: Whether it is not known that it answers.
    doubtful: bool

    def take(self, *, retry: bool) -> bool:
        """Whether one more may be taken; then it is."""
        if self.most <= 0 or (retry and self.retries <= 0):
            return False
        self.most -= 1
        self.retries -= retry
        self.in_flight += 1
        return True


def _room(lane: Lane, load: _Load, windows: Windows, *, one_by_one: bool, now: datetime) -> _Room:
    endpoint = lane.endpoint
    in_flight, window = load.by_endpoint[endpoint], windows.size(endpoint)
    most, retries = window - in_flight, (window + 1) // 2 - load.retries[endpoint]
    if one_by_one:
        most = retries = _ANY
    if lane.health.pauses:
        most = min(most, 1 - in_flight)
    if lane.rate_limit is not None:
        most = min(most, pace.admitted(lane.rate_limit, lane.rate_at, now=now))
    return _Room(in_flight, most, retries, doubtful=not windows.answers(endpoint))


#: More than there are senders.
_ANY = 1_000_000
