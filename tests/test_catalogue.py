"""`webhooks.catalogue()`: what it says of bodies is true of those that are sent, by the word of others' validators."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import Column, ForeignKey, Table, create_engine, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Session, column_property, mapped_column, registry, relationship, sessionmaker
from sqlalchemy.types import TypeEngine
from standardwebhooks import Webhook
from support import mapping
from support.clock import MovedClock
from support.databases import Database, clear, database_named
from support.held import HELD, Colour, Held
from support.local import Install
from support.machine.random_models import DESIGNS, Design, map_classes
from support.receiver import Receiver
from support.shop import put
from tenacity import stop_after_attempt

import sqla_webhooks
from sqla_webhooks import Catalogue, Webhooks, changed, models, verify
from sqla_webhooks.catalogue import catalogue as make
from sqla_webhooks.delivery.sign import generate_secret
from sqla_webhooks.schema import ANYTHING, Form, Forms

pytestmark = pytest.mark.machine

Sessions = sessionmaker[Session]
Body = dict[str, Any]

FORMATS = Draft202012Validator.FORMAT_CHECKER
READ = "read"
HEADERS = ["webhook-id", "webhook-timestamp", "webhook-signature"]


@pytest.fixture
def base() -> Iterator[Any]:
    with mapping.base() as base:
        yield base


def faults(schema: Any, body: Any) -> list[str]:
    return [one.message for one in Draft202012Validator(schema, format_checker=FORMATS).iter_errors(body)]


def check(catalogue: Catalogue, bodies: Sequence[Body]) -> None:
    """Each body is one of its type, and its type is in the catalogue."""
    for body in bodies:
        assert (faults(catalogue[body["type"]].schema, body), body) == ([], body)


def sent(webhooks: Webhooks) -> list[Body]:
    """All that was made public, oldest first."""
    assert webhooks.drain().complete
    return [json.loads(one.payload) for one in reversed(webhooks.events.list(limit=1000))]


@contextmanager
def captured(sessions: Sessions, **options: Any) -> Iterator[Webhooks]:
    with sqla_webhooks.install(sessions, deliver=False, capture="all", clock=MovedClock(), **options) as webhooks:
        yield webhooks


# --------------------------------------------------------------------------- what is sent is as it says


@contextmanager
def a_class_for_each(held: Sequence[Held], database: Database) -> Iterator[tuple[Sessions, dict[str, Any]]]:
    classes, found = registry(), {}
    with ExitStack() as stack:
        stack.callback(classes.dispose)
        # Its own dialect, which alone knows all of its types in SQLAlchemy 2.0.
        own = replace(database, url=database.url.set(drivername=database.url.drivername.replace("mysql+", "mariadb+")))
        engine = stack.enter_context(own.engine())
        if database.name == "postgresql":  # the wheel has no extensions; for SQLAlchemy it is all text
            with engine.begin() as connection:
                connection.execute(sa.text("CREATE DOMAIN hstore AS text; CREATE DOMAIN citext AS text"))
        for one in held:
            key = Column("id", sa.Integer, primary_key=True, autoincrement=False)
            is_null = database.name == "sqlite" and one.value != one.value  # NaN, which SQLite has not
            columns = (key, Column("value", one.type, nullable=is_null), Column("plain", sa.Integer))
            found[one.name] = cls = type(f"Catalogue_{one.name}", (), {})
            classes.map_imperatively(cls, Table(f"catalogue_{one.name}", classes.metadata, *columns))
        classes.metadata.create_all(engine)
        yield sessionmaker(engine), found


def lead_a_life(sessions: Sessions, cls: Any, value: Any) -> None:
    """A row is made, changed and deleted; in the end as its object had it."""
    with sessions(expire_on_commit=False) as session:
        row = cls()
        row.id, row.value = 1, value
        session.add(row)
        session.commit()
        row.plain = 2
        session.commit()
        row.id = 3
        session.commit()
        session.delete(row)
        session.commit()


@contextmanager
def on(name: str, folder: Path) -> Iterator[Database]:
    with database_named(name, folder) as database:
        yield database


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_whatever_a_column_can_hold_is_as_its_schema_says(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    held = HELD[name]
    with on(name, tmp_path) as database, a_class_for_each(held, database) as found:
        sessions, classes = found
        with captured(sessions) as webhooks:
            catalogue = webhooks.catalogue()
            for one in held:
                lead_a_life(sessions, classes[one.name], one.value)
            bodies = sent(webhooks)
    check(catalogue, bodies)
    values = {body["resource"]: body["data"]["value"] for body in bodies if body["operation"] == "create"}
    assert values == {f"catalogue_{one.name}": one.json for one in held}
    assert len(bodies) == 4 * len(held)


#: What an application's own type makes, and what holds anything.
UNKNOWN = {"JSON", "JSONB", "PickleType", "InCents", "DOMAIN"}
STRANGE: list[Any] = [None, True, 1.5, "not so", [[[{}]]], {"$": []}]


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_no_type_that_is_known_takes_everything(name: str) -> None:
    dialect = make_url({"postgresql": "postgresql+psycopg://", "mariadb": "mariadb+pymysql://"}.get(name, "sqlite://"))
    forms = Forms(dialect.get_dialect()(), encoders={})
    loose = set()
    for one in HELD[name]:
        form = forms.of(Column("value", one.type, nullable=False))
        if not any(faults(form.schema, value) for value in STRANGE):
            loose.add(type(one.type).__name__)
        assert not faults(form.schema, form.example)
        assert form.example is not None or form == ANYTHING
    assert loose <= UNKNOWN


# --------------------------------------------------------------------------- random rows


class Size(Enum):
    SMALL = 1
    LARGE = 2


PATIENT = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def wide(base: Any, others: Sequence[TypeEngine[Any]]) -> Any:
    """A class with columns of many types, each with the name of its place."""
    columns = {f"v{number}": mapped_column(one) for number, one in enumerate(others)}
    key = {"__tablename__": "wide_row", "id": mapped_column(sa.Integer, primary_key=True)}
    return type("WideRow", (base,), {**key, **columns})


FINITE = st.floats(-1e30, 1e30)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
#: Types, and values that every application may give to them, also if they are not the type's own.
MANY: list[tuple[TypeEngine[Any], st.SearchStrategy[Any]]] = [
    (sa.Integer(), st.integers(-(2**31), 2**31 - 1)),
    (sa.BigInteger(), st.integers(-(2**63), 2**63 - 1)),
    (sa.String(20), TEXTS),
    (sa.Text(), TEXTS),
    (sa.Numeric(12, 2), st.decimals(-(10**9), 10**9, places=2) | st.integers(-(10**9), 10**9) | st.just(1.5)),
    (sa.Double(), FINITE | st.integers(-100, 100) | st.just(float("inf"))),
    (sa.Boolean(), st.booleans()),
    (sa.Date(), st.dates()),
    (sa.DateTime(), st.datetimes()),
    (sa.Time(), st.times()),
    (sa.Interval(), st.timedeltas(timedelta(days=-9999), timedelta(days=9999))),
    (sa.LargeBinary(), st.binary(max_size=9)),
    (sa.Uuid(), st.uuids()),
    (sa.Enum(Size), st.sampled_from(Size) | st.sampled_from([one.name for one in Size])),
    (sa.JSON(), st.recursive(st.none() | st.booleans() | TEXTS, lambda of: st.lists(of) | st.dictionaries(TEXTS, of))),
]
ROWS = st.tuples(*(st.none() | values for _, values in MANY))
Step = tuple[str, int, tuple[Any, ...]]
STEPS = st.lists(st.tuples(st.sampled_from(["write", "delete"]), st.integers(1, 3), ROWS), min_size=1, max_size=6)


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_random_rows_are_as_their_schemas_say(name: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        base = stack.enter_context(mapping.base())
        cls = wide(base, [one for one, _ in MANY])
        engine = stack.enter_context(stack.enter_context(on(name, tmp_path)).engine())
        base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = stack.enter_context(captured(sessions))
        catalogue = webhooks.catalogue()

        @PATIENT
        @given(STEPS, st.booleans())
        def holds(steps: list[Step], expire: bool) -> None:  # noqa: FBT001  # it is drawn
            clear(engine, cls.__table__, *models.metadata.sorted_tables)
            with sessions(expire_on_commit=expire) as session:
                for step in steps:
                    take(session, cls, step)
            check(catalogue, sent(webhooks))

        holds()


def take(session: Session, cls: Any, step: Step) -> None:
    what, id_, values = step
    row = session.get(cls, id_)
    if what == "delete":
        if row is not None:
            session.delete(row)
    else:
        if row is None:
            session.add(row := cls(id=id_))
        for number, value in enumerate(values):
            setattr(row, f"v{number}", value)
    session.commit()


@settings(PATIENT, max_examples=25)
@given(DESIGNS, st.integers(0, 9))
def test_rows_of_random_classes_are_as_their_schemas_say(designs: list[Design], number: int) -> None:
    """Inheritance, keys of every kind, what the database makes by itself."""
    base, kinds = map_classes(designs)
    engine = create_engine("sqlite://")
    base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    with captured(sessions) as webhooks:
        for kind in kinds:
            row = kind.cls(**{**kind.whole(number), **kind.identity(0, number), "lane": 0})
            with sessions.begin() as session:
                session.add(row)
            with sessions.begin() as session:
                session.add(row)
                for name, value in {**kind.whole(number + 1), "lane": 1}.items():
                    setattr(row, name, value)
            with sessions.begin() as session:
                session.delete(session.merge(row))
        bodies, catalogue = sent(webhooks), webhooks.catalogue()
    base.registry.dispose()
    check(catalogue, bodies)
    assert {one["operation"] for one in bodies} == {"create", "update", "delete"}


def test_what_was_is_as_the_schemas_say_if_it_is_of_another_type(base: Any, in_memory: Sessions) -> None:
    """As the object had it: the database has made a Decimal of it, and the object has not heard."""
    columns = {**one_key(), "total": mapped_column(sa.Numeric(10, 2), nullable=False)}
    bill: Any = type("Bill", (base,), {"__tablename__": "catalogue_bill", **columns})
    base.metadata.create_all(engine := in_memory.kw["bind"])
    sessions = sessionmaker(engine)
    with captured(sessions) as webhooks, sessions(expire_on_commit=False) as session:
        session.add(row := bill(total=10))
        session.commit()
        row.total = 20
        session.commit()
        session.delete(row)
        session.commit()
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    assert [one["data"]["total"] for one in bodies] == ["10.00", "20.00", 20]
    assert bodies[1]["changes"] == {"total": {"from": 10, "to": "20.00"}}
    check(catalogue, bodies)
    check(catalogue, [bodies[1] | {"changes": {"total": {"to": "20.00"}}}])  # what it was may be unknown
    assert faults(catalogue["bill.created"].schema, bodies[0] | {"data": bodies[2]["data"]})


def test_what_an_outer_join_does_not_find_is_null(base: Any, in_memory: Sessions) -> None:
    left, right = (Table(f"catalogue_{one}", base.metadata, Column("id", sa.Integer, primary_key=True)) for one in "lr")
    left.append_column(Column("name", sa.String, nullable=False))
    right.append_column(Column("note", sa.String, nullable=False))
    joined = left.outerjoin(right, left.c.id == right.c.id)
    cls: Any = type("Joined", (base,), {"__table__": joined, "id": column_property(left.c.id, right.c.id)})
    base.metadata.create_all(engine := in_memory.kw["bind"])
    with engine.begin() as connection:
        connection.execute(left.insert().values(id=1, name="a"))
    sessions = sessionmaker(engine)
    with captured(sessions) as webhooks:
        with sessions.begin() as session:
            session.scalars(sa.select(cls)).one().name = "b"
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    assert [one["data"] for one in bodies] == [{"id": 1, "name": "b", "note": None}]
    check(catalogue, bodies)


def test_links_and_what_is_too_large_are_as_the_schemas_say(base: Any, in_memory: Sessions) -> None:
    person = mapping.person(base)
    fans = Table("fans", base.metadata, *(Column(name, ForeignKey("person.id")) for name in ("one", "other")))
    ends = {"primaryjoin": person.id == fans.c.one, "secondaryjoin": person.id == fans.c.other}
    person.fans = relationship(person, secondary=fans, **ends)
    base.metadata.create_all(engine := in_memory.kw["bind"])
    sessions = sessionmaker(engine)
    with captured(sessions, payload_limit=1024) as webhooks:
        with sessions.begin() as session:
            session.add(one := person(id=1))
            session.add(other := person(id=2))
        with sessions.begin() as session:
            session.add_all([one, other])
            one.fans.append(other)
        with sessions.begin() as session:
            session.add(one)
            one.id, one.first = 3, "x" * 1024
        with sessions.begin() as session:
            session.delete(session.get_one(person, 2))
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    check(catalogue, bodies)
    assert [one for body in bodies for one in body.get("links", ())]
    (thin,) = [body for body in bodies if body.get("truncated")]
    assert thin["changes"]
    schema = catalogue["person.updated"].schema
    assert faults(schema, {key: one for key, one in thin.items() if key != "truncated"})
    assert faults(schema, thin | {"truncated": False})
    (linked,) = [body for body in bodies if "links" in body and body["operation"] == "update"]
    assert faults(schema, linked | {"links": {"fans": {"added": [2], "removed": []}}})
    assert faults(schema, linked | {"links": {"fans": {"added": ["2"]}}})


def test_what_is_told_of_the_webhooks_themselves_is_as_the_schemas_say(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False, clock=MovedClock(), stop=stop_after_attempt(1))
    webhooks.endpoints.create(receiver.url(), events=["product.*"])
    with Receiver() as operator:
        webhooks.endpoints.create(operator.url(), events=["delivery.dead", "endpoint.disabled"])
        receiver.answer(410)
        put(sessions, "a")
        webhooks.drain()
        bodies = operator.events()
    catalogue = webhooks.catalogue()

    assert sorted(one["type"] for one in bodies) == ["delivery.dead", "endpoint.disabled"]
    check(catalogue, bodies)
    for body in bodies:
        schema = catalogue[body["type"]].schema
        for name in body["data"]:
            assert faults(schema, body | {"data": {key: one for key, one in body["data"].items() if key != name}})
            assert faults(schema, body | {"data": {**body["data"], name: [name]}})
        assert list(catalogue[body["type"]].example["data"]) == list(body["data"])


# --------------------------------------------------------------------------- what is not sent is not


def wrongs(body: Body) -> Iterator[tuple[str, Body]]:
    """The body with one thing wrong."""
    for key in body:
        yield f"without {key}", {name: one for name, one in body.items() if name != key}
    for key, wrong in {
        "type": "other.type",
        "timestamp": "yesterday",
        "id": 1,
        "resource": "other",
        "resource_id": 1,
        "operation": "other",
        "data": [],
        "context": "somebody",
    }.items():
        yield f"{key} {wrong!r}", body | {key: wrong}
    if body["operation"] == "delete":
        return
    for name in body["data"]:
        yield f"without data.{name}", body | {"data": {key: one for key, one in body["data"].items() if key != name}}
        yield f"another data.{name}", body | {"data": {**body["data"], name: {"wrong": {}}}}
    for name in body.get("changes", ()):
        for wrong in ({}, {"from": 1}, {"from": {"wrong": {}}, "to": body["data"][name]}, {"to": {"wrong": {}}}):
            yield f"another change of {name}", deepcopy(body) | {"changes": {name: wrong}}


def test_a_body_with_one_thing_wrong_is_refused(base: Any, in_memory: Sessions) -> None:
    person = mapping.person(base, {"include": ["api_key", "full", "loud"]})
    base.metadata.create_all(engine := in_memory.kw["bind"])
    sessions = sessionmaker(engine)
    with captured(sessions) as webhooks:
        with sessions.begin() as session:
            session.add(row := person(id=1))
        with sessions.begin() as session:
            session.add(row)
            row.first = "second"
        with sessions.begin() as session:
            session.delete(row)
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    check(catalogue, bodies)
    assert [one["operation"] for one in bodies] == ["create", "update", "delete"]
    assert bodies[1]["changes"] == {"first": {"from": "first", "to": "second"}}
    for body in [*bodies, bodies[0] | {"type": "person.read", "operation": READ}]:
        schema = catalogue[body["type"]].schema
        assert faults(schema, body) == []
        assert [what for what, wrong in wrongs(body) if not faults(schema, wrong)] == []
        enriched = body | {"data": {**body["data"], "customer": {"id": 1}}}
        assert faults(schema, enriched) == []


# --------------------------------------------------------------------------- columns


def form(type_: TypeEngine[Any], name: str = "postgresql", *, encoders: Any = None, **options: Any) -> Form:
    return Forms(DIALECTS[name], encoders=encoders or {}).of(Column("value", type_, **{"nullable": False, **options}))


DIALECTS = {name: make_url(f"{name}://").get_dialect()() for name in ("sqlite", "postgresql", "mysql")}


class Shouting(sa.TypeDecorator[str]):
    """Only writes."""

    impl = sa.String(9)
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> Any:
        return value and value.upper()


class Told(sa.TypeDecorator[Decimal]):
    """Says what it reads."""

    impl = sa.Integer
    cache_ok = True
    python_type = Decimal

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return value and Decimal(value)


class Parsed(sa.String):
    """Is text, and reads something else."""

    def result_processor(self, dialect: Any, coltype: Any) -> Any:
        del dialect, coltype
        return json.loads


def test_a_column_s_options_stand_in_its_schema() -> None:
    assert form(sa.String(5)).schema == {"type": "string", "maxLength": 5}
    assert form(sa.String(5)).example == "text"[:5]
    assert form(sa.String(2)).example == "te"
    assert form(sa.String(5), "sqlite").schema == {"type": "string"}
    assert form(sa.Text(5), "mysql").schema == {"type": "string"}
    assert form(sa.String(), nullable=True).schema == {"type": ["string", "null"]}
    assert form(sa.Enum("a", "b"), nullable=True).schema == {"type": ["string", "null"], "enum": ["a", "b", None]}
    assert form(sa.Enum(Colour)).schema == {"enum": ["r", [1, "a"]]}
    assert form(sa.Integer(), comment="How many.").schema == {"type": "integer", "description": "How many."}
    assert form(sa.Integer(), doc="How many.").schema == {"type": "integer", "description": "How many."}
    assert form(sa.String(9).with_variant(sa.Integer(), "mysql"), "mysql").schema == {"type": "integer"}


def test_what_an_encoder_or_a_type_of_the_application_s_makes_is_not_known() -> None:
    for type_, kind in (
        (sa.Numeric(), Decimal),
        (sa.DateTime(), datetime),
        (sa.Date(), date),
        (sa.Enum(Size), Size),
        (sa.Uuid(), UUID),
        (postgresql.INET(), IPv4Address),
        (postgresql.NUMRANGE(), postgresql.Range),
    ):
        assert form(type_, encoders={kind: str}) == ANYTHING
        assert form(type_) != ANYTHING
    assert form(sa.DateTime(), encoders={date: str}) == form(sa.DateTime())
    assert form(postgresql.ARRAY(sa.Numeric), encoders={Decimal: str}).schema == {"type": "array", "items": {}}
    assert form(Told()) == form(sa.Numeric())
    assert form(Shouting()) == form(sa.String(9))
    assert form(Parsed()) == ANYTHING
    assert form(sa.PickleType()) == ANYTHING


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_expressions_are_as_their_schemas_say(base: Any, name: str, tmp_path: Path) -> None:
    columns = {
        "id": mapped_column(sa.Integer, primary_key=True),
        "count": (count := mapped_column(sa.BigInteger)),
        "first": (first := mapped_column(sa.String(4))),
        "day": (day := mapped_column(sa.Date)),
        "longer": column_property(first + "!"),
        "sum": column_property(sa.select(sa.func.sum(sa.literal(2, sa.BigInteger))).scalar_subquery()),
        "ratio": column_property(count / 2),
        "many": column_property(count > 1),
        "missing": column_property(sa.null()),
        "since": column_property(day - sa.literal(date(2026, 1, 1), sa.Date) if name == "postgresql" else sa.null()),
        "twice": hybrid_property(lambda self: self.count * 2),
    }
    said = {"include": ["longer", "sum", "ratio", "many", "missing", "since", "twice"]}
    cls = type("Worked", (base,), {"__tablename__": "worked_out", "__webhooks__": said, **columns})
    with on(name, tmp_path) as database, database.engine() as engine:
        base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        with captured(sessions) as webhooks:
            with sessions.begin() as session:
                session.add(cls(id=1, count=3, first="abcd", day=date(2026, 1, 5)))
            (body,) = sent(webhooks)
            catalogue = webhooks.catalogue()

    check(catalogue, [body])
    assert list(body["data"]) == list(catalogue["worked.created"].example["data"])
    for key in ("longer", "sum", "many", "twice"):
        assert faults(catalogue["worked.created"].schema, body | {"data": {**body["data"], key: {}}})


# --------------------------------------------------------------------------- what there is


def test_every_type_that_is_in_it_can_be_subscribed_to(base: Any, install: Install, in_memory: Sessions) -> None:
    """Reads are not sent yet, nor are events of the application's own."""
    person = mapping.person(base)
    other = type("Other", (person,), {"__webhooks__": {"operations": ["delete"], "name": "human"}})
    webhooks = install(in_memory, deliver=False, exclude=[(person, "update")])
    catalogue = webhooks.catalogue()

    own = [one for one in catalogue if one.resource in ("person", "human")]
    assert [one.type for one in own[:2]] == ["human.deleted", "human.read"]
    assert [one.type for one in own[2:]] == ["person.created", "person.deleted", "person.read"]
    for one in catalogue:
        if not one.type.endswith(".read"):
            webhooks.endpoints.create("http://127.0.0.1:8000/", events=[one.type])
    assert other.__name__ in catalogue["human.deleted"].description


