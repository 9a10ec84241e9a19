"""How an installation ends and begins: while others commit, drain, stop, fork, or cannot have a thread."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import LOCAL, Install
from support.receiver import PATIENCE, Receiver
from support.shop import Product, put
from support.threads import Gate, aside, relays

import sqla_webhooks
from sqla_webhooks import DeliveryState, Webhooks, delivered
from sqla_webhooks.relay.baton import Baton

Sessions = sessionmaker[Session]


# ------------------------------------------------------------------ its end


class HeldClock(MovedClock):
    """Holds the thread that asks for the time, while it is told to: a flush within one of our listeners."""

    gate: Gate | None = None

    def now(self) -> Any:
        if self.gate is not None:
            self.gate()
        return super().now()


def test_uninstall_waits_for_a_flush_that_is_with_us(
    install: Install, sessions: Sessions, receiver: Receiver, gate: Gate
) -> None:
    """SQLAlchemy goes through the listeners meanwhile, and would fail if one was taken away."""
    clock = HeldClock()
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    clock.gate = gate
    committing, came = aside(lambda: put(sessions, "a"))
    gate.wait()
    clock.gate = None
    uninstalling, ended = aside(webhooks.uninstall)
    gate.open()
    committing.join(PATIENCE)
    uninstalling.join(PATIENCE)

    assert came == [None]
    assert ended == [True]
    assert "sqla_webhooks" not in str(vars(sessions.class_).keys())


def test_commits_while_an_installation_comes_and_goes(sessions: Sessions, receiver: Receiver, engine: Engine) -> None:
    """None fails; and what is captured is what was committed."""
    done = threading.Event()
    committed: list[str] = []
    failures: list[BaseException] = []
    sqla_webhooks.install(sessions, deliver=False, **LOCAL).endpoints.create(receiver.url(), events=["*"])

    def commit(name: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            sku = f"{name}{number}"
            try:
                put(sessions, sku)
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not be
                failures.append(error)
            committed.append(sku)

    threads = [threading.Thread(target=commit, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            sqla_webhooks.install(sessions).uninstall()
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE)
    with sqla_webhooks.install(sessions, deliver=False, **LOCAL) as webhooks:
        webhooks.drain()

    assert failures == []
    assert {one["resource_id"] for one in receiver.events()} <= set(committed)


def test_nothing_brings_the_thread_back_after_uninstall(
    install: Install, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(10):
            webhooks = install(sessions)
            done = threading.Event()

            def start(webhooks: Webhooks = webhooks, done: threading.Event = done) -> None:
                while not done.is_set():
                    try:
                        webhooks.start()
                    except sqla_webhooks.ConfigurationError:
                        return

            threads = [threading.Thread(target=start) for _ in range(3)]
            for thread in threads:
                thread.start()
            assert webhooks.uninstall()
            done.set()
            for thread in threads:
                thread.join(PATIENCE)
            assert relays() == []
    finally:
        sys.setswitchinterval(interval)


def test_uninstall_ends_a_drain_and_does_not_wait_for_it(
    install: Install, sessions: Sessions, receiver: Receiver, gate: Gate
) -> None:
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, *(f"{number:02}" for number in range(40)))
    receiver.on_request = gate
    draining, came = aside(webhooks.drain)
    gate.wait()
    webhooks.start()
    assert webhooks.uninstall()
    assert relays() == []
    gate.open()
    draining.join(PATIENCE)

    (drained,) = came
    assert not drained.complete
    assert drained.attempts < 40


def test_uninstall_within_a_drain_returns_at_once(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.stop()
    put(sessions, "a")
    came: list[bool] = []

    def leave(_sender: object, **_: object) -> None:
        webhooks.start()
        came.append(webhooks.uninstall(timeout=PATIENCE))

    with delivered.connected_to(leave, sender=webhooks):
        drained = webhooks.drain()

    assert came == [False]
    assert drained.attempts == 1
    for thread in relays():
        thread.join(PATIENCE)
        assert not thread.is_alive()


# ------------------------------------------------------------------ a drain


def test_drain_s_timeout_counts_while_it_waits_for_the_thread(
    install: Install, sessions: Sessions, receiver: Receiver, gate: Gate
) -> None:
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.enricher(Product)(gate)
    put(sessions, "a")
    gate.wait()

    drained = webhooks.drain(timeout=0.01)

    assert (drained.events, drained.attempts, drained.complete) == (0, 0, False)
    gate.open()


class InterruptingClock(MovedClock):
    """Ctrl-C, once, as a request is about to start."""

    def __init__(self, when: Callable[[], bool]) -> None:
        super().__init__()
        self._when: Callable[[], bool] | None = when

    def now(self) -> Any:
        if self._when is not None and self._when():
            self._when = None
            raise KeyboardInterrupt
        return super().now()


def test_what_was_answered_before_an_interrupt_is_recorded(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    clock = InterruptingClock(lambda: len(receiver.received) == 2)
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a", "b", "c")
    with pytest.raises(KeyboardInterrupt):
        webhooks.drain()

    states = {one.event_id: one.state for one in webhooks.deliveries.list()}
    assert [states[one.id] for one in receiver.received] == [DeliveryState.DELIVERED] * 2
    assert sorted(states.values()) == [DeliveryState.DELIVERED] * 2 + [DeliveryState.PENDING]


# ------------------------------------------------------------------ a stop


@pytest.mark.parametrize("timeout", [None, float("inf"), 10**12])
def test_stop_may_wait_for_ever(install: Install, sessions: Sessions, timeout: float | None) -> None:
    webhooks = install(sessions)

    assert webhooks.stop(timeout)
    assert relays() == []


def test_a_second_stop_does_not_cut_the_first_short(in_flight: Webhooks, gate: Gate) -> None:
    stopping, came = aside(lambda: in_flight.stop(PATIENCE))
    while in_flight.stop(0) is not False:
        pass
    gate.open()
    stopping.join(PATIENCE)

    assert came == [True]
    assert [one.state for one in in_flight.deliveries.list()] == [DeliveryState.DELIVERED]


# ------------------------------------------------------------------ no thread to be had


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Within it, the system has no more threads."""

    @contextmanager
    def within() -> Iterator[None]:
        def refuse(_self: object) -> None:
            message = "can't start new thread"
            raise RuntimeError(message)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            yield

    return within


