"""
Relays and people at work on the same few rows at once: nothing is left that nobody wakes, and each row's order is kept.

As `test_queue_machine`, but in threads, on databases where transactions overlap.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pytest
from sqlalchemy import Connection, event, select
from support.clock import MovedClock
from support.databases import Database
from support.queues import faults, rows_of
from support.stand import LEASE, Stand, stand_on
from support.threads import aside

from sqla_webhooks import NotFound, Retention, WrongState, models
from sqla_webhooks.history import Deliveries, Events
from sqla_webhooks.outbox.lead import lock
from sqla_webhooks.outbox.retention import prune

pytestmark = pytest.mark.stress

#: Few changes of many rows: what is added comes behind the last of its row as that is being finished.
ROWS = (*"abcdef" * 3, "a>b", "b>a")
DAY = 86400.0


@dataclass
class Scene:
    """One endpoint, and what has been sent to it, in this order."""

    stand: Stand
    endpoint: int
    clock: MovedClock
    sent: list[int] = field(default_factory=list)
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, stand: Stand, chance: random.Random) -> None:
        """As the fan-out does, one at a time."""
        rows = chance.choices(ROWS, k=chance.randint(1, 2))
        with stand.door.write() as connection:
            lock(connection)
            stand.publish_on(connection, *rows, now=self.clock.now())

    def send(self, stand: Stand, chance: random.Random) -> None:
        """Some of it in vain, and of some no result is recorded in time."""
        claims = stand.claim(self.endpoint, chance.randint(1, 4), retry=chance.random() < 0.3, now=self.clock.now())
        with self._sending:
            self.sent += [one.delivery_id for one in claims]
        if chance.random() < 0.1:
            self.clock.advance(LEASE)
        elif chance.random() < 0.1:
            return
        stand.record(claims, chance.choice([200, 200, 500]), now=self.clock.now())

    def drain(self) -> None:
        """Until all that waits has gone."""
        for _ in range(3 * len(rows_of(self.stand.engine)) + 3):
            self.clock.advance(LEASE)
            for retry in (False, True):
                claims = self.stand.claim(self.endpoint, retry=retry, now=self.clock.now())
                self.sent += [one.delivery_id for one in claims]
                self.stand.record(claims, now=self.clock.now())


@pytest.fixture
def scene(database: Database) -> Iterator[Scene]:
    with stand_on(database) as stand:
        event.listen(stand.engine, "commit", dawdle)
        yield Scene(stand, stand.endpoint(), MovedClock())


def dawdle(_connection: Connection) -> None:
    """Before each commit, so that transactions overlap; for nothing is waited."""
    threading.Event().wait(random.choice([0.0, 0.002, 0.01]))


Act = Callable[[Stand, random.Random], object]


def play(scene: Scene, parts: Sequence[Sequence[Act]], *, times: int, seed: str) -> None:
    """Each part in a thread of its own, which does one of its acts after the other, so often."""

    def run(part: int) -> None:
        stand, chance = scene.stand.twin(), random.Random(f"{seed} {part}")
        for _ in range(times):
            chance.choice(parts[part])(stand, chance)

    threads = [aside(partial(run, part)) for part in range(len(parts))]
    for thread, _ in threads:
        thread.join()
    assert [came for _, came in threads] == [[None]] * len(parts), seed


def out_of_order(scene: Scene) -> list[tuple[int, int]]:
    """Pairs of deliveries of one row of which the later was sent first."""
    events, deliveries = models.event, models.delivery
    query = select(deliveries.c.id, events.c.row_key, events.c.former_key).join(
        events, events.c.id == deliveries.c.event_id
    )
    with scene.stand.engine.connect() as connection:
        rows = {number: {key for key in keys if key is not None} for number, *keys in connection.execute(query)}
    came = {number: place for place, number in reversed(list(enumerate(scene.sent)))}
    pairs = itertools.combinations(sorted(came), 2)
    return [(one, other) for one, other in pairs if rows[one] & rows[other] and came[one] > came[other]]


TIMES = [pytest.param(40), pytest.param(400, marks=pytest.mark.long)]
on_each = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)


@on_each
@pytest.mark.parametrize("times", TIMES)
def test_relays_keep_the_order_of_each_row(scene: Scene, times: int, request: pytest.FixtureRequest) -> None:
    seed = f"{request.config.option.hypothesis_seed}"
    play(scene, [[scene.publish], [scene.send], [scene.send], [scene.send]], times=times, seed=seed)
    assert faults(scene.stand.engine) == []
    scene.drain()

    assert {row.state for row in rows_of(scene.stand.engine)} == {"delivered"}
    assert {row.id for row in rows_of(scene.stand.engine)} == set(scene.sent)
    assert out_of_order(scene) == []


@on_each
@pytest.mark.parametrize("times", TIMES)
def test_people_leave_nothing_that_nobody_wakes(scene: Scene, times: int, request: pytest.FixtureRequest) -> None:
    seed, door = f"{request.config.option.hypothesis_seed}", scene.stand.door
    deliveries = Deliveries(door, clock=scene.clock, due=lambda: None)
    events = Events(door, clock=scene.clock, due=lambda: None)
    with scene.stand.engine.connect() as connection:
        endpoint = str(connection.execute(select(models.endpoint.c.public_id)).scalar_one())

    def one(act: Callable[[int], object]) -> Act:
        def choose(_stand: Stand, chance: random.Random) -> None:
            if found := deliveries.list(limit=50):
                with suppress(WrongState, NotFound):
                    act(chance.choice(found).id)

        return choose

    people: list[Act] = [
        one(deliveries.retry),
        one(deliveries.cancel),
        lambda *_: deliveries.cancel_all(state="pending"),
        lambda *_: events.replay_all(endpoint=endpoint, again=True),
        lambda *_: list(
            prune(door, Retention(attempts=DAY, delivered=LEASE, dead=LEASE, events=DAY), now=scene.clock.now())
        ),
    ]
    play(scene, [[scene.publish, scene.send], [scene.send], people, people], times=times, seed=seed)
    assert faults(scene.stand.engine) == []
    scene.drain()

    assert {row.state for row in rows_of(scene.stand.engine)} <= {"delivered", "cancelled"}
