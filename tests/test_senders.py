"""Many at a time, or one by one: nothing is lost, nothing is doubled, nothing stays behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from support import hostile
from support.hostile import LOOPBACK, request_for
from support.receiver import PATIENCE, Received, Receiver

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.delivery.request import Request
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.delivery.senders import InlineSenders, SenderPool
from sqla_webhooks.errors import ConnectFailed

CLOCK = SystemClock()


def make_sender() -> Sender:
    return Sender(LOOPBACK, connect_timeout=PATIENCE, timeout=PATIENCE, clock=CLOCK)


def sender_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("sqla_webhooks sender")]


class Pool:
    """A pool whose results can be waited for."""

    def __init__(self, size: int) -> None:
        self._arrived = threading.Semaphore(0)
        #: The threads in which a result was announced, one for each result.
        self.announced_in: list[threading.Thread] = []
        self.senders = SenderPool(make_sender, size=size, clock=CLOCK, on_result=self._announce)

    def submit(self, receiver: Receiver, number: int) -> None:
        self.senders.submit(request_for(receiver.url(), number=number))

    def await_results(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE)

    def close(self) -> None:
        self.senders.close(deadline=CLOCK.monotonic() + PATIENCE)

    def _announce(self) -> None:
        self.announced_in.append(threading.current_thread())
        self._arrived.release()


MakePool = Callable[[int], Pool]


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    made: list[Pool] = []

    def make(size: int) -> Pool:
        made.append(Pool(size))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(make_pool: MakePool) -> Pool:
    """Of four threads."""
    return make_pool(4)


class Gate:
    """Lets no request be answered until it is opened; all of them, or those with one id."""

    def __init__(self, receiver: Receiver, *, only: str | None = None) -> None:
        self._only = only
        self._open = threading.Event()
        self._waiting = threading.Semaphore(0)
        receiver.on_request = self._hold

    def open(self) -> None:
        self._open.set()

    def await_arrivals(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._waiting.acquire(timeout=PATIENCE)

    def _hold(self, request: Received) -> None:
        if self._only in (None, request.id):
            self._waiting.release()
            assert self._open.wait(PATIENCE)


def ids(results: list[Result]) -> list[str]:
    return sorted(result.claim.event_id for result in results)


def test_every_request_comes_back_exactly_once(make_pool: MakePool, receiver: Receiver) -> None:
    count, size = 200, 8
    pool = make_pool(size)
    results: list[Result] = []
    submitted = 0
    while len(results) < count:
        while submitted < count and pool.senders.free:
            submitted += 1
            pool.submit(receiver, submitted)
        pool.await_results()
        results += pool.senders.collect()
        assert len(pool.senders.under_way) == submitted - len(results)
        assert len(sender_threads()) <= size

    pool.close()
    assert all(isinstance(result.outcome, Answer) and result.outcome.ok for result in results)
    assert ids(results) == sorted(f"evt_{number + 1}" for number in range(count))
    assert sorted(receiver.ids) == ids(results)
    assert len(pool.announced_in) == count
    assert (len(pool.senders.under_way), pool.senders.collect()) == (0, [])


def test_room_and_in_flight_count_until_the_result_is_collected(pool: Pool, receiver: Receiver) -> None:
    gate = Gate(receiver)
    assert (pool.senders.free, len(pool.senders.under_way)) == (4, 0)

    for number in range(3):
        pool.submit(receiver, number)
    assert (pool.senders.free, len(pool.senders.under_way)) == (1, 3)
    assert pool.senders.collect() == []

    gate.open()
    pool.await_results(3)
    assert (pool.senders.free, len(pool.senders.under_way)) == (1, 3)

    assert ids(pool.senders.collect()) == ["evt_0", "evt_1", "evt_2"]
    assert (pool.senders.free, len(pool.senders.under_way)) == (4, 0)


def test_requests_are_under_way_at_the_same_time(pool: Pool, receiver: Receiver) -> None:
    gate = Gate(receiver)
    for number in range(4):
        pool.submit(receiver, number)

    gate.await_arrivals(4)
    assert (len(sender_threads()), pool.senders.free) == (4, 0)

    gate.open()
    pool.await_results(4)


def test_a_thread_is_made_only_when_none_is_free(pool: Pool, receiver: Receiver) -> None:
    assert sender_threads() == []
    for number in range(5):
        pool.submit(receiver, number)
        pool.await_results()
        assert len(pool.senders.collect()) == 1

    assert len(sender_threads()) == 1


def test_a_request_that_hangs_keeps_no_other_from_coming_back(pool: Pool, receiver: Receiver) -> None:
    gate = Gate(receiver, only="evt_0")
    pool.submit(receiver, 0)
    gate.await_arrivals()

    for number in range(1, 10):
        pool.submit(receiver, number)
        pool.await_results()
        assert ids(pool.senders.collect()) == [f"evt_{number}"]
    assert len(pool.senders.under_way) == 1

    gate.open()
    pool.await_results()
    assert ids(pool.senders.collect()) == ["evt_0"]


def test_a_failure_is_a_result_too(pool: Pool) -> None:
    request = request_for("http://nothing.invalid/hooks")

    pool.senders.submit(request)

    pool.await_results()
    (result,) = pool.senders.collect()
    assert isinstance(result.outcome, ConnectFailed)
    assert result.claim is request.claim


def test_a_result_is_announced_in_the_senders_thread_once_it_can_be_collected(receiver: Receiver) -> None:
    collected: list[Result] = []
    threads: list[str] = []
    done = threading.Event()

    def on_result() -> None:
        threads.append(threading.current_thread().name)
        collected.extend(senders.collect())
        done.set()

    senders = SenderPool(make_sender, size=1, clock=CLOCK, on_result=on_result)
    senders.submit(request_for(receiver.url()))

    assert done.wait(PATIENCE)
    senders.close(deadline=CLOCK.monotonic() + PATIENCE)
    assert ids(collected) == ["evt_1"]
    assert threads == ["sqla_webhooks sender 1"]


def test_close_lets_a_request_come_to_its_end(make_pool: MakePool, receiver: Receiver) -> None:
    pool, gate = make_pool(2), Gate(receiver)
    pool.submit(receiver, 1)
    gate.await_arrivals()
    opener = threading.Thread(target=gate.open)

    opener.start()
    pool.close()

    opener.join()
    assert sender_threads() == []
    assert ids(pool.senders.collect()) == ["evt_1"]


@pytest.mark.parametrize("patience", [-1.0, 0.0, 0.2])
def test_close_waits_no_longer_than_its_deadline(pool: Pool, receiver: Receiver, patience: float) -> None:
    gate = Gate(receiver)
    for number in range(3):
        pool.submit(receiver, number)
    gate.await_arrivals(3)
    before = CLOCK.monotonic()

    pool.senders.close(deadline=before + patience)

    # Far less than the requests would have taken by themselves, which still hang.
    assert patience <= CLOCK.monotonic() - before < PATIENCE / 4
    hanging = sender_threads()
    assert len(hanging) == 3

    gate.open()
    for thread in hanging:
        thread.join(PATIENCE)
    assert sender_threads() == []
    assert ids(pool.senders.collect()) == ["evt_0", "evt_1", "evt_2"]


def test_close_closes_the_connections() -> None:
    # Kept, so that their connections are not closed for want of an owner.
    made: list[Sender] = []

    def make() -> Sender:
        made.append(make_sender())
        return made[-1]

    arrived = threading.Event()
    pool = SenderPool(make, size=1, clock=CLOCK, on_result=arrived.set)
    inline = InlineSenders(make, size=1, clock=CLOCK)
    with hostile.answers(hostile.http(200)) as server, hostile.answers(hostile.http(200)) as other:
        pool.submit(request_for(server.url()))
        inline.submit(request_for(other.url()))
        assert arrived.wait(PATIENCE)

        pool.close(deadline=CLOCK.monotonic() + PATIENCE)
        inline.close()

        assert not server.ended().cut_off
        assert not other.ended().cut_off
    assert len(made) == 2


def test_close_without_any_thread_does_nothing(pool: Pool) -> None:
    pool.close()

    assert sender_threads() == []


def test_inline_requests_are_sent_in_order_in_the_callers_thread(receiver: Receiver) -> None:
    senders = InlineSenders(make_sender, size=3, clock=CLOCK)
    assert (senders.free, len(senders.under_way), senders.collect()) == (3, 0, [])

    for number in (3, 1, 2):
        senders.submit(request_for(receiver.url(), number=number))
        assert receiver.ids[-1] == f"evt_{number}"
        assert sender_threads() == []
    assert (senders.free, len(senders.under_way)) == (0, 3)

    assert [result.claim.delivery_id for result in senders.collect()] == [3, 1, 2]
    assert (senders.free, len(senders.under_way), senders.collect()) == (3, 0, [])
    senders.close()


def late(receiver: Receiver) -> Request:
    """A request whose lease has ended, as after the machine was suspended."""
    request = request_for(receiver.url(), number=7)
    return replace(request, claim=replace(request.claim, until=CLOCK.now()))


def test_what_is_no_longer_ours_is_not_sent(pool: Pool, receiver: Receiver) -> None:
    pool.senders.submit(late(receiver))
    pool.await_results()

    assert pool.senders.collect() == []
    assert (pool.senders.free, len(pool.senders.under_way)) == (4, 0)
    assert receiver.received == []


def test_nor_is_it_sent_inline(receiver: Receiver) -> None:
    senders = InlineSenders(make_sender, size=3, clock=CLOCK)
    senders.submit(late(receiver))

    assert (senders.free, senders.collect()) == (3, [])
    assert receiver.received == []
    senders.close()
