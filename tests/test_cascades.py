"""Rows that the database changes by itself. The oracle: a copy built from the events is the tables, row by row."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, ForeignKey, Integer, Table, create_engine, delete, event, insert, inspect, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, mapped_column, relationship, sessionmaker
from support import family, mapping
from support.clock import MovedClock
from support.databases import Database, clear
from support.family import (
    Alone,
    Animal,
    Base,
    Box,
    Branch,
    Bud,
    Collar,
    Dog,
    Far,
    Item,
    Label,
    Leaf,
    Root,
    Stem,
    Twig,
    between,
)
from support.local import LOCAL
from support.receiver import Receiver

import sqla_webhooks
from sqla_webhooks import encoding
from sqla_webhooks import models as ours

Sessions = sessionmaker[Session]
#: What can be done with two numbers.
Deed = Callable[[Session, int, int], Any]


class Copy:
    """The rows, from nothing but the events."""

    def __init__(self, webhooks: sqla_webhooks.Webhooks) -> None:
        self.webhooks = webhooks
        self._seen: set[str] = set()
        self.rows: family.Rows = {}

    def follow(self) -> list[dict[str, Any]]:
        """Apply what is new. Each event must fit the row as it was."""
        self.webhooks.drain()
        new = [one for one in reversed(self.webhooks.events.list(limit=1000)) if one.id not in self._seen]
        self._seen.update(one.id for one in new)
        bodies = [encoding.loads(one.payload) for one in new]
        for body in bodies:
            place = (body["resource"], body["resource_id"])
            if body["operation"] == "create":
                assert place not in self.rows
            elif body["operation"] == "delete":
                assert self.rows.pop(place) == body["data"]
                continue
            else:
                changes = {name: one["from"] for name, one in body["changes"].items()}
                if "id" in changes:  # another row, from now on
                    place = (body["resource"], str(changes["id"]))
                assert self.rows.pop(place) == {**body["data"], **changes}
            self.rows[body["resource"], body["resource_id"]] = body["data"]
        return bodies


@contextmanager
def followed(engine: Engine, **options: Any) -> Iterator[tuple[Sessions, Copy]]:
    sessions = sessionmaker(engine)
    given: dict[str, Any] = {"deliver": False, "capture": "all", "clock": MovedClock(), **options}
    with sqla_webhooks.install(sessions, **given) as webhooks:
        yield sessions, Copy(webhooks)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine
        Base.metadata.drop_all(engine)


def plant(sessions: Sessions) -> None:
    """Two roots, and all that can hang on each."""
    with sessions.begin() as session:
        for n in (1, 2):
            session.add(Root(id=n, code=f"r{n}"))
            session.flush()
            session.add_all([Branch(id=n, root_id=n), Stem(id=n, root_id=n), Bud(id=n, root_id=n)])
            session.add_all([Label(id=n, code=f"r{n}"), Label(id=n + 10, sign=f"r{n}"), Alone(id=n)])
            session.add_all([Box(row=n, place=n + 5, root_id=n), Animal(id=n, root_id=n), Dog(id=n + 10, root_id=n)])
            session.add(Twig(id=n, root_id=n))
            session.execute(insert(between).values(id=n, root_id=n))
            session.flush()
            session.add_all([Leaf(id=n, branch_id=n), Item(id=n, row=n, place=n + 5), Collar(id=n, dog_id=n + 10)])
            session.add_all([Twig(id=n + 10, parent_id=n), Far(id=n, between_id=n)])
            session.flush()
            session.add(Twig(id=n + 20, parent_id=n + 10))


def check(engine: Engine, copy: Copy) -> list[dict[str, Any]]:
    """That the copy is the tables."""
    new = copy.follow()
    with engine.connect() as connection:
        assert copy.rows == family.rows(connection)
    return new


def by_flush(session: Session) -> None:
    session.delete(session.get_one(Root, 1))


def by_flush_of_what_is_loaded(session: Session) -> None:
    root = session.get_one(Root, 1)
    assert [len(root.branches), len(root.stems), len(root.buds)] == [1, 1, 1]
    session.delete(root)


def by_statement(session: Session) -> None:
    session.execute(delete(Root).where(Root.id == 1))


def by_query(session: Session) -> None:
    session.query(Root).filter_by(id=1).delete()


WAYS = [by_flush, by_flush_of_what_is_loaded, by_statement, by_query]


@pytest.mark.parametrize("way", WAYS)
def test_what_the_database_deletes_with_a_row_is_told(engine: Engine, way: Callable[[Session], None]) -> None:
    with followed(engine) as (sessions, copy):
        plant(sessions)
        check(engine, copy)
        with sessions.begin() as session:
            way(session)
        told = {(one["resource"], one["resource_id"], one["operation"]) for one in check(engine, copy)}
    # Where the ORM itself cuts the bud off, it lives on.
    loose = way in (by_flush, by_flush_of_what_is_loaded)
    gone = ["root 1", "branch 1", "leaf 1", "label 1", "twig 1", "twig 11", "twig 21", "box 1,6", "item 1"]
    gone += ["animal 1", "dog 11", "collar 1", "far 1", *([] if loose else ["bud 1"])]
    changed = ["stem 1", "label 11", *(["bud 1"] if loose else [])]
    assert told == {
        *((*one.split(), "delete") for one in gone),
        *((*one.split(), "update") for one in changed),
    }


@pytest.mark.parametrize("way", WAYS)
def test_what_is_rolled_back_to_a_savepoint_is_not_told(engine: Engine, way: Callable[[Session], None]) -> None:
    with followed(engine) as (sessions, copy):
        plant(sessions)
        check(engine, copy)
        with sessions.begin() as session:
            savepoint = session.begin_nested()
            way(session)
            session.flush()
            savepoint.rollback()
            session.get_one(Alone, 1).x = 1
        assert [one["resource"] for one in check(engine, copy)] == ["alone"]


@pytest.mark.parametrize("way", WAYS)
def test_of_a_parent_that_nobody_wants_the_children_are_told(
    engine: Engine, receiver: Receiver, way: Callable[[Session], None]
) -> None:
    with followed(engine, exclude=[Root, Branch, Box, Animal], capture="subscribed", **LOCAL) as (sessions, copy):
        copy.webhooks.endpoints.create(receiver.url(), events=["leaf.*", "item.*"])
        plant(sessions)
        with sessions.begin() as session:
            way(session)
        told = [one["type"] for one in copy.follow()]
    assert sorted(told) == ["item.created"] * 2 + ["item.deleted", "leaf.created", "leaf.created", "leaf.deleted"]


@pytest.mark.parametrize("way", WAYS)
def test_children_that_nobody_wants_are_not_told(engine: Engine, way: Callable[[Session], None]) -> None:
    with followed(engine, include=[Root, Alone]) as (sessions, copy):
        plant(sessions)
        copy.follow()
        with sessions.begin() as session:
            way(session)
        assert [one["type"] for one in copy.follow()] == ["root.deleted"]


def by_setting(session: Session) -> None:
    session.get_one(Root, 1).code = "new"


def by_setting_an_expired_one(session: Session) -> None:
    root = session.get_one(Root, 1)
    session.expire(root)
    root.code = "new"


def by_update(session: Session) -> None:
    session.execute(update(Root).where(Root.id == 1).values(code="new"))


def by_update_of_many(session: Session) -> None:
    session.execute(update(Root), [{"id": 1, "code": "new"}])


def by_mappings(session: Session) -> None:
    session.bulk_update_mappings(Root, [{"id": 1, "code": "new"}])


def by_saving(session: Session) -> None:
    with Session(session.get_bind()) as other:
        root = other.get_one(Root, 1)
    root.code = "new"
    session.bulk_save_objects([root])


@pytest.mark.parametrize(
    "way", [by_setting, by_setting_an_expired_one, by_update, by_update_of_many, by_mappings, by_saving]
)
def test_a_key_that_changes_changes_those_that_refer_to_it(engine: Engine, way: Callable[[Session], None]) -> None:
    with followed(engine) as (sessions, copy):
        plant(sessions)
        check(engine, copy)
        with sessions.begin() as session:
            way(session)
        told = {(one["resource"], one["resource_id"], one["operation"]) for one in check(engine, copy)}
    assert told == {("root", "1", "update"), ("label", "1", "update"), ("label", "11", "update")}


def by_moving(session: Session) -> None:
    session.get_one(Root, 5).id = 9


def by_moving_what_is_loaded(session: Session) -> None:
    root = session.get_one(Root, 5)
    assert len(root.buds) == 1
    root.id = 9


def by_moving_many(session: Session) -> None:
    session.execute(update(Root).where(Root.id == 5).values(id=9))


@pytest.mark.parametrize("way", [by_moving, by_moving_what_is_loaded, by_moving_many])
def test_a_primary_key_that_changes_changes_those_that_refer_to_it(
    engine: Engine, way: Callable[[Session], None]
) -> None:
    with followed(engine) as (sessions, copy):
        with sessions.begin() as session:
            session.add(Root(id=5))
            session.flush()
            session.add(Bud(id=5, root_id=5))
        check(engine, copy)
        with sessions.begin() as session:
            way(session)
        new = check(engine, copy)
        assert copy.rows["bud", "5"] == {"id": 5, "root_id": 9}
        assert [one["resource_id"] for one in new if one["resource"] == "bud"] == ["5"]


def test_what_the_flush_does_to_a_child_first_is_told_once(engine: Engine) -> None:
    with followed(engine, coalesce=False) as (sessions, copy):
        plant(sessions)
        check(engine, copy)
        with sessions.begin() as session:
            session.get_one(Stem, 1).title = "new"
            session.get_one(Branch, 1).title = "new"
            session.get_one(Branch, 2).root_id = 1
            session.add(Leaf(id=5, branch_id=1))
            session.delete(session.get_one(Collar, 1))
            session.delete(session.get_one(Root, 1))
        check(engine, copy)


def test_a_child_can_be_in_the_same_flush_as_a_parent_that_moves(engine: Engine) -> None:
    with followed(engine, coalesce=False) as (sessions, copy):
        plant(sessions)
        check(engine, copy)
        with sessions.begin() as session:
            session.get_one(Label, 1).sign = "r2"
            session.get_one(Root, 1).code = "new"
        check(engine, copy)


def test_where_sqlite_does_not_heed_foreign_keys_nothing_is_told() -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with followed(engine) as (sessions, copy):
        plant(sessions)
        check(engine, copy)
        for way in (by_setting, by_statement):
            with sessions.begin() as session:
                way(session)
            assert [one["resource"] for one in check(engine, copy)] == ["root"]
    engine.dispose()


def test_where_no_foreign_key_leads_to_what_is_wanted_nothing_is_read(engine: Engine) -> None:
    with followed(engine, exclude=[Leaf, Collar, Item]) as (sessions, copy):
        plant(sessions)
        copy.follow()
        statements: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2].split()[0]))
        with sessions() as session:
            alone, twig, box = session.get_one(Alone, 1), session.get_one(Twig, 1), session.get_one(Box, (1, 6))
            root, branch = session.get_one(Root, 2), session.get_one(Branch, 1)
            statements.clear()
            alone.x, twig.root_id, branch.title = 2, 2, "new"
            root.branches  # noqa: B018  # loads
            statements.clear()
            session.delete(box)
            session.delete(alone)
            session.delete(branch)
            session.flush()
    assert "SELECT" not in statements


def test_a_class_that_is_mapped_later_is_not_missed(database: Database) -> None:
    with mapping.base() as base, database.engine() as engine:
        parent = type("Parent", (base,), {"__tablename__": "parent", "id": mapped_column(Integer, primary_key=True)})
        with followed(engine) as (sessions, copy):
            base.metadata.create_all(engine)
            with sessions.begin() as session:
                session.add_all([parent(id=1), parent(id=2)])
            with sessions.begin() as session:
                session.delete(session.get_one(parent, 1))
            body = {
                "__tablename__": "later",
                "id": mapped_column(Integer, primary_key=True),
                "parent_id": mapped_column(ForeignKey("parent.id", ondelete="cascade")),
            }
            later = type("Later", (base,), body)
            base.metadata.create_all(engine)
            with sessions.begin() as session:
                session.add(later(id=1, parent_id=2))
            with sessions.begin() as session:
                session.delete(session.get_one(parent, 2))
            copy.follow()
            assert copy.rows == {}
        base.metadata.drop_all(engine)


@pytest.mark.parametrize("configured", [False, True])
def test_what_cannot_be_captured_is_said_at_install(*, configured: bool, caplog: pytest.LogCaptureFixture) -> None:
    def key() -> Any:
        return {"id": mapped_column(Integer, primary_key=True)}

    def link(name: str) -> Table:
        columns: list[Any] = [
            Column(f"{one}_id", ForeignKey(f"{one}.id", ondelete="CASCADE")) for one in ("post", "tag")
        ]
        return Table(name, base.metadata, *columns)

    def moved(**named: Any) -> Any:
        return mapped_column(ForeignKey("post.id", onupdate="CASCADE"), **named)

    with mapping.base() as base:
        quiet, passive, alone = map(link, ("quiet", "passive", "alone"))
        posts = {
            "quiet": relationship("Tag", secondary=quiet, back_populates="quiet"),
            "passive": relationship("Tag", secondary="passive", back_populates="passive", passive_deletes=True),
            "alone": relationship("Tag", secondary=alone),
        }
        tags = {
            "quiet": relationship("Post", secondary=quiet, back_populates="quiet"),
            "passive": relationship("Post", secondary=passive, back_populates="passive"),
        }
        post = type("Post", (base,), {"__tablename__": "post", **key(), **posts})
        tag = type("Tag", (base,), {"__tablename__": "tag", **key(), **tags})
        type("Vote", (base,), {"__tablename__": "vote", "post_id": moved(primary_key=True)})
        type("Answer", (base,), {"__tablename__": "answer", **key(), "post_id": moved()})
        if configured:
            inspect(post).relationships  # noqa: B018  # configures it
        engine = create_engine("sqlite://")
        with followed(engine) as (sessions, _):
            base.metadata.create_all(engine)
            with sessions() as session:
                session.execute(delete(tag))
            told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
            ours = sorted(one for one in told if one.startswith(("Post", "Tag", "Vote", "Answer")))
        engine.dispose()
    expected = [
        "Vote: the foreign key vote (post_id) to post is part of its primary key",
        "Post.passive: it has passive_deletes (leave it out)",
        "Post.alone: its other end does not map it",
        *(f"Post.{name}: a bulk delete() of Tag" for name in ("quiet", "passive", "alone")),
    ]
    assert len(ours) == len(expected)
    assert all(any(one.startswith(start) for one in ours) for start in expected)


def delete_one(cls: type[Base]) -> Deed:
    def do(session: Session, n: int, _m: int) -> None:
        if (found := session.get(cls, n)) is not None:
            session.delete(found)

    return do


def put(cls: type[Base], name: str, value: Callable[[int], Any]) -> Deed:
    def do(session: Session, n: int, m: int) -> None:
        if (found := session.get(cls, n)) is not None:
            setattr(found, name, value(m))

    return do


def load(session: Session, n: int, _m: int) -> None:
    if (root := session.get(Root, n)) is not None:
        root.branches, root.stems, root.buds  # noqa: B018  # from now on they are there


DEEDS: dict[str, Deed] = {
    "root": lambda session, n, _: session.add(Root(id=n, code=f"r{n}")),
    "branch": lambda session, n, m: session.add(Branch(id=n, root_id=m)),
    "stem": lambda session, n, m: session.add(Stem(id=n, root_id=m)),
    "bud": lambda session, n, m: session.add(Bud(id=n, root_id=m)),
    "label": lambda session, n, m: session.add(Label(id=n, code=f"r{m}", sign=f"r{n}")),
    "twig": lambda session, n, m: session.add(Twig(id=n, parent_id=m if m < n else None)),
    "move": put(Branch, "root_id", lambda m: m),
    "title": put(Branch, "title", lambda m: f"t{m}"),
    "code": put(Root, "code", lambda m: f"c{m}"),
    "load": load,
    "expire": lambda session, *_: session.expire_all(),
    "delete": delete_one(Root),
    "delete branch": delete_one(Branch),
    "delete twig": delete_one(Twig),
    "delete many": lambda session, n, _: session.execute(delete(Root).where(Root.id >= n)),
    "update many": lambda session, n, m: session.execute(update(Root).where(Root.id == n).values(code=f"r{m}")),
    "commit": lambda session, *_: session.commit(),
    "savepoint": lambda session, *_: session.begin_nested(),
    "roll back": lambda session, *_: (session.get_nested_transaction() or session).rollback(),
}
NUMBERS = st.integers(1, 3)


@pytest.fixture(scope="module")
def in_memory_family() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(deeds=st.lists(st.tuples(st.sampled_from(list(DEEDS)), NUMBERS, NUMBERS), min_size=3, max_size=25))
def test_whatever_is_done_the_copy_is_the_tables(in_memory_family: Engine, deeds: list[tuple[str, int, int]]) -> None:
    engine = in_memory_family
    with followed(engine) as (sessions, copy):
        clear(engine, *Base.metadata.sorted_tables, *ours.metadata.sorted_tables)
        with sessions() as session:
            for name, n, m in [*deeds, ("commit", 0, 0)]:
                with suppress_refusal(session):
                    DEEDS[name](session, n, m)
        check(engine, copy)


@contextmanager
def suppress_refusal(session: Session) -> Iterator[None]:
    """The database, or the ORM, may well refuse what is done at random."""
    try:
        with warnings.catch_warnings(action="ignore"):  # that a row is gone
            yield
    except SQLAlchemyError:
        session.rollback()


def test_a_key_that_a_statement_moves_is_not_taken_for_that_of_a_child(database: Database) -> None:
    """Owner 1 becomes 2, and its pets 1 and 2 keep their own keys."""
    with mapping.base() as made, database.engine() as engine:
        base: Any = made

        class Owner(base):  # type: ignore[misc]  # made for this test
            __tablename__ = "owner"
            id = mapped_column(Integer, primary_key=True, autoincrement=False)

        class Pet(base):  # type: ignore[misc]  # the same
            __tablename__ = "pet"
            id = mapped_column(Integer, primary_key=True)
            owner_id = mapped_column(ForeignKey("owner.id", onupdate="CASCADE"))

        base.metadata.create_all(engine)
        with followed(engine) as (sessions, copy):
            with sessions.begin() as session:
                session.add(Owner(id=1))
                session.flush()
                session.add_all([Pet(id=1, owner_id=1), Pet(id=2, owner_id=1)])
            copy.follow()
            with sessions.begin() as session:
                session.execute(update(Owner).values(id=Owner.id + 1))
            copy.webhooks.drain()
            new = [encoding.loads(one.payload) for one in reversed(copy.webhooks.events.list(limit=3))]
            told = [(one["type"], one["resource_id"], one["changes"]) for one in new]
    assert told == [
        ("owner.updated", "2", {"id": {"from": 1, "to": 2}}),
        ("pet.updated", "1", {"owner_id": {"from": 1, "to": 2}}),
        ("pet.updated", "2", {"owner_id": {"from": 1, "to": 2}}),
    ]
