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
from typing import Any, TypeAlias

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

from sqla_webhooks.errors import DeliveryError
from sqla_webhooks.events import Answer

logger = logging.getLogger(__name__)

#: A tenacity `wait_*`: given the state, the seconds until the next attempt.
WaitStrategy: TypeAlias = Callable[[RetryCallState], float]
#: A tenacity `stop_*`: given the state, whether to give up.
StopStrategy: TypeAlias = Callable[[RetryCallState], bool]
#: A tenacity `retry_*`: given the state, whether the outcome is worth a retry.
RetryStrategy: TypeAlias = Callable[[RetryCallState], bool]

#: Seconds after the 1st, 2nd, … failed attempt: the example schedule of
#: Standard Webhooks 1.0, "Deliverability and reliability". 10 attempts, 75.6 h.
STANDARD_SCHEDULE = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

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

    def next_delay(self, attempt: int, elapsed: float, *, outcome: Answer | DeliveryError) -> float | None:
        """
        The seconds until the next attempt, or None to give up.

        A strategy of the user's that raises, or answers nonsense, is logged
        and replaced by the standard one for this decision: a delivery is never
        lost to a bug in a strategy.

        Args:
            attempt: The number of the attempt that has just failed, from 1.
            elapsed: Seconds from the start of the first attempt to this outcome.
            outcome: What the attempt came to.
        """
        try:
            return _decide(self, attempt, elapsed, outcome)
        except Exception:  # the user's code: whatever it raises must not stop the relay
            logger.exception(
                "a retry strategy failed; the standard schedule decides for this attempt",
                extra={"webhooks.attempt": attempt},
            )
        standard = RetryPolicy(wait_standard(), stop_standard(), retry_standard())
        return _decide(standard, attempt, elapsed, outcome)


def _decide(policy: RetryPolicy, attempt: int, elapsed: float, outcome: Answer | DeliveryError) -> float | None:
    """Ask in tenacity's own order: retry, then wait, then stop (which may look at the wait)."""
    state = call_state(attempt, elapsed, outcome=outcome)
    if not policy.retry(state):
        return None
    seconds = float(policy.wait(state))
    if not 0 <= seconds < float("inf"):
        message = f"the wait strategy answered {seconds!r} seconds"
        raise ValueError(message)
    state.upcoming_sleep = seconds
    return None if policy.stop(state) else seconds


def call_state(attempt: int, elapsed: float, *, outcome: Answer | DeliveryError) -> RetryCallState:
    """The view that tenacity has of a delivery whose attempts are rows."""
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
