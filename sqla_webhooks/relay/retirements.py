"""What follows for endpoints from what was recorded of them: they are told of, or disabled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqla_webhooks.delivery.announce import Announcer
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.events import Event
from sqla_webhooks.outbox import endpoints
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.health import Judged
from sqla_webhooks.outbox.publish import Publication
from sqla_webhooks.outbox.record import Recorded
from sqla_webhooks.outbox.retire import FAILING, GONE, Busy, Retirement, retire


class Retirements:
    """
    The endpoints of which one relay has something to tell, or which it has to disable.

    Used by one thread at a time: the relay's, or that of `drain()`. What is
    lost with a process is found again: an endpoint that is gone says so again,
    and one that fails goes on failing.

    Args:
        disable_after: Seconds of nothing but failure after which an endpoint is disabled; None for never.
        render: Makes of an event the body that is sent.
    """

    def __init__(
        self,
        database: Database,
        publication: Publication,
        *,
        disable_after: float | None,
        render: Callable[[Event], bytes],
        announcer: Announcer,
    ) -> None:
        self._database = database
        self._publication = publication
        self._disable_after = disable_after
        self._render = render
        self._announcer = announcer
        self._told: list[Judged] = []
        self._retired: dict[int, Retirement] = {}

    def add(self, recorded: Recorded) -> None:
        """Note what follows from *recorded*."""
        self._told += [one for one in recorded.judged if one.warned or one.recovered]
        for one in recorded.judged:
            if one.given_up and self._disable_after is not None:
                self._retired[one.endpoint] = Retirement(one.endpoint, FAILING, disable_after=self._disable_after)
        for verdict in recorded.verdicts:
            if verdict.gone:
                self._retired[verdict.claim.endpoint] = Retirement(verdict.claim.endpoint, GONE, url=verdict.claim.url)

    def go_on(self, *, now: datetime) -> None:
        """
        Tell, and disable; what another keeps locked is left for the next time.

        Raises:
            SQLAlchemyError: The database failed; the next call tries again.
        """
        while self._told:
            judged = self._told[-1]
            endpoint = self._endpoint(judged.endpoint)
            self._told.pop()
            if endpoint is not None:
                (self._announcer.recovered if judged.recovered else self._announcer.failing)(endpoint)
        for number, retirement in list(self._retired.items()):
            try:
                disabled = retire(
                    self._database, retirement, publication=self._publication, render=self._render, now=now
                )
            except Busy:
                continue
            del self._retired[number]
            if disabled is not None:
                self._announcer.disabled(disabled)

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._told.clear()
        self._retired.clear()

    def _endpoint(self, number: int) -> Endpoint | None:
        with self._database.read() as connection:
            return endpoints.find_number(connection, number)
