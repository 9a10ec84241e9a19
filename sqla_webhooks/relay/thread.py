"""
When a turn of the relay is due: after a commit, a result, a retry's time, or a poll; and `drain()`.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_when_event_set, wait_exponential

from sqla_webhooks.config import Settings
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.delivery.senders import InlineSenders, SenderPool, Senders
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.relay.turn import Relay, Turn

logger = logging.getLogger(__name__)

NAME = "sqla_webhooks relay"

#: Seconds that the end of the interpreter waits for what is in flight.
AT_EXIT = 2.0

#: Seconds between looks of `drain()` while it waits for something it does not do itself.
_GLANCE = 0.05

#: Seconds that a fork waits for a turn to end.
_BEFORE_FORK = 5.0

# Seconds after the 1st, 2nd, … failure of the database in a row.
_WAIT_FOR_DATABASE = wait_exponential(multiplier=0.2, max=30)


@dataclass(frozen=True, slots=True)
class Drained:
    """What `drain()` did."""

    #: Events made public.
    events: int
    #: Requests made.
    attempts: int
    #: Whether nothing was left that was due; False when the timeout ended it.
    complete: bool


class _Life:
    """One run of the thread, from its start to its end."""

    def __init__(self, pool: SenderPool) -> None:
        self.pool = pool
        self.stopping = threading.Event()
        #: On the monotonic clock: until when the end may wait for requests in flight.
        self.deadline = float("inf")
        self.thread: threading.Thread | None = None


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
        #: Held for a turn by the thread, and by `drain()` for all of its turns.
        self._turns = threading.Lock()
        #: The thread that holds it.
        self._turner: int | None = None
        #: Whether it is held for a fork.
        self._paused = False
        #: Held while the thread is started or stopped.
        self._changing = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the thread runs in this process, and has not been told to stop."""
        life = self._life
        if self._pid != os.getpid() or life is None or life.thread is None:
            return False
        return life.thread.is_alive() and not life.stopping.is_set()

    # ------------------------------------------------------------------ from the application's threads

    def wake(self) -> None:
        """
        A transaction that wrote to the outbox has ended.

        In the application's thread, right after its commit: sets a flag, and
        starts the thread in a process that was forked from the one that did.
        """
        if self._window_opened is None:
            self._window_opened = self._clock.monotonic()
        self._bell.set()
        if self._wanted and not self.running:
            try:
                self.start()
            except RuntimeError as error:  # no thread can be had, or the interpreter is ending; the commit stands
                logger.warning("the relay's thread could not be started: %s", error)

    def ring(self) -> None:
        """Something may be due: look at once, without a batch window."""
        self._bell.set()

    def start(self) -> None:
        """Start the thread. Does nothing if it runs."""
        if self._pid != os.getpid():
            self._after_fork()
        with self._changing:
            self._wanted = True
            if self.running:
                return
            self._hook()
            pool = SenderPool(
                self._make_sender, size=self._settings.concurrency, clock=self._clock, on_result=self.ring
            )
            life = self._life = _Life(pool)
            life.thread = threading.Thread(target=self._run, args=(life,), name=NAME, daemon=True)
            life.thread.start()

    def stop(self, timeout: float) -> bool:
        """
        Stop the thread, which first records what is in flight.

        Args:
            timeout: Seconds to wait for that. A request that takes longer is
                recorded by nobody, and sent again when its lease has ended.

        Returns:
            Whether the thread has ended.
        """
        with self._changing:
            self._wanted = False
            atexit.unregister(self._at_exit)
            life = self._life
            if self._pid != os.getpid() or life is None or life.thread is None:
                return True
            life.deadline = self._clock.monotonic() + timeout
            life.stopping.set()
            self._bell.set()
        if life.thread is threading.current_thread():
            return False  # a receiver of a signal asked: the thread ends after this turn
        life.thread.join(timeout)
        return not life.thread.is_alive()

    def drain(self, timeout: float | None) -> Drained:
        """
        Relay in the caller's thread until nothing is due.

        The relay's own thread, if there is one, stands still meanwhile. See
        `Webhooks.drain`.
        """
        if self._pid != os.getpid():
            self._after_fork()
        if self._turner == threading.get_ident():
            message = (
                "drain() was called by an enricher or a receiver of a signal, so by the relay itself: leave it out"
            )
            raise ConfigurationError(message)
        deadline = float("inf") if timeout is None else self._clock.monotonic() + timeout
        # All that one claim takes must be sent before its lease ends, one after the other; a request that stalls
        # may take twice its timeout.
        room = max(1, int(self._settings.lease // (2 * self._settings.timeout)))
        senders = InlineSenders(self._make_sender, free=room)
        events = attempts = 0
        with self._turning():
            try:
                while True:
                    turn = self._relay.run_once(senders)
                    events, attempts = events + turn.events, attempts + turn.sent
                    if not turn.busy and not self._waits_for_others(turn):
                        return Drained(events, attempts, complete=True)
                    if self._clock.monotonic() >= deadline:
                        return Drained(events, attempts, complete=False)
            finally:
                senders.close()

    # ------------------------------------------------------------------ in the relay's thread

    def _run(self, life: _Life) -> None:
        backlog = False
        while not life.stopping.is_set():
            taking = backlog or self._window_over()
            turn = self._carefully(life, partial(self._turn, life, taking=taking))
            backlog = turn.backlog
            if not turn.busy:
                self._clock.wait(self._bell, self._patience())
                self._bell.clear()
        self._end(life)

    def _turn(self, life: _Life, *, taking: bool) -> Turn:
        with self._turning():
            if life.stopping.is_set():  # while it waited for its turn
                return Turn()
            return self._relay.run_once(life.pool, taking=taking)

    @contextmanager
    def _turning(self) -> Iterator[None]:
        """The relay to oneself: `Relay` is for one thread at a time."""
        with self._turns:
            self._turner = threading.get_ident()
            try:
                yield
            finally:
                self._turner = None

    def _end(self, life: _Life) -> None:
        """Record what is in flight, as long as `stop()` waits, and let another relay lead."""
        while (life.pool.in_flight or self._relay.unrecorded) and self._clock.monotonic() < life.deadline:
            self._clock.wait(self._bell, _GLANCE)
            self._bell.clear()
            self._carefully(life, partial(self._record, life.pool))
        life.pool.close(deadline=life.deadline)
        self._carefully(life, self._step_down)

    def _record(self, senders: Senders) -> Turn:
        with self._turning():
            return Turn(recorded=self._relay.record(senders))

    def _step_down(self) -> Turn:
        with self._turning():
            self._relay.step_down()
        return Turn()

    def _carefully(self, life: _Life, act: Callable[[], Turn]) -> Turn:
        """
        *act*, again and again with longer and longer waits, until it succeeds or the thread is stopped.

        Whatever it raises: the database is away, is locked, has lost its
        tables. A relay that died of it would stay dead.
        """
        retrying = Retrying(
            wait=_WAIT_FOR_DATABASE,
            # Of whatever kind: a receiver may raise asyncio's CancelledError, which is no Exception.
            retry=retry_if_exception_type(BaseException),
            stop=stop_when_event_set(life.stopping),
            sleep=lambda seconds: self._sleep(life, seconds),
            before_sleep=_log_failure,
            retry_error_callback=_give_up,
        )
        return retrying(act)

    def _sleep(self, life: _Life, seconds: float) -> None:
        self._clock.wait(life.stopping, seconds)

    def _window_over(self) -> bool:
        """Whether to look at the outbox: not while a batch window is open. Closes one that is over."""
        opened = self._window_opened
        if opened is None:
            return True
        if self._clock.monotonic() - opened < self._settings.batch_window:
            return False
        self._window_opened = None
        return True

    def _patience(self) -> float:
        """Seconds to wait if nobody rings."""
        waits = [self._settings.poll_interval]
        if (opened := self._window_opened) is not None:
            waits.append(opened + self._settings.batch_window - self._clock.monotonic())
        if (due := self._relay.next_retry_at) is not None:
            seconds = (due - self._clock.now()).total_seconds()
            waits.append(seconds if seconds > 0 else self._settings.poll_interval)
        return max(0.0, min(waits))

    def _waits_for_others(self, turn: Turn) -> bool:
        """
        In `drain()`: wait a moment for what is not ours to do, if there is any.

        Requests that the relay's thread had in flight when it was made to
        stand still; outbox rows that another process is about to relay.
        """
        pool = self._life.pool if self._life is not None else None
        if pool is not None and pool.in_flight:
            self._clock.wait(self._bell, _GLANCE)
            self._bell.clear()
            self._relay.record(pool)
            return True
        if turn.led_elsewhere:
            self._clock.wait(threading.Event(), _GLANCE)
        return turn.led_elsewhere

    # ------------------------------------------------------------------ the process

    def _hook(self) -> None:
        """Be told of a fork and of the end of the interpreter."""
        atexit.register(self._at_exit)
        if self._hooked or not hasattr(os, "register_at_fork"):
            return
        self._hooked = True
        this = weakref.ref(self)

        def after_in_child() -> None:
            if (thread := this()) is not None:
                thread._after_fork()  # noqa: SLF001  # it is our own

        def before() -> None:
            if (thread := this()) is not None:
                thread._pause()  # noqa: SLF001  # it is our own

        def after_in_parent() -> None:
            if (thread := this()) is not None:
                thread._resume()  # noqa: SLF001  # it is our own

        os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)

    def _pause(self) -> None:
        """
        Before a fork: let no turn be under way.

        A lock of the database driver that the relay held at that instant would
        stay locked in the child for ever.
        """
        self._paused = self._turner != threading.get_ident() and self._turns.acquire(timeout=_BEFORE_FORK)

    def _resume(self) -> None:
        if self._paused:
            self._turns.release()

    def _after_fork(self) -> None:
        """
        In a forked child: no thread runs here, and locks may be held for ever.

        The connections in the engine's pool are the parent's; the child lets
        go of them without closing them.
        """
        self._begin_in_this_process()
        self._relay.forget()
        self._database.engine.dispose(close=False)

    def _at_exit(self) -> None:
        self.stop(AT_EXIT)


def _log_failure(state: RetryCallState) -> None:
    """The first time with the whole traceback, then in a line."""
    error = state.outcome.exception() if state.outcome is not None else None
    logger.error(
        "the relay could not go on and tries again in %.1f s: %s",
        *(state.upcoming_sleep, error),
        exc_info=error if state.attempt_number == 1 else None,
    )


def _give_up(state: RetryCallState) -> Turn:
    """The thread is stopped while the database fails: what is left is found by the next process."""
    error = state.outcome.exception() if state.outcome is not None else None
    if error is not None:
        logger.warning("the relay stops while it cannot go on: %s", error)
    return Turn()
