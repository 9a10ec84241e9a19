"""An application that goes on committing whatever happens to its database, and the account of what it has committed."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from sqla_webhooks import WebhooksError
from support.receiver import PATIENCE, Received, Receiver
from support.shop import Product

#: Seconds between the transactions of one thread; and after one that has failed.
_PACE, _REST = 0.01, 0.1

#: Of each thread the numbers of its transactions, in their order.
Account = dict[str, list[int]]


class Application:
    """
    Threads that commit one transaction after the other. A context manager, at whose end they end.

    The transaction *n* of a thread adds the product "thread-n", and sets the stock of the thread's own product to *n*.
    So what has committed is seen in the first, and whether it is told of in order by the second.
    """

    def __init__(self, sessions: sessionmaker[Session], *, threads: int = 2) -> None:
        self._sessions = sessions
        self._over = threading.Event()
        self._moved = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(str(one),)) for one in range(threads)]
        #: Transactions that have failed, and that have not.
        self.failed = self.committed = 0

    def wait_for(self, *, committed: int = 0, failed: int = 0) -> None:
        """Until so many more transactions have committed, and so many more have failed."""
        with self._moved:
            committed, failed = committed + self.committed, failed + self.failed
            assert self._moved.wait_for(lambda: self.committed >= committed and self.failed >= failed, PATIENCE), (
                f"{self.committed} committed, {self.failed} failed"
            )

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str) -> None:
        number = 0
        while not self._over.wait(_PACE):
            number += 1
            try:
                with self._sessions.begin() as session:
                    session.add(Product(sku=f"{name}-{number}"))
                    session.merge(Product(sku=name, stock=number))
            except (SQLAlchemyError, WebhooksError):  # the database is away, or what else the test has thought of
                self._count(failed=1)
                self._over.wait(_REST)
            else:
                self._count(committed=1)

    def _count(self, *, committed: int = 0, failed: int = 0) -> None:
        with self._moved:
            self.committed += committed
            self.failed += failed
            self._moved.notify_all()


def committed(engine: Engine) -> Account:
    """By the rows themselves: a COMMIT that was not answered may have been done."""
    account: Account = defaultdict(list)
    with engine.connect() as connection:
        for sku in connection.scalars(select(Product.sku).where(Product.sku.contains("-"))):
            thread, _, number = sku.partition("-")
            account[thread].append(int(number))
    return {thread: sorted(numbers) for thread, numbers in account.items()}


def told_of(received: Iterable[Received]) -> tuple[Account, Account]:
    """By the products added, in any order; and by the stocks set, each where it came first."""
    added: Account = defaultdict(list)
    stocks: Account = defaultdict(list)
    for event in {one.id: one.event for one in received}.values():
        thread, _, number = event["resource_id"].partition("-")
        if number:
            added[thread].append(int(number))
        else:
            stocks[thread].append(event["data"]["stock"])
    return {thread: sorted(numbers) for thread, numbers in added.items()}, dict(stocks)


def reconcile(engine: Engine, receiver: Receiver) -> None:
    """
    Wait until all that has committed has come, and see that nothing else has: each once, in order.

    Requests may come twice, as one event under one id; a row never goes back.
    """
    account = committed(engine)
    count = 2 * sum(map(len, account.values()))
    while len(set(receiver.ids)) < count:
        receiver.wait_for(len(receiver.received) + 1)
    assert told_of(receiver.received) == (account, account)
    for thread in account:
        stocks = [one.event["data"]["stock"] for one in receiver.received if one.event["resource_id"] == thread]
        assert stocks == sorted(stocks), f"the row {thread} has gone back"
