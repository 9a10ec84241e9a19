"""`drain()`: turns of the relay in the caller's thread, until nothing is due."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from sqla_webhooks._clock import Clock
from sqla_webhooks.delivery.senders import Senders
from sqla_webhooks.relay.turn import Relay, Turn

#: Seconds between looks while it waits for another: a request in flight, or a relay that leads.
_GLANCE = 0.05


@dataclass(frozen=True, slots=True)
class Drained:
    """
    What `drain()` did.

    Attributes:
        events: Events made public.
        attempts: Requests made.
        complete: Whether nothing was left that was due; False when the timeout ended it.
    """

    events: int
    attempts: int
    complete: bool


def drain(
    relay: Relay,
    senders: Senders,
    *,
    others: Senders | None,
    clock: Clock,
    deadline: float,
    ended: Callable[[], bool],
) -> Drained:
    """
    Take turns until one finds nothing to do and nobody else is at work.

    In the caller's thread, which holds the baton.

    Args:
        senders: Where its requests go.
        others: The senders of the relay's thread, which stands still: what they have in flight is recorded here.
        deadline: When to give up, on the monotonic clock; one turn is always taken.
        ended: Whether the installation has been uninstalled meanwhile.
    """
    events = attempts = 0
    while True:
        turn = _turn(relay, senders)
        events, attempts = events + turn.events, attempts + turn.sent
        in_flight = others is not None and bool(others.under_way)
        if not (turn.busy or turn.upkeep or turn.led_elsewhere or in_flight):
            return Drained(events, attempts, complete=True)
        if clock.monotonic() >= deadline or ended():
            return Drained(events, attempts, complete=False)
        if not (turn.busy or turn.upkeep):
            clock.wait(threading.Event(), _GLANCE)
        if others is not None:
            relay.record(others)


def _turn(relay: Relay, senders: Senders) -> Turn:
    try:
        return relay.run_once(senders)
    except BaseException:  # a KeyboardInterrupt above all, between two requests
        with suppress(SQLAlchemyError):
            relay.record(senders)  # what was answered by then; else it would be sent again
        raise
