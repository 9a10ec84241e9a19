"""Ways across the boundary between tenants that were tried, and are shut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Computed, String, TypeDecorator, delete, func, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support.clock import MovedClock
from support.databases import database_named
from support.local import Install
from support.receiver import Receiver

from sqla_webhooks import Endpoint, NotFound, TenantUnknown, tenant_unknown
from sqla_webhooks.events import Event
from sqla_webhooks.terms import Payload

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    """The classes of these tests."""


class Bag(Base):
    """Says nothing: the function decides, by what is in its JSON."""

    __tablename__ = "attacks_bag"
    id: Mapped[int] = mapped_column(primary_key=True)
    meta: Mapped[Any] = mapped_column(JSON)
    note: Mapped[str | None] = mapped_column(String(20))


class Crate(Base):
    """With what the database makes of whose it is."""

    __tablename__ = "attacks_crate"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(String(20))
    meta: Mapped[Any] = mapped_column(JSON, nullable=True)
    rest: Mapped[str | None] = mapped_column(String(20), deferred=True)
    seen: Mapped[str | None] = mapped_column(String(20))
    label: Mapped[str | None] = mapped_column(String(60), Computed("owner || ':' || note"))


class Safe(Base):
    """By a column that is not sent."""

    __tablename__ = "attacks_safe"
    __webhooks__ = {"tenant": "owner_token"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_token: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(String(20))


class Tidy(TypeDecorator[str]):
    """Writes all texts alike."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.strip().lower()


class Tidied(Base):
    __tablename__ = "attacks_tidied"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(Tidy(20))


class Beast(Base):
    __tablename__ = "attacks_beast"
    __webhooks__ = {"tenant": "owner"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    owner: Mapped[str | None] = mapped_column(String(20))
    keeper: Mapped[str | None] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "beast"}  # noqa: RUF012  # declarative's own form


class Tame(Beast):
    """In the same table, by another column than its base."""

    __webhooks__ = {"tenant": "keeper"}  # noqa: RUF012  # declarative's own form
    __mapper_args__ = {"polymorphic_identity": "tame"}  # noqa: RUF012  # declarative's own form


CLASSES = (Bag, Crate, Safe, Tidied, Beast, Tame)
EVENTS: dict[str, Any] = {"crate.seen": Crate, "safe.seen": Safe}

#: An endpoint of each kind, by name.
REACHES: dict[str, dict[str, Any]] = {
    "all": {},
    "shared": {"scope": "shared"},
    "a": {"tenant": "a"},
    "b": {"tenant": "b"},
}

#: What came to each endpoint, in order.
Heard = dict[str, list[dict[str, Any]]]


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    """On a SQLite file that need not survive a power cut."""
    with database_named("sqlite", tmp_path) as database, database.engine() as engine:
        Base.metadata.create_all(engine)
        yield sessionmaker(engine)


class House:
    """An installation with an endpoint of each kind."""

    def __init__(
        self, install: Install, sessions: Sessions, receiver: Receiver, *, terms: dict[str, Any], **options: Any
    ) -> None:
        self.sessions, self.receiver = sessions, receiver
        settings = {"deliver": False, "clock": MovedClock(), "include": CLASSES, "domain_events": EVENTS}
        self.webhooks = install(sessions, **{**settings, **options})
        wanted = {"events": ["*"], **terms}
        self.endpoints = {
            name: self.webhooks.endpoints.create(receiver.url(f"/{name}"), **wanted, **reach).id
            for name, reach in REACHES.items()
        }

    def heard(self) -> Heard:
        """What has come since the last call."""
        assert self.webhooks.drain().complete
        heard: Heard = {name: [] for name in self.endpoints}
        for one in self.receiver.received:
            heard[one.path.removeprefix("/")].append(one.event)
        self.receiver.forget()
        return heard

    def operations(self) -> dict[str, list[str]]:
        """The same, each only its operation and its row; without those who heard nothing."""
        heard = self.heard().items()
        return {to: [f"{one['operation']} {one['resource_id']}" for one in some] for to, some in heard if some}

    def add(self, *rows: Any) -> None:
        with self.sessions.begin() as session:
            session.add_all(rows)


