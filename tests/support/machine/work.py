"""Sessions at work, and the comparison of the replica with the tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize
from sqlalchemy import Engine, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import CircularDependencyError, IntegrityError, InvalidRequestError, OperationalError, SAWarning
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker
from sqlalchemy.orm.exc import DetachedInstanceError, FlushError, ObjectDeletedError, StaleDataError

from sqla_webhooks import Webhooks
from support.databases import Database
from support.machine import database
from support.machine.kinds import KINDS, PARTS, Kind
from support.machine.replica import Replica, name_of
from support.receiver import Received, Receiver, by_row

#: What an application may meet, and answers by rolling back. `OutboxWriteError` is none of them.
LEGAL = (
    *(IntegrityError, OperationalError, StaleDataError, FlushError, ObjectDeletedError, InvalidRequestError),
    *(DetachedInstanceError, CircularDependencyError),
    SAWarning,  # an error in tests, in the midst of a flush
)

#: Which session does it: the first one mostly.
LANES = st.sampled_from([0, 0, 0, 1])
#: Which of the kinds of an example.
WHICH = st.integers(0, 3)
#: Which of several.
NUMBERS = st.integers(0, 80)

CLASSES = tuple(kind.cls for kind in (*KINDS, *PARTS))


@dataclass(frozen=True)
class World:
    """What lasts from example to example."""

    database: Database
    engine: Engine
    receiver: Receiver
    webhooks: Webhooks
    sessions: sessionmaker[Session]
    #: What is compared.
    classes: Sequence[type[Any]] = CLASSES


@dataclass
class Lane:
    """One session, which touches the rows of its own number only."""

    number: int
    session: Session
    savepoints: list[SessionTransaction] = field(default_factory=list)
    #: How many rules it has followed.
    done: int = 0
    #: What the application holds on to; the session alone would let it go.
    kept: list[Any] = field(default_factory=list)

    def keep(self, instance: Any) -> Any:
        if not any(instance is one for one in self.kept):
            self.kept.append(instance)
        return instance

    def add(self, instance: Any) -> Any:
        """A new row."""
        instance.lane = self.number
        self.session.add(instance)
        return self.keep(instance)

    def held(self, cls: type[Any]) -> list[Any]:
        """What the session has of a class and the application holds on to, flushed or not."""
        return [
            one for one in self.kept if type(one) is cls and one in self.session and one not in self.session.deleted
        ]

    def found(self, cls: type[Any]) -> list[Any]:
        """The rows of a class, by a query, which flushes."""
        order = sa_inspect(cls).primary_key
        rows = self.session.scalars(select(cls).where(cls.lane == self.number).order_by(*order)).all()
        return [self.keep(one) for one in rows if type(one) is cls]

    def some(self, cls: type[Any], number: int) -> Any:
        """One of a class, or None: what is held, without a query, or what is found by one."""
        by_query, place = number % 2, number // 2
        ones = self.found(cls) if by_query else self.held(cls) or self.found(cls)
        return ones[place % len(ones)] if ones else None

    def some_or_new(self, kind: Kind, number: int) -> Any:
        """One of a kind, which is made if there is none."""
        found = self.some(kind.cls, number)
        return self.add(kind.cls(**kind.identity(self.number, number))) if found is None else found


class Work(RuleBasedStateMachine):
    """The sessions of one example, and one replica. Rules stand in classes derived from it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        keys = {
            name_of(cls): tuple(sa_inspect(cls).get_property_by_column(one).key for one in sa_inspect(cls).primary_key)
            for cls in world.classes
        }
        # An orphan that only the flush finds is deleted without what was never loaded of it.
        self.replica = Replica(keys, partial={"item"})
        self.lanes: list[Lane] = []

    @initialize(
        keep_loaded=st.booleans(),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
        pace=st.sampled_from([None, 2, 4, 7]),
    )
    def open(self, keep_loaded: bool, kinds: Sequence[Kind], pace: int | None = None) -> None:
        """
        An example is about a few kinds, so that much happens to each row.

        Args:
            pace: After how many rules a session commits though none has said so.
        """
        self.keep_loaded, self.kinds, self.pace = keep_loaded, kinds, pace
        self.lanes = [Lane(number, self._session()) for number in range(2)]

    def kind(self, which: int, *, among: Sequence[Kind] = ()) -> Kind:
        """One of the example's kinds; or else one of those that will do."""
        fit = [one for one in self.kinds if not among or one in among] or among
        return fit[which % len(fit)]

    @contextmanager
    def at_work(self, number: int) -> Iterator[Lane]:
        """One session at work; what an application may meet makes it roll back."""
        lane = self.lane(number)
        try:
            yield lane
        except LEGAL as error:
            self._tell(error)
            self.roll_back(lane)
            return
        lane.done += 1
        if self.pace is not None and lane.done % self.pace == 0:
            self.end(lane)
            self.compare()

    def lane(self, number: int) -> Lane:
        """The session of that number, or the one that is at it if there may be only one."""
        other = self.lanes[1 - number]
        return other if not self.world.database.is_shared and other.session.in_transaction() else self.lanes[number]

    def roll_back(self, lane: Lane) -> None:
        """Roll all back; none of it may be heard of."""
        while lane.session.in_nested_transaction():
            lane.session.rollback()
        lane.session.rollback()
        lane.savepoints.clear()
        assert self.hear() == 0, "an event of what was rolled back"

    def end(self, lane: Lane) -> None:
        """Commit, or roll back if that cannot be."""
        try:
            lane.session.commit()
        except LEGAL as error:
            self._tell(error)
            self.roll_back(lane)
        lane.savepoints.clear()

    def reopen(self, lane: Lane) -> None:
        """Another session, which knows nothing."""
        lane.session.close()
        lane.session = self._session()
        lane.savepoints.clear()
        lane.kept.clear()

    def hear(self) -> int:
        """Let everything that was committed arrive; how many events did."""
        drained = self.world.webhooks.drain()
        assert drained.complete
        arrived = list(self.world.receiver.received)
        self.world.receiver.forget()
        assert drained.events == drained.attempts == len(arrived)
        if arrived:
            self.replica.hear(self._in_order(arrived), once=self.world.webhooks.settings.coalesce)
        return len(arrived)

    def _in_order(self, arrived: Sequence[Received]) -> Sequence[Received]:
        """
        The order in which the events were made, which for each row is that in which they arrive.

        An event may be overtaken by those of other rows, also of one that has
        taken the row's key.
        """
        made = {one.id: -number for number, one in enumerate(self.world.webhooks.events.list(limit=len(arrived)))}
        for events in by_row(arrived).values():
            numbers = [made[event["id"]] for event in events]
            assert numbers == sorted(numbers), "events of one row came in another order than they were made"
        return sorted(arrived, key=lambda request: made[request.id])

    def compare(self) -> None:
        """Whether the replica is what the tables are."""
        self.hear()
        engine = self.world.engine
        _assert_same(self.replica.rows, database.rows(engine, self.world.classes))
        _assert_same(self.replica.links, database.links(engine, self.world.classes))

    def teardown(self) -> None:
        try:
            if sys.exception() is None:
                for lane in self.lanes:
                    self.end(lane)
                    self.compare()  # or what one has committed would be taken for what the other rolls back
        finally:
            for lane in self.lanes:
                lane.session.close()

    def _session(self) -> Session:
        return self.world.sessions(expire_on_commit=not self.keep_loaded)

    def _tell(self, error: Exception) -> None:
        """Overridden to know how often."""


def _assert_same(heard: Mapping[Any, Any], stands: Mapping[Any, Any]) -> None:
    assert heard == stands, [
        f"{place}: heard of {heard.get(place)}, there stands {stands.get(place)}"
        for place in heard.keys() | stands.keys()
        if heard.get(place) != stands.get(place)
    ]
