"""Whose an event is, and whom it reaches, rule by rule; `test_tenants_boundary` proves them together."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, ForeignKey, String, delete, event, func, insert, select, text, update
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    column_property,
    deferred,
    mapped_column,
    relationship,
    sessionmaker,
    synonym,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from support.clock import MovedClock
from support.databases import Database, database_named
from support.local import Install
from support.mapping import base, person
from support.receiver import Received, Receiver

from sqla_webhooks import (
    ConfigurationError,
    EndpointError,
    NotFound,
    TenantUnknown,
    Webhooks,
    tenant_unknown,
)
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.resources import Resources
from sqla_webhooks.tenants import Tenants

Sessions = sessionmaker[Session]
#: What came to each endpoint, in order.
Heard = dict[str, list[dict[str, Any]]]


class Base(DeclarativeBase):
    """The classes of these tests."""


class Level(StrEnum):
    HIGH = "high"


class Account(Base):
    __tablename__ = "tenants_account"
    id: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default="")
    orders: DynamicMapped[Order] = relationship(overlaps="account")


class Order(Base):
    """By name."""

    __tablename__ = "tenants_order"
    __webhooks__ = {"tenant": "account_id"}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str | None] = mapped_column(ForeignKey(Account.id))
    note: Mapped[str | None] = mapped_column(String(20))
    account: Mapped[Account | None] = relationship(overlaps="orders")


class Line(Base):
    """Says nothing: the function decides."""

    __tablename__ = "tenants_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey(Order.id))
    owner: Mapped[str | None] = mapped_column("owner_col", String(600))
    uid: Mapped[UUID | None]
    late: Mapped[str | None] = deferred(mapped_column(String(20)))
    order: Mapped[Order | None] = relationship()
    quiet: Mapped[Order | None] = relationship(lazy="raise", viewonly=True)
    big: Mapped[str | None] = column_property(func.upper(owner))
    says = synonym("owner")

    @property
    def owned_by(self) -> str | None:
        return self.owner

    @hybrid_property
    def hybrid(self) -> str | None:
        return self.owner

    def asked(self, suffix: str) -> str:
        return f"{self.owner}{suffix}"


class Hidden(Base):
    """By a column that is not sent."""

    __tablename__ = "tenants_hidden"
    __webhooks__ = {"tenant": "account_token", "exclude": ["diary"]}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    account_token: Mapped[str | None] = mapped_column(String(20))
    diary: Mapped[str | None] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(String(20))


class Public(Base):
    __tablename__ = "tenants_public"
    __webhooks__ = {"tenant": None}  # noqa: RUF012  # declarative's own form
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str | None] = mapped_column(String(20))


class Place(Base):
    """A key that has the tenant in it."""

    __tablename__ = "tenants_place"
    __webhooks__ = {"tenant": "account_id"}  # noqa: RUF012  # declarative's own form
    account_id: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[str | None] = mapped_column(String(20))


class Owned(Base):
    """A base that says it for those derived from it."""

    __abstract__ = True
    __webhooks__ = {"tenant": "account_id"}  # noqa: RUF012  # declarative's own form


class Heir(Owned):
    __tablename__ = "tenants_heir"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str | None] = mapped_column(String(20))


class Poor(Owned):
    """Lacks what its base speaks of."""

    __tablename__ = "tenants_poor"
    id: Mapped[int] = mapped_column(primary_key=True)


#: An endpoint of each kind, by name.
REACHES: dict[str, dict[str, Any]] = {
    "all": {},
    "shared": {"scope": "shared"},
    "a": {"tenant": "a"},
    "b": {"tenant": "b"},
}

CLASSES: tuple[type[Any], ...] = (Account, Order, Line, Hidden, Public, Place, Heir, Poor)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite file that need not survive a power cut."""
    with database_named("sqlite", tmp_path) as database, database.engine() as engine:
        yield engine


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    Base.metadata.create_all(engine)
    return sessionmaker(engine)


@pytest.fixture
def told() -> Iterator[list[tuple[Event, BaseException]]]:
    """What was told by the signal."""
    told: list[tuple[Event, BaseException]] = []

    def hear(_sender: Any, *, event: Event, error: BaseException) -> None:
        told.append((event, error))

    with tenant_unknown.connected_to(hear):
        yield told