def test_a_catalogue_is_a_table_when_it_is_printed(base: Any, install: Install, in_memory: Sessions) -> None:
    mapping.person(base)
    catalogue = install(in_memory, deliver=False, include=base.__subclasses__()).catalogue()

    assert str(catalogue) == (
        """\
person.created     A row of Person was created.
person.updated     A row of Person was updated.
person.deleted     A row of Person was deleted.
person.read        A row of Person as it is, sent by a backfill.
endpoint.disabled  An endpoint was disabled: it was gone, or did nothing but fail.
delivery.dead      A delivery was given up."""
    )
    assert (len(catalogue), len(list(catalogue))) == (6, 6)
    assert "person.created" in catalogue
    assert "person.made" not in catalogue
    with pytest.raises(KeyError):
        catalogue["person.made"]
    assert json.loads(json.dumps(catalogue.as_dict())).keys() == {one.type for one in catalogue}
    assert catalogue == install(in_memory, deliver=False, include=base.__subclasses__()).catalogue()


def test_who_changes_a_catalogue_changes_no_other(base: Any, install: Install, in_memory: Sessions) -> None:
    mapping.person(base)
    webhooks = install(in_memory, deliver=False)
    first, text = webhooks.catalogue(), json.dumps(webhooks.catalogue().as_dict())
    spoil(first.as_dict())
    spoil(first.openapi())
    assert json.dumps(first.as_dict()) == text
    for one in first:
        spoil([dict(one.schema), dict(one.example)])
    assert json.dumps(webhooks.catalogue().as_dict()) == text
    assert first.openapi() != webhooks.catalogue().openapi()


