"""Whether anybody has subscribed: what this process remembers of it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from sqlalchemy import Connection

from sqla_webhooks._clock import Clock
from sqla_webhooks.outbox import subscribed
from sqla_webhooks.resources import Shape
from sqla_webhooks.subscriptions import Patterns

#: Seconds for which what is remembered is believed.
FRESH = subscribed.FRESH

#: A look whose age is not known: it is used where it was made, and not remembered.
UNDATED = float("-inf")


@dataclass(frozen=True, slots=True)
class _Known:
    revision: int = -1
    #: On the monotonic clock: what had committed by then is known.
    as_of: float = UNDATED
    patterns: Patterns = field(default_factory=Patterns)
    #: How often this process has written an endpoint.
    written: int = 0


class Interest:
    """
    The subscriptions, as this process knows them.

    Read in the application's threads, refreshed there and in the relay's. All
    that is known is one value, replaced as a whole, so there is no lock: of two
    looks that end at once the older may be kept, which is as old as it says.

    Args:
        everything: Whether everything is captured, whoever has asked for it.
        derived: The types of the events that are derived from changes of a class's rows.
    """

    def __init__(
        self, clock: Clock, *, everything: bool, derived: Callable[[type], Collection[str]] = lambda _model: ()
    ) -> None:
        self._clock = clock
        self._everything = everything
        self._derived = derived
        self._known = _Known()

    def wants(self, shape: Shape, patterns: Patterns) -> bool:
        """Whether any event of a change of such a row is asked for by *patterns*, or any that is derived from one."""
        return patterns.want(shape.resource) or any(map(patterns.match, self._derived(shape.mapper.class_)))

    @property
    def patterns(self) -> Patterns:
        """What is known, fresh or not."""
        return _EVERYTHING if self._everything else self._known.patterns

    @property
    def fresh(self) -> bool:
        """Whether what is known may be believed without a look at the database."""
        return self._everything or self._clock.monotonic() - self._known.as_of < FRESH

    def look(self, connection: Connection, *, as_of: float) -> Patterns:
        """
        What is subscribed to in the eyes of *connection*: one small SELECT, and one more if that has changed.

        Remembered for everybody, if nothing later is known, and no endpoint
        was written here while it was made.

        Args:
            as_of: When the connection's transaction began, since it may be
                that it sees nothing later; `UNDATED` if it has itself written
                what nobody else may see yet.
        """
        return _EVERYTHING if self._everything else self._look(connection, as_of=as_of)

    def _look(self, connection: Connection, *, as_of: float, revision: int | None = None) -> Patterns:
        known = self._known
        revision = subscribed.revision(connection) if revision is None else revision
        seen = revision == known.revision and as_of != UNDATED
        patterns = known.patterns if seen else Patterns.of(subscribed.patterns(connection))
        newest = self._known
        if as_of != UNDATED and as_of >= newest.as_of and known.written == newest.written:
            self._known = _Known(revision, as_of, patterns, newest.written)
        return patterns

    def keep_fresh(self, connection: Connection, *, revision: int, as_of: float) -> None:
        """
        Look before what is known grows stale, so that no flush has to. For the relay, on a new transaction.

        Args:
            revision: Of the endpoints, as this transaction sees them.
            as_of: When the transaction began, or earlier.
        """
        if revision != self._known.revision or as_of - self._known.as_of >= FRESH / 2:
            self._look(connection, as_of=as_of, revision=revision)

    def forget_age(self) -> None:
        """Let the next flush look: this process has written an endpoint."""
        known = self._known
        self._known = _Known(known.revision, UNDATED, known.patterns, known.written + 1)


_EVERYTHING = Patterns(everything=True)