class House:
    """An installation with an endpoint for each tenant, for what is shared, and for everybody's events."""

    def __init__(self, install: Install, sessions: Sessions, receiver: Receiver, **options: Any) -> None:
        self.sessions, self.receiver = sessions, receiver
        self.webhooks: Webhooks = install(
            sessions, **{"deliver": False, "clock": MovedClock(), "include": CLASSES, **options}
        )
        create = self.webhooks.endpoints.create
        self.endpoints = {
            name: create(receiver.url(f"/{name}"), ["*"], **options).id for name, options in REACHES.items()
        }

    def heard(self) -> Heard:
        """What has come since the last call."""
        assert self.webhooks.drain().complete
        heard: Heard = {name: [] for name in self.endpoints}
        for one in self.receiver.received:
            heard[one.path.removeprefix("/")].append(one.event)
        self.receiver.forget()
        return heard

    def names(self) -> dict[str, list[str]]:
        """The same, but each is only its operation and its row; without those who heard nothing."""
        heard = self.heard()
        named = {to: [f"{one['operation']} {one['resource_id']}" for one in events] for to, events in heard.items()}
        return {to: events for to, events in named.items() if events}

    def add(self, *rows: Any) -> None:
        with self.sessions.begin() as session:
            session.add_all(rows)


@pytest.fixture
def house(install: Install, sessions: Sessions, receiver: Receiver) -> Callable[..., House]:
    def make(**options: Any) -> House:
        return House(install, sessions, receiver, **options)

    return make


Make = Callable[..., House]
#: The function of these tests, which knows lines only.
by_owner: dict[str, Any] = {"tenant": lambda row: row.owner}


# --------------------------------------------------------------------------- whose a row is


def test_a_class_says_it_by_the_name_of_a_column(house: Make) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"))
    assert one.names() == {"all": ["create a", "create b"]}  # of which nobody has said whose they are

    one.add(Order(id=1, account_id="a"), Order(id=2, account_id="b"), Order(id=3))
    assert one.names() == {
        "all": ["create 1", "create 2", "create 3"],
        "a": ["create 1"],
        "b": ["create 2"],
        "shared": ["create 3"],
    }


def test_a_class_may_say_that_its_rows_belong_to_no_tenant(house: Make) -> None:
    one = house(tenant=lambda row: row.account_id)
    one.add(Public(id=1, account_id="a"))

    assert one.names() == {"all": ["create 1"], "shared": ["create 1"]}


def test_a_function_says_it_for_classes_that_do_not(house: Make) -> None:
    one = house(tenant=lambda row: "b" if isinstance(row, Order) else row.owner)
    one.add(Line(id=1, owner="a"), Line(id=2), Order(id=7), Account(id="b"))
    heard = one.names()

    assert heard["a"] == ["create 1"]
    assert sorted(heard["shared"]) == ["create 2", "create 7"]  # the class's own word comes first
    assert "b" not in heard


def test_a_base_says_it_for_its_classes(house: Make, told: list[Any]) -> None:
    one = house()
    one.add(Heir(id=1, account_id="a"))
    assert one.names() == {"all": ["create 1"], "a": ["create 1"]}
    assert told == []

    one.add(Poor(id=2))
    assert one.names() == {"all": ["create 2"]}
    ((_, error),) = told
    assert "Poor has no 'account_id'" in str(error)


@pytest.mark.parametrize(
    ("given", "tenant"),
    [
        ("a", "a"),
        (7, "7"),
        (-3, "-3"),
        (UUID(int=5), str(UUID(int=5))),
        (Level.HIGH, "high"),
        ("A ", "A "),
        ("x" * 500, "x" * 500),
    ],
)
def test_a_tenant_is_a_text_an_int_or_a_uuid(house: Make, given: Any, tenant: str) -> None:
    one = house(tenant=lambda row: given)
    one.webhooks.endpoints.create(one.receiver.url("/own"), ["line.*"], tenant=given)
    one.endpoints["own"] = ""
    one.add(Line(id=1))

    heard = one.names()
    assert heard["own"] == heard["all"] == ["create 1"]
    assert [event.tenant for event in one.webhooks.events.list()] == [tenant]


