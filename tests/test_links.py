"""Rows of many-to-many tables, as the events of the rows that they link."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, ForeignKey, String, Table, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, deferred, mapped_column, relationship, sessionmaker
from support.clock import MovedClock

import sqla_webhooks
from sqla_webhooks import encoding

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    pass


posts_tags = Table(
    "posts_tags",
    Base.metadata,
    Column("post_id", ForeignKey("post.id"), primary_key=True),
    Column("tag", ForeignKey("tag.name"), primary_key=True),
)
fans = Table(
    "fans",
    Base.metadata,
    Column("post_id", ForeignKey("post.id"), primary_key=True),
    Column("fan_id", ForeignKey("fan.id"), primary_key=True),
)


class Post(Base):
    __tablename__ = "post"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(default="")
    body: Mapped[str | None] = deferred(mapped_column(String))
    tags: Mapped[list[Tag]] = relationship(secondary=posts_tags, back_populates="posts")
    fans: Mapped[set[Fan]] = relationship(secondary=fans)


class Tag(Base):
    __tablename__ = "tag"
    name: Mapped[str] = mapped_column(primary_key=True)
    posts: Mapped[list[Post]] = relationship(secondary=posts_tags, back_populates="tags")


class Fan(Base):
    """Does not know its posts."""

    __tablename__ = "fan"
    id: Mapped[int] = mapped_column(primary_key=True)
    likes: Mapped[list[Post]] = relationship(secondary=fans, viewonly=True)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return sessionmaker(engine)


Told = Callable[[], list[tuple[str, str, Any, Any]]]


@pytest.fixture
def told(sessions: Sessions) -> Iterator[Told]:
    """What has been made public since the last call: type, id, changes and links."""
    seen: set[str] = set()

    def told() -> list[tuple[str, str, Any, Any]]:
        webhooks.drain()
        new = [one for one in webhooks.events.list(limit=100) if one.id not in seen]
        seen.update(one.id for one in new)
        bodies = [encoding.loads(one.payload) for one in reversed(new)]
        return [(one["type"], one["resource_id"], one.get("changes"), one.get("links")) for one in bodies]

    with sqla_webhooks.install(sessions, deliver=False, capture="all", clock=MovedClock()) as webhooks:
        yield told


def added(*ids: str) -> dict[str, list[str]]:
    return {"added": list(ids), "removed": []}


def removed(*ids: str) -> dict[str, list[str]]:
    return {"added": [], "removed": list(ids)}


@pytest.fixture
def one_post(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add_all([Post(id=1, tags=[Tag(name="a")]), Tag(name="b"), Fan(id=7)])
    told()


def test_a_new_row_says_what_it_is_linked_to(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Post(tags=[Tag(name="a"), Tag(name="b")], fans={Fan(id=7)}))
    assert sorted(told()) == [
        ("fan.created", "7", None, None),
        ("post.created", "1", None, {"tags": added("a", "b"), "fans": added("7")}),
        ("tag.created", "a", None, {"posts": added("1")}),
        ("tag.created", "b", None, {"posts": added("1")}),
    ]


@pytest.mark.usefixtures("one_post")
def test_a_link_is_an_update_of_both_sides_that_map_it(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post, tag = session.get_one(Post, 1), session.get_one(Tag, "b")
        post.tags.append(tag)
    assert sorted(told()) == [
        ("post.updated", "1", {}, {"tags": added("b")}),
        ("tag.updated", "b", {}, {"posts": added("1")}),
    ]


@pytest.mark.usefixtures("one_post")
def test_one_side_that_does_not_map_it_has_no_event(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post, fan = session.get_one(Post, 1), session.get_one(Fan, 7)
        post.fans.add(fan)
    assert told() == [("post.updated", "1", {}, {"fans": added("7")})]


@pytest.mark.usefixtures("one_post")
def test_values_and_links_of_one_flush_are_one_event(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post = session.get_one(Post, 1)
        post.title = "new"
        post.tags = [session.get_one(Tag, "b")]
    assert (
        "post.updated",
        "1",
        {"title": {"from": "", "to": "new"}},
        {"tags": {"added": ["b"], "removed": ["a"]}},
    ) in told()


@pytest.mark.usefixtures("one_post")
def test_links_made_and_cut_in_one_transaction_are_none(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post, tag = session.get_one(Post, 1), session.get_one(Tag, "b")
        post.tags.append(tag)
        session.flush()
        post.tags.remove(tag)
    assert told() == []


@pytest.mark.usefixtures("one_post")
def test_links_of_several_flushes_come_together(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post = session.get_one(Post, 1)
        post.tags.append(session.get_one(Tag, "b"))
        session.flush()
        post.tags.pop(0)
        session.flush()
        post.title = "new"
    (event,) = [one for one in told() if one[0] == "post.updated"]
    assert event[2:] == ({"title": {"from": "", "to": "new"}}, {"tags": {"added": ["b"], "removed": ["a"]}})


@pytest.mark.usefixtures("one_post")
def test_a_collection_that_was_never_loaded(sessions: Sessions, told: Told, engine: Engine) -> None:
    with sessions.begin() as session:
        tag, post = session.get_one(Tag, "b"), session.get_one(Post, 1)
        post.tags.append(tag)  # the other side waits until somebody loads it
        assert "posts" not in tag.__dict__
    assert ("tag.updated", "b", {}, {"posts": added("1")}) in told()


@pytest.mark.usefixtures("one_post")
def test_a_deleted_row_says_what_it_was_linked_to(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.delete(session.get_one(Post, 1))
    assert told() == [
        ("tag.updated", "a", {}, {"posts": removed("1")}),
        ("post.deleted", "1", None, {"tags": removed("a")}),
    ]


@pytest.mark.usefixtures("one_post")
def test_a_row_replaced_under_its_key_says_which_links_are_others(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.delete(session.get_one(Post, 1))
        session.flush()
        session.add(Post(id=1, tags=[session.get_one(Tag, "b")]))
    assert ("post.updated", "1", {}, {"tags": {"added": ["b"], "removed": ["a"]}}) in told()


@pytest.mark.usefixtures("one_post")
def test_a_row_linked_and_then_deleted_says_what_it_was_linked_to_before(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post = session.get_one(Post, 1)
        post.tags = [session.get_one(Tag, "b")]
        session.flush()
        session.delete(post)
    assert ("post.deleted", "1", None, {"tags": removed("a")}) in told()


@pytest.mark.usefixtures("one_post")
def test_the_same_links_again_are_no_event(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        post = session.get_one(Post, 1)
        post.tags = list(post.tags)
    assert told() == []


@pytest.mark.usefixtures("one_post")
def test_a_row_whose_key_another_object_takes_has_lost_its_links(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.delete(session.get_one(Post, 1))
        session.add(Post(id=1, title="", tags=[session.get_one(Tag, "b")]))
    assert sorted(told()) == [
        ("post.updated", "1", {}, {"tags": {"added": ["b"], "removed": ["a"]}}),
        ("tag.updated", "a", {}, {"posts": removed("1")}),
        ("tag.updated", "b", {}, {"posts": added("1")}),
    ]


@pytest.mark.usefixtures("one_post")
@pytest.mark.parametrize("forgetful", [Post, Tag])
def test_a_link_is_told_by_both_sides_though_one_was_expired_before_the_flush(
    sessions: Sessions, told: Told, forgetful: type[Post | Tag]
) -> None:
    with sessions.begin() as session:
        post, tag = session.get_one(Post, 1), session.get_one(Tag, "b")
        post.tags = [tag]
        session.expire(post if forgetful is Post else tag)
    assert sorted(told()) == [
        ("post.updated", "1", {}, {"tags": {"added": ["b"], "removed": ["a"]}}),
        ("tag.updated", "a", {}, {"posts": removed("1")}),
        ("tag.updated", "b", {}, {"posts": added("1")}),
    ]


@pytest.mark.usefixtures("one_post")
def test_a_row_deleted_by_an_earlier_flush_is_not_unlinked_again(sessions: Sessions, told: Told) -> None:
    sessions.configure(expire_on_commit=False)
    with sessions() as session:
        post, tag = session.get_one(Post, 1), session.get_one(Tag, "a")
        assert post.tags == [tag]
        session.delete(tag)
        session.commit()
        told()
        post.tags = []  # in memory, it was still there
        session.commit()
    assert told() == []


# --------------------------------------------------------------------------- the oracle

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(1, 3)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["link", "link_from_the_tag", "cut"]), NUMBERS, NAMES),
    st.tuples(st.just("put"), NUMBERS, st.lists(NAMES, unique=True)),
    st.tuples(st.just("delete"), st.just(Post), NUMBERS),
    st.tuples(st.just("delete"), st.just(Tag), NAMES),
    st.tuples(st.just("expire")),
    st.tuples(st.just("end"), st.sampled_from(["flush", "commit", "rollback"])),
)


class Work:
    """What an application does to posts and tags, which are made when they are first asked for."""

    def __init__(self, session: Session) -> None:
        self.session = session
        #: The session alone would let them go.
        self.kept: list[Any] = []

    def the(self, cls: type[Any], key: Any) -> Any:
        found = self.session.get(cls, key)
        if found is None:
            self.session.add(found := cls(id=key) if cls is Post else cls(name=key))
        self.kept.append(found)
        return found

    def link(self, number: int, name: str) -> None:
        tag = self.the(Tag, name)
        if tag not in (tags := self.the(Post, number).tags):
            tags.append(tag)

    def link_from_the_tag(self, number: int, name: str) -> None:
        post = self.the(Post, number)
        if post not in (posts := self.the(Tag, name).posts):
            posts.append(post)

    def cut(self, number: int, name: str) -> None:
        tag = self.the(Tag, name)
        if tag in (tags := self.the(Post, number).tags):
            tags.remove(tag)

    def put(self, number: int, names: list[str]) -> None:
        self.the(Post, number).tags = [self.the(Tag, name) for name in names]

    def delete(self, cls: type[Any], key: Any) -> None:
        self.expire()  # or SQLAlchemy would leave the rows that it does not know of
        if (found := self.session.get(cls, key)) is not None:
            self.session.delete(found)
            self.expire()

    def expire(self) -> None:
        self.session.flush()
        self.session.expire_all()

    def end(self, how: str) -> None:
        getattr(self.session, how)()


def follow(links: dict[str, set[str]], events: list[dict[str, Any]], *, resource: str, name: str) -> None:
    """Keep a copy of the links of one side, as a receiver would: strictly."""
    for event in events:
        if event["resource"] != resource:
            continue
        if event["operation"] == "create":
            links[event["resource_id"]] = set()
        said = event.get("links", {}).get(name, {"added": [], "removed": []})
        there = links[event["resource_id"]]
        assert there.isdisjoint(said["added"])
        assert there >= set(said["removed"]) or event["operation"] == "delete"
        there |= set(said["added"])
        there -= set(said["removed"])
        if event["operation"] == "delete":
            del links[event["resource_id"]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=3, max_size=25))
def test_links_followed_from_the_events_are_those_of_the_table(steps: list[Any]) -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    of_posts: dict[str, set[str]] = {}
    of_tags: dict[str, set[str]] = {}
    with sqla_webhooks.install(sessions, deliver=False, capture="all", clock=MovedClock()) as webhooks:
        with sessions() as session:
            work = Work(session)
            for name, *arguments in steps:
                getattr(work, name)(*arguments)
            session.commit()
        webhooks.drain()
        events = [encoding.loads(one.payload) for one in reversed(webhooks.events.list(limit=1000))]
    follow(of_posts, events, resource="post", name="tags")
    follow(of_tags, events, resource="tag", name="posts")
    with engine.connect() as connection:
        rows = {(str(row.post_id), row.tag) for row in connection.execute(select(posts_tags))}
        posts = {str(one) for one in connection.scalars(select(Post.id))}
        tags = set(connection.scalars(select(Tag.name)))
    engine.dispose()
    assert {(post, tag) for post, linked in of_posts.items() for tag in linked} == rows
    assert {(post, tag) for tag, linked in of_tags.items() for post in linked} == rows
    assert of_posts.keys() == posts
    assert of_tags.keys() == tags
