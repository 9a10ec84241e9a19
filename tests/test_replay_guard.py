"""Copies of a request, which a receiver's replay guard refuses."""

from __future__ import annotations

import asyncio
import base64
import math
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.retry import Retry
from sqlalchemy import String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from support.clock import START, MovedClock, SteppedClock
from support.databases import Database
from support.redis_server import redis_client
from support.threads import aside

from sqla_webhooks import ConfigurationError, MemoryReplayGuard, Replayed, SignatureError, verify
from sqla_webhooks.delivery.sign import sign

NOW = int(START.timestamp())
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = b'{"type":"order.created"}'
GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")

Guard = Callable[[str, float], object]


def request(message_id: str = "evt_1", at: int = NOW, body: bytes = BODY) -> dict[str, str]:
    """The headers of a request that is right."""
    signature = sign([SECRET], message_id, timestamp=at, body=body)
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


class Asked:
    """A guard that says what it is told to say, and notes what it was asked."""

    def __init__(self, answer: object = True) -> None:  # noqa: FBT002  # that is the question
        self.answer = answer
        self.asked: list[tuple[str, float]] = []

    def __call__(self, key: str, seconds: float) -> object:
        self.asked.append((key, seconds))
        return self.answer


def from_the_guide(name: str, **names: Any) -> Any:
    """A function of the guide's."""
    (block,) = re.findall(rf"```python\n(def {name}\(.*?)(?:\n\n\n|```)", GUIDE, re.DOTALL)
    exec(block, names)
    return names[name]


# --------------------------------------------------------------------------- what verify() asks


@pytest.mark.parametrize("answer", [True, 1, "OK", [0]], ids=repr)
def test_what_is_new_is_accepted(answer: object, clock: MovedClock) -> None:
    guard = Asked(answer)
    assert verify(BODY, request(), SECRET, replay_guard=guard, clock=clock) == {"type": "order.created"}
    assert guard.asked == [(f"evt_1.{NOW}", 601)]


@pytest.mark.parametrize("answer", [False, None, 0, ""], ids=repr)
def test_what_is_not_new_is_refused(answer: object, clock: MovedClock) -> None:
    with pytest.raises(Replayed, match="the signature fits, but the same request has been accepted before") as caught:
        verify(BODY, request(), SECRET, replay_guard=Asked(answer), clock=clock)
    assert isinstance(caught.value, SignatureError)


def test_without_a_guard_a_copy_is_accepted(clock: MovedClock) -> None:
    for _ in range(2):
        verify(BODY, request(), SECRET, clock=clock)


WRONG: list[tuple[bytes, dict[str, str]]] = [
    (BODY + b" ", request()),
    (BODY, request() | {"webhook-id": "evt_2"}),
    (BODY, request() | {"webhook-timestamp": str(NOW + 1)}),
    (BODY, request() | {"webhook-signature": "v1,x"}),
    (BODY, request() | {"webhook-signature": ""}),
    (BODY, request(at=NOW - 301)),
    (BODY, request(at=NOW + 301)),
    (b"no json", request(body=b"no json")),
    (b"[]", request(body=b"[]")),
]


@pytest.mark.parametrize(("body", "headers"), WRONG)
def test_of_a_request_that_is_refused_for_another_reason_no_guard_is_asked(
    body: bytes, headers: dict[str, str], clock: MovedClock
) -> None:
    guard = Asked()
    with pytest.raises(SignatureError) as caught:
        verify(body, headers, SECRET, replay_guard=guard, clock=clock)
    assert not isinstance(caught.value, Replayed)
    assert guard.asked == []


def test_what_the_guard_raises_comes_out(clock: MovedClock) -> None:
    def broken(_key: str, _seconds: float) -> bool:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        verify(BODY, request(), SECRET, replay_guard=broken, clock=clock)


def test_a_guard_that_would_have_to_be_awaited_is_no_guard(clock: MovedClock) -> None:
    """Its answer would be true whatever it is."""

    async def later(_key: str, _seconds: float) -> bool:
        await asyncio.sleep(0)
        return False

    with pytest.raises(ConfigurationError, match="the replay guard is async"):
        verify(BODY, request(), SECRET, replay_guard=later, clock=clock)


# --------------------------------------------------------------------------- for how long


@pytest.mark.parametrize(("tolerance", "seconds"), [(0, 1), (0.25, 1.5), (300, 601), (10**9, 2 * 10**9 + 1)])
def test_the_time_is_twice_the_tolerance_and_one_second(tolerance: float, seconds: float, clock: MovedClock) -> None:
    guard = Asked()
    verify(BODY, request(), SECRET, tolerance=tolerance, replay_guard=guard, clock=clock)
    assert guard.asked == [(f"evt_1.{NOW}", seconds)]


