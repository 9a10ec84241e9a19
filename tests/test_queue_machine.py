"""
Whatever is done to deliveries, and in whatever order: nothing is left that nobody wakes, and in the end all have gone.

Relays claim, record in time and too late, or die; people retry, cancel,
replay; endpoints are disabled and enabled; what is old is removed.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import create_engine, select
from sqlalchemy.pool import StaticPool
from support.clock import MovedClock
from support.queues import faults, rows_of
from support.stand import LEASE, Stand

from sqla_webhooks import DeliveryState, Retention, WrongState, models
from sqla_webhooks.deliveries import Claim
from sqla_webhooks.history import Deliveries, Events
from sqla_webhooks.outbox.endpoints import change
from sqla_webhooks.outbox.retention import prune
from sqla_webhooks.outbox.withdraw import withdraw

pytestmark = pytest.mark.stress

ROWS = st.lists(st.sampled_from(["a", "b", "c", "a>b", "b>c", "c>a"]), min_size=1, max_size=4)
PICK = st.integers(0, 10**6)
DAY = 86400.0


class Machine(RuleBasedStateMachine):
    @initialize(hold=st.booleans(), ordering=st.sampled_from([(True, True), (True, False)]))
    def begin(self, *, hold: bool, ordering: tuple[bool, bool]) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        models.metadata.create_all(self.engine)
        self.clock = MovedClock()
        self.stand = Stand(self.engine, hold=hold)
        self.endpoints = [self.stand.endpoint(ordering=one) for one in ordering]
        self.deliveries = Deliveries(self.stand.door, clock=self.clock, due=lambda: None)
        self.events = Events(self.stand.door, clock=self.clock, due=lambda: None)
        self.claims: list[Claim] = []
        self.publish(["a", "a", "b", "a>b", "b"])

    # ----------------------------------------------------------------------- relays

    @rule(rows=ROWS)
    def publish(self, rows: list[str]) -> None:
        self.stand.publish(*rows, now=self.clock.now())

    @rule(pick=PICK, retry=st.booleans(), limit=st.integers(1, 4))
    def claim(self, pick: int, *, retry: bool, limit: int) -> None:
        endpoint = self.endpoints[pick % len(self.endpoints)]
        self.claims += self.stand.claim(endpoint, limit, retry=retry, now=self.clock.now())

    @precondition(lambda self: self.claims)
    @rule(pick=PICK, status=st.sampled_from([200, 500]), given_up=st.booleans())
    def record(self, pick: int, status: int, *, given_up: bool) -> None:
        claim = self.claims.pop(pick % len(self.claims))
        self.stand.record([claim], status, attempts=1 if given_up else None, now=self.clock.now())

    @precondition(lambda self: self.claims)
    @rule()
    def record_all(self) -> None:
        self.stand.record(self.claims, now=self.clock.now())
        self.claims.clear()

    @rule(seconds=st.sampled_from([1.0, 6.0, LEASE, DAY]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # ----------------------------------------------------------------------- people

    @rule(pick=PICK)
    def retry(self, pick: int) -> None:
        for number in self._one(pick):
            before = self.deliveries.get(number).state
            try:
                after = self.deliveries.retry(number)
            except WrongState:
                assert before is DeliveryState.DELIVERED
            else:
                assert after.state in {DeliveryState.PENDING, DeliveryState.HELD}
                assert self.deliveries.retry(number) == after

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        for number in self._one(pick):
            before = self.deliveries.get(number).state
            try:
                assert self.deliveries.cancel(number).state is DeliveryState.CANCELLED
            except WrongState:
                assert before is DeliveryState.DELIVERED

    @rule()
    def retry_all(self) -> None:
        self.deliveries.retry_all()
        assert self.deliveries.list(state="dead") == []

    @rule(state=st.sampled_from(["pending", "held", "dead"]))
    def cancel_all(self, state: Any) -> None:
        self.deliveries.cancel_all(state=state)
        assert self.deliveries.list(state=state) == []

    @rule(pick=PICK, other=PICK)
    def replay(self, pick: int, other: int) -> None:
        events = self.events.list()
        if events:
            endpoint = self._public_id(self.endpoints[other % len(self.endpoints)])
            event = events[pick % len(events)].id
            assert self.events.replay(event, endpoint=endpoint) == self.events.replay(event, endpoint=endpoint)

    @rule(pick=PICK, again=st.booleans())
    def replay_all(self, pick: int, *, again: bool) -> None:
        self.events.replay_all(endpoint=self._public_id(self.endpoints[pick % len(self.endpoints)]), again=again)

    @rule(pick=PICK, enabled=st.booleans())
    def enable(self, pick: int, *, enabled: bool) -> None:
        public_id = self._public_id(self.endpoints[pick % len(self.endpoints)])
        with self.stand.door.write() as connection:
            change(connection, public_id, now=self.clock.now(), enabled=enabled)

    # ----------------------------------------------------------------------- upkeep

    @rule()
    def withdraw(self) -> None:
        for lane in self.stand.lanes():
            if not lane.open:
                withdraw(self.stand.door, lane, now=self.clock.now())

    @rule()
    def prune(self) -> None:
        kept = Retention(attempts=DAY, delivered=DAY, dead=DAY, events=DAY)
        assert list(prune(self.stand.door, kept, now=self.clock.now())) is not None

    # ----------------------------------------------------------------------- what holds

    @invariant()
    def nothing_is_left_that_nobody_wakes(self) -> None:
        if hasattr(self, "engine"):
            assert faults(self.engine) == []

    def teardown(self) -> None:
        """All are enabled, nobody fails any more: everything goes, but for what a dead letter holds."""
        if not hasattr(self, "engine"):
            return
        self.stand.change(models.endpoint, enabled=True)
        self.claims.clear()
        for _ in range(len(rows_of(self.engine)) + 1):
            self.clock.advance(DAY)
            self.deliveries.retry_all()
            for endpoint in self.endpoints:
                for retry in (False, True):
                    now = self.clock.now()
                    self.stand.record(self.stand.claim(endpoint, retry=retry, now=now), now=now)
        rows = rows_of(self.engine)
        assert {row.state for row in rows} <= {"delivered", "cancelled"}
        assert {(row.lane, row.ordering_key, row.former_key) for row in rows} <= {(None, None, None)}
        self.engine.dispose()

    def _one(self, pick: int) -> list[int]:
        numbers = [row.id for row in rows_of(self.engine)]
        return [numbers[pick % len(numbers)]] if numbers else []

    def _public_id(self, endpoint: int) -> str:
        with self.engine.connect() as connection:
            query = select(models.endpoint.c.public_id).where(models.endpoint.c.id == endpoint)
            return str(connection.execute(query).scalar_one())


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
