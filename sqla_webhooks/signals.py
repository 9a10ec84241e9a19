"""
The signal bus: blinker signals, one by one.

Every receiver is called as `receiver(sender, **arguments)`, in the order in
which receivers were connected (those for every sender before those for one).
One that raises is logged and does not stop the others, nor us. blinker holds
receivers weakly: connect a lambda or a nested function with `weak=False`.

    @delivered.connect
    def log(webhooks, *, delivery, attempt):
        print(delivery.event_type, "took", attempt.duration, "s")
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import blinker

logger = logging.getLogger(__name__)


class _InOrder(dict[Any, None]):
    """A set that keeps the order of arrival: what blinker keeps receivers in."""

    def __init__(self, members: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(members))

    def add(self, member: Any) -> None:
        self[member] = None

    def discard(self, member: Any) -> None:
        self.pop(member, None)

    def remove(self, member: Any) -> None:
        del self[member]

    def copy(self) -> _InOrder:
        return _InOrder(self)

    def __or__(self, other: Any) -> Any:
        return _InOrder([*self, *other])


class Signal(blinker.NamedSignal):
    """A blinker signal whose receivers run in the order in which they were connected."""

    set_class: Any = _InOrder

    def receivers_in_order(self, sender: Any) -> list[Callable[..., Any]]:
        """Each live receiver for *sender*, none if the signal is muted."""
        return [] if self.is_muted else list(self.receivers_for(sender))

    def tell(self, sender: Any, **arguments: Any) -> None:
        """Call each receiver; one that raises is logged and the next is called."""
        for receiver in self.receivers_in_order(sender):
            try:
                receiver(sender, **arguments)
            except KeyboardInterrupt:
                raise  # somebody wants `drain()` to end
            except BaseException:  # a stranger's receiver must not stop the relay or a flush, by SystemExit neither
                logger.exception("a receiver of a webhook signal failed", extra={"webhooks.receiver": _name(receiver)})


def _name(receiver: Callable[..., Any]) -> str:
    """Not its repr, which may show data or raise."""
    return str(getattr(receiver, "__qualname__", type(receiver).__qualname__))


enriching: Signal = Signal(
    "enriching",
    """
    Sent for each event of a row that still exists (created, updated, read, or
    what a domain event with the row's data is about), before its payload is
    fixed.

    Sender: the mapped class. `instance`: the row, loaded in the relay's own
    session, as it is now; `payload`: the event's `data`, to be changed in
    place; `event`: the `Event`. Runs in the relay's thread, in no transaction
    of the application's. `@enricher(Model)` connects to this signal.
    """,
)

enriching_for_endpoint: Signal = Signal(
    "enriching_for_endpoint",
    """
    Sent for each delivery of an event for which `enriching` is sent, before the
    delivery is, to shape what this one endpoint gets.

    Sender and arguments as for `enriching`, and `endpoint`: the `Endpoint`.
    Runs in the relay's thread, for each attempt anew.
    `@endpoint_enricher(Model)` connects to this signal.
    """,
)

enricher_failed: Signal = Signal(
    "enricher_failed",
    """
    Sent when an enricher raised, or its rows could not be loaded; the event
    goes on with what its `data` held before.

    Sender: the mapped class. `enricher`: the receiver; `event`: the `Event`;
    `error`: the exception. Runs in the relay's thread.
    """,
)

predicate_failed: Signal = Signal(
    "predicate_failed",
    """
    Sent when the predicate of a declared transition raised, or returned
    neither True nor False; no event comes of it.

    Sender: the mapped class of the row. `predicate`: what failed; `type`: the
    type of the event that would have come; `event`: the `Event` of the row;
    `error`: the exception. Runs in the relay's thread.
    """,
)

unencodable: Signal = Signal(
    "unencodable",
    """
    Sent when a value was replaced by a placeholder, because no rule says how
    to write it as JSON.

    Sender: the `Webhooks` of the installation. `kind`: the value's type.
    Runs where the value was met: for a column, in the application's thread
    inside `flush()`, so a receiver must be quick and must not use the session;
    for what an enricher added, in the relay's thread.
    """,
)

tenant_unknown: Signal = Signal(
    "tenant_unknown",
    """
    Sent when it could not be told whose an event is, or, of an update, whose
    the row was before: it goes to endpoints of everybody's events, and to no
    tenant's of which that is not known.

    Sender: the `Webhooks`. `event`: the `Event`, as it was captured; `error`:
    a `TenantUnknown`, or what the function raised that tells of tenants. Runs
    in the relay's thread, before the commit; so again, if that has failed.
    """,
)

oversized: Signal = Signal(
    "oversized",
    """
    Sent when the body of an event would have been too large, so that it was
    made public without what is in the row.

    Sender: the `Webhooks`. `event_id`, `event_type`; `size`: the bytes that it
    would have had; `limit`: those that it may have. Runs in the relay's thread
    (in the caller's, from `drain()`), after the commit.
    """,
)

delivered: Signal = Signal(
    "delivered",
    """
    Sent when an endpoint has answered 2xx and that is recorded.

    Sender: the `Webhooks`. `delivery`: the `Delivery`; `attempt`: the
    `Attempt`. Runs in the relay's thread (in the caller's, from `drain()`),
    after the commit of the record.
    """,
)

failed: Signal = Signal(
    "failed",
    """
    Sent when an attempt has failed, is recorded, and another will be made.

    Sender, arguments and thread as for `delivered`; `delivery.next_attempt_at`
    says when.
    """,
)

dead: Signal = Signal(
    "dead",
    """
    Sent when a delivery is given up: its last attempt failed, or the egress
    policy forbids the address.

    Sender, arguments and thread as for `delivered`.
    """,
)

endpoint_failing: Signal = Signal(
    "endpoint_failing",
    """
    Sent when an endpoint has done nothing but fail for half, for seven and for
    nine tenths of `disable_after`: once each, by one process.

    Sender: the `Webhooks`. `endpoint`: the `Endpoint`, whose `health` says
    since when. Runs in the relay's thread, after the commit.
    """,
)

endpoint_disabled: Signal = Signal(
    "endpoint_disabled",
    """
    Sent when an endpoint was disabled since it answered 410, or did nothing but
    fail for `disable_after` seconds: once, by one process.

    Sender, argument and thread as for `endpoint_failing`;
    `endpoint.disabled_because` is `gone` or `failing`.
    """,
)

endpoint_recovered: Signal = Signal(
    "endpoint_recovered",
    """
    Sent when an endpoint that was paused, or of which `endpoint_failing` was
    sent, has taken a delivery again.

    Sender, argument and thread as for `endpoint_failing`.
    """,
)