def spoil(tree: Any) -> None:
    """Empties whatever can be emptied, from the leaves up."""
    for one in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        spoil(one)
    if isinstance(tree, dict | list):
        tree.clear()


def one_key() -> dict[str, Any]:
    return {"id": mapped_column(sa.Integer, primary_key=True)}


def test_classes_of_one_name_share_their_types(base: Any, in_memory: Sessions) -> None:
    first: Any = type("First", (base,), {"__tablename__": "same_one", **one_key(), "a": mapped_column(sa.Integer)})
    other: Any = type("Other", (base,), {"__tablename__": "same_two", **one_key(), "b": mapped_column(sa.String)})
    base.metadata.create_all(engine := in_memory.kw["bind"])
    sessions = sessionmaker(engine)
    with captured(sessions, names={first: "same", other: "same"}) as webhooks:
        with sessions.begin() as session:
            session.add_all([first(a=1), other(b="b")])
        with sessions.begin() as session:
            session.get_one(first, 1).a = 2
            session.get_one(other, 1).b = "c"
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    check(catalogue, bodies)
    event = catalogue["same.created"]
    assert event.description == "A row of First was created. Or: A row of Other was created."
    assert faults(event.schema, bodies[0] | {"data": {"id": 1, "a": "b"}})
    assert faults(event.schema, bodies[0] | {"data": {"id": 1}})
    assert list(OpenAPIV31SpecValidator(catalogue.openapi()).iter_errors()) == []