Make = Callable[..., House]


@pytest.fixture
def house(install: Install, sessions: Sessions, receiver: Receiver) -> Make:
    def make(terms: dict[str, Any] | None = None, **options: Any) -> House:
        return House(install, sessions, receiver, terms=terms or {}, **options)

    return make


@pytest.fixture
def untold() -> Iterator[list[BaseException]]:
    """Why it could not be told whose events were."""
    errors: list[BaseException] = []

    def hear(_sender: Any, *, event: Event, error: BaseException) -> None:
        errors.append(error)

    with tenant_unknown.connected_to(hear):
        yield errors


# --------------------------------------------------------------------------- the application's own code


def test_a_function_that_changes_what_it_is_given_changes_nothing(house: Make) -> None:
    """It is asked twice of an update: what it took away the first time must be there again."""
    one = house(tenant=lambda row: row.meta.pop("tenant", None))
    one.add(Bag(id=1, meta={"tenant": "a"}))
    with one.sessions.begin() as session:
        session.get_one(Bag, 1).note = "n"
    heard = one.heard()

    assert [event["operation"] for event in heard["a"]] == ["create", "update"]
    assert all(event["data"]["meta"] == {"tenant": "a"} for event in heard["a"])
    assert heard["shared"] == heard["b"] == []


def test_what_transform_writes_into_one_endpoints_event_is_in_no_others(house: Make) -> None:
    def transform(event: Event, endpoint: Endpoint) -> Event:
        event.data["meta"].setdefault("for", []).append(endpoint.tenant)
        return event

    for payload in ("latest", "full"):
        one = house({"payload": payload}, transform=transform)
        one.add(Crate(owner="a", meta={}))
        heard = one.heard()
        one.webhooks.uninstall()

        assert [event["data"]["meta"] for event in heard["a"]] == [{"for": ["a"]}]
        assert [event["data"]["meta"] for event in heard["all"]] == [{"for": [None]}]
        for endpoint in one.endpoints.values():
            one.webhooks.endpoints.delete(endpoint)


def test_a_transform_cannot_send_an_event_elsewhere(house: Make) -> None:
    one = house(transform=lambda event, _endpoint: replace(event, tenant="b", endpoint=None, audience="tenant"))
    one.add(Crate(id=1, owner="a"))
    assert one.operations() == {"all": ["create 1"], "a": ["create 1"]}


# --------------------------------------------------------------------------- what is said beside the rows


def test_what_is_said_of_one_tenants_change_is_not_said_to_another(house: Make) -> None:
    """In one transaction, as a job that goes through all tenants may have it."""
    one = house(send_context=["actor", "of_b"])
    context = one.webhooks.context
    with one.sessions.begin() as session:
        for tenant, said in (("a", {"actor": "anna"}), ("b", {"actor": "bert", "of_b": 1})):
            with context(**said):
                session.add(Crate(owner=tenant))
                session.flush()
                one.webhooks.emit(session, "crate.seen", session.query(Crate).filter_by(owner=tenant).one())
    heard = one.heard()

    assert [event["context"] for event in heard["a"]] == [{"actor": "anna"}] * 2
    assert [event["context"] for event in heard["b"]] == [{"actor": "bert", "of_b": 1}] * 2


def test_two_rows_that_swap_their_keys_are_told_with_what_was_said_of_them(house: Make) -> None:
    one = house(send_context=["actor"])
    one.add(*(Crate(id=number, owner="a") for number in (1, 2, 3)))
    one.heard()
    with one.sessions.begin() as session:
        for number, new, actor in ((1, 9, "first"), (2, 1, "second"), (9, 2, "third"), (3, 4, "other")):
            with one.webhooks.context(actor=actor):
                session.get_one(Crate, number).id = new
                session.flush()
        session.execute(update(Crate).where(Crate.id < 3).values(note=func.coalesce(Crate.note, "n")))
    said = {event["resource_id"]: event["context"]["actor"] for event in one.heard()["a"]}

    assert said["4"] == "other"
    assert set(said) == {"1", "2", "4"}
    assert "other" not in (said["1"], said["2"])


