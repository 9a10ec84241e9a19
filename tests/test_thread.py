"""The relay's thread: when it acts, and how it begins and ends. On the real clock; nothing sleeps."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.faults import refusing
from support.local import Install
from support.receiver import PATIENCE, Received, Receiver
from support.shop import Order, Product, put
from support.threads import Gate, aside, relays
from tenacity import wait_fixed

from sqla_webhooks import ConfigurationError, DeliveryState, Webhooks, delivered

Sessions = sessionmaker[Session]


class Heard:
    """Receives `delivered`; lets a test wait until a number of deliveries are recorded."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._more = threading.Condition()

    def __call__(self, _sender: object, *, delivery: Any, attempt: Any) -> None:
        with self._more:
            self.ids.append(delivery.event_id)
            self._more.notify_all()

    def wait_for(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.ids) >= count, PATIENCE), f"{len(self.ids)} recorded"


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    with delivered.connected_to(heard):
        yield heard


def test_changes_gather_for_a_batch_window_and_leave_together(
    install: Install, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    """With a window longer than the commits take, one fan-out makes all events; the first turn may have made one."""
    webhooks = install(sessions, batch_window=1.0, poll_interval=60)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    fan_outs: list[str] = []

    def count(_c: Any, _u: Any, statement: str, *_: object) -> None:
        if "INSERT INTO webhook_event" in statement:
            fan_outs.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    put(sessions, *"abcdefghij")
    receiver.wait_for(10)

    assert 1 <= len(fan_outs) <= 2


def test_a_backlog_is_worked_off_without_waiting(
    install: Install, sessions: Sessions, receiver: Receiver, heard: Heard
) -> None:
    """A window or a poll for each of these batches would take ten minutes."""
    webhooks = install(sessions, batch_size=2, batch_window=0, poll_interval=60, capture="all", deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, *(f"{number:02}" for number in range(20)))
    webhooks.start()
    heard.wait_for(20)

    assert len(set(receiver.ids)) == len(heard.ids) == 20


def test_a_commit_of_another_process_is_found_by_the_poll(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    """The other installation has no thread, and nothing of it wakes this one."""
    here = install(sessions, poll_interval=0.05)
    here.endpoints.create(receiver.url(), events=["*"])
    other = sessionmaker(engine)
    install(other, deliver=False)
    put(other, "a")

    assert receiver.wait_for(1)


def test_a_retry_comes_when_it_is_due_and_not_at_the_next_poll(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, poll_interval=600, wait=wait_fixed(0.05))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500, 500)
    put(sessions, "a")

    assert len(receiver.wait_for(3)) == 3


def test_a_receiver_that_hangs_does_not_hold_up_another(
    install: Install, sessions: Sessions, receiver: Receiver, heard: Heard
) -> None:
    webhooks = install(sessions)
    answer = threading.Event()
    with Receiver() as slow:

        def hang(_request: Received) -> None:
            answer.wait(PATIENCE)

        slow.on_request = hang
        webhooks.endpoints.create(slow.url(), events=["*"])
        webhooks.endpoints.create(receiver.url(), events=["*"])
        for stock in range(5):
            with sessions.begin() as session:
                session.merge(Product(sku="a", stock=stock))
        heard.wait_for(1)
        receiver.wait_for(1)
        put(sessions, "b", "c")
        assert len(receiver.wait_for(3)) >= 3
        assert slow.received == []
        answer.set()
        assert slow.wait_for(3)


def test_stop_records_what_is_in_flight_and_start_goes_on(
    in_flight: Webhooks, sessions: Sessions, receiver: Receiver, gate: Gate
) -> None:
    stopping, came = aside(lambda: in_flight.stop(timeout=PATIENCE))
    gate.open()
    stopping.join(PATIENCE)

    assert came == [True]
    assert [one.state for one in in_flight.deliveries.list()] == [DeliveryState.DELIVERED]
    assert relays() == []
    put(sessions, "b")  # captured, and not sent
    assert relays() == []
    in_flight.start()
    in_flight.start()
    assert len(relays()) == 1
    assert [one.event["resource_id"] for one in receiver.wait_for(2)] == ["a", "b"]


def test_stop_does_not_wait_longer_than_it_is_told(in_flight: Webhooks) -> None:
    in_flight.stop(timeout=0.05)

    assert [one.state for one in in_flight.deliveries.list()] == [DeliveryState.PENDING]


def test_start_and_stop_from_many_threads(
    install: Install, sessions: Sessions, receiver: Receiver, heard: Heard
) -> None:
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    def toggle() -> None:
        for _ in range(10):
            webhooks.start()
            webhooks.stop()

    togglers = [threading.Thread(target=toggle) for _ in range(6)]
    for thread in togglers:
        thread.start()
    put(sessions, *(f"{number:02}" for number in range(15)))
    for thread in togglers:
        thread.join()
    webhooks.start()
    webhooks.start()
    assert len(relays()) == 1
    heard.wait_for(15)

    assert len(set(heard.ids)) == 15
    assert set(receiver.ids) == set(heard.ids)


def test_two_retries_are_both_made_when_they_are_due(
    install: Install, sessions: Sessions, receiver: Receiver, heard: Heard
) -> None:
    webhooks = install(sessions, batch_window=0, poll_interval=600, wait=wait_fixed(0.3))
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500, 500)
    put(sessions, "a", "b")
    heard.wait_for(2)

    assert len(receiver.received) == 4


