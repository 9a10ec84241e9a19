"""What a class says of itself, and what `install()` says of it: each rule, each precedence, each mistake."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, ClassVar

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, String, Table, create_engine, func, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    column_property,
    declared_attr,
    mapped_column,
    registry,
    relationship,
    sessionmaker,
)
from support import mapping
from support.clock import MovedClock
from support.local import Install

from sqla_webhooks import ConfigurationError, InvalidSubscription, Webhooks

Sessions = sessionmaker[Session]
Installed = Callable[..., Webhooks]
Lived = Callable[..., list[dict[str, Any]]]

EVERY = ["created", "updated", "deleted"]


@pytest.fixture
def base() -> Iterator[Any]:
    with mapping.base() as base:
        yield base


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return sessionmaker(engine)


@pytest.fixture
def installed(install: Install, sessions: Sessions) -> Installed:
    """`install()` that keeps every event."""
    return lambda **options: install(sessions, deliver=False, capture="all", clock=MovedClock(), **options)


@pytest.fixture
def lived(installed: Installed, sessions: Sessions, engine: Engine) -> Lived:
    """The events of a row of a class that is created, updated and deleted."""

    def lived(class_: Any, **options: Any) -> list[dict[str, Any]]:
        class_.metadata.create_all(engine)
        webhooks = installed(**options)
        before = len(told(webhooks))
        with sessions.begin() as session:
            session.add(row := class_())
        with sessions.begin() as session:
            session.add(row)
            row.first = "other"
        with sessions.begin() as session:
            session.delete(session.scalars(select(class_)).one())
        events = told(webhooks)[before:]
        webhooks.uninstall()
        return events

    return lived


def told(webhooks: Webhooks) -> list[dict[str, Any]]:
    """What has been made public."""
    webhooks.drain()
    return [json.loads(one.payload) for one in reversed(webhooks.events.list())]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def of(name: str, *verbs: str) -> list[str]:
    return [f"{name}.{verb}" for verb in verbs or EVERY]


# --------------------------------------------------------------------------- classes


def test_a_class_that_says_nothing_is_captured(base: Any, lived: Lived) -> None:
    assert types(lived(mapping.person(base))) == of("person")


def test_an_empty_dict_says_nothing(base: Any, lived: Lived) -> None:
    assert types(lived(mapping.person(base, {}))) == of("person")


def test_a_class_that_says_false_is_not_captured(base: Any, lived: Lived) -> None:
    assert lived(mapping.person(base, said=False)) == []


def test_install_captures_a_class_that_says_false_if_it_names_it(base: Any, lived: Lived) -> None:
    person = mapping.person(base, said=False)

    assert types(lived(person, include=[person])) == of("person")


def test_install_leaves_out_a_class_whatever_it_says(base: Any, lived: Lived) -> None:
    person = mapping.person(base, {"operations": ["create"]})

    assert lived(person, exclude=[person]) == []


def test_a_base_in_include_does_not_bring_back_a_class_that_says_false(base: Any, lived: Lived) -> None:
    assert lived(mapping.person(base, said=False), include=[base]) == []


def test_false_holds_for_derived_classes_that_say_nothing(base: Any, lived: Lived) -> None:
    mapping.person(base, said=False)
    (person,) = [mapper.class_ for mapper in base.registry.mappers]
    silent = type("Silent", (person,), {})
    speaking = type("Speaking", (person,), {"__webhooks__": {}})

    assert types(lived(silent) + lived(speaking)) == of("speaking")


def test_what_an_abstract_base_says_holds_for_its_classes(base: Any, lived: Lived) -> None:
    """Of what it names, they need not have all."""
    abstract = type(
        "Abstract",
        (base,),
        {"__abstract__": True, "__webhooks__": {"exclude": ["first", "unknown"], "operations": ["create"]}},
    )
    (event,) = lived(mapping.person(abstract))

    assert (event["type"], event["data"]) == ("person.created", {"id": 1})


# --------------------------------------------------------------------------- operations


@pytest.mark.parametrize(
    ("said", "include", "exclude", "expected"),
    [
        ({}, [], ["delete"], ["created", "updated"]),
        ({}, [], ["create", "update"], ["deleted"]),
        ({}, ["create", "delete"], [], ["created", "deleted"]),
        ({}, ["create", "delete"], ["delete"], ["created"]),
        ({"operations": ["create", "delete"]}, [], [], ["created", "deleted"]),
        ({"operations": ["create", "delete"]}, ["update"], [], ["updated"]),
        ({"operations": ["create", "delete"]}, [], ["delete"], ["created"]),
        ({"operations": ["create"]}, [], ["create"], []),
    ],
)
def test_operations(
    base: Any, lived: Lived, said: Any, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    person = mapping.person(base, said)
    options = {name: [(person, *words)] for name, words in (("include", include), ("exclude", exclude)) if words}

    assert types(lived(person, **options)) == (of("person", *expected) if expected else [])


def test_operations_of_one_class_in_include_keep_other_classes_out(base: Any, lived: Lived) -> None:
    person = mapping.person(base)
    other = type("Other", (base,), {"__tablename__": "other", "id": mapped_column(Integer, primary_key=True)})

    assert lived(person, include=[(other, "create")]) == []


def test_operations_of_a_base_hold_for_derived_classes(base: Any, lived: Lived) -> None:
    person = mapping.person(base)

    assert types(lived(type("Child", (person,), {}), exclude=[(person, "update")])) == of("child", "created", "deleted")


@pytest.mark.parametrize("coalesce", [True, False])
def test_an_operation_is_left_out_of_what_a_transaction_came_to(
    base: Any, installed: Installed, sessions: Sessions, engine: Engine, *, coalesce: bool
) -> None:
    """A row that is created and updated in one transaction was created; unless each change makes its own event."""
    person = mapping.person(base, {"operations": ["update"]})
    base.metadata.create_all(engine)
    webhooks = installed(coalesce=coalesce)
    with sessions.begin() as session:
        session.add(row := person())
        session.flush()
        row.first = "other"

    assert types(told(webhooks)) == ([] if coalesce else of("person", "updated"))


def test_a_relay_of_other_settings_leaves_classes_alone_that_it_does_not_capture(
    base: Any, install: Install, engine: Engine
) -> None:
    """It is for those to judge who wrote them."""
    person = mapping.person(base)
    base.metadata.create_all(engine)
    writing, relaying = sessionmaker(engine), sessionmaker(engine)
    install(writing, deliver=False, capture="all", clock=MovedClock())
    with writing.begin() as session:
        session.add(person())
    relay = install(relaying, deliver=False, capture="all", clock=MovedClock(), exclude=[person, (person, "create")])

    assert types(told(relay)) == of("person", "created")


def test_a_subscription_to_what_is_left_out_is_refused(base: Any, installed: Installed, engine: Engine) -> None:
    person = mapping.person(base)
    base.metadata.create_all(engine)
    webhooks = installed(exclude=[(person, "delete")])

    with pytest.raises(InvalidSubscription) as caught:
        webhooks.endpoints.create("http://127.0.0.1/", events=["person.deleted"])
    assert str(caught.value) == (
        "'person.deleted' can match nothing: that operation of the class is left out; "
        "Known: person.created, person.updated, person.read"
    )
    webhooks.endpoints.create("http://127.0.0.1/", events=["person.created", "*.deleted", "person.*"])


# --------------------------------------------------------------------------- attributes


INCLUDED, EXCLUDED, UNSAID = "include", "exclude", ""


@pytest.mark.parametrize("installs", [INCLUDED, EXCLUDED, UNSAID])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        *product(["first", "api_key", "full"], [INCLUDED, EXCLUDED, "info", "no info", UNSAID]),
        *product(["loud"], [INCLUDED, EXCLUDED, UNSAID]),
    ],
)
def test_what_decides_of_an_attribute(base: Any, lived: Lived, name: str, installs: str, says: str) -> None:
    """`install()` before the class, the class before what the attribute is."""
    by_itself = name == "first"
    infos = {name: {"webhook": says == "info"}} if "info" in says else {}
    said = {says: [name]} if says in (INCLUDED, EXCLUDED) else {}
    person = mapping.person(base, said, **infos)
    options: dict[str, Any] = {installs: [getattr(person, name)]} if installs else {}
    if by_itself and (says == INCLUDED or (installs == INCLUDED and not says)):
        with pytest.raises(ConfigurationError, match="which is sent anyway"):
            lived(person, **options)
        return
    if installs:
        expected = installs == INCLUDED
    elif says:
        expected = says in (INCLUDED, "info")
    else:
        expected = by_itself

    events = lived(person, **options)

    assert {name in event["data"] for event in events} == {expected}


def test_an_included_column_does_not_keep_its_class_in(base: Any, lived: Lived) -> None:
    person = mapping.person(base)

    assert lived(person, include=[person.api_key], exclude=[person]) == []


# --------------------------------------------------------------------------- expressions


def test_expressions_are_sent_as_the_database_has_them(base: Any, lived: Lived) -> None:
    person = mapping.person(base, {"include": ["full", "loud"]})
    created, updated, deleted = lived(person)

    assert created["data"] == {"id": 1, "first": "first", "full": "first!", "loud": "first!!"}
    assert updated["data"] == {"id": 1, "first": "other", "full": "other!", "loud": "other!!"}
    assert updated["changes"] == {"first": {"from": "first", "to": "other"}}
    assert deleted["data"] == updated["data"]


def test_an_expression_that_is_never_expired_is_read_too(
    base: Any, installed: Installed, sessions: Sessions, engine: Engine
) -> None:
    first = mapped_column(String(20))
    kept = column_property(first + "!", expire_on_flush=False, info={"webhook": True})
    late = column_property(first + "?", deferred=True, info={"webhook": True})
    body = {"id": mapped_column(Integer, primary_key=True), "first": first, "kept": kept, "late": late}
    word = type("Word", (base,), {"__tablename__": "word", **body})
    base.metadata.create_all(engine)
    webhooks = installed()
    with sessions.begin() as session:
        session.add(row := word(first="a"))
    with sessions.begin() as session:
        session.add(row)
        assert (row.kept, row.late) == ("a!", "a?")
        row.first = "b"

    assert [(one["data"]["kept"], one["data"]["late"]) for one in told(webhooks)] == [("a!", "a?"), ("b!", "b?")]


def test_an_expression_alone_is_no_update(base: Any, installed: Installed, sessions: Sessions, engine: Engine) -> None:
    person = mapping.person(base, {"include": ["full"]})
    base.metadata.create_all(engine)
    webhooks = installed()
    with sessions.begin() as session:
        session.add(row := person())
    with sessions.begin() as session:
        session.add(row)
        row.full = "set, and never written"
        row.api_key = "not sent"

    assert types(told(webhooks)) == of("person", "created")


def test_a_subquery_counts_what_is_there_after_the_flush(
    base: Any, installed: Installed, sessions: Sessions, engine: Engine
) -> None:
    line: Any = type(
        "Line",
        (base,),
        {
            "__tablename__": "line",
            "id": mapped_column(Integer, primary_key=True),
            "bill_id": mapped_column(ForeignKey("bill.id")),
        },
    )
    bill_id = mapped_column(Integer, primary_key=True)
    bill: Any = type("Bill", (base,), {"__tablename__": "bill", "id": bill_id, "lines": relationship(line)})
    counted = select(func.count(line.id)).where(line.bill_id == bill.id)
    bill.count = column_property(counted.correlate_except(line).scalar_subquery())
    base.metadata.create_all(engine)
    webhooks = installed(include=[bill, bill.count])
    with sessions.begin() as session:
        session.add(bill(lines=[line(), line()]))

    (event,) = told(webhooks)

    assert event["data"] == {"id": 1, "count": 2}


def test_hybrids_of_joined_inheritance_are_read(
    base: Any, installed: Installed, sessions: Sessions, engine: Engine
) -> None:
    person = mapping.person(base)

    def both(self: Any) -> Any:
        return self.first + self.title

    body = {"id": mapped_column(ForeignKey("person.id"), primary_key=True), "title": mapped_column(String(9))}
    chief: Any = type("Chief", (person,), {"__tablename__": "chief", **body, "both": hybrid_property(both)})
    base.metadata.create_all(engine)
    webhooks = installed(include=[chief.both, chief.loud])
    with sessions.begin() as session:
        session.add_all([chief(first="a", title="b"), chief(first="c", title="d")])

    assert [(one["data"]["both"], one["data"]["loud"]) for one in told(webhooks)] == [("ab", "a!!"), ("cd", "c!!")]


def test_a_hybrid_that_is_no_sql_is_left_out(base: Any, lived: Lived, caplog: pytest.LogCaptureFixture) -> None:

    def shout(self: Any) -> Any:
        return self.first.upper()

    person = mapping.person(base)
    child = type("Child", (person,), {"__webhooks__": {"include": ["shout"]}, "shout": hybrid_property(shout)})
    events = lived(child)

    assert [sorted(one["data"]) for one in events] == [["first", "id"]] * 3
    assert "Child: left out, for these hybrids have no form in SQL: ['shout']" in caplog.text


# --------------------------------------------------------------------------- names


def test_a_class_names_its_resource(base: Any, lived: Lived) -> None:
    assert types(lived(mapping.person(base, {"name": "human_being"}))) == of("human_being")


def test_install_names_it_better(base: Any, lived: Lived) -> None:
    person = mapping.person(base, {"name": "human_being"})

    assert types(lived(person, names={person: "Mensch"})) == of("Mensch")


def test_a_name_is_not_inherited(base: Any, lived: Lived) -> None:
    person = mapping.person(base, {"name": "human_being", "operations": ["create"]})

    assert types(lived(type("Child", (person,), {}))) == of("child", "created")


def test_a_class_whose_name_has_no_letter_can_be_named(base: Any, lived: Lived) -> None:
    person = type("人", (mapping.person(base),), {})

    assert types(lived(person, names={person: "human_being"})) == of("human_being")


def test_two_classes_of_one_name_are_warned_of(
    base: Any, installed: Installed, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    person = mapping.person(base)
    other = type(
        "Other",
        (base,),
        {"__tablename__": "o", "id": mapped_column(Integer, primary_key=True), "__webhooks__": {"name": "human"}},
    )
    base.metadata.create_all(engine)
    webhooks = installed(names={person: "human"})
    webhooks.endpoints.create("http://127.0.0.1/", events=["human.*"])

    assert other in [one.class_ for one in webhooks.describe()]
    assert caplog.text.count("are both sent as 'human': rename one with names={...}") == 1


# --------------------------------------------------------------------------- ways to map


def test_it_survives_every_way_to_map(lived: Lived) -> None:
    class Plain(DeclarativeBase):
        pass

    class Data(MappedAsDataclass, DeclarativeBase):
        pass

    class Mixin:
        @declared_attr.directive
        def __webhooks__(cls) -> dict[str, Any]:  # noqa: N805  # declarative's own form
            return {"exclude": [f"{cls.__name__.lower()}_note"]}  # type: ignore[attr-defined]  # a class

    class Mixed(Mixin, Plain):
        __tablename__ = "mixed"
        id: Mapped[int] = mapped_column(primary_key=True)
        first: Mapped[str] = mapped_column(default="first")
        mixed_note: Mapped[str] = mapped_column(default="note")

    class Dated(Data):
        __tablename__ = "dated"
        __webhooks__: ClassVar[dict[str, Any]] = {"name": "kept", "exclude": ["note"]}
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        first: Mapped[str] = mapped_column(default="first")
        note: Mapped[str] = mapped_column(default="note")

    imperative = registry()

    class Handmade:
        __webhooks__: ClassVar[dict[str, Any]] = {"name": "made", "exclude": ["note"]}
        metadata = imperative.metadata

    columns = (Column("id", Integer, primary_key=True), Column("first", String, default=""), Column("note", String))
    imperative.map_imperatively(Handmade, Table("handmade", imperative.metadata, *columns))
    try:
        found = [lived(class_)[0] for class_ in (Mixed, Dated, Handmade)]
    finally:
        for one in (Plain.registry, Data.registry, imperative):
            one.dispose()

    assert [(one["type"], sorted(one["data"])) for one in found] == [
        ("mixed.created", ["first", "id"]),
        ("kept.created", ["first", "id"]),
        ("made.created", ["first", "id"]),
    ]


# --------------------------------------------------------------------------- mistakes


FORM = '{"name": "purchase_order", "operations": ["create"], "include": ["api_key"], "exclude": ["note"]}'
NAMES = "name columns of Person, column properties or hybrids: full, id, first, api_key, loud"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (True, f" is True: write False for a class that is not captured, or a dict such as {FORM}"),
        (None, f" is None: write False for a class that is not captured, or a dict such as {FORM}"),
        (
            {"operation": ["create"]},
            (
                " has the key 'operation' (did you mean 'operations'?): it may have name, operations, include, "
                "exclude, tenant"
            ),
        ),
        ({5: 5}, " has the key 5: it may have name, operations, include, exclude, tenant"),
        (
            {"operations": ["create", "deleted"]},
            "['operations'] has 'deleted' (did you mean 'delete'?): operations are create, update, delete",
        ),
        ({"operations": [5]}, "['operations'] has 5: give names as text, as in ['note']"),
        ({"operations": []}, "['operations'] has no operation: name some of create, update, delete"),
        ({"operations": "create"}, "['operations'] is 'create': give a list of names, as in ['create']"),
        (
            {"name": "purchase order"},
            (
                "['name'] is 'purchase order': a resource is called by letters of ASCII, digits and underscores, 200 "
                "at the most, as in 'purchase_order'"
            ),
        ),
        ({"exclude": ["fist"]}, f"['exclude'] has 'fist' (did you mean 'first'?): {NAMES}"),
        ({"include": ["password"]}, f"['include'] has 'password': {NAMES}"),
        ({"exclude": "first"}, "['exclude'] is 'first': give a list of names, as in ['first']"),
        ({"include": None}, "['include'] is None: give a list of names, as in ['name']"),
        (
            {"include": ["api_key"], "exclude": ["api_key"]},
            " has 'api_key' both in 'include' and in 'exclude': take it out of one",
        ),
        (
            {"include": ["first"]},
            (
                "['include'] has Person.first, which is sent anyway: naming a column here does not keep the others "
                "out, name those in exclude; take it away"
            ),
        ),
    ],
)
def test_a_class_that_says_nonsense_is_refused(base: Any, installed: Installed, said: Any, message: str) -> None:
    person = mapping.person(base)
    person.__webhooks__ = said
    with pytest.raises(ConfigurationError) as caught:
        installed()

    assert str(caught.value) == f"Person.__webhooks__{message}"


@pytest.mark.parametrize(
    ("said", "noted", "message"),
    [
        (
            {"include": ["api_key"]},
            {"webhook": False},
            (
                "Person.__webhooks__['include'] has 'api_key', and Person.api_key has info={\"webhook\": False}: they "
                "contradict each other, take one away"
            ),
        ),
        (
            {"exclude": ["api_key"]},
            {"webhook": True},
            (
                "Person.__webhooks__['exclude'] has 'api_key', and Person.api_key has info={\"webhook\": True}: they "
                "contradict each other, take one away"
            ),
        ),
        (
            {},
            {"webhook": "no"},
            (
                "Person.api_key has info={\"webhook\": 'no'}: write False to leave it out, or True to send it "
                "though its name says secret"
            ),
        ),
        ({}, {"webhooks": False}, "Person.api_key has info with 'webhooks': did you mean 'webhook'?"),
    ],
)
def test_a_column_that_says_nonsense_is_refused(
    base: Any, installed: Installed, said: Any, noted: Any, message: str
) -> None:
    mapping.person(base, said, api_key=noted)
    with pytest.raises(ConfigurationError) as caught:
        installed()

    assert str(caught.value) == message


def test_a_name_for_many_classes_is_refused(base: Any, installed: Installed) -> None:
    mapping.person(type("Abstract", (base,), {"__abstract__": True, "__webhooks__": {"name": "human"}}))
    with pytest.raises(ConfigurationError) as caught:
        installed()

    assert str(caught.value) == (
        "Abstract.__webhooks__['name'] is 'human', but Abstract is not mapped: name each of its classes for itself"
    )


def entry(word: Any) -> str:
    return (
        f"include has {word!r}: name mapped classes (User), operations of them "
        '((User, "create", "delete")), or columns, column properties and hybrids (User.api_key)'
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: {"include": ["create"]}, entry("create")),
        (lambda _: {"include": [int]}, entry(int)),
        (lambda _: {"include": [("Person", "create")]}, entry(("Person", "create"))),
        (
            lambda person: {"exclude": [(person, "created")]},
            "exclude, at Person, has 'created' (did you mean 'create'?): operations are create, update, delete",
        ),
        (
            lambda person: {"exclude": [(person,)]},
            "exclude, at Person, has no operation: name some of create, update, delete",
        ),
        (
            lambda person: {"include": [person.first]},
            (
                "include has Person.first, which is sent anyway: naming a column here does not keep the others out, "
                "name those in exclude; take it away"
            ),
        ),
        (lambda _: {"names": {"Person": "human"}}, "names has 'Person': name mapped classes, as in "),
        (lambda _: {"names": [1]}, "names is [1]: give a dict, as in "),
        (
            lambda person: {"names": {person: "*"}},
            (
                "names, at Person, is '*': a resource is called by letters of ASCII, digits and underscores, 200 at "
                "the most, as in 'purchase_order'"
            ),
        ),
    ],
)
def test_settings_that_are_nonsense_are_refused(
    base: Any, installed: Installed, make: Callable[[Any], dict[str, Any]], message: str
) -> None:
    options = make(mapping.person(base))
    if message.endswith("as in "):
        message += 'names={Order: "purchase_order"}'
    with pytest.raises(ConfigurationError) as caught:
        installed(**options)

    assert str(caught.value) == message


def test_a_class_that_is_mapped_later_and_says_nonsense_fails_no_flush(
    base: Any, installed: Installed, sessions: Sessions, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = installed()
    person = mapping.person(base, {"exclude": ["fist"]})
    base.metadata.create_all(engine)
    with sessions.begin() as session:
        session.add(person())

    assert told(webhooks) == []
    said = f"Person.__webhooks__['exclude'] has 'fist' (did you mean 'first'?): {NAMES}"
    assert [record.levelno for record in caplog.records if said in record.getMessage()] == [logging.ERROR]
    assert webhooks.describe()[person].why_not == said


def test_a_class_that_is_not_complete_yet_is_no_hindrance(base: Any, installed: Installed) -> None:
    """`install()` may come before the import of what a relationship names."""
    person = mapping.person(base, {"exclude": ["first"]})
    person.friends = relationship("Unknown")

    assert installed().settings.deliver is False