@pytest.mark.parametrize("tolerance", [math.inf, 1e300, 10**400, 10**9 + 1])
def test_a_tolerance_without_end_leaves_nothing_to_guard(tolerance: float, clock: MovedClock) -> None:
    with pytest.raises(ConfigurationError, match="would have to remember each request for ever"):
        verify(BODY, request(), SECRET, tolerance=tolerance, replay_guard=Asked(), clock=clock)
    verify(BODY, request(), SECRET, tolerance=tolerance, clock=clock)


@pytest.mark.parametrize("tolerance", [math.nan, -1, -0.001, -math.inf, None, "300", True, timedelta(minutes=5)])
def test_a_tolerance_that_is_no_time_is_refused(tolerance: Any, clock: MovedClock) -> None:
    """One that is not a number would let every timestamp pass."""
    with pytest.raises(ConfigurationError, match=r"tolerance is .*: give seconds, such as 300"):
        verify(BODY, request(), SECRET, tolerance=tolerance, clock=clock)


instants = st.integers(0, 40_000_000).map(lambda millionths: millionths / 1e6)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10) | st.floats(0, 10), st.lists(instants, max_size=30).map(sorted), st.integers(0, 40))
def test_no_request_is_accepted_twice_however_its_copies_come(
    tolerance: float, moments: list[float], ahead: int
) -> None:
    """At any moments, those at the very ends of what the timestamp allows among them."""
    ends = [max(0.0, ahead - tolerance), float(ahead), ahead + tolerance]
    clock = MovedClock()
    guard = MemoryReplayGuard(clock=clock)
    accepted = 0
    for moment in sorted([*moments, *ends, *ends]):
        clock.advance(moment - clock.monotonic())
        try:
            verify(BODY, request(at=NOW + ahead), SECRET, tolerance=tolerance, replay_guard=guard, clock=clock)
        except SignatureError:
            continue
        accepted += 1
    assert accepted == 1


# --------------------------------------------------------------------------- what a copy is


@pytest.fixture
def guard(clock: MovedClock) -> MemoryReplayGuard:
    return MemoryReplayGuard(clock=clock)


def accepts(headers: dict[str, str], guard: Guard, clock: MovedClock, body: bytes = BODY) -> bool:
    try:
        verify(body, headers, SECRET, replay_guard=guard, clock=clock)
    except Replayed:
        return False
    return True


def test_a_copy_is_refused_however_it_is_dressed_up(guard: MemoryReplayGuard, clock: MovedClock) -> None:
    plain = request()
    assert accepts(plain, guard, clock)
    assert not accepts(plain, guard, clock)
    assert not accepts({name.title(): value for name, value in plain.items()}, guard, clock)
    assert not accepts(plain | {"webhook-signature": f"v1,x {plain['webhook-signature']}  v2,y"}, guard, clock)
    assert not accepts(plain | {"host": "another"}, guard, clock)


def test_a_retry_and_another_event_are_no_copies(guard: MemoryReplayGuard, clock: MovedClock) -> None:
    assert accepts(request(), guard, clock)
    assert accepts(request(at=NOW + 1), guard, clock)
    assert accepts(request("evt_2"), guard, clock)
    assert accepts(request("evt_1.1"), guard, clock)


# --------------------------------------------------------------------------- in memory


def test_a_key_is_remembered_for_its_time(clock: MovedClock, guard: MemoryReplayGuard) -> None:
    assert guard("a", 10)
    clock.advance(10)
    assert not guard("a", 10)  # and that it was asked for prolongs nothing
    clock.advance(0.001)
    assert guard("a", 10)


def test_a_clock_that_is_set_makes_it_forget_nothing() -> None:
    clock = SteppedClock()
    guard = MemoryReplayGuard(clock=clock)
    assert guard("a", 10)
    for seconds in (3600, -7200):
        clock.set_by(seconds)
        assert not guard("a", 10)


def test_one_that_is_full_refuses_what_is_new_and_forgets_nothing(clock: MovedClock) -> None:
    guard = MemoryReplayGuard(most=3, clock=clock)
    assert [guard(key, seconds) for key, seconds in (("a", 30), ("b", 10), ("c", 20))] == [True] * 3
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"remembers 3 requests, .* MemoryReplayGuard\(most=...\)"):
            guard("d", 10)
        assert [guard(key, 10) for key in "abc"] == [False] * 3
    clock.advance(10.001)  # the time of one in the middle is over
    assert guard("d", 10)
    assert [guard(key, 10) for key in "acd"] == [False] * 3


@pytest.mark.parametrize("most", [0, -1, 2.0, None, True, "5", math.inf], ids=repr)
def test_a_number_of_keys_that_cannot_be_is_refused(most: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"most is .*: give a whole number of at least 1"):
        MemoryReplayGuard(most=most)


asked = st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.integers(0, 3))


