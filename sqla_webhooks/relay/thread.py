"""
When a turn of the relay is due: after a commit, a result, a retry's time, or a poll.

The thread is a daemon, so that it keeps no interpreter alive; at exit it gets
two seconds to record what is in flight. What it does not get to stays in the
database, where the next process finds it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential

from sqla_webhooks.config import Settings
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.delivery.senders import InlineSenders, SenderPool
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.relay.baton import Baton
from sqla_webhooks.relay.drain import Drained, drain
from sqla_webhooks.relay.turn import Relay, Turn

logger = logging.getLogger(__name__)

T = TypeVar("T")

NAME = "sqla_webhooks relay"

#: Seconds that the end of the interpreter waits for what is in flight.
AT_EXIT = 2.0

#: Seconds between looks of a thread that ends, while requests are in flight.
_GLANCE = 0.05

#: Seconds that a fork waits for a turn to end.
_BEFORE_FORK = 5.0

# Seconds after the 1st, 2nd, … failure of the database in a row.
_WAIT_FOR_DATABASE = wait_exponential(multiplier=0.2, max=30)


class _Life:
    """One run of the thread, from its start to its end."""

    def __init__(self, pool: SenderPool, run: Callable[[_Life], None]) -> None:
        self.pool = pool
        self.thread = threading.Thread(target=run, args=(self,), name=NAME, daemon=True)
        self.stopping = threading.Event()
        #: On the monotonic clock: until when the end may wait for requests in flight.
        self.deadline = float("inf")
        #: Whether it was said that the end came while the database failed.
        self.gave_up = False


class RelayThread:
    """
    The background thread of one installation.

    `wake`, `start`, `stop` and `drain` may be called from any thread.
    """

    def __init__(
        self, relay: Relay, settings: Settings, *, database: Database, make_sender: Callable[[], Sender]
    ) -> None:
        self._relay = relay
        self._settings = settings
        self._clock = settings.clock
        self._database = database
        self._make_sender = make_sender
        self._wanted = False
        self._closed = False
        self._hooked = False
        self._begin_in_this_process()

    def _begin_in_this_process(self) -> None:
        """Everything that a fork would leave broken: locks, and a thread that is not there."""
        self._pid = os.getpid()
        self._life: _Life | None = None
        #: Rung when there may be something to do.
        self._bell = threading.Event()
        #: When a commit opened the batch window that is now open; None if none did.
        self._window_opened: float | None = None
        self._baton = Baton()
        #: Held while the thread is started or stopped.
        self._changing = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the thread runs in this process, and has not been told to stop."""
        life = self._life
        if self._pid != os.getpid() or life is None:
            return False
        return life.thread.is_alive() and not life.stopping.is_set()

    # ------------------------------------------------------------------ from the application's threads

    def wake(self) -> None:
        """
        A transaction that wrote to the outbox has ended: open a batch window, if none is open.

        In the application's thread, right after its commit or rollback. In a
        process that was forked from the one that did, starts the thread.
        """
        if self._window_opened is None:
            self._window_opened = self._clock.monotonic()
        self._bell.set()
        if self._wanted and not self.running:
            try:
                self._start(again=True)
            except RuntimeError as error:  # no thread can be had, or the interpreter is ending; the commit stands
                logger.warning("the relay's thread could not be started: %s", error)

    def ring(self) -> None:
        """Something may be due: look at once, without a batch window."""
        self._bell.set()

    def start(self) -> None:
        """
        Start the thread. Does nothing if it runs, or after `close()`.

        Raises:
            RuntimeError: No thread can be had.
        """
        self._start(again=False)

    def _start(self, *, again: bool) -> None:
        """Start the thread; *again*, only if it was started before, and nobody has stopped it since."""
        if self._pid != os.getpid():
            self._after_fork_in_child()
        with self._changing:
            if self.running or self._closed or (again and not self._wanted):
                return
            pool = SenderPool(
                self._make_sender, size=self._settings.concurrency, clock=self._clock, on_result=self.ring
            )
            life = _Life(pool, self._live)
            self._hook()
            life.thread.start()
            self._life, self._wanted = life, True

    def close(self, timeout: float | None) -> bool:
        """As `stop()`, and for good: a commit that comes late, or `start()` in another thread, does not undo it."""
        self._closed = True
        return self.stop(timeout)

    def stop(self, timeout: float | None) -> bool:
        """
        Stop the thread, which first records what is in flight.

        Args:
            timeout: Seconds to wait for that; None for as long as it takes. A
                request that takes longer is recorded by nobody, and sent again
                when its lease has ended.

        Returns:
            Whether the thread has ended.
        """
        seconds = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        with self._changing:
            self._wanted = False
            atexit.unregister(self._at_exit)
            life = self._life
            if self._pid != os.getpid() or life is None:
                return True
            deadline = self._clock.monotonic() + seconds
            # One that stops it again does not cut short what another waits for.
            life.deadline = max(deadline, life.deadline) if life.stopping.is_set() else deadline
            life.stopping.set()
            self._bell.set()
        if self._baton.is_here:
            return False  # a receiver of a signal asked: the thread ends after this turn, or this `drain()`
        life.thread.join(seconds)
        return not life.thread.is_alive()

    def drain(self, timeout: float | None) -> Drained:
        """
        Relay in the caller's thread until nothing is due.

        The relay's own thread, if there is one, stands still meanwhile. See
        `Webhooks.drain`.
        """
        if self._pid != os.getpid():
            self._after_fork_in_child()
        if self._baton.is_here:
            message = (
                "drain() was called by an enricher or a receiver of a signal, so by the relay itself: leave it out"
            )
            raise ConfigurationError(message)
        deadline = float("inf") if timeout is None else self._clock.monotonic() + timeout
        return self._database.run(partial(self._drain, deadline))

    def _drain(self, deadline: float) -> Drained:
        # All that one claim takes must be sent before its lease ends, one after the other.
        most = max(1, int(self._settings.lease // self._settings.longest_request))
        with (
            closing(InlineSenders(self._make_sender, size=most, clock=self._clock)) as senders,
            self._baton.taken(give_up=lambda: self._clock.monotonic() >= deadline or self._closed) as taken,
        ):
            if not taken:
                return Drained(events=0, attempts=0, complete=False)
            others = self._life.pool if self._life is not None else None
            return drain(
                self._relay,
                senders,
                others=others,
                clock=self._clock,
                deadline=deadline,
                ended=lambda: self._closed,
            )

    # ------------------------------------------------------------------ in the relay's thread

    def _live(self, life: _Life) -> None:
        self._database.run(partial(self._run, life))

    def _run(self, life: _Life) -> None:
        backlog = False
        while not life.stopping.is_set():
            taking = backlog or self._close_window_if_over()
            turn = self._until_it_succeeds(life, partial(self._turn, life, taking=taking), instead=Turn())
            backlog = turn.backlog
            if not turn.busy:
                self._clock.wait(self._bell, self._seconds_to_wait(turn))
                self._bell.clear()
        self._end(life)

    def _turn(self, life: _Life, *, taking: bool) -> Turn:
        with self._baton.taken(give_up=life.stopping.is_set) as taken:
            if not taken or life.stopping.is_set():
                return Turn()
            return self._relay.run_once(life.pool, taking=taking)

    def _end(self, life: _Life) -> None:
        """Record what is in flight, as long as `stop()` waits, and let another relay lead."""
        while (life.pool.under_way or self._relay.unrecorded) and self._clock.monotonic() < life.deadline:
            self._clock.wait(self._bell, _GLANCE)
            self._bell.clear()
            self._until_it_succeeds(life, partial(self._record, life), instead=None)
        life.pool.close(deadline=life.deadline)
        self._until_it_succeeds(life, self._step_down, instead=None)

    def _record(self, life: _Life) -> None:
        with self._baton.taken(give_up=lambda: self._clock.monotonic() >= life.deadline) as taken:
            if taken:
                self._relay.record(life.pool)

    def _step_down(self) -> None:
        with self._baton.taken(give_up=lambda: True) as taken:
            if taken:  # or a `drain()` is at work, and will step down itself
                self._relay.step_down()

    def _until_it_succeeds(self, life: _Life, act: Callable[[], T], *, instead: T) -> T:
        """
        What *act* returns, tried with longer and longer waits until it succeeds; *instead*, if the thread is stopped.

        Whatever it raises: the database is away, is locked, has lost its
        tables. A relay that died of it would stay dead.
        """

        def give_up(state: RetryCallState) -> T:
            level = logging.DEBUG if life.gave_up else logging.WARNING  # it may try to record again and again
            life.gave_up = True
            logger.log(level, "the relay stops while it cannot go on: %s", _error(state))
            return instead

        retrying = Retrying(
            wait=_WAIT_FOR_DATABASE,
            # Of whatever kind: a receiver may raise asyncio's CancelledError, which is no Exception.
            retry=retry_if_exception_type(BaseException),
            stop=stop_when_event_set(life.stopping),
            sleep=lambda seconds: self._sleep(life, seconds),
            before_sleep=_log_failure,
            retry_error_callback=give_up,
        )
        return retrying(act)

    def _sleep(self, life: _Life, seconds: float) -> None:
        self._clock.wait(life.stopping, seconds)

    def _close_window_if_over(self) -> bool:
        """Whether to look at the outbox: not while a batch window is open."""
        opened = self._window_opened
        if opened is None:
            return True
        if self._clock.monotonic() - opened < self._settings.batch_window:
            return False
        self._window_opened = None
        return True

    def _seconds_to_wait(self, turn: Turn) -> float:
        """If nobody rings: until the next poll, the end of the batch window, or more is due."""
        waits = [self._settings.poll_interval]
        if (opened := self._window_opened) is not None:
            waits.append(opened + self._settings.batch_window - self._clock.monotonic())
        if (due := turn.next_at) is not None:
            waits.append((due - self._clock.now()).total_seconds())
        return max(0.0, min(waits))

    # ------------------------------------------------------------------ the process

    def _hook(self) -> None:
        """Be told of a fork and of the end of the interpreter."""
        atexit.register(self._at_exit)
        if self._hooked or not hasattr(os, "register_at_fork"):
            return
        self._hooked = True
        os.register_at_fork(
            before=_weakly(self._before_fork),
            after_in_parent=_weakly(self._after_fork_in_parent),
            after_in_child=_weakly(self._after_fork_in_child),
        )

    def _before_fork(self) -> None:
        self._baton.pause(_BEFORE_FORK)

    def _after_fork_in_parent(self) -> None:
        self._baton.resume()

    def _after_fork_in_child(self) -> None:
        """
        In a forked child: no thread runs here, and locks may be held for ever.

        The connections in the engine's pool are the parent's; the child lets
        go of them without closing them.
        """
        self._begin_in_this_process()
        self._relay.forget()
        self._database.begin_in_child()

    def _at_exit(self) -> None:
        self.stop(AT_EXIT)


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """*method*, as long as its object lives: a hook for forks cannot be taken back."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _log_failure(state: RetryCallState) -> None:
    """The first time with the whole traceback, then in a line."""
    error = _error(state)
    logger.error(
        "the relay could not go on and tries again in %.1f s: %s",
        *(state.upcoming_sleep, error),
        exc_info=error if state.attempt_number == 1 else None,
    )