@pytest.mark.parametrize("given", [True, 1.5, "", "x" * 501, "a\0", b"a", ("a",), ["a"], object(), 10**600])
def test_what_is_no_tenant_goes_to_nobody_but_endpoints_of_all_events(
    house: Make, told: list[Any], given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = house(tenant=lambda row: given)
    one.add(Line(id=1), Line(id=2))

    assert one.names() == {"all": ["create 1", "create 2"]}
    assert [event.resource_id for event, _ in told] == ["1", "2"]
    assert all(isinstance(error, TenantUnknown) for _, error in told)
    assert len([record for record in caplog.records if "cannot be told whose" in record.message]) == 1


@pytest.mark.parametrize("error", [ValueError("no"), AttributeError("no"), SystemExit(3), RecursionError()])
def test_a_function_that_raises_stops_nothing(
    house: Make, told: list[Any], error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(row: Any) -> str:
        if row.owner == "bad":
            raise error
        return str(row.owner)

    one = house(tenant=fail)
    one.add(Line(id=1, owner="bad"), Line(id=2, owner="a"))

    assert one.names() == {"all": ["create 1", "create 2"], "a": ["create 2"]}
    assert [event.resource_id for event, _ in told] == ["1"]
    assert told[0][1] is error
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


def test_ctrl_c_in_a_function_ends_drain(house: Make) -> None:
    def interrupted(_row: Any) -> str:
        raise KeyboardInterrupt

    one = house(tenant=interrupted)
    one.add(Line(id=1))
    with pytest.raises(KeyboardInterrupt):
        one.webhooks.drain()


def test_without_a_rule_nobody_is_told_that_there_is_none(house: Make, told: list[Any]) -> None:
    one = house()
    one.add(Line(id=1, owner="a"))

    assert one.names() == {"all": ["create 1"]}
    assert told == []


@pytest.mark.parametrize(
    ("events", "unsaid"),
    [
        (["*"], {}),  # orders among others
        (["order.*", "public.created", "endpoint.disabled"], {}),
        (["line.*", "order.*"], {"line.*": "line"}),
        (["line.read"], {"line.read": "line"}),
        (["account.deleted", "*.sealed", "line.sealed"], {"account.deleted": "account"}),
    ],
)
def test_the_log_says_which_patterns_of_a_tenant_s_endpoint_mean_rows_of_nobody_knows_whom(
    house: Make, caplog: pytest.LogCaptureFixture, events: list[str], unsaid: dict[str, str]
) -> None:
    one = house(domain_events={"line.sealed": None})
    endpoints, url = one.webhooks.endpoints, one.receiver.url()
    caplog.clear()
    endpoints.create(url, events)
    endpoints.create(url, events, scope="shared")
    assert caplog.messages == []

    said = [
        f"an endpoint of a tenant asks for {pattern!r} and gets no rows: nobody says whose those of {names} are; say "
        'it in the class, by __webhooks__ = {"tenant": "account_id"}, or by install(tenant=...)'
        for pattern, names in unsaid.items()
    ]
    created = endpoints.create(url, events, tenant="a")
    assert caplog.messages == said
    endpoints.register("crm", url=url, events=events, tenant="a")
    assert caplog.messages == said * 2
    endpoints.update(created.id, description="the same")
    assert caplog.messages == said * 2
    endpoints.update(created.id, events=events)
    assert caplog.messages == said * 3


def test_where_a_function_says_whose_rows_are_the_log_says_nothing(
    house: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = house(**by_owner)
    one.webhooks.endpoints.create(one.receiver.url(), ["line.*"], tenant="a")
    assert caplog.messages == []


# --------------------------------------------------------------------------- what a function gets


@pytest.mark.parametrize(
    "look",
    [
        lambda row: row.owner,
        lambda row: row.says,
        lambda row: row.owned_by,
        lambda row: row.hybrid,
        lambda row: row.asked("")[:1],
        lambda row: {Line: row.owner}[type(row)],
        lambda row: row.owner if isinstance(row, Line) else None,
        lambda row: row.owner if row.uid == UUID(int=3) else None,
        lambda row: row.owner if getattr(row, "no_such_thing", 5) == 5 else None,
        lambda row: row.big.lower(),
    ],
)
def test_it_gets_what_looks_like_the_row(house: Make, told: list[Any], look: Callable[[Any], Any]) -> None:
    one = house(tenant=look, include=[*CLASSES, Line.big])
    one.add(Line(id=1, owner="a", uid=UUID(int=3)))

    assert one.names()["a"] == ["create 1"]
    assert told == []


@pytest.mark.parametrize(
    "look",
    [
        lambda row: row.order,
        lambda row: row.order.account_id,
        lambda row: row.quiet,
        lambda row: row.owner,
        lambda row: row.says,
        lambda row: row.owned_by,
        lambda row: row.hybrid,
        lambda row: row.big,
        lambda row: getattr(row, "owner", None),
        lambda row: getattr(row, "order", None),
    ],
)
def test_what_was_not_captured_raises_and_nothing_is_loaded(
    house: Make, told: list[Any], look: Callable[[Any], Any], engine: Engine
) -> None:
    one = house(tenant=look, exclude=[Line.owner])
    one.add(Order(id=5))
    one.heard()
    told.clear()
    statements: list[str] = []

    def hear(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", hear)
    one.add(Line(id=1, owner="a", order_id=5))
    statements.clear()
    heard = one.names()
    event.remove(engine, "before_cursor_execute", hear)

    assert heard == {"all": ["create 1"]}
    assert [type(error) for _, error in told] == [TenantUnknown]
    assert not [one for one in statements if "tenants_" in one]


def test_a_dynamic_relationship_cannot_be_asked(house: Make, told: list[Any]) -> None:
    one = house(tenant=lambda row: row.orders.first())
    one.add(Account(id="a"))

    assert one.names() == {"all": ["create a"]}
    assert [type(error) for _, error in told] == [DetachedInstanceError]


def test_a_value_that_has_no_json_is_not_known(house: Make, told: list[Any]) -> None:
    resources = Resources(include=[Line])
    errors: list[BaseException] = []
    tenants = Tenants(
        resources, lambda row: row.owner, encoding=Encoding(), report=lambda _event, error: errors.append(error)
    )
    placeholder = {"$unencodable": "a.Thing"}
    (assigned,) = tenants.assign([_event(data={"id": 1, "owner": placeholder})])

    assert assigned.audience == "all"
    assert [type(error) for error in errors] == [TenantUnknown]


def _event(**values: Any) -> Event:
    made = Event(
        id="evt_1",
        type="line.created",
        timestamp=MovedClock().now(),
        resource="line",
        resource_id="1",
        operation=Operation.CREATE,
        data={"id": 1},
        table="tenants_line",
        identity=(1,),
    )
    return replace(made, **values)


def test_what_this_process_does_not_map_is_nobodys_if_it_has_a_rule() -> None:
    errors: list[BaseException] = []

    def report(_event: Event, error: BaseException) -> None:
        errors.append(error)

    elsewhere = _event(table="tenants_elsewhere", hidden={"who": "a"})
    tenants = Tenants(Resources(), lambda _: "a", encoding=Encoding(), report=report)
    (assigned,) = tenants.assign([elsewhere])

    assert (assigned.audience, assigned.tenant, assigned.hidden) == ("all", None, {})
    assert "import the same models" in str(errors[0])


def test_two_classes_of_one_resource_must_agree() -> None:
    def twin(local: type[Any], **more: Any) -> Any:
        columns = {name: mapped_column(String(5), primary_key=name == "id") for name in ("id", "x", "y")}
        return type("Twin", (local,), {"__tablename__": "tenants_twin", **columns, **more})

    with base() as first, base() as second:
        twins = twin(first, __webhooks__={"tenant": "x"}), twin(second, __webhooks__={"tenant": "y"})
        _check_twins(twins)


def _check_twins(twins: tuple[Any, ...]) -> None:
    errors: list[str] = []
    tenants = Tenants(
        Resources(include=twins),
        None,
        encoding=Encoding(),
        report=lambda _event, error: errors.append(str(error)),
    )
    made = _event(resource="twin", table="tenants_twin", type="twin.created")
    same, other_one = tenants.assign(
        [replace(made, data={"id": 1, "x": "a", "y": "a"}), replace(made, data={"id": 1, "x": "a", "y": "b"})]
    )

    assert (same.audience, same.tenant) == ("tenant", "a")
    assert (other_one.audience, other_one.tenant) == ("all", None)
    assert "let them say the same" in errors[0]


# --------------------------------------------------------------------------- a tenant that is not sent


def test_a_column_that_is_not_sent_tells_and_stays_untold(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Hidden(id=1, account_token="a", diary="d", note="n"))
    with sessions.begin() as session:
        session.execute(insert(Hidden), [{"id": 2, "account_token": "b", "note": "n"}])
    heard = one.heard()
    assert [event["data"] for event in heard["a"]] == [{"id": 1, "note": "n"}]
    assert [event["data"] for event in heard["b"]] == [{"id": 2, "note": "n"}]

    with sessions.begin() as session:
        session.get_one(Hidden, 1).note = "m"
        session.execute(update(Hidden).where(Hidden.id == 2).values(note="m"))
    heard = one.heard()
    for tenant in "ab":
        (changed,) = heard[tenant]
        assert changed["changes"] == {"note": {"from": "n", "to": "m"}}
        assert "account_token" not in json.dumps(heard)

    with sessions.begin() as session:
        session.delete(session.get_one(Hidden, 1))
        session.execute(delete(Hidden).where(Hidden.id == 2))
    heard = one.heard()
    assert [event["data"] for event in heard["a"]] == [{"id": 1, "note": "m"}]
    assert [event["data"] for event in heard["b"]] == [{"id": 2, "note": "m"}]
    assert [event["data"] for event in heard["all"]] == [{"id": 1, "note": "m"}, {"id": 2, "note": "m"}]


def test_what_is_hidden_stays_so_however_a_transaction_writes_it(house: Make, sessions: Sessions) -> None:
    """In changes that are merged, and in those of rows that an object does not know whole."""
    one = house()
    with sessions.begin() as session:  # created and updated
        session.add(row := Hidden(id=1, account_token="a", note="1"))
        session.flush()
        row.note = "2"
    with sessions() as session:
        row = session.get_one(Hidden, 1)
        session.commit()
        row.note = "3"  # while it is expired
        session.commit()
        row.note = "4"  # twice
        session.flush()
        row.account_token, row.note = "b", "5"
        session.commit()
        row.id = 2  # its key
        session.commit()
        row.note = "6"  # updated and deleted
        session.flush()
        session.delete(row)
        session.flush()
        session.add(Hidden(id=2, account_token="a", note="7"))  # and replaced
        session.commit()
        session.execute(update(Hidden).values(note="8"))  # updated and deleted
        session.execute(delete(Hidden))
        session.commit()
    heard = one.heard()

    assert [event["type"].removeprefix("hidden.") for event in heard["a"]] == [
        *("created", "updated", "deleted"),
        *("created", "deleted"),
    ]
    assert [event["type"].removeprefix("hidden.") for event in heard["b"]] == ["created", "updated", "deleted"]
    assert "account_token" not in json.dumps(heard)


def test_a_move_that_nothing_visible_tells_of(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Hidden(id=1, account_token="a", note="n"))
    one.heard()
    with sessions.begin() as session:
        session.get_one(Hidden, 1).account_token = "b"
    heard = one.heard()

    assert [(event["operation"], event["data"]) for event in heard["a"]] == [("delete", {"id": 1, "note": "n"})]
    assert [(event["operation"], event["data"]) for event in heard["b"]] == [("create", {"id": 1, "note": "n"})]
    assert [(event["operation"], event["changes"]) for event in heard["all"]] == [("update", {})]


def test_an_update_of_what_is_hidden_alone_is_no_event_if_the_tenant_is_the_same() -> None:
    tenants = Tenants(Resources(include=[Hidden]), None, encoding=Encoding(), report=_fail)
    made = _event(
        resource="hidden",
        table="tenants_hidden",
        operation=Operation.UPDATE,
        changes={},
        hidden={"account_token": "a"},
        hidden_changes={"account_token": {"from": "a", "to": "a"}},
    )

    assert tenants.assign([made]) == []
    (seen,) = tenants.assign([replace(made, changes={"note": {"from": 1, "to": 2}})])
    assert (seen.tenant, seen.hidden, seen.hidden_changes) == ("a", {}, {})


def _fail(event: Event, error: BaseException) -> None:
    raise AssertionError(event) from error


def test_the_hidden_is_stripped_where_nobody_knows_the_class(
    house: Make, sessions: Sessions, install: Install, engine: Engine, receiver: Receiver
) -> None:
    """The outbox row itself says what must not be sent."""
    one = house()
    one.add(Hidden(id=1, account_token="a", note="n"))
    one.webhooks.uninstall()
    elsewhere = install(sessionmaker(engine), deliver=False, clock=MovedClock(), exclude=[Hidden])
    assert elsewhere.drain().complete

    (request,) = receiver.received
    assert request.path == "/all"
    assert request.event["data"] == {"id": 1, "note": "n"}


# --------------------------------------------------------------------------- moves


def test_a_row_that_moves_is_deleted_for_the_one_and_created_for_the_other(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a", note="secret of a"))
    one.heard()
    with sessions.begin() as session:
        order = session.get_one(Order, 1)
        order.account_id, order.note = "b", "secret of b"
    heard = one.heard()

    (gone,), (come,), (changed,) = heard["a"], heard["b"], heard["all"]
    assert (gone["type"], gone["operation"], gone["resource_id"]) == ("order.deleted", "delete", "1")
    assert gone["data"] == {"id": 1, "account_id": "a", "note": "secret of a"}
    assert (come["type"], come["operation"], come["resource_id"]) == ("order.created", "create", "1")
    assert come["data"] == {"id": 1, "account_id": "b", "note": "secret of b"}
    assert "changes" not in gone
    assert "changes" not in come
    assert changed["changes"]["account_id"] == {"from": "a", "to": "b"}
    assert len({gone["id"], come["id"], changed["id"]}) == 3
    assert gone["timestamp"] == come["timestamp"] == changed["timestamp"]
    assert heard["shared"] == []


@pytest.mark.parametrize(("before", "after"), [(None, "a"), ("a", None)])
def test_a_row_may_move_from_and_to_nobody(
    house: Make, sessions: Sessions, before: str | None, after: str | None
) -> None:
    one = house()
    one.add(Account(id="a"), Order(id=1, account_id=before))
    one.heard()
    with sessions.begin() as session:
        session.execute(update(Order).values(account_id=after))

    assert one.names() == {
        "all": ["update 1"],
        "shared" if before is None else "a": ["delete 1"],
        "shared" if after is None else "a": ["create 1"],
    }


def test_a_move_within_one_transaction_is_one(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a", note="1"))
    one.heard()
    with sessions.begin() as session:
        order = session.get_one(Order, 1)
        for account, note in (("b", "2"), (None, "3"), ("a", "4")):
            order.account_id, order.note = account, note
            session.flush()

    heard = one.heard()
    assert [event["changes"] for event in heard["a"]] == [{"note": {"from": "1", "to": "4"}}]
    assert heard["b"] == heard["shared"] == []


def test_a_key_that_has_the_tenant_in_it_is_deleted_as_it_was_known(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Place(account_id="a", number=1, note="x"))
    one.heard()
    with sessions.begin() as session:
        place = session.get_one(Place, ("a", 1))
        place.account_id, place.note = "b", "y"
    heard = one.heard()

    (gone,), (come,), (changed,) = heard["a"], heard["b"], heard["all"]
    assert (gone["resource_id"], gone["data"]) == ("a,1", {"account_id": "a", "number": 1, "note": "x"})
    assert (come["resource_id"], come["data"]) == ("b,1", {"account_id": "b", "number": 1, "note": "y"})
    assert changed["resource_id"] == "b,1"
    assert b"b,1" not in json.dumps(gone).encode()


def test_a_row_that_was_moved_and_deleted_is_deleted_for_whom_it_was(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a", note="x"))
    one.heard()
    with sessions.begin() as session:
        order = session.get_one(Order, 1)
        order.account_id, order.note = "b", "of b"
        session.flush()
        session.delete(order)

    heard = one.heard()
    assert [event["data"] for event in heard["a"]] == [{"id": 1, "account_id": "a", "note": "x"}]
    assert heard["b"] == []


def test_a_row_that_took_the_key_of_another_moves(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a", note="x"))
    one.heard()
    with sessions.begin() as session:
        session.delete(session.get_one(Order, 1))
        session.flush()
        session.add(Order(id=1, account_id="b", note="y"))

    assert one.names() == {"all": ["update 1"], "a": ["delete 1"], "b": ["create 1"]}


def test_an_unknown_tenant_before_tells_nobody_that_it_is_gone(told: list[Any]) -> None:
    errors: list[BaseException] = []
    tenants = Tenants(
        Resources(include=[Line]),
        lambda row: row.owner,
        encoding=Encoding(),
        report=lambda _event, error: errors.append(error),
    )
    made = _event(operation=Operation.UPDATE, type="line.updated", data={"id": 1, "owner": "b"})
    moved = tenants.assign([replace(made, changes={"owner": {"to": "b"}})])

    assert [(one.operation, one.audience, one.tenant) for one in moved] == [
        ("create", "tenant_only", "b"),
        ("update", "all", None),
    ]
    assert len(errors) == 1


def test_an_unknown_tenant_now_tells_the_one_before(told: list[Any]) -> None:
    errors: list[BaseException] = []
    tenants = Tenants(
        Resources(include=[Line]),
        lambda row: row.owner,
        encoding=Encoding(),
        report=lambda _event, error: errors.append(error),
    )
    made = _event(operation=Operation.UPDATE, type="line.updated", data={"id": 1, "owner": "", "big": "new"})
    moved = tenants.assign([replace(made, changes={"owner": {"from": "a", "to": ""}})])

    assert [(one.operation, one.audience, one.tenant, one.data) for one in moved] == [
        ("delete", "tenant_only", "a", {"id": 1, "owner": "a"}),
        ("update", "all", None, {"id": 1, "owner": "", "big": "new"}),
    ]
    assert len(errors) == 1


def test_what_was_worked_out_by_the_database_is_not_known_from_before(
    house: Make, sessions: Sessions, told: list[Any]
) -> None:
    """`big` is an expression: its old value is nobody's, and its new one the other tenant's."""
    one = house(**by_owner, include=[*CLASSES, Line.big])
    one.add(Line(id=1, owner="a"), Line(id=2, owner="a"))
    one.heard()
    with sessions.begin() as session:
        session.get_one(Line, 1).owner = "b"
        other = session.get_one(Line, 2)
        other.owner = "b"
        session.flush()
        session.delete(other)
    heard = one.heard()

    assert [event["data"] for event in heard["a"]] == [
        {"id": number, "owner": "a", "order_id": None, "uid": None, "late": None} for number in (1, 2)
    ]
    assert [event["data"]["big"] for event in heard["b"]] == ["B"]


def test_what_was_left_out_of_operations_stays_out_after_a_move(house: Make, sessions: Sessions) -> None:
    one = house(exclude=[(Order, "delete")])
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a"))
    one.heard()
    with sessions.begin() as session:
        session.get_one(Order, 1).account_id = "b"

    assert one.names() == {"all": ["update 1"], "b": ["create 1"]}


def test_halves_come_in_the_order_of_their_row(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a"))
    one.heard()
    for account in ("b", "a", "b"):
        with sessions.begin() as session:
            session.get_one(Order, 1).account_id = account

    assert one.names() == {
        "all": ["update 1"] * 3,
        "a": ["delete 1", "create 1", "delete 1"],
        "b": ["create 1", "delete 1", "create 1"],
    }


def test_a_row_that_comes_back_under_another_key_comes_behind_its_going(
    house: Make, sessions: Sessions, receiver: Receiver
) -> None:
    one = house()
    one.add(Hidden(id=1, account_token="a"))
    one.heard()
    with sessions() as session:
        row = session.get_one(Hidden, 1)
        row.id, row.account_token = 2, "b"
        session.commit()
        row.account_token = "a"
        session.commit()

    def refuse_what_is_gone(request: Received) -> None:
        if request.path == "/a" and request.type == "hidden.deleted":
            receiver.answer(500)

    receiver.on_request = refuse_what_is_gone
    assert one.names()["a"] == ["delete 1"]  # whose retry is waited for


# --------------------------------------------------------------------------- enrichers


def test_a_row_that_has_moved_by_now_is_not_shown_to_whom_it_was(house: Make, sessions: Sessions) -> None:
    one = house()
    one.webhooks.enricher(Order)(_add_note)
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a", note="of a"), Order(id=2, account_id="a"))
    with sessions.begin() as session:
        order = session.get_one(Order, 1)
        order.account_id, order.note = "b", "of b"
    heard = one.heard()

    first, second, gone = heard["a"]
    assert "now" not in first["data"]
    assert second["data"]["now"] is None
    assert gone["operation"] == "delete"
    assert "of b" not in json.dumps(heard["a"])
    assert [event["data"]["now"] for event in heard["b"]] == ["of b"]
    assert {event["data"].get("now") for event in heard["all"] if event["resource_id"] == "1"} == {None, "of b"}


def _add_note(order: Order, payload: dict[str, Any]) -> None:
    payload["now"] = order.note


def test_a_row_that_moves_while_enrichers_work_is_not_loaded_again_for_whom_it_was(
    house: Make, sessions: Sessions, engine: Engine
) -> None:
    """A statement that fails makes them load the rows anew."""
    one = house()

    @one.webhooks.enricher(Order)
    def spoil(order: Order, _payload: dict[str, Any]) -> None:
        session = Session.object_session(order)
        assert session is not None
        session.rollback()
        with engine.begin() as connection:
            connection.execute(text("UPDATE tenants_order SET account_id = 'b', note = 'of b'"))
        session.execute(text("no SQL"))

    one.webhooks.enricher(Order)(_add_note)
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a", note="of a"))
    heard = one.heard()

    assert [event["data"].get("now") for event in heard["a"]] == [None]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("level", ["READ COMMITTED", "AUTOCOMMIT"])
def test_what_enrichers_load_bit_by_bit_is_of_one_instant(
    install: Install, database: Database, receiver: Receiver, level: Any
) -> None:
    """SQLite has no other kind. The row is checked once; what is loaded for it later must not be of a later owner's."""
    with database.engine(isolation_level=level) as engine:
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        one = House(install, sessions, receiver)

        @one.webhooks.enricher(Order)
        def late(order: Order, payload: dict[str, Any]) -> None:
            with engine.begin() as connection:
                connection.execute(update(Account).values(name="of b"))
            assert order.account is not None
            payload["account"] = order.account.name

        one.add(Account(id="a", name="of a"), Order(id=1, account_id="a"))
        heard = one.heard()
        one.webhooks.uninstall()

    assert [event["data"]["account"] for event in heard["a"]] == ["of a"]


def test_what_is_shared_is_not_shown_when_it_has_become_somebodys(house: Make, sessions: Sessions) -> None:
    one = house(tenant=lambda row: row.owner)
    one.webhooks.enricher(Line)(lambda line, payload: payload.update(now=line.owner))
    one.add(Line(id=1))
    with sessions.begin() as session:
        session.get_one(Line, 1).owner = "a"
    heard = one.heard()

    assert ["now" in event["data"] for event in heard["shared"]] == [False, False]
    assert [event["data"]["now"] for event in heard["a"]] == ["a"]


# --------------------------------------------------------------------------- what is told of endpoints


def test_a_dead_letter_is_told_to_its_own_tenant_alone(house: Make, receiver: Receiver, sessions: Sessions) -> None:
    one = house(stop=lambda _state: True)
    for name, options in REACHES.items():
        one.webhooks.endpoints.create(receiver.url(f"/{name}"), ["delivery.dead"], **options)
    failing = one.webhooks.endpoints.create(receiver.url("/fails"), ["order.*"], tenant="a").id
    one.endpoints["fails"] = failing
    one.add(Account(id="a"))
    one.heard()
    receiver.on_request = lambda request: receiver.answer(500) if request.path == "/fails" else None
    one.add(Order(id=1, account_id="a"))
    heard = one.heard()

    dead = {
        name: [event["data"]["endpoint_id"] for event in events if event["type"] == "delivery.dead"]
        for name, events in heard.items()
    }
    assert dead == {"all": [failing], "a": [failing], "b": [], "shared": [], "fails": []}


def test_a_disabled_endpoint_is_told_of_to_its_own_tenant_alone(house: Make, receiver: Receiver) -> None:
    one = house()
    for name, options in REACHES.items():
        one.webhooks.endpoints.create(receiver.url(f"/{name}"), ["endpoint.disabled"], **options)
    gone = one.webhooks.endpoints.create(receiver.url("/gone"), ["public.*"], scope="shared").id
    one.endpoints["gone"] = gone
    receiver.on_request = lambda request: receiver.answer(410) if request.path == "/gone" else None
    one.add(Public(id=1))
    heard = one.heard()

    told = {name for name, events in heard.items() if any(event["type"] == "endpoint.disabled" for event in events)}
    assert told == {"all", "shared"}


# --------------------------------------------------------------------------- once more


def test_nothing_is_replayed_to_another_tenant(house: Make, sessions: Sessions) -> None:
    one = house()
    one.add(Account(id="a"), Account(id="b"), Order(id=1, account_id="a"), Order(id=2))
    with sessions.begin() as session:
        session.get_one(Order, 1).account_id = "b"
    one.heard()
    events, replay = one.webhooks.events, one.webhooks.events.replay
    covered = {name: set[str]() for name in one.endpoints}
    for stored in events.list():
        for name, endpoint in one.endpoints.items():
            with suppress(NotFound):
                replay(stored.id, endpoint=endpoint)
                covered[name].add(f"{stored.type} {stored.resource_id}")
    whole = {"account.created a", "account.created b", "order.created 1", "order.created 2", "order.updated 1"}

    assert covered == {
        "all": whole,
        "shared": {"order.created 2"},
        "a": {"order.created 1", "order.deleted 1"},
        "b": {"order.created 1"},
    }
    one.heard()
    fresh = one.webhooks.endpoints.create(one.receiver.url("/fresh"), ["order.*"], tenant="b").id
    one.endpoints["fresh"] = fresh
    assert events.replay_all(endpoint=fresh).done == 1
    assert events.replay_all(endpoint=fresh, type="account.created").done == 0
    assert one.names() == {"fresh": ["create 1"]}


def test_tenants_are_told_apart_letter_by_letter(install: Install, database: Database, receiver: Receiver) -> None:
    """To MariaDB all of these are one."""
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        one = House(install, sessionmaker(engine), receiver, **by_owner)
        for number, owner in enumerate(["a", "A", "a ", "b"] * 3):
            one.add(Line(id=number + 1, owner=owner))
        heard, events = one.names(), one.webhooks.events
        listed = {
            (tenant, limit): [event.resource_id for event in events.list(tenant=tenant, limit=limit)]
            for tenant, limit in (("a", 100), ("a", 2), ("A", 1), (uuid.uuid4(), 100))
        }
        fresh = one.webhooks.endpoints.create(receiver.url("/fresh"), ["*"], tenant="a ").id
        one.endpoints["fresh"] = fresh
        events.replay_all(endpoint=fresh)
        with pytest.raises(NotFound):
            events.replay(events.list(tenant="a")[0].id, endpoint=fresh)
        replayed = one.names()
        with pytest.raises(EndpointError, match=r"tenant is 1\.5: .*; an int or a UUID is its text"):
            events.list(tenant=1.5)  # type: ignore[arg-type]  # what no type checker saw
        one.webhooks.uninstall()

    assert heard["a"] == ["create 1", "create 5", "create 9"]
    assert list(listed.values()) == [["9", "5", "1"], ["9", "5"], ["10"], []]
    assert replayed == {"fresh": ["create 3", "create 7", "create 11"]}


# --------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize("given", ["account_id", 5, {"tenant": "account_id"}])
def test_a_setting_that_is_no_function_is_refused(install: Install, sessions: Sessions, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"tenant is .*: give a plain function"):
        install(sessions, tenant=given)


def test_an_async_function_is_refused(install: Install, sessions: Sessions) -> None:
    async def tell(row: Any) -> str:
        return str(row.owner)

    with pytest.raises(ConfigurationError, match="is async"):
        install(sessions, tenant=tell)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"tenant": "frist"}, r"'frist' \(did you mean 'first'\?\): name a column of Person"),
        ({"tenant": ""}, "'tenant'\\] is '': name the attribute"),
        ({"tenant": 5}, "'tenant'\\] is 5: name the attribute"),
        ({"tenant": "full"}, "'full'.*: name a column of Person"),
        ({"tenant": "loud"}, "'loud'.*: name a column of Person"),
    ],
)
def test_a_class_that_names_no_column_is_refused(install: Install, sessions: Sessions, said: Any, message: str) -> None:
    with base() as local:
        person(local, said)
        with pytest.raises(ConfigurationError, match=message):
            install(sessions)


def test_the_rows_are_read_by_the_columns_that_the_class_has(house: Make, sessions: Sessions) -> None:
    """A column that is not loaded with the others is captured all the same."""
    one = house(tenant=lambda row: row.late)
    one.add(Line(id=1, late="a"))
    one.heard()
    with sessions.begin() as session:
        session.scalars(select(Line)).one().owner = "x"

    assert one.names() == {"all": ["update 1"], "a": ["update 1"]}