def test_attributes_of_odd_names_are_found_by_their_references(base: Any, in_memory: Sessions) -> None:
    names = ["$ref", "$defs", "a/b", "a~b", "a%20b c", "größe", "type", "required"]
    columns = {name: Column(f"c{number}", sa.Integer) for number, name in enumerate(names)}
    table = Table("odd_names", base.metadata, Column("id", sa.Integer, primary_key=True), *columns.values())
    odd = type("OddNames", (), {})
    base.registry.map_imperatively(odd, table, properties=columns)
    table.create(engine := in_memory.kw["bind"])
    sessions = sessionmaker(engine)
    with captured(sessions) as webhooks:
        with sessions.begin() as session:
            session.add(row := odd())
        with sessions.begin() as session:
            session.add(row)
            for name in names:
                setattr(row, name, 1)
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    check(catalogue, bodies)
    schema = catalogue["odd_names.updated"].schema
    for name in names:
        assert faults(schema, bodies[1] | {"changes": {name: {"to": "text"}}})
    assert list(OpenAPIV31SpecValidator(catalogue.openapi()).iter_errors()) == []


def test_an_event_of_the_application_s_own_is_in_it(base: Any, in_memory: Sessions, install: Install) -> None:
    person = mapping.person(base)
    webhooks = install(in_memory, deliver=False)
    own = {"payment.captured": person, "shop.opened": None, "nobody.here": None}
    resources = webhooks._parts.resources  # noqa: SLF001  # no setting says which there are
    catalogue = make(resources, dialect=webhooks.engine.dialect, encoders={}, domain_events=own)

    assert [one.type for one in catalogue if one.type in own] == list(own)
    captured_ = catalogue["payment.captured"]
    assert captured_.description == "The application's own, about a row of Person."
    assert (captured_.example["resource"], captured_.example["data"]) == ("person", {"id": 2, "first": "text"})
    assert catalogue["shop.opened"].description == "The application's own."
    for type_ in own:
        event = catalogue[type_]
        assert faults(event.schema, event.example) == []
        assert faults(event.schema, {**event.example, "data": 1})
        assert faults(event.schema, {**event.example, "operation": "create"})


