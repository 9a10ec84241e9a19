"""
The boundary between tenants, proved: whatever is done, nothing of one reaches another, and nothing of its own is lost.

Every version of a row has the mark of whom it is, in each of its values. So a
body that has another's mark has crossed; and a copy that a tenant's endpoint
makes of what it gets must be its rows, by a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database, clear
from support.local import Install
from support.receiver import Receiver
from support.tenancy import CLASSES, MARKS, STEPS, TENANTS, Base, Cell, Note, Rows, owner_name, rows, transact, whose

import sqla_webhooks.models
from sqla_webhooks import NotFound, Webhooks

pytestmark = pytest.mark.machine

_OWNERS = st.sampled_from([*TENANTS, None, "all"])
_PATTERNS = st.sampled_from(["*", "doc.*", "*.created", "*.deleted", "cell.updated"])
_PLACES = st.integers(0, 50)

#: What is done between transactions.
MEANWHILE = st.one_of(
    st.tuples(st.just("relay")),
    st.tuples(st.just("relay")),
    st.tuples(st.just("nothing")),
    st.tuples(st.just("create"), _OWNERS, _PATTERNS),
    st.tuples(st.just("disable"), _PLACES),
    st.tuples(st.just("enable"), _PLACES),
    st.tuples(st.just("replay"), _PLACES, _PLACES),
    st.tuples(st.just("replay_all"), _PLACES, st.booleans()),
    st.tuples(st.just("fail"), st.integers(1, 3)),
    st.tuples(st.just("retry_all")),
)

HISTORIES = st.lists(
    st.tuples(st.lists(STEPS, min_size=3, max_size=8), st.sampled_from([True] * 5 + [False]), MEANWHILE),
    min_size=4,
    max_size=8,
)
#: Few of them, so that much happens to each row.
KINDS = st.lists(st.sampled_from([*CLASSES, Cell, Cell]), min_size=1, max_size=2)

History = Sequence[tuple[list[tuple[Any, ...]], bool, tuple[Any, ...]]]


@dataclass
class Endpoint:
    """Whose it is, and what came to it: each event once."""

    id: str
    #: A tenant, None for what is shared, "all".
    owner: str | None
    #: Whether it has been there from the beginning, with all types.
    whole: bool
    events: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def may_have(self) -> set[str]:
        """Whose marks may come to it."""
        return set(MARKS.values()) if self.owner == "all" else {MARKS[self.owner]}


class World:
    """What lasts from example to example, and the endpoints of one."""

    def __init__(
        self, sessions: sessionmaker[Session], webhooks: Webhooks, receiver: Receiver, clock: MovedClock
    ) -> None:
        self.sessions, self.webhooks, self.receiver, self.clock = sessions, webhooks, receiver, clock
        self.engine = webhooks.engine
        self.endpoints: list[Endpoint] = []

    def restart(self) -> None:
        ours = sqla_webhooks.models
        for one in self.webhooks.endpoints.list():
            self.webhooks.endpoints.delete(one.id)
        tables = [*Base.metadata.sorted_tables, ours.outbox, ours.event, ours.delivery, ours.attempt, ours.health]
        clear(self.engine, *tables)
        self.receiver.forget()
        self.endpoints = []
        for owner in ("all", None, *TENANTS):
            self.create(owner, "*", whole=True)

    # ------------------------------------------------------------------ meanwhile

    def create(self, owner: str | None, pattern: str, *, whole: bool = False) -> None:
        reach: dict[str, Any] = {"scope": "shared"} if owner is None else {} if owner == "all" else {"tenant": owner}
        url = self.receiver.url(f"/{len(self.endpoints)}")
        made = self.webhooks.endpoints.create(url, [pattern], **reach)
        self.endpoints.append(Endpoint(made.id, owner, whole))

    def nothing(self) -> None:
        pass

    def relay(self) -> None:
        assert self.webhooks.drain().complete
        self.hear()

    def disable(self, place: int) -> None:
        self.webhooks.endpoints.disable(self.one(place).id)

    def enable(self, place: int) -> None:
        self.webhooks.endpoints.enable(self.one(place).id)

    def replay(self, place: int, number: int) -> None:
        events = self.webhooks.events.list()
        if events:
            with suppress(NotFound):
                self.webhooks.events.replay(events[number % len(events)].id, endpoint=self.one(place).id)

    def replay_all(self, place: int, again: bool) -> None:  # noqa: FBT001  # a step is called by name
        self.webhooks.events.replay_all(endpoint=self.one(place).id, again=again)

    def fail(self, count: int) -> None:
        self.receiver.answer(*[500] * count)

    def retry_all(self) -> None:
        self.webhooks.deliveries.retry_all()

    def one(self, place: int) -> Endpoint:
        return self.endpoints[place % len(self.endpoints)]

    # ------------------------------------------------------------------ what comes of it

    def hear(self) -> None:
        """Nothing that has come is anybody else's, in whatever part of its request."""
        for request in self.receiver.received:
            endpoint = self.endpoints[int(request.path.removeprefix("/"))]
            whole = request.body.decode() + json.dumps(request.headers)
            crossed = [mark for mark in MARKS.values() if mark in whole and mark not in endpoint.may_have]
            assert not crossed, f"{crossed} came to the endpoint of {endpoint.owner!r}: {whole}"
            assert "owner_token" not in whole
            endpoint.events[request.id] = request.event
        self.receiver.forget()

    def settle(self) -> None:
        """Until all has come that ever will."""
        for place in range(len(self.endpoints)):
            self.enable(place)
        for _ in range(30):
            self.webhooks.deliveries.retry_all()
            self.relay()
            if not any(self.webhooks.deliveries.list(state=state, limit=1) for state in ("pending", "dead")):
                return
            self.clock.advance(600)
        pytest.fail("there is always something left")

    def pester(self) -> None:
        """Ask for everything once more, for everybody."""
        for endpoint in self.endpoints:
            for event in self.webhooks.events.list(limit=2):
                with suppress(NotFound):
                    self.webhooks.events.replay(event.id, endpoint=endpoint.id)
        self.webhooks.events.replay_all(endpoint=self.endpoints[-1].id, again=True)
        self.settle()

    def compare(self) -> None:
        """Whether each endpoint's copy is what a query finds."""
        self.settle()
        made = {one.id: -number for number, one in enumerate(self.webhooks.events.list(limit=10_000))}
        for endpoint in self.endpoints:
            if endpoint.whole:
                copy: Rows = {}
                for event in sorted(endpoint.events.values(), key=lambda one: made[one["id"]]):
                    _apply(copy, event)
                with self.engine.connect() as connection:
                    stands = rows(connection, of=None if endpoint.owner == "all" else [endpoint.owner])
                assert copy == stands, f"of {endpoint.owner!r}"


