"""
When a failed delivery is tried again: a pure function of what is recorded.

The strategies are tenacity's, given by the user or these defaults. tenacity
keeps its state in the memory of a running call; ours is in the database, so
each decision gives the strategies a fresh `RetryCallState` filled with the
*persisted* attempt count and the time since the first attempt. A wait becomes
the column `next_attempt_at`, never a sleeping thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_chain,
    wait_fixed,
    wait_random,
)

from sqla_webhooks.deliveries import Answer
from sqla_webhooks.errors import DeliveryError

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A tenacity `wait_*`: given the state, the seconds until the next attempt.
WaitStrategy: TypeAlias = Callable[[RetryCallState], float]
#: A tenacity `stop_*`: given the state, whether to give up.
StopStrategy: TypeAlias = Callable[[RetryCallState], bool]
#: A tenacity `retry_*`: given the state, whether the outcome is worth a retry.
RetryStrategy: TypeAlias = Callable[[RetryCallState], bool]

#: Seconds after the 1st, 2nd, … failed attempt: the example schedule of
#: Standard Webhooks 1.0, "Deliverability and reliability". 10 attempts, 75.6 h.
STANDARD_SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

#: Ten years: what is more was meant as something else, such as milliseconds.
LONGEST_WAIT = 10 * 365 * 86400

#: A day.
LONGEST_RETRY_AFTER = 86400.0

#: Jitter only ever adds, so that no attempt comes earlier than the schedule says.
JITTER = 0.1


def wait_standard() -> WaitStrategy:
    """The schedule of Standard Webhooks, each wait up to 10 % longer at random."""
    return wait_chain(*(wait_fixed(seconds) + wait_random(0, seconds * JITTER) for seconds in STANDARD_SCHEDULE))


def stop_standard() -> StopStrategy:
    """Give up after the tenth attempt."""
    return stop_after_attempt(len(STANDARD_SCHEDULE) + 1)


def retry_standard() -> RetryStrategy:
    """Anything but a 2xx answer is worth another attempt."""
    return retry_if_exception_type(DeliveryError) | retry_if_result(lambda answer: not answer.ok)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    The three strategies, evaluated over persisted numbers.

    Called in the relay's thread, outside any transaction.
    """

    wait: WaitStrategy
    stop: StopStrategy
    retry: RetryStrategy
    #: Seconds; an endpoint that asks to be left alone for longer is not.
    longest_retry_after: float = LONGEST_RETRY_AFTER

    def next_delay(
        self, attempt: int, elapsed: float, *, outcome: Answer | DeliveryError, at_least: float = 0.0
    ) -> float | None:
        """
        The seconds until the next attempt, or None to give up.

        A strategy of the user's that raises, or answers nonsense, is logged
        and its standard one asked instead: a delivery is never lost to a bug
        in a strategy.

        Args:
            attempt: The number of the attempt that has just failed, from 1.
            elapsed: Seconds from the start of the first attempt to this outcome.
            outcome: What the attempt came to.
            at_least: Seconds for which the endpoint has asked to be left alone.
        """
        # In tenacity's own order: the stop strategy may look at the wait.
        state = call_state(attempt, elapsed, outcome=outcome)
        if not _ask(self.retry, state, bool, instead=retry_standard):
            return None
        state.upcoming_sleep = max(at_least, _ask(self.wait, state, _seconds, instead=wait_standard))
        return None if _ask(self.stop, state, bool, instead=stop_standard) else state.upcoming_sleep


def _ask(
    strategy: Callable[[RetryCallState], Any],
    state: RetryCallState,
    read: Callable[[Any], T],
    *,
    instead: Callable[[], Callable[[RetryCallState], Any]],
) -> T:
    """What the strategy says, or the standard one where it fails."""
    try:
        return read(strategy(state))
    except KeyboardInterrupt:
        raise  # somebody wants `drain()` to end
    except BaseException:  # the user's code: whatever it raises, SystemExit among it, must not stop the relay
        logger.exception(
            "a retry strategy failed; the standard one is asked for this attempt",
            extra={"webhooks.attempt": state.attempt_number},
        )
        return read(instead()(state))


def _seconds(answer: Any) -> float:
    seconds = float(answer)
    if not 0 <= seconds <= LONGEST_WAIT:
        message = f"the wait strategy answered {seconds!r} seconds; from 0 to {LONGEST_WAIT} make sense"
        raise ValueError(message)
    return seconds


def call_state(attempt: int, elapsed: float, *, outcome: Answer | DeliveryError) -> RetryCallState:
    """The view that tenacity has of a delivery whose attempts are rows; `idle_for` is not known, and 0."""
    state = RetryCallState(_NOT_RETRYING, None, (), {})
    state.attempt_number = attempt
    if isinstance(outcome, DeliveryError):
        state.set_exception((type(outcome), outcome, outcome.__traceback__))
    else:
        state.set_result(outcome)
    state.start_time = 0.0
    state.outcome_timestamp = elapsed
    return state


# RetryCallState wants the object that runs the calls; strategies do not look at it.
_NOT_RETRYING: Any = Retrying()
