"""
What happened, to look at and to put right: `webhooks.events` and `webhooks.deliveries`.

Nothing here takes a `session`: what is sent again has been committed long ago,
and calls about many deliveries write them in batches, each in a short
transaction of its own, in the caller's thread. What such a call has done stays
done if it ends early; made again, it goes on with what is left. Inside a
transaction that has written on SQLite, which has one writer, none of what
writes can be called: it would wait for that transaction, and fail with
"database is locked".
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import datetime

from sqla_webhooks import asked, given
from sqla_webhooks._clock import Clock
from sqla_webhooks.asked import State, Unfinished
from sqla_webhooks.deliveries import Attempt, Delivery, DeliveryState
from sqla_webhooks.errors import NotFound
from sqla_webhooks.events import StoredEvent
from sqla_webhooks.given import UNSAID, TenantName, Unsaid
from sqla_webhooks.outbox import history as stored
from sqla_webhooks.outbox import reopen, replay
from sqla_webhooks.outbox.database import Database, on_database
from sqla_webhooks.outbox.pages import Pages
from sqla_webhooks.outbox.sought import Sought
from sqla_webhooks.progress import Progress, Report

#: What can be cancelled.
_UNTAKEN = (DeliveryState.PENDING, DeliveryState.HELD, DeliveryState.DEAD)


class Events:
    """
    `webhooks.events`. Safe for any thread.

    Args:
        due: Told after a write that has made deliveries due.
    """

    def __init__(self, database: Database, *, clock: Clock, due: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._due = due

    @on_database
    def list(
        self, *, type: str | None = None, tenant: TenantName | Unsaid = UNSAID, limit: int = 100
    ) -> list[StoredEvent]:
        """
        The newest events, newest first. One short read.

        Args:
            type: Only those of this type, such as `order.created`.
            tenant: Only those of this tenant, a text, an int or a UUID. Those for endpoints of everybody's events,
                when a row has moved from or to it, are not.
            limit: How many at most.

        Raises:
            ConfigurationError: An argument is of a kind that cannot be looked for.
            EndpointError: *tenant* can be none.
        """
        asked.check_limit(limit)
        asked.check_texts(type=type)
        whose = given.tenant_said(tenant)
        with self._database.read() as connection:
            return stored.events(connection, limit, type=type, tenant=whose)

    @on_database
    def get(self, id: str) -> StoredEvent:
        """
        The event of that id (`evt_…`), with the bytes that are sent. One short read.

        Raises:
            NotFound: There is none.
        """
        asked.check_event_id(id)
        with self._database.read() as connection:
            event = stored.event(connection, id)
        if event is None:
            message = f"no event has the id {id!r}; webhooks.events.list() shows the newest"
            raise NotFound(message)
        return event

    @on_database
    def replay(self, id: str, *, endpoint: str) -> Delivery:
        """
        Send one event to one endpoint, whether or not it has subscribed to it, and whether or not it has had it.

        But not to an endpoint of a tenant what is another's, nor to one with a
        scope what is beyond it.

        The same event, with the same id: a receiver that remembers ids takes it
        for one that it has. What waits to be sent is left as it is; what is
        finished waits again in its old place, and is counted anew. One short
        write transaction; two calls at once make one delivery.

        Args:
            id: The event's, `evt_…`.
            endpoint: The endpoint's, `ep_…`. While it is disabled, the delivery is held.

        Returns:
            The delivery, which waits now.

        Raises:
            NotFound: There is no such event, or none that may reach the endpoint, or no such endpoint.
        """
        asked.check_event_id(id)
        asked.check_endpoint_id(endpoint)
        number = replay.replay(self._database, id, endpoint_id=endpoint, now=self._clock.now())
        self._due()
        return _delivery(self._database, number)

    @on_database
    def replay_all(
        self,
        *,
        endpoint: str,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        again: bool = False,
        as_of: datetime | None = None,
        progress: Report | None = None,
    ) -> Progress:
        """
        Send an endpoint what it has never been given, and what it has not taken; with *again* what it has taken too.

        Without what the endpoint may not get, such as another tenant's. In the
        order of the events, in batches, each one short write transaction. Made
        again after it was broken off, it goes on; with *again*, give it the
        first call's *as_of*, or it begins anew. The events of one row come in
        their order; but what the endpoint had been given before keeps its place
        before what is given now.

        Args:
            endpoint: The endpoint's id.
            type: Only events of this type, whether or not it has subscribed; by default those to which it has.
            since, until: Only events that happened at or after the one, and before the other.
            again: Whether to send what was delivered, too.
            as_of: With *again*: only what was delivered by then; by default by now.
            progress: Called after each batch.

        Returns:
            How many events there were.

        Raises:
            NotFound: There is no such endpoint, or it was deleted meanwhile.
            ConfigurationError: An argument is of a kind that cannot be looked for.
        """
        asked.check_endpoint_id(endpoint)
        asked.check_texts(type=type)
        asked.check_times(since=since, until=until, as_of=as_of)
        taken = (as_of or self._clock.now()) if again else None
        pages = replay.replayable(self._database, endpoint, type=type, since=since, until=until, again=taken)

        def give(numbers: builtins.list[int]) -> None:
            now = self._clock.now()
            replay.replay_page(self._database, numbers, endpoint_id=endpoint, again=taken, now=now)
            self._due()

        return _walk(pages, give, progress)


class Deliveries:
    """
    `webhooks.deliveries`. Safe for any thread.

    Args:
        due: Told after a write that has made deliveries due.
    """

    def __init__(self, database: Database, *, clock: Clock, due: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._due = due

    @on_database
    def list(
        self,
        *,
        state: State | None = None,
        event: str | None = None,
        endpoint: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """
        The newest deliveries, newest first. One short read.

        Args:
            state: Only those in this state: `pending`, `delivered`, `dead`, `held`, `cancelled`.
            event: Only those of the event of this id.
            endpoint: Only those for the endpoint of this id.
            type: Only those of events of this type.
            since, until: Only those that were finished at or after the one, and before the other; of those that are
                not finished, which were made then. So `state="dead", since=…` is what was given up since then.
            before: Only those of smaller numbers than this: for the next page, the last delivery's id of this one.
            limit: How many at most.

        Raises:
            ConfigurationError: An argument is of a kind that cannot be looked for.
        """
        wanted = None if state is None else asked.state_of(state)
        asked.check_texts(event=event, endpoint=endpoint, type=type)
        asked.check_times(since=since, until=until)
        asked.check_limit(limit)
        if before is not None:
            asked.check_number(before)
        sought = Sought(
            state=wanted, event=event, endpoint=endpoint, type=type, since=since, until=until, before=before
        )
        with self._database.read() as connection:
            return stored.deliveries(connection, limit, sought=sought)

    @on_database
    def get(self, id: int) -> Delivery:
        """
        The delivery of that number. One short read.

        Raises:
            NotFound: There is none.
        """
        asked.check_number(id)
        return _delivery(self._database, id)

    @on_database
    def attempts(self, id: int) -> builtins.list[Attempt]:
        """
        Every attempt of one delivery, in order, but for those that were removed for their age.

        Raises:
            NotFound: There is no such delivery.
        """
        self.get(id)
        with self._database.read() as connection:
            return stored.attempts(connection, id)

    @on_database
    def retry(self, id: int) -> Delivery:
        """
        Send once more what was given up or cancelled; what waits for a retry is due now.

        It waits again in its old place: behind what is earlier of its row, and
        before what is later, unless that is being sent already. Its attempts
        are counted anew; those on record stay. What waits for its turn, or is
        being sent, is left as it is: twice is the same as once. One short write
        transaction.

        Returns:
            The delivery, which waits now: `held` if its endpoint is disabled.

        Raises:
            NotFound: There is no such delivery.
            WrongState: It was delivered (`events.replay()` sends it again), or its endpoint was deleted.
        """
        asked.check_number(id)
        reopen.retry(self._database, id, now=self._clock.now())
        self._due()
        return _delivery(self._database, id)

    @on_database
    def retry_all(
        self,
        *,
        endpoint: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Report | None = None,
    ) -> Progress:
        """
        As `retry()`, for every dead letter that there is now.

        In the order of their numbers, in batches, each one short write
        transaction. Made again after it was broken off, it goes on with those
        that are dead still. One that dies again meanwhile is not taken twice.

        Args:
            endpoint: Only those for the endpoint of this id.
            type: Only those of events of this type.
            since, until: Only those that were given up at or after the one, and before the other.
            progress: Called after each batch.

        Returns:
            How many there were.

        Raises:
            ConfigurationError: An argument is of a kind that cannot be looked for.
        """
        asked.check_texts(endpoint=endpoint, type=type)
        asked.check_times(since=since, until=until)
        dead = Sought(
            state=DeliveryState.DEAD,
            endpoint=endpoint,
            type=type,
            since=since,
            until=until,
            ended_by=self._clock.now(),
        )

        def retry(numbers: builtins.list[int]) -> None:
            reopen.retry_page(self._database, numbers, now=self._clock.now())
            self._due()

        return _walk(reopen.retriable(self._database, dead), retry, progress)

    @on_database
    def cancel(self, id: int) -> Delivery:
        """
        Send it no more: what waits, is held, or was given up. What waits behind it of its row goes on.

        One that is being sent is not called back: the request may arrive, and
        what comes of it is not recorded. Twice is the same as once. One short
        write transaction.

        Raises:
            NotFound: There is no such delivery.
            WrongState: It was delivered.
        """
        asked.check_number(id)
        reopen.cancel(self._database, id, now=self._clock.now())
        self._due()
        return _delivery(self._database, id)

    @on_database
    def cancel_all(
        self,
        *,
        state: Unfinished,
        endpoint: str | None = None,
        type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Report | None = None,
    ) -> Progress:
        """
        As `cancel()`, for every delivery in one state that there is now.

        In the order of their numbers, in batches, each one short write
        transaction. Made again after it was broken off, it goes on.

        Args:
            state: `pending`, `held` or `dead`.
            endpoint, type: As for `retry_all()`.
            since, until: Only those that were made (dead ones: given up) at or after the one, and before the other.
            progress: Called after each batch.

        Returns:
            How many there were.

        Raises:
            ConfigurationError: An argument is of a kind that cannot be looked for.
        """
        wanted = asked.state_of(state, _UNTAKEN)
        asked.check_texts(endpoint=endpoint, type=type)
        asked.check_times(since=since, until=until)
        sought = Sought(state=wanted, endpoint=endpoint, type=type, since=since, until=until)

        def cancel(numbers: builtins.list[int]) -> None:
            reopen.cancel_page(self._database, numbers, dead=wanted is DeliveryState.DEAD, now=self._clock.now())
            self._due()

        return _walk(reopen.cancellable(self._database, sought), cancel, progress)


def _delivery(database: Database, number: int) -> Delivery:
    with database.read() as connection:
        delivery = stored.delivery(connection, number)
    if delivery is None:
        message = f"no delivery has the number {number!r}; webhooks.deliveries.list() shows the newest"
        raise NotFound(message)
    return delivery


def _walk(pages: Pages, act: Callable[[builtins.list[int]], None], progress: Report | None) -> Progress:
    """Do something with each page in turn, and say so."""
    so_far = Progress(0, pages.total)
    for numbers in pages:
        act(numbers)
        so_far = Progress(so_far.done + len(numbers), pages.total)
        if progress is not None:
            progress(so_far)
    return so_far
