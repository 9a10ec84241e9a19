"""
When an endpoint is left alone for a while, and when it is given up: pure, over what is recorded of it.

An endpoint that keeps timing out, or asks for fewer requests, is paused: until
the end of the pause nothing is sent to it, and then one request, by one relay.
If that fails too, the next pause is longer; if it is taken, all go on. So an
endpoint that is down costs about one request a minute, whatever waits for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from sqla_webhooks.deliveries import Strain, Verdict
from sqla_webhooks.destination import Health

#: Seconds of the 1st, 2nd, … pause in a row; the last goes on. Each is up to a tenth longer, so that endpoints which
#: went down together are not tried together.
PAUSES = (5, 10, 20, 40, 64)
_JITTER = 0.1

#: So many failures in a row begin a pause: without an answer, and with one that may be for that delivery alone.
UNREACHABLE = 2
REFUSED = 10

#: What part of `disable_after` has passed when it is told that an endpoint fails.
WARNINGS = (0.5, 0.7, 0.9)


def after(health: Health, verdicts: Iterable[Verdict]) -> Health:
    """
    What *health* has become with *verdicts*, which are for one endpoint.

    Requests are counted, however many deliveries they had. In the relay's
    thread, inside the transaction that records them.
    """
    for verdict in sorted(_of_requests(verdicts), key=lambda one: one.ended_at):
        health = _succeeded(health, verdict) if verdict.strain is Strain.NONE else _failed(health, verdict)
    return health


def as_of(health: Health, enabled_at: datetime) -> Health:
    """*health*, but for what is from before the endpoint was enabled: with that it begins anew."""
    known = health.failing_since or health.paused_at
    if known is None or known >= enabled_at:
        return health
    return Health(last_failure_at=health.last_failure_at, last_success_at=health.last_success_at)


def warning(health: Health, disable_after: float | None, *, now: datetime) -> int:
    """How far `disable_after` is gone: a place in `WARNINGS`, counted from 1; 0 before the first."""
    if disable_after is None or health.failing_since is None:
        return 0
    gone = (now - health.failing_since).total_seconds() / disable_after
    return sum(gone >= part for part in WARNINGS)


def is_given_up(health: Health, disable_after: float | None, *, now: datetime) -> bool:
    """Whether there was nothing but failure for *disable_after* seconds."""
    if disable_after is None or health.failing_since is None:
        return False
    return now - health.failing_since >= timedelta(seconds=disable_after)


def _of_requests(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One of each request; of a batch of which something was taken, one of that."""
    alone: list[Verdict] = []
    of_batch: dict[int, Verdict] = {}
    for verdict in verdicts:
        batch = verdict.claim.batch
        if batch is None:
            alone.append(verdict)
        elif batch not in of_batch or verdict.strain < of_batch[batch].strain:
            of_batch[batch] = verdict
    return [*alone, *of_batch.values()]


def _succeeded(health: Health, verdict: Verdict) -> Health:
    return Health(last_failure_at=health.last_failure_at, last_success_at=verdict.ended_at)


def _failed(health: Health, verdict: Verdict) -> Health:
    failed = replace(
        health,
        failures=health.failures + 1,
        failing_since=health.failing_since or verdict.attempt.started_at,
        last_failure_at=verdict.ended_at,
    )
    return _paused(failed, verdict) if _is_enough(failed, verdict.strain) else failed


def _is_enough(health: Health, strain: Strain) -> bool:
    if strain is Strain.OVERLOADED or health.pauses:
        return True
    return health.failures >= (UNREACHABLE if strain is Strain.UNREACHABLE else REFUSED)


def _paused(health: Health, verdict: Verdict) -> Health:
    """The next pause; for a request that was under way as the last one began, only as long as it asks for itself."""
    paused = health
    if health.paused_at is None or verdict.attempt.started_at >= health.paused_at:
        seconds = PAUSES[min(health.pauses, len(PAUSES) - 1)] * random.uniform(1, 1 + _JITTER)  # noqa: S311  # no secret
        until = verdict.ended_at + timedelta(seconds=seconds)
        paused = replace(health, pauses=health.pauses + 1, paused_at=verdict.ended_at, paused_until=until)
    if verdict.not_before is not None and (paused.paused_until is None or verdict.not_before > paused.paused_until):
        paused = replace(paused, paused_until=verdict.not_before)
    return paused
