"""
How many requests this process has under way to each endpoint, and how many it may.

An endpoint that has not answered yet gets one request; with each delivery that
it takes its window grows by one, up to `max_in_flight`, and an attempt that gets
no answer brings it back to one. So one that hangs holds one sender.
"""

from __future__ import annotations

from collections import Counter

from sqla_webhooks.events import Claim, Strain, Verdict


class Windows:
    """Used by one thread at a time: the relay's, or that of `drain()`."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        #: Of the endpoints whose last attempt here got an answer, after one that was taken.
        self._sizes: dict[int, int] = {}
        #: By delivery, whether its request is doubtful.
        self._doubtful: dict[int, bool] = {}
        self._in_flight: Counter[int] = Counter()
        self._retries: Counter[int] = Counter()

    @property
    def doubtful(self) -> int:
        """How many requests under way are retries, or to endpoints of which it is not known that they answer."""
        return sum(self._doubtful.values())

    def answers(self, endpoint: int) -> bool:
        """Whether it has taken something here, and has answered since."""
        return endpoint in self._sizes

    def in_flight(self, endpoint: int) -> int:
        """How many requests are under way to it."""
        return self._in_flight[endpoint]

    def room(self, endpoint: int) -> int:
        """How many more requests may be made to it."""
        return max(0, self._size(endpoint) - self._in_flight[endpoint])

    def room_for_retries(self, endpoint: int) -> int:
        """How many of those may be retries: half of the window is for first attempts."""
        return max(0, (self._size(endpoint) + 1) // 2 - self._retries[endpoint])

    def begin(self, claim: Claim) -> None:
        """A request is made."""
        self._in_flight[claim.endpoint] += 1
        self._retries[claim.endpoint] += claim.is_retry
        self._doubtful[claim.delivery_id] = claim.is_retry or not self.answers(claim.endpoint)

    def end(self, verdict: Verdict) -> None:
        """It has ended, with that."""
        claim = verdict.claim
        self._in_flight[claim.endpoint] -= 1
        self._retries[claim.endpoint] -= claim.is_retry
        self._doubtful.pop(claim.delivery_id, None)
        if verdict.strain is Strain.NONE:
            self._sizes[claim.endpoint] = min(self._most, self._sizes.get(claim.endpoint, 0) + 1)
        elif verdict.strain is not Strain.REFUSED:
            self._sizes.pop(claim.endpoint, None)

    def forget(self) -> None:
        """In a forked child, where nothing is under way."""
        self._doubtful.clear()
        self._in_flight.clear()
        self._retries.clear()

    def _size(self, endpoint: int) -> int:
        return self._sizes.get(endpoint, 1)
