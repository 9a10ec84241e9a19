"""`webhooks.describe()`: what is captured, listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Table, create_engine
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Session, relationship, sessionmaker
from support import mapping
from support.clock import MovedClock
from support.local import Install

import sqla_webhooks
from sqla_webhooks import ConfigurationError, Operation, Webhooks, models
from sqla_webhooks.events import CHANGES

Sessions = sessionmaker[Session]


@pytest.fixture
def base() -> Iterator[Any]:
    with mapping.base() as base:
        yield base


# --------------------------------------------------------------------------- by example


def test_a_listing_is_a_table_when_it_is_printed(base: Any, install: Install, in_memory: Sessions) -> None:
    person = mapping.person(base, {"include": ["api_key", "loud"], "tenant": "first"})
    fans = Table("fans", base.metadata, *(Column(name, ForeignKey("person.id")) for name in ("one", "other")))
    ends = {"primaryjoin": person.id == fans.c.one, "secondaryjoin": person.id == fans.c.other}
    person.fans = relationship(person, secondary=fans, **ends)
    person.seen = relationship(person, secondary=fans, viewonly=True, **ends)
    child: Any = type("Child", (person,), {"__webhooks__": False, "__module__": "nursery"})
    webhooks = install(in_memory, deliver=False, exclude=[person.first, (person, "delete")])
    said = webhooks.describe()

    assert str(said[person]) == (
        """\
person  (support.mapping.Person, table person): create, update
    sent      id       Integer
              api_key  String   by __webhooks__, its name says secret
              loud     String   by __webhooks__
    left out  full     String   not a column
              first    String   exclude
    links     fans
    tenant    first"""
    )
    assert (said[person].says_tenant, said[person].tenant) == (True, "first")
    assert str(said[child]) == "child  (nursery.Child, table person): not captured: __webhooks__ = False"
    lines = str(said).splitlines()
    assert lines.index(str(said[child])) > lines.index(str(said[person]).splitlines()[0])


def test_a_listing_is_in_the_order_of_resources(base: Any, install: Install, in_memory: Sessions) -> None:
    person = mapping.person(base)
    webhooks = install(in_memory, deliver=False, names={person: "Aaa"})
    said = webhooks.describe()

    assert said.resources[0].class_ is person
    assert list(said) == sorted(said)
    assert len(said) == len(said.resources)
    assert (said[person].captured, said[person].links, said[person].table) == (True, (), "person")
    assert (said[person].says_tenant, "tenant" in str(said[person])) == (False, False)
    with pytest.raises(KeyError):
        said[int]


@pytest.mark.parametrize(
    ("said", "make", "why_not"),
    [
        (None, lambda person: {"exclude": [person]}, "exclude"),
        (None, lambda person: {"include": [type("Other", (person,), {})]}, "not in include"),
        (False, lambda _: {}, "__webhooks__ = False"),
        (
            {"operations": ["create"]},
            lambda person: {"exclude": [(person, "create")]},
            "exclude, of all operations that are left",
        ),
        (
            {"exclude": ["id"]},
            lambda _: {},
            (
                "its primary key is left out, and without it no row can be named; take it out of exclude=[...], or, if "
                "it is left out for its name, name it in include=[...]"
            ),
        ),
    ],
)
def test_a_class_that_is_not_captured_says_why(
    base: Any, install: Install, in_memory: Sessions, said: Any, make: Any, why_not: str
) -> None:
    person = mapping.person(base, said)
    found = install(in_memory, deliver=False, **make(person)).describe()[person]

    assert (found.captured, found.why_not, found.operations) == (False, why_not, ())


def test_our_own_tables_are_listed_as_such(base: Any, install: Install, in_memory: Sessions) -> None:
    registry = type("Registry", (base,), {"__table__": models.endpoint, "metadata": models.metadata})

    assert install(in_memory, deliver=False).describe()[registry].why_not == "a table of ours"


def test_a_hybrid_without_sql_says_so(base: Any, install: Install, in_memory: Sessions) -> None:
    def shout(self: Any) -> Any:
        return self.first.upper()

    body = {"__webhooks__": {"include": ["shout"]}, "shout": hybrid_property(shout)}
    child = type("Child", (mapping.person(base),), body)
    found = {one.name: one for one in install(in_memory, deliver=False).describe()[child].left_out}

    assert (found["shout"].why, found["shout"].type) == ("no form in SQL", "")
    assert (found["api_key"].why, found["api_key"].secret) == ("secret name", True)


# --------------------------------------------------------------------------- it says what is sent


NAMES = ["first", "api_key", "full", "loud"]
words = st.sampled_from(CHANGES).map(str)
some_names = st.sets(st.sampled_from(NAMES))
some_words = st.lists(words, min_size=1, unique=True)


@st.composite
def sayings(draw: st.DrawFn) -> Any:
    """A class's `__webhooks__`."""
    if draw(st.integers(0, 9)) == 0:
        return False
    include = draw(some_names)
    said: dict[str, Any] = {"include": include, "exclude": draw(some_names) - include}
    if draw(st.booleans()):
        said["operations"] = draw(some_words)
    if draw(st.booleans()):
        said["name"] = "human"
    return said