@settings(deadline=None, max_examples=300)
@given(st.lists(asked, max_size=60))
def test_it_is_a_dict_of_keys_and_the_ends_of_their_times(steps: list[tuple[str, int, int]]) -> None:
    clock = MovedClock()
    guard, model = MemoryReplayGuard(clock=clock), dict[str, float]()
    for key, seconds, later in steps:
        new = model.get(key, -1) < clock.monotonic()
        if new:
            model[key] = clock.monotonic() + seconds
        assert guard(key, seconds) is new
        clock.advance(later)


def test_what_it_holds_does_not_grow_with_what_it_has_seen(clock: MovedClock) -> None:
    guard = MemoryReplayGuard(most=11, clock=clock)
    for number in range(10_000):
        assert guard(str(number), 10)
        clock.advance(1)


def accepted_in_threads(guard: Guard, requests: list[dict[str, str]]) -> int:
    """How many of them are, when all come at once."""
    at_once = threading.Barrier(len(requests))

    def send(headers: dict[str, str]) -> bool:
        at_once.wait()
        return accepts(headers, guard, MovedClock())

    threads = [aside(partial(send, headers)) for headers in requests]
    for thread, _ in threads:
        thread.join()
    return [came for _, [came] in threads].count(True)


def test_of_copies_that_come_at_once_one_is_accepted() -> None:
    for number in range(20):
        assert accepted_in_threads(MemoryReplayGuard(), [request(f"evt_{number}")] * 8) == 1


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """They take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Interrupted(str):
    """A key at which threads may change while it is looked up."""

    __slots__ = ()

    def __hash__(self) -> int:
        return sum(0 for _ in range(200))


@pytest.mark.usefixtures("hasty_threads")
def test_it_remembers_in_one_step_what_it_looks_up() -> None:
    guard = MemoryReplayGuard()
    for number in range(50):
        at_once = threading.Barrier(4)

        def look(key: Interrupted, at_once: threading.Barrier = at_once) -> bool:
            at_once.wait()
            return guard(key, 1000)

        threads = [aside(partial(look, Interrupted(number))) for _ in range(4)]
        for thread, _ in threads:
            thread.join()
        assert [came for _, [came] in threads].count(True) == 1


# --------------------------------------------------------------------------- the guide's, in Redis


@pytest.fixture
def redis() -> Iterator[Redis]:
    with redis_client() as client:
        yield client


@pytest.fixture
def event_id(redis: Redis) -> Iterator[str]:
    event_id = f"evt_{uuid.uuid4().hex}"
    yield event_id
    for key in redis.scan_iter(f"warehouse:{event_id}*"):
        redis.delete(key)


def test_redis_remembers_for_as_long_as_it_must(redis: Redis, event_id: str, clock: MovedClock) -> None:
    is_new = from_the_guide("is_new", redis=redis, math=math)
    assert accepts(request(event_id), is_new, clock)
    assert not accepts(request(event_id), is_new, clock)
    assert accepts(request(event_id, NOW + 1), is_new, clock)
    assert 590 < redis.ttl(f"warehouse:{event_id}.{NOW}") <= 601


@pytest.mark.parametrize(("tolerance", "seconds"), [(0, 1), (0.3, 2), (10**9, 2 * 10**9 + 1)])
def test_redis_takes_the_times_of_all_tolerances(
    redis: Redis, event_id: str, clock: MovedClock, tolerance: float, seconds: int
) -> None:
    is_new = from_the_guide("is_new", redis=redis, math=math)
    verify(BODY, request(event_id), SECRET, tolerance=tolerance, replay_guard=is_new, clock=clock)
    assert seconds - 60 < redis.ttl(f"warehouse:{event_id}.{NOW}") <= seconds


def test_redis_lets_one_of_many_copies_through(redis: Redis, event_id: str) -> None:
    is_new = from_the_guide("is_new", redis=redis, math=math)
    assert accepted_in_threads(is_new, [request(event_id)] * 16) == 1


def test_where_redis_is_away_nothing_is_accepted(clock: MovedClock) -> None:
    with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nobody, pytest.raises(NoConnection):
        accepts(request(), from_the_guide("is_new", redis=nobody, math=math), clock)


# --------------------------------------------------------------------------- the guide's, in a table


class Receivers(DeclarativeBase):
    pass


class SeenRequest(Receivers):
    __tablename__ = "seen_request"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    until: Mapped[datetime]


def test_a_table_remembers(database: Database, clock: MovedClock) -> None:
    with database.patient.engine() as engine:
        Receivers.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        names = {"datetime": datetime, "timedelta": timedelta, "UTC": UTC, "IntegrityError": IntegrityError}
        is_new = from_the_guide("is_new_here", Session=sessions, SeenRequest=SeenRequest, **names)

        assert accepts(request(), is_new, clock)
        assert not accepts(request(), is_new, clock)
        assert accepts(request(at=NOW + 1), is_new, clock)
        assert accepted_in_threads(is_new, [request("evt_2")] * 8) == 1
        with sessions() as session:
            assert len(session.scalars(select(SeenRequest)).all()) == 3
