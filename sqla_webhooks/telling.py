"""What the application tells itself, beyond what its rows do: the part of `Webhooks` for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy.orm import Session, scoped_session

from sqla_webhooks.capture.by_hand import ByHand
from sqla_webhooks.capture.emission import Emission
from sqla_webhooks.context import Circumstances
from sqla_webhooks.transitions import P, Transitions


class Telling:
    """Domain events, events by hand, and the context of both and of changes. Safe for any thread."""

    def __init__(
        self, emission: Emission, by_hand: ByHand, *, circumstances: Circumstances, transitions: Transitions
    ) -> None:
        self._emission = emission
        self._by_hand = by_hand
        self._circumstances = circumstances
        self._transitions = transitions

    def emit(
        self,
        session: Session | scoped_session[Any],
        type: str,
        obj: Any = None,
        *,
        data: Mapping[str, Any] | None = None,
        tenant: object = None,
    ) -> None:
        """
        Tell of something that has happened, in the transaction of *session*: a domain event.

            webhooks.emit(session, "payment.captured", payment)

        It exists if and only if the transaction commits, as the events of rows
        do. In the caller's thread. The session is flushed before, so that the
        event comes after what was changed before it: after the event of its
        own row, whose order it keeps, if that was changed in the transaction
        by then. It is never one with another. With an async session:
        `await session.run_sync(lambda session: webhooks.emit(session, ...))`.

        Args:
            session: One of those that `install()` was called for.
            type: As it is declared, by `install(domain_events={...})` or by `event()`.
            obj: The object that it is about: of a class that is captured, with a row in the transaction. None if it is
                about no row: then the event's own id is its `resource_id`, and it waits for no other.
            data: The event's `data`: by name, whatever can be written as JSON; what cannot becomes a placeholder. By
                default the attributes of the row, as they are in the transaction, to which enrichers add; or `{}`.
            tenant: Whose it is, where there is no *obj*: a text, an int or a UUID.

        Raises:
            ConfigurationError: The type is not declared, or is about another class; *obj* has no row, or is of no
                class that is captured; another argument cannot be. The message says what to write.
            NotFound: The row was deleted without its session.
            OutboxWriteError: It cannot be written, or not be known whether it must be: roll back.
        """
        self._emission.emit(session, type, obj=obj, data=data, tenant=tenant)

    def trigger(self, type: str, obj: Any) -> bool:
        """
        Send an event of one row by hand, though nothing was done to it: `webhooks.trigger("order.updated", order)`.

        In the caller's thread, in a transaction of its own, in which the row is
        locked and read: its data is what has committed, and it comes after
        the events of all changes that it shows. An update has empty `changes`, a
        delete shows the row as it is. Nothing follows from it: declared
        transitions do not look at it.

        Args:
            type: `created`, `updated` or `deleted` of the resource of *obj*.
            obj: An object that has a row, whatever session it belongs to; if that has written, it must commit before.

        Returns:
            Whether anybody has asked for it; if not, nothing was written.

        Raises:
            ConfigurationError: That is no event of the object's, or it has no row that has committed.
            NotFound: The row is gone.
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
        """
        return self._by_hand.trigger(type, obj)

    def event(self, type: str, model: type[Any]) -> Callable[[P], P]:
        """
        Declare a domain event that follows from changes of rows.

            @webhooks.event("order.shipped", Order)
            def shipped(event):
                return event.operation == "update" and "tracking" in event.changes

            webhooks.event("payment.captured", Payment)(changed(Payment.status, to="captured"))

        The predicate is given the event of each row of *model*, and of its
        subclasses, that was created, updated or deleted: the net change of a
        transaction, enriched. Where it holds, another event comes right after
        it, of that type and with an id of its own: data, `changes`, and whom
        it may reach, are the same. In the relay's thread, so every process that
        delivers must declare it, and every one that captures.

        A type that is declared several times, as by code that runs twice, makes
        one event where any of its predicates holds.

        A predicate that raises is logged and sent as the signal
        `predicate_failed`; no event comes of it. It must not change the event.

        Args:
            type: Two words with a dot between. It is declared by this, too.
            model: A mapped class that is captured.

        Raises:
            ConfigurationError: The type cannot be one, or is about another class; *model* is not captured, or what
                `changed()` names of it is not sent; the predicate is no plain function.
        """
        return self._transitions.declare(type, model)

    def context(self, **values: Any) -> AbstractContextManager[Mapping[str, Any]]:
        """
        Say who does what is done in a block, and for what: `with webhooks.context(actor=user.id, request_id=id):`.

        It is recorded with every change that is flushed, with all that is
        emitted or triggered in the block, in its thread or task; `events.list()`
        shows it, and what `send_context` names is sent. An event has what was
        said at any of the flushes that changed its row, the last of two that
        say different things. Within another block the inner one wins, name by
        name.

        Args:
            values: 20 at the most, of at most 4 KiB of JSON: texts, numbers, True, False or None.

        Raises:
            ConfigurationError: They are no such values. As the block ends: in another thread or task than it began.
        """
        return self._circumstances.say(values)
