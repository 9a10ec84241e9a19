"""
Who may be in a transaction on a SQLite file: the application whenever it wants, and we when it is not.

SQLite has one writer. A transaction that has read, and comes to write after
another has, fails at once, whatever the busy time-out; and where there is none,
so does a commit while another reads a file with a rollback journal. So our own
transactions, which are short, are made while none of the application's is open
in this process; and one that is about to begin waits until ours is over.

    visit   the application has a connection, or has begun a transaction on it
    turn    a transaction of our own

Both wait for each other, and neither for ever:

- The application waits for a turn as long as that may shut the gate, five seconds for a write. A thread that has a
  connection already does not wait, for that may be what the turn waits for.
- A turn waits for the application for two seconds. What is still there then is known to stay long, and not waited for
  again. What the calling thread has itself is never waited for: it cannot end meanwhile.

A busy application is never without a transaction. So a turn that has waited for
50 ms has newcomers wait, for a fifth of a second at the most. And those who have
waited are let in one after the other, with who comes meanwhile behind them: who
would have come apart shall not get into each other's way because we made them
wait together.

Threads and time alone; what the gate is told, `guard` hears from SQLAlchemy.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import TypeVar

from sqla_webhooks._clock import SystemClock

T = TypeVar("T")

#: Seconds for which the application waits for a transaction of ours at the most: as long as Python's driver waits for a
#: lock unless told otherwise. Ours take milliseconds, but where the disk is slow.
SHUT = 5.0

#: Seconds after which the next of those who have waited is let in, though the last is still there.
APART = 0.02

#: The wait for a turn: for so many seconds, and whether newcomers wait meanwhile.
_WAITS = ((0.05, False), (0.2, True), (1.5, False), (0.2, True))

#: Seconds after which who waits for a turn looks again: nobody tells of what the garbage collector ends.
_LOOK = 0.05


class Visit:
    """A connection of the application's, which comes and goes."""

    __slots__ = ("__weakref__", "long", "noted", "thread")

    def __init__(self) -> None:
        #: Where it has been added: to add it anew each time would take a microsecond.
        self.noted: object = None
        #: That which has it; None if none does.
        self.thread: int | None = None
        #: Whether it has been waited for in vain.
        self.long = False


class _Turn:
    """A transaction of ours."""

    __slots__ = ("long", "thread", "until")

    def __init__(self, thread: int, until: float) -> None:
        self.thread = thread
        #: When the application stops waiting for it.
        self.until = until
        #: Whether another turn has waited for it in vain.
        self.long = False


