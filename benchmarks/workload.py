"""
The writes, timed: what runs in a worker.

To be imported only after `variants.prepare`.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, islice
from typing import Any

from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import sessionmaker

from benchmarks import variants
from benchmarks.figures import Times
from benchmarks.model import Base, Order, changed, new
from benchmarks.phases import LIFE, Phase
from benchmarks.variants import Variant


class Workload:
    """
    Orders written as an application writes them: transactions of some objects, each in a session of its own.

    Args:
        url: An empty database.
    """

    def __init__(self, variant: Variant, url: str) -> None:
        warnings.filterwarnings("ignore", message="Dialect sqlite.* does \\*not\\* support Decimal")
        self._variant = variant
        self._engine = create_engine(url)
        self._sessions = sessionmaker(self._engine)
        variants.install(variant, self._sessions)
        Base.metadata.create_all(self._engine)
        self._numbers = count(1)
        self._ids: Sequence[int] = ()

    def warm_up(self) -> None:
        """
        Fill what is filled once: caches of statements, of mappers, of plans.

        What is there after that is frozen: a single collection of everything
        takes a tenth of a phase, and would hit one variant and not another.
        """
        for phase in LIFE:
            self.begin(phase)
            self.step(phase, size=100, transactions=3)
        gc.collect()
        gc.freeze()

    def begin(self, phase: Phase) -> None:
        """Before the steps of a phase, which go once through all rows that are there."""
        if phase is not Phase.INSERT:
            with self._sessions() as session:
                self._ids = session.scalars(select(Order.id).order_by(Order.id)).all()
        gc.collect()

    def step(self, phase: Phase, *, size: int, transactions: int = 1) -> Times:
        """Write *size* objects in each of some transactions."""
        writes = [self._prepared(phase, size) for _ in range(transactions)]
        wall, cpu = time.perf_counter(), time.process_time()
        for write in writes:
            write()
        return Times(time.perf_counter() - wall, time.process_time() - cpu)

    def recorded(self) -> int:
        """How many changes stand written down, those of the warming up too."""
        return variants.recorded(self._variant, self._engine)

    def _prepared(self, phase: Phase, size: int) -> Callable[[], None]:
        """A transaction, with the values that it writes: to make them up is not what is measured."""
        if phase is Phase.INSERT:
            return partial(self._insert, [new(number) for number in islice(self._numbers, size)])
        first, last = self._ids[0], self._ids[size - 1]
        self._ids = self._ids[size:]
        if phase is Phase.DELETE:
            return partial(self._delete, first, last)
        if phase is Phase.BULK:
            return partial(self._bulk, first, last, changed(next(self._numbers)))
        return partial(self._update, first, last, [changed(number) for number in islice(self._numbers, size)])

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        with self._sessions() as session:
            session.add_all([Order(**values) for values in rows])
            session.commit()

    def _update(self, first: int, last: int, rows: list[dict[str, Any]]) -> None:
        with self._sessions() as session:
            orders = session.scalars(select(Order).where(Order.id.between(first, last)))
            for order, values in zip(orders, rows, strict=True):
                order.status = values["status"]
                order.total = values["total"]
            session.commit()

    def _delete(self, first: int, last: int) -> None:
        with self._sessions() as session:
            for order in session.scalars(select(Order).where(Order.id.between(first, last))):
                session.delete(order)
            session.commit()

    def _bulk(self, first: int, last: int, values: dict[str, Any]) -> None:
        with self._sessions() as session:
            session.execute(update(Order).where(Order.id.between(first, last)).values(values))
            session.commit()
