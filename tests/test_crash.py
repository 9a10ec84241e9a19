"""
Whenever a process dies, nothing is lost, nothing is invented, and each row's order is kept.

An event comes twice only if the process that held it died before it had
recorded the answer.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.crash.account import Account, Arrival, Death
from support.crash.life import LONGEST
from support.crash.ordeal import Ordeal, Process, ordeal
from support.crash.steps import STEPS, every_fall
from support.databases import database_named
from support.local import Install
from support.receiver import PATIENCE, Received, Receiver, by_row
from support.shop import Product, put

pytestmark = pytest.mark.stress

#: Each is tried with a part of the falls, and with all of them in the long run.
PLACES = ("sqlite, journal", "sqlite, wal", "postgresql")
ALL_PLACES = (*PLACES, "mariadb")

#: How often all falls are gone through, and how many kills there are, for each place in the long run.
ROUNDS, KILLS = 4, 120

#: Seconds after its first commit within which a process is killed.
LONGEST_LIFE = 0.3


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """Another in each run of the tests, which says it at its begin."""
    return f"{request.config.option.hypothesis_seed}"


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, receiver: Receiver, seed: str) -> Iterator[Ordeal]:
    name, _, journal = request.param.partition(", ")
    mode = "wal" if journal == "wal" else "delete"
    with (
        database_named(name, tmp_path) as database,
        ordeal(database.patient, receiver, directory=tmp_path, seed=seed, journal=mode) as place,
    ):
        yield place


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_are_there(name: str) -> None:
    """Whoever gives one another name finds here where else it stands."""
    assert STEPS[name].function.endswith(STEPS[name].code.co_name)


@pytest.mark.parametrize(
    ("came", "died", "amiss"),
    [
        ([("1", "a", 200), ("2", "b", 200)], False, None),
        ([("1", "a", 500), ("1", "a", 200), ("2", "b", 200)], False, None),
        ([("1", "a", 200), ("1", "a", 200), ("2", "b", 200)], True, None),
        ([("1", "a", 200)], False, "lost \\[\\('update', 'b'\\)\\]"),
        ([("1", "a", 200), ("2", "b", 200), ("3", "c", 200)], False, "invented \\[\\('update', 'c'\\)\\]"),
        ([("2", "b", 200), ("1", "a", 200)], False, "at 0"),
        ([("1", "a", 200), ("2", "b", 200), ("3", "b", 200)], False, "at 2"),
        ([("1", "a", 200), ("2", "b", 200), ("1", "a", 200)], True, "again after a later one"),
        ([("1", "a", 500), ("2", "b", 200)], False, "was given up"),
        ([("1", "a", 200), ("1", "a", 200), ("2", "b", 200)], False, "without a reason"),
        ([("1", "a", 200), ("1", "a", 200), ("1", "a", 200), ("2", "b", 200)], True, "without a reason"),
    ],
)
def test_the_account_finds_what_is_amiss(came: list[tuple[str, str, int]], died: bool, amiss: str | None) -> None:  # noqa: FBT001  # a parameter
    """Ids, marks and answers of what came; "a" and "b" were committed. After the first request one may die."""
    deaths = [Death(1, frozenset({("/", "1")}))] if died else []
    account = Account({1: [("update", "a"), ("update", "b")]}, [_arrival(*one) for one in came], deaths, paths=["/"])
    with nullcontext() if amiss is None else pytest.raises(AssertionError, match=amiss):
        account.check()


def _arrival(id_: str, mark: str, status: int) -> Arrival:
    event = {"operation": "update", "resource_id": "1", "data": {"mark": mark, "version": 1}}
    return Arrival(Received("/", {"webhook-id": id_}, json.dumps(event).encode()), status)


@pytest.mark.parametrize(("place", "part"), [(place, part) for part, place in enumerate(PLACES)], indirect=["place"])
def test_falls_at_every_step(place: Ordeal, part: int, seed: str) -> None:
    """All of them, shared out between the databases."""
    for fall in every_fall(random.Random(seed))[part :: len(PLACES)]:
        place.fall(fall)

    assert place.finish().arrivals


@pytest.mark.long
@pytest.mark.parametrize("place", ALL_PLACES, indirect=True)
def test_falls_at_every_step_everywhere(place: Ordeal, seed: str) -> None:
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        for fall in every_fall(chance):
            place.fall(fall)

    assert place.finish().repeats


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_killed_while_it_waits_for_answers(place: Ordeal, receiver: Receiver) -> None:
    """What the receiver has taken, and nobody has recorded, comes again under the same id."""
    killed = _kill_at_request(place, receiver, number=5)
    killed |= _kill_at_request(place, receiver, number=20)

    arrivals = place.finish().arrivals
    again = {one.key for number, one in enumerate(arrivals) if one.key in {early.key for early in arrivals[:number]}}
    assert killed <= again


def _kill_at_request(place: Ordeal, receiver: Receiver, *, number: int) -> set[tuple[str, str]]:
    """Kill a process that writes as this request of it is about to be answered; that delivery."""
    process = place.start()
    count, dead = itertools.count(1), threading.Event()
    held: set[tuple[str, str]] = set()

    def kill(request: Received) -> None:
        if next(count) == number:
            held.add((request.path, request.id))
            process.process.kill()
            dead.wait(PATIENCE)

    receiver.on_request = kill
    process.wait_for(-signal.SIGKILL)
    dead.set()
    place.bury()
    receiver.on_request = None
    return held


@pytest.mark.parametrize("place", ["sqlite, wal"], indirect=True)
def test_killed_at_any_moment(place: Ordeal, seed: str) -> None:
    _kill_at_any_moment(place, times=6, chance=random.Random(seed))


@pytest.mark.long
@pytest.mark.parametrize("place", ALL_PLACES, indirect=True)
def test_killed_at_any_moment_everywhere(place: Ordeal, seed: str) -> None:
    _kill_at_any_moment(place, times=KILLS, chance=random.Random(seed))


def _kill_at_any_moment(place: Ordeal, *, times: int, chance: random.Random) -> None:
    for _ in range(times):
        process = place.start()
        process.wait_until_it_writes()
        _let_live(process, chance.uniform(0, LONGEST_LIFE))
        place.kill(process)

    assert place.finish().arrivals


def _let_live(process: Process, seconds: float) -> None:
    """It does not end by itself, so this is how long it lives on."""
    process.process.join(seconds)


@pytest.mark.parametrize("place", ["sqlite, wal", "postgresql", "mariadb"], indirect=True)
def test_one_of_many_is_killed(place: Ordeal, receiver: Receiver) -> None:
    """All write to the same rows, and all relay."""
    _kill_one_of_many(place, receiver, transactions=15)

    assert place.finish().arrivals


@pytest.mark.long
@pytest.mark.parametrize("place", ALL_PLACES, indirect=True)
def test_one_of_many_is_killed_again_and_again(place: Ordeal, receiver: Receiver) -> None:
    for _ in range(ROUNDS):
        _kill_one_of_many(place, receiver, transactions=60)

    assert place.finish().arrivals


def _kill_one_of_many(place: Ordeal, receiver: Receiver, *, transactions: int) -> None:
    victim, *others = place.start(), place.start(transactions=transactions), place.start(transactions=transactions)
    receiver.wait_for(len(receiver.received) + 40)
    victim.kill()
    place.pass_the_lead()
    for process in others:
        process.wait_for(0, seconds=LONGEST + PATIENCE)
    place.bury()


def test_a_process_ends_with_the_test_that_started_it(tmp_path: Path, receiver: Receiver) -> None:
    with (
        database_named("sqlite", tmp_path) as database,
        ordeal(database.patient, receiver, directory=tmp_path, seed="") as place,
    ):
        process = place.start()
        process.wait_until_it_writes()
        process.leash.close()  # as it is if the test is killed
        process.wait_for(1)


def test_what_a_process_held_while_it_slept_is_not_sent_after_what_came_later(
    install: Install, sessions: sessionmaker[Session], engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    """A machine that is suspended while it sends: by the time it goes on, another process has sent everything."""
    sleeper = install(sessions, deliver=False, clock=clock)
    other = install(sessionmaker(engine), deliver=False, clock=clock)
    sleeper.endpoints.create(receiver.url(), events=["*"])
    put(sessions, "a", "b")
    with sessions.begin() as session:
        session.get_one(Product, "b").stock = 1

    def sleep(_request: Received) -> None:
        receiver.on_request = None
        clock.suspend(sleeper.settings.lease + 1)
        other.drain()

    receiver.on_request = sleep
    sleeper.drain()

    assert [one["type"] for one in by_row(receiver.received)["product", "b"]] == ["product.created", "product.updated"]