def test_start_after_a_stop_that_was_not_waited_for(
    in_flight: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    in_flight.stop(timeout=0)
    in_flight.start()
    receiver.on_request = None
    put(sessions, "b")
    assert [one.event["resource_id"] for one in receiver.wait_for(1)] == ["b"]


def test_a_result_whose_record_fails_is_not_dropped_by_stop(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, gate: Gate
) -> None:
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    def at_the_gate() -> bool:
        gate()
        return True

    with refusing(engine, "INSERT INTO webhook_attempt", times=1, when=at_the_gate):
        put(sessions, "a")
        gate.wait()
        stopping, _ = aside(lambda: webhooks.stop(PATIENCE))
        gate.open()
        stopping.join(PATIENCE)

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED]


def test_a_receiver_that_raises_what_is_no_exception_does_not_end_the_thread(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, batch_window=0, poll_interval=0.05)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    def cancel(_sender: object, **_: object) -> None:
        raise asyncio.CancelledError

    with delivered.connected_to(cancel):
        put(sessions, "a")
        receiver.wait_for(1)
        put(sessions, "b")
        assert receiver.wait_for(2)
        webhooks.stop()


def test_one_receiver_that_raises_what_is_no_exception_keeps_nothing_from_the_others(
    install: Install, sessions: Sessions, receiver: Receiver, heard: Heard
) -> None:
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])

    def cancel(_sender: object, **_: object) -> None:
        raise asyncio.CancelledError

    put(sessions, *"abcde")
    with delivered.connected_to(cancel, sender=webhooks):
        webhooks.drain()

    assert len(heard.ids) == 5


def test_a_strategy_that_raises_what_is_no_exception_is_a_strategy_that_fails(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    def leave(_state: Any) -> bool:
        raise SystemExit

    webhooks = install(sessions, deliver=False, retry=leave)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, *"abc")
    webhooks.drain()

    assert [one.state.value for one in webhooks.deliveries.list()] == ["delivered", "delivered", "pending"]


