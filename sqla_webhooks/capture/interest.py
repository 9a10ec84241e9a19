"""Whether anybody has subscribed: what this process remembers of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from sqla_webhooks._clock import Clock
from sqla_webhooks.outbox import subscribed
from sqla_webhooks.subscriptions import Patterns

#: Seconds for which what is remembered is believed: a subscription made in
#: another process counts here after this long.
FRESH = 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    revision: int = -1
    checked_at: float = float("-inf")
    patterns: Patterns = field(default_factory=Patterns)


class Interest:
    """
    The subscriptions, as this process knows them.

    Read in the application's threads, refreshed there and in the relay's. All
    that is known is one value, replaced as a whole, so there is no lock.
    """

    def __init__(self, clock: Clock, *, everything: bool) -> None:
        self._clock = clock
        self._everything = everything
        self._known = _Known()

    @property
    def patterns(self) -> Patterns:
        """What is known, fresh or not."""
        return Patterns(everything=True) if self._everything else self._known.patterns

    @property
    def fresh(self) -> bool:
        """Whether what is known may be believed without a look at the database."""
        return self._everything or self._clock.monotonic() - self._known.checked_at < FRESH

    def refresh(self, connection: Connection) -> None:
        """
        Look whether the endpoints were written since, and read them if so.

        One small SELECT, on the connection of a flush or of the relay.
        """
        checked_at = self._clock.monotonic()
        revision = subscribed.revision(connection)
        known = self._known
        patterns = known.patterns if revision == known.revision else Patterns.of(subscribed.patterns(connection))
        self._known = _Known(revision, checked_at, patterns)

    def keep_fresh(self, connection: Connection) -> None:
        """Refresh before what is known grows stale, so that no flush has to. For the relay."""
        if self._clock.monotonic() - self._known.checked_at >= FRESH / 2:
            self.refresh(connection)

    def doubt(self) -> None:
        """Look again at the next chance: this process has written an endpoint."""
        known = self._known
        self._known = _Known(known.revision, float("-inf"), known.patterns)
