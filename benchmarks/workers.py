"""A process for each variant, and how the driver steps them."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from benchmarks.databases import NewDatabase
from benchmarks.figures import Times
from benchmarks.phases import Phase
from benchmarks.variants import Variant, prepare

#: A fresh interpreter: a fork would have imported already what a variant must do without.
_FRESH = multiprocessing.get_context("spawn")


class Worker:
    """A workload in a process of its own: its methods are those of `workload.Workload`."""

    def __init__(self, variant: Variant, url: str) -> None:
        self._pipe, theirs = _FRESH.Pipe()
        self._process = _FRESH.Process(target=_serve, args=(theirs, variant, url), daemon=True)
        self._process.start()
        theirs.close()

    def warm_up(self) -> None:
        self._call("warm_up")

    def begin(self, phase: Phase) -> None:
        self._call("begin", phase)

    def step(self, phase: Phase, *, size: int, transactions: int = 1) -> Times:
        times: Times = self._call("step", phase, size=size, transactions=transactions)
        return times

    def recorded(self) -> int:
        return int(self._call("recorded"))

    def end(self) -> None:
        self._pipe.close()
        self._process.join()

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Raises EOFError if the process has ended; why, it has printed."""
        self._pipe.send((name, arguments, options))
        return self._pipe.recv()


def _serve(pipe: Connection, variant: Variant, url: str) -> None:
    """The process: do what the driver says until it hangs up."""
    prepare(variant)
    from benchmarks.workload import Workload

    workload = Workload(variant, url)
    while True:
        try:
            name, arguments, options = pipe.recv()
        except EOFError:
            return
        pipe.send(getattr(workload, name)(*arguments, **options))


Workers: TypeAlias = Mapping[Variant, Worker]


@contextmanager
def workers(variants: Iterable[Variant], new_database: NewDatabase) -> Iterator[Workers]:
    """Workers that have warmed up, each on a database of its own."""
    with ExitStack() as stack:
        started: dict[Variant, Worker] = {}
        for variant in variants:
            started[variant] = worker = Worker(variant, new_database())
            stack.callback(worker.end)
        for worker in started.values():
            worker.warm_up()
        yield started


def in_turns(
    workers: Workers, phases: Mapping[Variant, Phase], *, steps: int, size: int, transactions: int = 1
) -> dict[Variant, Times]:
    """
    The times of some equal steps of each worker.

    They take turns, and in each turn the order is random: no worker runs while
    another does, and none is always the one after the slowest.
    """
    for variant, worker in workers.items():
        worker.begin(phases[variant])
    times = dict.fromkeys(workers, Times())
    for _ in range(steps):
        for variant in random.sample(list(workers), len(workers)):
            times[variant] += workers[variant].step(phases[variant], size=size, transactions=transactions)
    return times