infos = st.dictionaries(st.sampled_from(NAMES[:3]), st.booleans().map(lambda sent: {"webhook": sent}))
entries = st.lists(
    st.one_of(
        st.sampled_from(NAMES).map(lambda name: lambda cls: getattr(cls, name)),
        st.lists(words, min_size=1).map(lambda some: lambda cls: (cls, *some)),
        st.just(lambda cls: cls),
    ),
    max_size=4,
)


def alive(said: Any, noted: Any, include: Any, exclude: Any) -> tuple[Any, list[dict[str, Any]]] | None:
    """What is said of a class, and the events of a row of it; None if it is refused."""
    engine = create_engine("sqlite://")
    sessions = sessionmaker(engine)
    with mapping.base() as base:
        person = mapping.person(base, said, **noted)
        base.metadata.create_all(engine)
        options: dict[str, Any] = {
            "include": [one(person) for one in include],
            "exclude": [one(person) for one in exclude],
        }
        try:
            webhooks = sqla_webhooks.install(
                sessions, deliver=False, capture="all", clock=MovedClock(), names={}, **options
            )
        except ConfigurationError as error:
            if "contradict each other" in str(error) or "sent anyway" in str(error):
                return None
            raise
        with webhooks:
            return webhooks.describe()[person], _events(webhooks, sessions, person)


def _events(webhooks: Webhooks, sessions: Sessions, person: Any) -> list[dict[str, Any]]:
    with sessions.begin() as session:
        session.add(row := person())
    with sessions.begin() as session:
        session.add(row)
        row.first, row.api_key = "other", "other"
    with sessions.begin() as session:
        session.delete(session.get_one(person, 1))
    webhooks.drain()
    return [json.loads(one.payload) for one in reversed(webhooks.events.list())]


@settings(deadline=None, max_examples=150)
@given(sayings(), infos, entries, entries)
def test_a_listing_says_what_is_sent(said: Any, noted: Any, include: Any, exclude: Any) -> None:
    found = alive(said, noted, include, exclude)
    if found is None:
        return
    description, events = found
    sent = [one.name for one in description.sent]
    changed = not {"first", "api_key"}.isdisjoint(sent)
    expected = [one for one in description.operations if one is not Operation.UPDATE or changed]

    assert [event["type"] for event in events] == [f"{description.name}.{one.verb}" for one in expected]
    assert [list(event["data"]) for event in events] == [sent] * len(events)
    assert description.captured is bool(description.operations)
    assert {one.name for one in description.attributes} == {"id", *NAMES}


def test_enough_of_the_generated_settings_are_accepted() -> None:
    """Else the test above would look at nothing."""
    seen = []

    @settings(deadline=None, max_examples=120, database=None)
    @given(sayings(), infos, entries, entries)
    def look(said: Any, noted: Any, include: Any, exclude: Any) -> None:
        seen.append(alive(said, noted, include, exclude))

    look()
    accepted = [one for one in seen if one is not None]
    assert len(accepted) > len(seen) / 8  # half of them, mostly
    assert any(events for _, events in accepted)
