"""The whole library among receivers at their worst: one that is healthy has all of its events, and in time."""

from __future__ import annotations

import threading
import tracemalloc
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support.local import Install
from support.receiver import Receiver
from support.shop import put
from support.threads import until
from support.zoo.broken import BROKEN
from support.zoo.cage import Beast, Cage
from support.zoo.endless import ENDLESS
from support.zoo.odd import ODD
from support.zoo.slow import SLOW
from tenacity import stop_never, wait_fixed

from sqla_webhooks import Webhooks
from sqla_webhooks._clock import SystemClock

Sessions = sessionmaker[Session]

SETTINGS: dict[str, Any] = {
    "concurrency": 8,
    "timeout": 0.4,
    "connect_timeout": 0.3,
    "wait": wait_fixed(0.3),
    "stop": stop_never,
    "poll_interval": 0.05,
    "batch_window": 0.01,
    "disable_after": None,
}

#: One of each kind.
NAMES = [
    "says nothing",
    "drips a status line",
    "drips a body",
    "drips chunks",
    "100 without end",
    "headers without end",
    "300 MiB with 500, Connection: close",
    "300 MiB with 200, Transfer-Encoding: chunked",
    "300 MiB with 307 to http://127.0.0.1:1/",
    "closes at once",
    "resets in the body",
    "SSH, unasked",
    "slow to read 0",
    "a cookie that nobody can count",
]

CHANGES = 50

#: Bytes that a process may take for all of them together.
MOST_MEMORY = 8 * 1024 * 1024


def beasts() -> list[Beast]:
    named = {beast.name: beast for beast in [*SLOW, *ENDLESS, *BROKEN, *ODD]}
    return [named[name] for name in NAMES]


def sockets() -> int:
    """How many this process has."""
    count = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that by which the directory was read
            count += str(one.readlink()).startswith("socket:")
    return count


def seconds_for(changes: int, *, sessions: Sessions, receiver: Receiver, kind: str) -> float:
    """How long it takes until the receiver has them, from the first one's begin."""
    clock = SystemClock()
    began, before = clock.monotonic(), len(receiver.received)
    for number in range(changes):
        put(sessions, f"{kind} {number}")
    receiver.wait_for(before + changes)
    return clock.monotonic() - began


def reasons(webhooks: Webhooks, endpoint: str) -> set[str | None]:
    """Why attempts have failed there; None for those that have not."""
    deliveries = webhooks.deliveries.list(endpoint=endpoint, limit=1000)
    return {attempt.reason for one in deliveries for attempt in webhooks.deliveries.attempts(one.id)}


def is_tried(webhooks: Webhooks, endpoint: str) -> bool:
    return bool(reasons(webhooks, endpoint))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell of a process's sockets")
def test_a_healthy_receiver_among_hostile_ones_has_its_events_in_time(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    threads, before = set(threading.enumerate()), sockets()
    webhooks = install(sessions, **SETTINGS)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    alone = seconds_for(CHANGES, sessions=sessions, receiver=receiver, kind="alone")
    with ExitStack() as stack:
        expected: dict[str, str | None] = {}
        for beast in beasts():
            cage = stack.enter_context(Cage(beast, tame_after=None))
            endpoint = webhooks.endpoints.create(cage.url, events=["*"])
            expected[endpoint.id] = beast.outcome if isinstance(beast.outcome, str) else _reason_of(beast.outcome)
        tracemalloc.start()
        among = seconds_for(CHANGES, sessions=sessions, receiver=receiver, kind="among")
        for endpoint_id in expected:
            until(partial(is_tried, webhooks, endpoint_id))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        webhooks.stop()
        recorded = {endpoint_id: reasons(webhooks, endpoint_id) for endpoint_id in expected}
    webhooks.uninstall()

    assert sorted(one["resource_id"] for one in receiver.events()) == sorted(
        f"{kind} {number}" for kind in ("alone", "among") for number in range(CHANGES)
    )
    assert among < 5 * alone + 5.0
    assert recorded == {endpoint_id: {reason} for endpoint_id, reason in expected.items()}
    assert peak < MOST_MEMORY
    until(lambda: set(threading.enumerate()) <= threads | _of(receiver))
    until(lambda: sockets() <= before)


def _reason_of(status: int) -> str | None:
    return None if 200 <= status < 300 else "status"


def _of(receiver: Receiver) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "process_request_thread" in thread.name}