@pytest.mark.parametrize("cls", [Crate, Safe])
def test_what_is_emitted_of_a_row_is_not_for_whose_it_was_only_in_between(
    house: Make, untold: list[BaseException], cls: type[Any]
) -> None:
    one = house()
    owner, name = ("owner", "crate.seen") if cls is Crate else ("owner_token", "safe.seen")
    one.add(cls(id=1, **{owner: "b"}), cls(id=3, **{owner: "b"}), cls(id=5, **{owner: "b"}))
    one.heard()
    with one.sessions.begin() as session:
        rows = [session.get_one(cls, 1), cls(id=2), session.get_one(cls, 3), session.get_one(cls, 5)]
        session.add(rows[1])
        for row in rows:  # which is a slip
            setattr(row, owner, "a")
            one.webhooks.emit(session, name, row)
            one.webhooks.emit(session, name, row, data={"about": "b"})
        for row in rows[:3]:
            setattr(row, owner, "b")
        rows[2].id = 4
        session.flush()
        session.delete(rows[3])
    heard = one.heard()

    assert heard["a"] == []
    assert [event["operation"] for event in heard["b"]] == ["create", "update", "delete"]
    assert len([event for event in heard["all"] if event["operation"] == "emit"]) == 8
    assert "owner_token" not in json.dumps(heard)
    assert [type(error) for error in untold] == [TenantUnknown] * 8


def test_what_is_emitted_of_a_row_is_for_whose_it_was_or_is(house: Make, untold: list[BaseException]) -> None:
    one = house()
    one.add(Crate(id=1, owner="a", note="x"), Crate(id=2, owner="a"))
    one.heard()
    with one.sessions.begin() as session:
        row, still = session.get_one(Crate, 1), session.get_one(Crate, 2)
        one.webhooks.emit(session, "crate.seen", row, data={"when": "before"})
        one.webhooks.emit(session, "crate.seen", still, data={"when": "always"})
        row.owner, row.id = "b", 3
        one.webhooks.emit(session, "crate.seen", row, data={"when": "after"})
        row.note = "y"
        session.add(Crate(id=1, owner="b"))  # another row where it was
    heard = one.heard()
    emitted = {to: [one["data"]["when"] for one in some if one["operation"] == "emit"] for to, some in heard.items()}

    assert emitted == {"all": ["before", "always", "after"], "a": ["before", "always"], "b": ["after"], "shared": []}
    assert untold == []


