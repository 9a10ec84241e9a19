"""One step of the scenario, played: commit, and watch what leaves and what arrives."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from examples.shop.account import Account
from examples.shop.models import Customer
from examples.shop.process import Deadline, DemoError, ReceiverProcess
from examples.shop.receiver import Receipt
from examples.shop.scenario import Row, Step
from examples.shop.tally import Books
from sqla_webhooks import Attempt, Delivery, Webhooks

#: Seconds to listen for what should not come: several times what an event takes.
SILENCE = 0.5


class Recorded:
    """The deliveries that the library has recorded as made: a receiver of its signal `delivered`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Delivery] = queue.SimpleQueue()

    def __call__(self, _webhooks: Webhooks, *, delivery: Delivery, attempt: Attempt) -> None:  # noqa: ARG002  # the signal's arguments
        """In the relay's thread: hand over to the demo's."""
        self._queue.put(delivery)

    def next(self, timeout: float) -> Delivery | None:
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None


@dataclass(frozen=True, slots=True)
class Played:
    """What a step came to."""

    step: Step
    rows: Sequence[Row]
    receipts: Sequence[Receipt]


@dataclass(frozen=True, slots=True)
class Stage:
    """All that a step needs."""

    sessions: sessionmaker[Session]
    webhooks: Webhooks
    receiver: ReceiverProcess
    recorded: Recorded
    account: Account
    deadline: Deadline

    def play(self, number: int, step: Step) -> Played:
        """
        Play one step and print its account.

        Raises:
            DemoError: Something did not come in time.
        """
        with self.sessions() as session:
            rows = step.act(session)
            ended_at = time.time_ns()
            if step.commits:
                session.commit()
            else:
                session.rollback()
        self.account.step(number, step, rows)
        if not step.commits:
            return Played(step, rows, self._listen(ended_at))
        receipts = self._receipts(len(rows), since=ended_at)
        self._recorded(len(rows))
        for receipt in receipts:
            if receipt.type == step.show:
                self.account.payload(receipt.body, remark=step.remark)
        return Played(step, rows, receipts)

    def close_books(self, played: Sequence[Played]) -> Books:
        """Everybody's books, once nothing is left to be sent."""
        left = self.webhooks.drain(timeout=self.deadline.left())
        receipts = [receipt for one in played for receipt in one.receipts]
        while (stray := self.receiver.next(timeout=0)) is not None:
            receipts.append(stray)
        with self.sessions() as session:
            hashes = session.scalars(select(Customer.password_hash)).all()
        return Books(
            committed=[row for one in played if one.step.commits for row in one.rows],
            rolled_back=[row for one in played if not one.step.commits for row in one.rows],
            password_hashes=hashes,
            events=self.webhooks.events.list(),
            deliveries=self.webhooks.deliveries.list(),
            left=left,
            receipts=receipts,
        )

    def _receipts(self, wanted: int, *, since: int) -> list[Receipt]:
        """The requests that came, once so many of them were accepted."""
        receipts: list[Receipt] = []
        while (accepted := sum(one.accepted for one in receipts)) < wanted:
            receipt = self.receiver.next(self.deadline.left())
            if receipt is None:
                message = f"time is up: of {wanted} events, the receiver has accepted {accepted}"
                raise DemoError(message)
            self.account.arrived(receipt, since=since)
            if not receipt.verified:
                message = f"the receiver could not verify the signature of {receipt.id}"
                raise DemoError(message)
            receipts.append(receipt)
        return receipts

    def _recorded(self, wanted: int) -> None:
        """Wait until the library has written down so many deliveries; tell of those that took a retry."""
        for missing in range(wanted, 0, -1):
            delivery = self.recorded.next(self.deadline.left())
            if delivery is None:
                message = f"time is up: {missing} of {wanted} deliveries were not recorded"
                raise DemoError(message)
            if delivery.attempts > 1:
                self.account.attempts(self.webhooks.deliveries.attempts(delivery.id))

    def _listen(self, since: int) -> list[Receipt]:
        """What arrives though nothing should; the final count finds it."""
        receipt = self.receiver.next(SILENCE)
        if receipt is None:
            self.account.silence(SILENCE)
            return []
        self.account.arrived(receipt, since=since)
        return [receipt]