def test_an_install_that_fails_leaves_nothing(sessions: Sessions, no_threads: Any) -> None:
    with no_threads(), pytest.raises(RuntimeError, match="can't start"):
        sqla_webhooks.install(sessions)

    assert [name for name in vars(sessions.class_) if "webhooks" in name] == []
    with sqla_webhooks.install(sessions) as webhooks:
        assert len(relays()) == 1
        assert webhooks.stop()


def test_a_thread_that_could_not_be_started_may_be_stopped(
    install: Install, sessions: Sessions, no_threads: Any
) -> None:
    webhooks = install(sessions, deliver=False)
    with no_threads(), pytest.raises(RuntimeError, match="can't start"):
        webhooks.start()

    assert webhooks.stop()
    webhooks.start()
    assert webhooks.uninstall()


def test_nothing_is_claimed_while_no_thread_can_be_had_to_send_it(
    install: Install, sessions: Sessions, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would wait for the end of its lease, a minute, when there are threads again."""
    begin, refused = threading.Thread.start, threading.Event()

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("sqla_webhooks sender") and not refused.is_set():
            refused.set()
            message = "can't start new thread"
            raise RuntimeError(message)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a")

    assert [one.event["resource_id"] for one in receiver.wait_for(1)] == ["a"]
    assert refused.is_set()


# ------------------------------------------------------------------ forks


def test_threads_that_fork_at_once_each_give_back_what_they_took() -> None:
    baton = Baton()

    def fork() -> None:
        baton.pause(PATIENCE)
        baton.resume()

    with baton.taken():
        waiting, came = aside(fork)
        baton.pause(0)  # the holder itself: nothing to wait for
        baton.resume()
    waiting.join(PATIENCE)
    second = threading.Event()

    def fork_for_long() -> None:
        baton.pause(PATIENCE)
        second.set()
        late.wait(PATIENCE)
        baton.resume()

    late = threading.Event()
    forking, _ = aside(fork_for_long)
    assert second.wait(PATIENCE)
    baton.pause(0)  # comes too late, forks all the same
    baton.resume()
    with baton.taken(give_up=lambda: True) as taken:
        assert not taken
    late.set()
    forking.join(PATIENCE)

    assert came == [None]
    with baton.taken(give_up=lambda: True) as taken:
        assert taken


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_installs_may_install(engine: Engine, gate: Gate) -> None:
    sessions = sessionmaker(engine)
    event.listen(engine, "connect", gate)
    engine.dispose()
    installing, came = aside(lambda: sqla_webhooks.install(sessions, deliver=False))
    gate.wait()
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        sqla_webhooks.install(sessionmaker(create_engine(engine.url)), deliver=False)
        os._exit(0)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.open()
    installing.join(PATIENCE)
    came[0].uninstall()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_keeps_its_copy_of_a_database_in_memory(
    install: Install, in_memory: Sessions, receiver: Receiver
) -> None:
    webhooks = install(in_memory)
    webhooks.endpoints.create("http://127.0.0.1:1024/", events=["*"])
    put(in_memory, "a")
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        drained = webhooks.drain()
        os._exit(0 if (drained.events, drained.complete) == (1, True) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