class Gate:
    """
    The gate of one file, in one process. Safe for any thread.

    Times are real ones: the waits are for threads, and not for instants.

    Args:
        apart: See `APART`.
    """

    def __init__(self, *, apart: float = APART) -> None:
        self._apart = apart
        self._now = SystemClock().monotonic
        self._open_for_good = False
        self.begin_in_this_process()

    def begin_in_this_process(self) -> None:
        """Everything that a fork would leave broken: the lock, and the threads that are not there."""
        #: For all below. Its holder may take it again: the garbage collector may end a visit anywhere.
        self._changed = threading.Condition()
        #: Weak, as a connection that is dropped ends its transaction.
        self._visits: weakref.WeakSet[Visit] = weakref.WeakSet()
        self._turns: list[_Turn] = []
        #: How many turns are waited for.
        self._turns_wanted = 0
        #: How many of the application's threads wait.
        self._waiting = 0
        #: The last of them that was let in, as long as it lives; and when the next is, though it is still there.
        self._let_in: Callable[[], Visit | None] = lambda: None
        self._next_at = 0.0
        #: Until when they do, though it is nobody's turn yet.
        self._shut_until = 0.0
        #: Threads that act for another, which waits for them.
        self._acting_for: dict[int, int] = {}

    def open_for_good(self) -> None:
        """Nobody waits here any more."""
        with self._changed:
            self._open_for_good = True
            self._changed.notify_all()

    # ------------------------------------------------------------------ the application's visits

    def enter(self, visit: Visit) -> None:
        """The calling thread begins something: wait, if it has nothing else and the gate is shut."""
        me = get_ident()
        if visit.thread == me and not visit.long:
            return
        with self._changed:
            if visit.noted is not self._visits:
                self._visits.add(visit)
                visit.noted = self._visits
            if visit.thread is None or visit.long:
                self._wait_to_enter(visit, me)
            visit.thread, visit.long = me, False

    def leave(self, visit: Visit) -> None:
        """It is over. In any thread; does nothing if it was over before."""
        if visit.thread is None:
            return
        with self._changed:
            visit.thread = None
            if self._waiting or self._turns_wanted:
                self._changed.notify_all()

    def _wait_to_enter(self, visit: Visit, me: int) -> None:
        if self._shut_for(me) <= 0 and not self._waiting:
            return
        if any(one.thread == me for one in self._visits if one is not visit):
            return
        end = self._now() + SHUT
        self._waiting += 1
        try:
            while (seconds := min(max(self._shut_for(me), self._behind_another()), end - self._now())) > 0:
                self._changed.wait(seconds)
            self._let_in, self._next_at = weakref.ref(visit), self._now() + self._apart
        finally:
            self._waiting -= 1

    def _behind_another(self) -> float:
        """Seconds for which one who has waited lets another go before."""
        before = self._let_in()
        return 0.0 if before is None or before.thread is None else self._next_at - self._now()

    def _shut_for(self, me: int) -> float:
        """Seconds for which thread *me* must wait, if nothing ends before."""
        if self._open_for_good or not (self._turns or self._shut_until):
            return 0.0
        return max(self._shut_until, *(turn.until for turn in self._turns if turn.thread != me), 0.0) - self._now()

    # ------------------------------------------------------------------ our turns

    @contextmanager
    def turn(self, *, shut: float = SHUT) -> Iterator[None]:
        """
        For a whole transaction of ours; within another turn of this thread too.

        Args:
            shut: Seconds for which the application waits for its end at the most.
        """
        turn = self._begin_turn(shut)
        try:
            yield
        finally:
            with self._changed:
                if turn in self._turns:  # but in a child that was forked out of it
                    self._turns.remove(turn)
                self._changed.notify_all()

    def acting_for(self, caller: int, work: Callable[[], T]) -> Callable[[], T]:
        """*work*, for which the thread *caller* waits, in whichever thread it is done."""
        return partial(self._act, caller, work)

    def _act(self, caller: int, work: Callable[[], T]) -> T:
        if (me := get_ident()) == caller:
            return work()
        self._acting_for[me] = caller
        try:
            return work()
        finally:
            self._acting_for.pop(me, None)

    def _begin_turn(self, shut: float) -> _Turn:
        me = get_ident()
        own = {me, self._acting_for.get(me, me)}
        with self._changed:
            self._turns_wanted += 1
            try:
                if not any(self._wait(own, seconds, shut=is_shut) for seconds, is_shut in _WAITS):
                    for one in self._in_the_way(own):
                        one.long = True
            finally:
                self._turns_wanted -= 1
            turn = _Turn(me, self._now() + shut)
            self._turns.append(turn)
            return turn

    def _wait(self, own: set[int], seconds: float, *, shut: bool) -> bool:
        """
        Whether nothing is in the way of the threads *own*, before so many seconds are over.

        Those who waited for the last turn are let in before the next, unless
        the gate is shut.
        """
        end = self._now() + seconds
        if shut:
            self._shut_until = end
        try:
            while self._in_the_way(own) or (self._waiting and not shut):
                if (left := end - self._now()) <= 0:
                    return False
                self._changed.wait(min(left, _LOOK))
            return True
        finally:
            if shut:
                self._shut_until = 0.0
                self._changed.notify_all()

    def _in_the_way(self, own: set[int]) -> list[Visit | _Turn]:
        every: list[Visit | _Turn] = [*self._visits, *self._turns]
        return [one for one in every if one.thread is not None and one.thread not in own and not one.long]