def test_what_follows_from_changes_is_as_the_schema_says(base: Any, in_memory: Sessions) -> None:
    person = mapping.person(base)
    base.metadata.create_all(in_memory.kw["bind"])
    with captured(in_memory) as webhooks:
        webhooks.event("person.named", person)(changed(person.first))
        webhooks.event("person.came", person)(lambda event: event.operation == "create")
        with in_memory.begin() as session:
            row = person(first="a")
            session.add(row)
        with in_memory.begin() as session:
            session.add(row)
            row.first = "b"
            session.flush()
            webhooks.emit(session, "person.named", row, data={"by": "hand"})
        bodies, catalogue = sent(webhooks), webhooks.catalogue()

    own = [one for one in bodies if one["operation"] == "emit"]
    assert [(one["type"], "changes" in one) for one in own] == [
        ("person.came", False),
        ("person.named", True),
        ("person.named", False),
    ]
    check(catalogue, bodies)
    schema = catalogue["person.named"].schema
    assert schema["properties"]["changes"]["anyOf"][0] == {"$ref": "#/$defs/person.changes"}
    assert faults(schema["$defs"]["person.changes"] | {"$defs": schema["$defs"]}, own[1]["changes"]) == []
    assert faults(schema, {**own[1], "changes": ["first"]})
    assert list(OpenAPIV31SpecValidator(catalogue.openapi()).iter_errors()) == []


