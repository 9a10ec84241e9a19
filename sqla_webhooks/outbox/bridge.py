"""
The way to an async driver for code that is not async: SQLAlchemy's own greenlets, on an event loop of ours.

Connections of such a driver belong to the loop in which they were made. So each
call from outside has a loop and a pool of its own, for as long as it takes:
the relay's thread for its life, `drain()` for all of its turns.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from sqlalchemy import Engine, Pool
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.util import greenlet_spawn

T = TypeVar("T")


class Bridge:
    """
    Runs work that uses an async engine. Safe for any thread.

    Args:
        engine: The application's.
        shared: Whether its connection is the database, so that there can be no other. Only a driver that any loop may
            use has that: aiosqlite.
    """

    def __init__(self, engine: Engine, *, shared: bool) -> None:
        self._application = engine
        self._shared = shared
        #: The engine of each thread that is inside. What a forked child finds of its parent's threads stays here,
        #: since whatever it let go of would be closed under the parent.
        self._inside: dict[tuple[int, int], Engine] = {}

    @property
    def engine(self) -> Engine:
        """The application's engine with the pool of the loop we are in. Inside `run()` only."""
        return self._inside[_here()]

    def run(self, work: Callable[[], T]) -> T:
        """
        What *work* returns, or raises; it may use `engine` as if the driver were a plain one.

        In the calling thread; where an event loop runs there already, in
        another, for which it waits.
        """
        if _here() in self._inside:
            return work()
        if _loop_runs_here():
            return _aside(lambda: self._in_own_loop(work))
        return self._in_own_loop(work)

    def _in_own_loop(self, work: Callable[[], T]) -> T:
        # Given a factory, the runner leaves the thread's own current loop alone; and `Runner.run()` would keep
        # KeyboardInterrupt from whoever calls `drain()` until the next statement.
        runner = asyncio.Runner(loop_factory=_new_loop)
        try:
            result: T = runner.get_loop().run_until_complete(greenlet_spawn(self._with_engine, work))
        finally:
            with suppress(RuntimeError):  # at the interpreter's end no thread can be had to wait for the loop's own
                runner.close()
        return result

    def _with_engine(self, work: Callable[[], T]) -> T:
        engine = self._application if self._shared else _OwnPool(self._application)
        self._inside[_here()] = engine
        try:
            return work()
        finally:
            # Nothing is found by a child that was forked out of *work*: the pool is the parent's.
            if self._inside.pop(_here(), None) is engine and not self._shared:
                engine.pool.dispose()


class _OwnPool(OptionEngine):
    """The application's engine, with all its options and listeners, on a pool of ours that is made like its own."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, {})
        self._own = engine.pool.recreate()

    @property
    def pool(self) -> Pool:  # type: ignore[override]  # a property in SQLAlchemy too, which tells mypy otherwise
        return self._own


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop that poll() drives, where there is such: what epoll watches, a forked child would share."""
    poll = getattr(selectors, "PollSelector", None)
    loop = asyncio.new_event_loop() if poll is None else asyncio.SelectorEventLoop(poll())
    loop.slow_callback_duration = float("inf")  # it is blocked on purpose; asyncio's debug mode would complain
    return loop


def _aside(work: Callable[[], T]) -> T:
    """What *work* returns, or raises, in a thread of its own."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001  # the caller gets it, whatever it is
            outcome.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="sqla_webhooks call", daemon=True)
    thread.start()
    thread.join()
    return outcome.result()