def test_drain_while_the_thread_runs(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    """What the thread has in flight is waited for; nothing is sent twice; afterwards nothing is pending."""
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    for batch in range(5):
        put(sessions, *(f"{batch}-{number}" for number in range(5)))
        assert webhooks.drain(timeout=PATIENCE).complete
        assert webhooks.deliveries.list(state="pending") == []
        assert len(receiver.received) == len(set(receiver.ids)) == 5 * (batch + 1)


def test_drain_from_inside_the_relay_is_refused(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    raised: list[BaseException] = []

    def drain(_sender: object, **_: object) -> None:
        try:
            webhooks.drain()
        except ConfigurationError as error:
            raised.append(error)

    with delivered.connected_to(drain):
        put(sessions, "a")
        webhooks.drain()

    assert "by the relay itself" in str(raised[0])


def test_a_receiver_of_a_signal_may_use_the_application_s_sessions(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["product.*"])

    def note(_sender: object, *, delivery: Any, attempt: Any) -> None:
        with sessions.begin() as session:
            session.add(Order(note=f"{delivery.event_type} {attempt.number}"))

    with delivered.connected_to(note):
        put(sessions, "a")
        receiver.wait_for(1)
        webhooks.stop()
    with sessions() as session:
        assert session.scalars(select(Order.note)).all() == ["product.created 1"]


def test_a_database_that_fails_for_a_while_is_waited_for(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = install(sessions, batch_window=0, poll_interval=0.05)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with refusing(engine, "", times=4, when=lambda: threading.current_thread() in relays()):
        put(sessions, "a")

        assert receiver.wait_for(1)
    # A turn looks at what is due, and most turns at the outbox before that.
    assert 2 <= caplog.text.count("the relay could not go on") <= 4
    assert "disk is full" in caplog.text


def test_what_is_due_goes_on_whatever_is_wrong_with_the_outbox(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    clock.advance(6)
    put(sessions, "b")
    with refusing(engine, "INSERT INTO webhook_event"), pytest.raises(OperationalError, match="disk is full"):
        webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED]


def test_a_transaction_that_this_version_cannot_read_is_left_and_others_go_on(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = install(sessions, deliver=False, batch_size=2)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a", "b")
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_outbox SET changes = replace(changes, 'runs', 'rolls') WHERE id = 1"))
    put(sessions, "c")

    assert webhooks.drain().complete
    assert webhooks.drain().complete

    assert [one["resource_id"] for one in receiver.events()] == ["b", "c"]
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == [
        "outbox rows are left for a version that can read them: [1]"
    ]
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_outbox SET changes = replace(changes, 'rolls', 'runs')"))
    webhooks.drain()
    assert [one["resource_id"] for one in receiver.events()] == ["b", "c", "a"]


def test_uninstall_leaves_no_thread_no_listener_and_no_mark(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    webhooks = install(sessions, capture="all")
    put(sessions, "a")
    webhooks.uninstall()
    webhooks.uninstall()

    assert relays() == []
    with sessions() as session:
        for name in ("before_flush", "after_flush", "after_transaction_end"):
            assert not list(getattr(session.dispatch, name))
    assert [name for name in vars(sessions.class_) if "webhooks" in name] == []
    put(sessions, "b")
    again = install(sessions, deliver=False)
    assert again is not webhooks
    for call in (webhooks.drain, webhooks.start):
        with pytest.raises(ConfigurationError, match="was uninstalled"):
            call()


def test_an_uninstalled_installation_is_let_go(install: Install, engine: Engine) -> None:
    from sqla_webhooks import install as plain_install  # noqa: PLC0415  # the fixture would keep it

    sessions = sessionmaker(engine)
    webhooks = plain_install(sessions)
    reference = weakref.ref(webhooks)
    webhooks.uninstall()
    del webhooks
    gc.collect()

    assert reference() is None


#: Where the support is, and not the package's source: what is installed is tested.
HERE = Path(__file__).parent


def run(script: str, *arguments: object) -> str:
    """A script of its own process, beside the tests' support; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


SET_UP = """
import os, sys
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from support.shop import Base, Product
import sqla_webhooks
engine = create_engine(f"sqlite:///{sys.argv[1]}")
Base.metadata.create_all(engine)
Session = sessionmaker(engine)
webhooks = sqla_webhooks.install(Session, allow_http=True, allow_networks=["127.0.0.0/8"])
"""


def test_the_end_of_the_interpreter_is_not_held_up(tmp_path: Path, receiver: Receiver) -> None:
    """A script that ends right after its commit: what is not sent by then is sent by the next process."""
    script = SET_UP + (
        "webhooks.endpoints.create(sys.argv[2], events=['*'])\n"
        "with Session.begin() as session: session.add(Product(sku='a'))\n"
    )
    run(script, tmp_path / "shop.db", receiver.url())
    run(SET_UP + "webhooks.drain(timeout=30)", tmp_path / "shop.db")

    assert [one.event["resource_id"] for one in receiver.wait_for(1)] == ["a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is what is tested; this system has none")
def test_a_forked_child_relays_what_it_commits_itself(tmp_path: Path, receiver: Receiver) -> None:
    """As a web server forks its workers from a process that has installed already."""
    script = SET_UP + (
        "import threading, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # of fork() beside threads, which is what we do here\n"
        "webhooks.endpoints.create(sys.argv[2], events=['*'])\n"
        "recorded = threading.Semaphore(0)\n"
        "def heard(sender, **_): recorded.release()\n"
        "sqla_webhooks.delivered.connect(heard)\n"
        "with Session.begin() as session: session.add(Product(sku='parent'))\n"
        "assert recorded.acquire(timeout=30)\n"
        "go, parent_stopped = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.read(go, 1)\n"
        "    with Session.begin() as session: session.add(Product(sku='child'))\n"
        "    os._exit(0 if recorded.acquire(timeout=30) and webhooks.stop() else 1)\n"
        "webhooks.stop()\n"
        "os.write(parent_stopped, b'.')\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    run(script, tmp_path / "shop.db", receiver.url())

    assert [one.event["resource_id"] for one in receiver.wait_for(2)] == ["parent", "child"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is what is tested; this system has none")
def test_a_fork_waits_for_the_turn_that_is_under_way(tmp_path: Path) -> None:
    """A child forked while the relay is inside the database's driver would find its locks held for ever."""
    script = SET_UP + (
        "import signal, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # of fork() beside threads, which is what we do here\n"
        "webhooks.uninstall()\n"
        "for number in range(60):\n"
        "    webhooks = sqla_webhooks.install(Session, poll_interval=0.01)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)  # it ends a child that hangs\n"
        "        with Session() as session: session.get(Product, 'a')\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0, number\n"
        "    webhooks.uninstall()\n"
    )
    run(script, tmp_path / "shop.db")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is what is tested; this system has none")
def test_a_thread_that_cannot_be_started_does_not_fail_the_commit(tmp_path: Path) -> None:
    """In a forked child, whose first commit is to start it, and which may have no more threads."""
    script = SET_UP + (
        "import logging, threading, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)  # of fork() beside threads, which is what we do here\n"
        "webhooks.endpoints.create('http://127.0.0.1:1024/', events=['*'])\n"
        "def refuse(self): raise RuntimeError('no more threads')\n"
        "if os.fork() == 0:\n"
        "    threading.Thread.start = refuse\n"
        "    logging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
        "    with Session.begin() as session: session.add(Product(sku='a'))\n"
        "    sys.stdout.flush()\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )

    assert run(script, tmp_path / "shop.db") == "the relay's thread could not be started: no more threads\n"


def test_start_says_why_it_cannot_on_one_connection(install: Install, in_memory: Sessions) -> None:
    webhooks = install(in_memory)
    with pytest.raises(ConfigurationError, match="call drain"):
        webhooks.start()


def test_the_handle_is_a_context_manager(install: Install, sessions: Sessions) -> None:
    with install(sessions) as webhooks:
        assert isinstance(webhooks, Webhooks)
        assert len(relays()) == 1
    assert relays() == []