# --------------------------------------------------------------------------- examples, and the document


@pytest.fixture
def everything(base: Any, install: Install, in_memory: Sessions) -> Catalogue:
    """Of a class of many columns, and all that other tests have mapped."""
    wide(base, [one for one, _ in MANY])
    return install(in_memory, deliver=False).catalogue()


def test_every_schema_is_one_and_every_example_is_a_body_of_it(everything: Catalogue) -> None:
    for one in everything:
        Draft202012Validator.check_schema(dict(one.schema))
        assert faults(one.schema, one.example) == []
        assert datetime.fromisoformat(one.example["timestamp"]).tzinfo is UTC


def test_an_example_can_be_signed_and_verified(everything: Catalogue) -> None:
    secret, now = generate_secret(), datetime.now(UTC)  # noqa: TID251  # the other library asks no clock of ours
    for one in everything:
        body = json.dumps(one.example)
        headers = {
            "webhook-id": one.example["id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(one.example["id"], now, body),
        }
        assert Webhook(secret).verify(body, headers) == one.example
        assert verify(body.encode(), headers, secret) == one.example


def test_the_document_is_openapi_and_says_the_same(everything: Catalogue) -> None:
    document = everything.openapi("Shop", "2.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["info"] == {"title": "Shop", "version": "2.1"}
    assert list(document["webhooks"]) == [one.type for one in everything]
    for one in everything:
        operation = document["webhooks"][one.type]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        whole = {**content["schema"], "components": document["components"]}
        assert (operation["operationId"], content["example"]) == (one.type, one.example)
        assert faults(whole, one.example) == []
        assert faults(whole, {**one.example, "data": None})
        assert faults(one.schema, {**one.example, "data": None})
        places = [parameter["$ref"].rpartition("/")[2] for parameter in operation["parameters"]]
        assert [document["components"]["parameters"][one]["name"] for one in places] == HEADERS