def _apply(copy: Rows, event: dict[str, Any]) -> None:
    """Strictly: what is new was not there, and what goes or changes was, under the key that it had."""
    place = event["resource"], event["resource_id"]
    data = {name: value for name, value in event["data"].items() if name != "now"}
    before = place
    if event["operation"] == "update" and place not in copy:
        before = event["resource"], _former(event)
    there = copy.pop(before, None)
    assert (there is None) == (event["operation"] == "create"), f"{event} came when there was {there}"
    if event["operation"] == "delete":
        assert there == data, f"{event} is not what there was: {there}"
    else:
        copy[place] = data


def _former(event: dict[str, Any]) -> str:
    """The key before an update of it."""
    values = {**event["data"], **{name: one["from"] for name, one in event["changes"].items() if "from" in one}}
    names = {"doc": ["number"], "cell": ["shelf", "number"], "own": ["owner", "number"]}[event["resource"]]
    return ",".join(str(values[name]) for name in names)


@pytest.fixture(params=[True])
def world(request: pytest.FixtureRequest, database: Database, install: Install, receiver: Receiver) -> Iterator[World]:
    """The parameter is whether the changes of a row in one transaction become one event."""
    clock = MovedClock()
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = install(
            sessions,
            deliver=False,
            clock=clock,
            coalesce=request.param,
            stop=lambda _state: True,
            disable_after=None,
            tenant=whose,
            batch_size=3,
        )
        for cls in CLASSES:
            webhooks.enricher(cls)(_tell_of_now)
        yield World(sessions, webhooks, receiver, clock)


def _tell_of_now(row: Any, payload: dict[str, Any]) -> None:
    """As the row is when it is relayed, whosever it is by then."""
    name = owner_name(type(row))
    payload["now"] = [row.mark, row.rest, MARKS[None if name is None else getattr(row, name)]]


def run(world: World, kinds: Sequence[type[Any]], history: History) -> None:
    world.restart()
    # Each tenant has something to lose.
    peopled = [("add", kind, number, owner) for kind in range(len(kinds)) for number, owner in enumerate(TENANTS)]
    for steps, commit, meanwhile in [(peopled, True, ("relay",)), *history]:
        with world.sessions() as session:
            transact(session, kinds, steps, commit=commit)
        name, *arguments = meanwhile
        getattr(world, name)(*arguments)
    world.compare()
    world.pester()


PATIENT = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[one for one in Phase if one is not Phase.explain],
)


def prove(world: World, *, examples: int) -> None:
    @settings(PATIENT, max_examples=examples)
    @given(kinds=KINDS, history=HISTORIES)
    @example(
        kinds=[Note],
        history=[
            ([("add", 0, 1, "acme")], True, ("relay",)),
            ([("move", 0, 1, "ACME"), ("flush",), ("move", 0, 1, "acme ")], True, ("nothing",)),
            ([("move", 0, 1, None)], True, ("replay_all", 2, True)),
        ],
    )
    def proved(kinds: Any, history: Any) -> None:
        run(world, kinds, history)

    proved()


@pytest.mark.parametrize(
    "database",
    ["sqlite", *(pytest.param(name, marks=pytest.mark.stress) for name in ("postgresql", "mariadb"))],
    indirect=True,
)
def test_nothing_crosses_and_nothing_is_lost(world: World, database: Database) -> None:
    prove(world, examples=50 if database.name == "sqlite" else 20)


@pytest.mark.stress
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("world", [False], indirect=True)
def test_nothing_crosses_with_an_event_for_each_flush(world: World) -> None:
    prove(world, examples=25)


@pytest.mark.long
def test_nothing_crosses_and_nothing_is_lost_for_long(world: World) -> None:
    prove(world, examples=1500)
