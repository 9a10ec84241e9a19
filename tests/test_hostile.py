"""Receivers at their worst: each costs its time and no memory, is recorded as what it was, and spoils nothing."""

from __future__ import annotations

import gc
import json
import logging
import os
import ssl
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.hostile import LOOPBACK, request_for
from support.receiver import Receiver
from support.zoo.broken import BROKEN
from support.zoo.cage import Beast, Cage
from support.zoo.endless import ENDLESS
from support.zoo.odd import ODD
from support.zoo.secure import SECURE, Certificates, server_context
from support.zoo.slow import SLOW

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.delivery.request import Request
from sqla_webhooks.delivery.send import SENTENCE, Sender

#: Seconds that a request has to a receiver that takes all of them, and to another: a busy machine reads slowly.
SHORT, LONG = 0.4, 4.0

#: Seconds for a connection, and what a busy machine may add at the end.
CONNECT_TIMEOUT, LEEWAY = 0.3, 2.0

#: Bytes that a request may take, whatever its receiver does.
MOST_MEMORY = 1024 * 1024

_TESTS = Path(__file__).parent

BEASTS = [*SLOW, *ENDLESS, *BROKEN, *ODD]


@pytest.fixture(scope="module", autouse=True)
def no_socket_is_left() -> Iterator[None]:
    """One that nobody has closed is complained of when it is collected."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def tls(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's, whose certificate is trusted."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificates.trusted))
    return server_context(certificates.good)


@dataclass(frozen=True)
class Cost:
    """What a request has come to, and what it took: seconds, and bytes at the worst moment."""

    result: Result
    seconds: float
    memory: int


def cost_of(request: Request, *, by: Sender) -> Cost:
    clock = SystemClock()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        began = clock.monotonic()
        result = by.send(request)
        seconds = clock.monotonic() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Cost(result, seconds, peak - before)


def meet(beast: Beast, *, tls: ssl.SSLContext | None) -> None:
    """Send it a request, and another one to what stands in its place afterwards."""
    connect_timeout, timeout = (CONNECT_TIMEOUT, SHORT) if beast.outcome == "timeout" else (LONG, LONG)
    sender = Sender(LOOPBACK, connect_timeout=connect_timeout, timeout=timeout, clock=SystemClock())
    with closing(sender), Cage(beast, tls=tls) as cage:
        cost = cost_of(request_for(cage.url, beast.payload), by=sender)
        after = cost_of(request_for(cage.url, number=2), by=sender)
        kept = cage.accepted == 1

    assert outcome_of(cost.result) == beast.outcome, repr(cost.result.outcome)
    assert cost.seconds < timeout + LEEWAY
    if beast.outcome == "timeout" and not beast.own_tls:
        assert cost.seconds >= timeout
    assert cost.memory < MOST_MEMORY
    assert isinstance(after.result.outcome, Answer), repr(after.result.outcome)
    assert (after.result.outcome.status, after.result.outcome.body) == (200, "healthy")
    assert dict(after.result.outcome.headers) == {"Content-Length": "7"}
    assert kept == beast.kept
    (request,) = cage.requests
    assert request.startswith(b"POST /hooks HTTP/1.1\r\n")
    assert b"webhook-id: evt_2\r\n" in request
    assert b"cookie" not in request.lower()


def outcome_of(result: Result) -> str | int:
    """Its status, or why there is none, having checked that this is a line for people."""
    if isinstance(result.outcome, Answer):
        return result.outcome.status
    detail = str(result.outcome)
    assert detail.isprintable()
    assert 0 < len(detail) < SENTENCE + 100
    assert "object at 0x" not in detail
    return result.outcome.reason


@pytest.mark.parametrize("beast", BEASTS, ids=lambda beast: beast.name)
def test_a_hostile_receiver_costs_its_time_and_spoils_nothing(beast: Beast, caplog: pytest.LogCaptureFixture) -> None:
    meet(beast, tls=None)
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert (record.levelno < logging.WARNING, record.exc_info) == (True, None), record.getMessage()


@pytest.mark.parametrize("beast", [one for one in BEASTS if one.over_tls], ids=lambda beast: beast.name)
def test_a_hostile_receiver_is_no_worse_over_tls(beast: Beast, tls: ssl.SSLContext) -> None:
    meet(beast, tls=tls)


@pytest.mark.parametrize("name", SECURE)
def test_what_a_receiver_does_to_tls_costs_no_more(name: str, tls: ssl.SSLContext, certificates: Certificates) -> None:
    make, outcome = SECURE[name]
    meet(Beast(name, make(certificates), outcome, own_tls=True), tls=tls)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell of a process's memory")
def test_what_is_offered_is_not_in_the_memory_of_the_process(receiver: Receiver) -> None:
    """Of 300 MiB each, and more; not in Python's memory, and not in another library's."""
    with ExitStack() as stack:
        urls = [stack.enter_context(Cage(beast)).url for beast in ENDLESS]
        done = subprocess.run(
            [sys.executable, "-m", "support.zoo.weighed", receiver.url(), *urls],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), str(_TESTS.parent)])},
            capture_output=True,
            text=True,
            check=True,
        )
    told = json.loads(done.stdout)

    assert len(told["outcomes"]) == len(ENDLESS)
    assert {outcome.partition("(")[0] for outcome in told["outcomes"]} == {"Answer", "InvalidAnswer"}
    assert told["grown"] < MOST_MEMORY