def test_emitted_data_finds_no_other_row(house: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in it under the name of the key."""
    one = house()

    @one.webhooks.endpoint_enricher(Crate)
    def more(row: Crate, payload: dict[str, Any], endpoint: Endpoint) -> None:
        payload["more"] = row.note

    one.add(Crate(id=1, owner="a", note="one"), Crate(id=2, owner="a", note="two"))
    one.heard()
    with one.sessions.begin() as session:
        for data in ({"id": 2}, {"id": 1}, {"else": 0}, None):
            one.webhooks.emit(session, "crate.seen", session.get_one(Crate, 1), data=data)
    emitted = [event["data"] for event in one.heard()["a"]]

    assert emitted[:3] == [{"id": 2}, {"id": 1}, {"else": 0}]
    assert emitted[3]["more"] == "one"
    assert caplog.records == []


# --------------------------------------------------------------------------- moves


def test_a_row_that_is_deleted_before_its_move_is_written_is_deleted_for_whose_it_was(house: Make) -> None:
    one = house()
    one.add(*(Crate(id=number, owner="a", note="n") for number in range(1, 6)))
    one.heard()
    for number, to, expired in (
        (1, "b", False),
        (2, "b", True),
        (3, func.lower("B"), False),
        (4, func.lower("B"), True),
    ):
        with one.sessions.begin() as session:
            row = session.get_one(Crate, number)
            if expired:
                session.expire(row)
            row.owner = to
            session.delete(row)
    with one.sessions.begin() as session:
        row = session.get_one(Crate, 5)
        row.owner = "b"
        session.delete(row)
        session.flush()
        session.add(Crate(id=5, owner="b", note="m"))
    heard = one.heard()

    assert [event["operation"] for event in heard["a"]] == ["delete"] * 5
    assert [event["data"]["label"] for event in heard["a"]] == ["a:n"] * 5
    assert [event["resource_id"] for event in heard["b"]] == ["5"]


def test_what_the_database_makes_of_a_row_is_told_to_whose_it_was_as_it_was(house: Make) -> None:
    one = house()
    one.add(*(Crate(id=number, owner="a", note="x") for number in (1, 2, 3)))
    one.heard()
    with one.sessions.begin() as session:
        row, expired = session.get_one(Crate, 1), session.get_one(Crate, 3)
        session.expire(expired)
        row.owner, row.note = expired.owner, expired.note = "b", "of b"
        session.execute(update(Crate).where(Crate.id == 2).values(owner="b", note="of b"))
    heard = one.heard()

    assert [event["data"]["label"] for event in heard["a"]] == ["a:x"] * 3
    assert [event["data"]["label"] for event in heard["b"]] == ["b:of b"] * 3


@pytest.mark.parametrize("how", ["update", "update expired", "update volatile", "delete", "delete set"])
def test_what_a_session_loads_of_a_row_that_has_moved_meanwhile_is_not_told_to_whose_it_was(
    house: Make, how: str
) -> None:
    """It holds whose the row was, and the database fills in what the row has come to."""
    one = house()
    one.add(Crate(id=1, owner="a", note="of a", rest="rest of a", seen="of a"))
    one.heard()
    with one.sessions(expire_on_commit=False) as session:
        row = session.get_one(Crate, 1)
        session.commit()
        with one.sessions.begin() as other:
            moved = other.get_one(Crate, 1)
            moved.owner = "b"
            moved.note, moved.rest, moved.seen = "of b", "rest of b", "of b"
        moved_heard = one.heard()
        if "expired" in how:
            session.expire(row, ["note"])
        if "volatile" in how:
            session.expire(row, ["label"])
        if how != "delete":
            row.note = "new"
        if "delete" in how:
            session.delete(row)
        session.commit()
    heard = one.heard()

    assert [event["operation"] for event in moved_heard["a"]] == ["delete"]
    assert heard["a"] == []
    (event,) = heard["b"]
    assert event["operation"] == how.split(maxsplit=1)[0]
    note = "of b" if "delete" in how else "new"
    seen = {"owner": "b", "note": note, "rest": "rest of b", "seen": "of b", "label": f"b:{note}"}
    assert event["data"] == {"id": 1, "meta": None, **seen}
    assert "of a" not in json.dumps(event)


def _upsert(session: Session) -> None:
    values = {"owner": "b", "note": "y"}
    statement = sqlite.insert(Crate).values(id=1, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))


def _save(session: Session) -> None:
    row = session.get_one(Crate, 1)
    row.owner, row.note = "b", "y"
    session.bulk_save_objects([row])


@pytest.mark.parametrize(
    "write",
    [
        _upsert,
        _save,
        lambda session: session.merge(Crate(id=1, owner="b", note="y")),
        lambda session: session.execute(update(Crate), [{"id": 1, "owner": "b", "note": "y"}]),
        lambda session: session.bulk_update_mappings(Crate, [{"id": 1, "owner": "b", "note": "y"}]),
    ],
)
def test_a_move_is_one_whatever_writes_it(house: Make, write: Callable[[Session], Any]) -> None:
    one = house()
    one.add(Crate(id=1, owner="a", note="x"))
    one.heard()
    with one.sessions.begin() as session:
        write(session)
    heard = one.heard()

    assert [(event["operation"], event["data"]["note"]) for event in heard["a"]] == [("delete", "x")]
    assert [(event["operation"], event["data"]["note"]) for event in heard["b"]] == [("create", "y")]


@pytest.mark.parametrize(("pattern", "expected"), [("crate.deleted", "a"), ("crate.created", "b")])
def test_a_move_is_captured_for_whoever_asked_for_one_half_of_it(house: Make, pattern: str, expected: str) -> None:
    one = house({"events": [pattern]})
    one.add(Crate(id=1, owner="a"), Crate(id=2, owner="a"))
    one.heard()
    with one.sessions.begin() as session:
        session.get_one(Crate, 1).owner = "b"
        session.execute(update(Crate).where(Crate.id == 2).values(owner="b"))

    assert {to: len(some) for to, some in one.operations().items()} == {expected: 2}


def test_a_derived_class_may_go_by_another_column_than_its_base(house: Make) -> None:
    one = house()
    one.add(Tame(id=1, owner="a", keeper="b"), Beast(id=2, owner="a", keeper="b"))
    assert one.operations() == {"all": ["create 1", "create 2"], "a": ["create 2"], "b": ["create 1"]}

    with one.sessions.begin() as session:
        session.execute(update(Beast).values(owner="b", keeper="a"))
    heard = one.heard()
    told = {to: {event["type"] for event in heard[to]} for to in "ab"}
    assert told == {"a": {"tame.created", "beast.deleted"}, "b": {"tame.deleted", "beast.created"}}

    with one.sessions.begin() as session:
        session.execute(delete(Beast))
    heard = one.heard()
    assert [event["type"] for event in heard["a"]] == ["tame.deleted"]
    assert [event["type"] for event in heard["b"]] == ["beast.deleted"]


def test_a_tenant_is_what_its_type_makes_of_it(house: Make) -> None:
    """As the database has it: what the application wrote may be another's name."""
    one = house()
    one.endpoints["loud"] = one.webhooks.endpoints.create(one.receiver.url("/loud"), ["*"], tenant=" A").id
    one.add(Tidied(id=1, owner=" A"))
    assert one.operations() == {"all": ["create 1"], "a": ["create 1"]}


# --------------------------------------------------------------------------- rows that are read again


@pytest.mark.parametrize("payload", ["full", "thin", "latest"])
def test_what_tells_the_tenant_and_is_not_sent_is_sent_by_no_way(house: Make, payload: Payload) -> None:
    one = house({"payload": payload}, send_context=["actor"], transform=lambda event, _endpoint: event)
    one.webhooks.endpoint_enricher(Safe)(lambda row, payload, endpoint: payload.update(seen=row.note))
    one.webhooks.event("safe.any", Safe)(lambda _event: True)
    rows = [Safe(id=1, owner_token="of-a"), Safe(id=2, owner_token="b")]
    one.endpoints["of-a"] = one.webhooks.endpoints.create(
        one.receiver.url("/of-a"), ["*"], tenant="of-a", payload=payload
    ).id
    one.add(*rows)
    with one.sessions.begin() as session:
        row = session.get_one(Safe, 1)
        one.webhooks.emit(session, "safe.seen", row)
        one.webhooks.emit(session, "safe.seen", row, data={"id": 1})
    for type_ in ("safe.created", "safe.updated", "safe.deleted"):
        one.webhooks.trigger(type_, row)
    one.webhooks.backfill(Safe)
    for name in ("b", "of-a"):
        one.webhooks.backfill(Safe, endpoint=one.endpoints[name])
    one.webhooks.endpoints.test(one.endpoints["of-a"], type="safe.created")
    heard = one.heard()

    assert "owner_token" not in json.dumps(heard)
    assert "of-a" not in json.dumps(heard).replace('"of-a": [', "")
    assert "owner_token" not in json.dumps(one.webhooks.catalogue().openapi())
    told = {to: sorted(event["type"].removeprefix("safe.") for event in heard[to]) for to in ("of-a", "b")}
    assert told == {
        "of-a": ["any", "created", "created", "created", "deleted", "read", "read", "seen", "seen", "updated"],
        "b": ["any", "created", "read", "read"],
    }
    assert heard["a"] == heard["shared"] == []


def test_a_row_that_moves_between_two_attempts_is_gone_at_the_second(house: Make, receiver: Receiver) -> None:
    clock = MovedClock()
    one = house({"payload": "latest"}, clock=clock)

    @one.webhooks.enricher(Crate)
    def noted(row: Crate, payload: dict[str, Any]) -> None:
        payload["noted"] = row.note

    one.add(Crate(id=1, owner="a", note="of a"))
    receiver.on_request = lambda request: receiver.answer(500) if request.path == "/a" else None
    first = one.heard()
    receiver.on_request = None
    with one.sessions.begin() as session:
        row = session.get_one(Crate, 1)
        row.owner, row.note = "b", "of b"
    one.heard()
    clock.advance(60)
    heard = one.heard()

    assert [(event["operation"], event["data"]["noted"]) for event in first["a"]] == [("create", "of a")]
    assert [(event["operation"], event["data"]) for event in heard["a"]] == [
        ("create", {"id": 1}),
        (
            "delete",
            {"id": 1, "owner": "a", "note": "of a", "label": "a:of a", **dict.fromkeys(["meta", "rest", "seen"])},
        ),
    ]
    assert "of b" not in json.dumps(heard)


def test_what_was_told_before_there_were_tenants_is_no_tenants(house: Make) -> None:
    one = house()
    one.add(Bag(id=1, meta={"tenant": "a"}))
    assert one.operations() == {"all": ["create 1"]}
    one.add(Bag(id=2, meta={"tenant": "a"}))  # and is relayed when there are
    one.webhooks.uninstall()
    later = house({"events": ["bag.*"]}, tenant=lambda row: row.meta["tenant"])
    for endpoint in later.endpoints.values():
        later.webhooks.events.replay_all(endpoint=endpoint)
    heard = later.heard()

    assert sorted(event["resource_id"] for event in heard["all"]) == ["1", "2", "2"]
    assert [event["resource_id"] for event in heard["a"]] == ["2", "2"]  # of both installations' endpoints
    assert heard["b"] == heard["shared"] == []


# --------------------------------------------------------------------------- endpoints that come and go


def test_who_takes_the_key_of_a_deleted_endpoint_gets_nothing_of_it(house: Make, receiver: Receiver) -> None:
    one = house(stop=lambda _state: True)
    register, endpoints = one.webhooks.endpoints.register, one.webhooks.endpoints
    first = register("erp", url=receiver.url("/first"), events=["*"], tenant="a")
    one.endpoints["first"] = first.id
    receiver.on_request = lambda _request: receiver.answer(500)
    one.add(Crate(id=1, owner="a", note="of a"))
    one.heard()
    receiver.on_request = None
    one.add(Crate(id=2, owner="a", note="of a"))
    endpoints.delete(first.id)
    second = register("erp", url=receiver.url("/second"), events=["*"], tenant="b")
    one.endpoints["second"] = second.id
    one.webhooks.deliveries.retry_all()
    one.webhooks.events.replay_all(endpoint=second.id)
    for event in one.webhooks.events.list():
        with suppress(NotFound):
            one.webhooks.events.replay(event.id, endpoint=second.id)
    heard = one.heard()

    assert first.id != second.id
    assert heard["first"] == heard["second"] == heard["b"] == []
    assert [event["resource_id"] for event in heard["a"]] == ["1", "2"]


def test_an_example_for_one_tenant_cannot_be_had_by_another(house: Make) -> None:
    one = house()
    one.add(Crate(owner="a", note="of a"))
    one.heard()
    one.webhooks.endpoints.test(one.endpoints["b"], type="crate.created")
    heard = one.heard()
    assert "of a" not in json.dumps(heard)
    assert [to for to, some in heard.items() if some] == ["b"]

    (example, *_) = one.webhooks.events.list()
    for to in ("a", "shared"):
        with pytest.raises(NotFound):
            one.webhooks.events.replay(example.id, endpoint=one.endpoints[to])
