"""
How many requests this process may have under way to each endpoint.

An endpoint that has not answered yet gets one request; with each delivery that
it takes its window grows by one, up to `max_in_flight`, and an attempt that gets
no answer brings it back to one. So one that hangs holds one sender.
"""

from __future__ import annotations

from sqla_webhooks.deliveries import Strain, Verdict


class Windows:
    """Used by one thread at a time: the relay's, or that of `drain()`."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        #: Of the endpoints that have taken something here, and have answered since.
        self._sizes: dict[int, int] = {}

    def answers(self, endpoint: int) -> bool:
        """Whether it has taken something here, and has answered since."""
        return endpoint in self._sizes

    def size(self, endpoint: int) -> int:
        """How many requests may be under way to it."""
        return self._sizes.get(endpoint, 1)

    def note(self, verdict: Verdict) -> None:
        """A request has ended, with that."""
        endpoint = verdict.claim.endpoint
        if verdict.strain is Strain.NONE:
            self._sizes[endpoint] = min(self._most, self._sizes.get(endpoint, 0) + 1)
        elif verdict.strain is not Strain.REFUSED:
            self._sizes.pop(endpoint, None)
