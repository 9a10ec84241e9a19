"""An installation is not felt: listeners, the life of objects, and what SQLAlchemy keeps."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, ForeignKey, event, inspect, select
from sqlalchemy.orm import (
    Mapped,
    Session,
    mapped_column,
    object_session,
    reconstructor,
    relationship,
    scoped_session,
    sessionmaker,
    validates,
)
from support.cases import Base, Owner, Thing
from support.clock import MovedClock
from support.local import Install
from support.observed import Note, Pair, pair_at, picture

#: What happens to objects of the classes below, in order.
calls: list[str] = []


class Watchful(Base):
    """Notes whatever is asked of its objects."""

    __tablename__ = "watchful"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    stored: Mapped[int] = mapped_column("stored", default=0)

    @property
    def doubled(self) -> int:
        calls.append("doubled")
        return self.stored * 2

    @validates("name")
    def check_name(self, key: str, value: Any) -> Any:
        calls.append(f"check {key} {value}")
        return value

    @reconstructor
    def made_again(self) -> None:
        calls.append("reconstructed")

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            calls.append(f"get {name}")
        return super().__getattribute__(name)

    def __repr__(self) -> str:
        calls.append("repr")
        return "a watchful one"


class Prickly(Base):
    """May not be compared, hashed, asked for its truth or its text."""

    __tablename__ = "prickly"
    id: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    next_id: Mapped[int | None] = mapped_column(ForeignKey("prickly.id"))
    others: Mapped[list[Prickly]] = relationship()

    def _refuse(self, *_: object) -> Any:
        message = "leave me alone"
        raise RuntimeError(message)

    __eq__ = __ne__ = __hash__ = __bool__ = __len__ = __repr__ = __str__ = __lt__ = _refuse


@pytest.fixture
def pair(install: Install, tmp_path: Path, clock: MovedClock) -> Iterator[Pair]:
    with pair_at(tmp_path, Base.metadata) as pair:
        webhooks = install(pair.heard, deliver=False, clock=clock)
        webhooks.endpoints.create("http://127.0.0.1:1024/hooks", events=["*"])
        yield pair


# ------------------------------------------------------------------ listeners


def test_the_order_of_listeners(install: Install, tmp_path: Path) -> None:
    """Of those before ours, those after, and those that come first; and what each of them sees."""

    def work(session: Session, note: Note) -> None:
        session.info["note"] = note
        session.add(Owner(id=1, things=[Thing(id=1), Thing(id=2)]))
        session.commit()
        one, two = session.scalars(select(Thing)).all()
        one.n = 5
        session.expire(two)
        two.n = 6
        session.flush()
        with session.begin_nested():
            session.delete(one)
        session.rollback()

    with pair_at(tmp_path, Base.metadata) as pair:
        for sessions in (pair.plain, pair.heard):
            _listen(sessions, "before")
        install(pair.heard, deliver=False, capture="all")
        for sessions in (pair.plain, pair.heard):
            _listen(sessions, "after")
            _listen(sessions, "first of all", insert=True)
        extra = pair.extra(work)

    assert [one.split()[0] for one in extra] == ["SELECT"]


def _listen(sessions: sessionmaker[Session], which: str, **options: Any) -> None:
    """Note what happens to sessions, and what they hold at that moment."""

    def hear(name: str, session: Session) -> None:
        session.info["note"](name, which, {**picture(session), "info": None})

    for name in ("before_flush", "after_flush", "after_flush_postexec"):
        event.listen(sessions, name, lambda session, _context, *_, name=name: hear(name, session), **options)
    for name in ("before_commit", "after_commit", "after_rollback"):
        event.listen(sessions, name, lambda session, name=name: hear(name, session), **options)
    for name in ("after_transaction_create", "after_transaction_end", "after_soft_rollback"):
        event.listen(sessions, name, lambda session, _transaction, name=name: hear(name, session), **options)
    event.listen(sessions, "after_begin", lambda session, _transaction, _connection: hear("begin", session), **options)


def test_nothing_of_the_objects_own_code_is_called(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        calls.clear()
        session.add_all(Watchful(id=number, name="new") for number in range(3))
        session.commit()
        rows = session.scalars(select(Watchful)).all()
        rows[0].name = "changed"
        session.expire(rows[1])
        rows[1].stored = Watchful.stored + 1
        session.delete(rows[2])
        session.flush()
        session.rollback()
        note(calls)
        del rows

    pair.extra(work)


def test_load_and_refresh_events(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        def loaded(target: Any, _context: Any) -> None:
            note("load", inspect(target).key)

        def refreshed(target: Any, _context: Any, names: Any) -> None:
            note("refresh", inspect(target).key, names)

        event.listen(Thing, "load", loaded)
        event.listen(Thing, "refresh", refreshed)
        try:
            session.add(Thing(id=1))
            session.commit()
            session.expunge_all()
            thing = session.get_one(Thing, 1)
            session.expire(thing)
            thing.n = Thing.n + 1
            session.flush()
            note(thing.n)
            session.delete(thing)
            session.commit()
        finally:
            event.remove(Thing, "load", loaded)
            event.remove(Thing, "refresh", refreshed)

    pair.extra(work)


def test_objects_that_must_not_be_asked(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        session.add_all([Prickly(id=1), Prickly(id=2)])
        session.commit()
        one, two = session.scalars(select(Prickly).order_by(Prickly.id)).all()
        one.n = 5
        session.flush()
        one.others.append(two)
        session.flush()
        session.expire(one)
        one.n = 6
        session.delete(two)
        session.commit()
        note(session.scalars(select(Prickly.n)).all())

    pair.extra(work)


# ------------------------------------------------------------------ what is kept


def committed(session: Session) -> None:
    session.commit()


def flushed(session: Session) -> None:
    session.flush()


def rolled_back(session: Session) -> None:
    session.flush()
    session.rollback()


def rolled_back_to_a_savepoint(session: Session) -> None:
    savepoint = session.begin_nested()
    session.flush()
    savepoint.rollback()


def failed(session: Session) -> None:
    session.add(Thing(id=77, owner_id=99))
    with pytest.raises(Exception, match="FOREIGN KEY"):
        session.commit()
    session.rollback()


def expunged(session: Session) -> None:
    session.flush()
    session.expunge_all()


def closed(session: Session) -> None:
    session.flush()
    session.close()


@pytest.mark.parametrize("end", [committed, flushed, rolled_back, rolled_back_to_a_savepoint, failed, expunged, closed])
def test_no_object_is_kept_alive(end: Callable[[Session], None], pair: Pair) -> None:
    alive: list[Any] = []

    def work(session: Session, note: Note) -> None:
        session.add_all([Owner(id=1, things=[Thing(id=1)]), Thing(id=2), Thing(id=3)])
        session.commit()
        rows: list[Any] = [session.get_one(Owner, 1), *session.scalars(select(Thing))]
        rows[0].name = "changed"
        rows[0].things.clear()
        session.delete(rows[2])
        session.expire(rows[3])
        rows[3].n = 5
        rows.append(Thing(id=4))
        session.add(rows[4])
        end(session)
        gone = [weakref.ref(row) for row in rows]
        rows.clear()
        gc.collect()
        alive.append([one() for one in gone if one() is not None])

    pair.extra(work)
    assert alive == [[], []]


def test_session_info_is_empty_between_transactions(pair: Pair) -> None:
    with pair.heard() as session:
        session.info["theirs"] = 1
        for end in (session.commit, session.rollback, session.close, session.reset):
            session.add(Owner())
            session.flush()
            ours = session.info.keys() - {"theirs"}
            assert all(key.startswith("sqla_webhooks.") for key in ours)
            assert len(ours) == 1
            end()
            assert session.info == {"theirs": 1}
    assert "info" not in pair.heard.kw
    with pair.heard() as another:
        assert another.info == {}


def test_the_query_cache_does_not_grow(pair: Pair) -> None:
    def fill(sessions: sessionmaker[Session], times: int) -> int:
        """Flushes of all sizes; how many statements SQLAlchemy has compiled by then."""
        for count in range(1, times):
            with sessions() as session:
                session.add_all(Thing(n=count) for _ in range(count))
                session.commit()
                for thing in session.scalars(select(Thing)):
                    session.expire(thing)
                    thing.n = count + 1
                session.flush()
                for thing in session.scalars(select(Thing)):
                    session.expire(thing, ["n"])
                    session.delete(thing)
                session.commit()
        engine: Any = sessions.kw["bind"]
        return len(engine._compiled_cache)  # noqa: SLF001  # nothing public tells

    first, second = ([fill(sessions, times) for sessions in (pair.plain, pair.heard)] for times in (4, 12))
    assert second[1] - second[0] == first[1] - first[0] <= 11


def test_objects_are_pickled_and_copied(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        owner = Owner(id=1, things=[Thing(id=1), Thing(id=2)])
        session.add(owner)
        session.flush()
        note(len(owner.things))
        again = pickle.loads(pickle.dumps(owner))
        note(sorted(again.__dict__), sorted(inspect(again).dict), object_session(again))
        note(sorted(copy.copy(owner).__dict__))
        session.commit()
        session.close()
        merged = session.merge(again)
        merged.name = "again"
        session.commit()
        note(picture(session))

    pair.same(work)


def test_pickled_objects_are_of_the_same_bytes(pair: Pair) -> None:
    def bytes_of(sessions: sessionmaker[Session]) -> bytes:
        with sessions() as session:
            thing = Thing(id=1)
            session.add(thing)
            session.flush()
            thing.n = 5
            return pickle.dumps(thing)

    assert bytes_of(pair.heard) == bytes_of(pair.plain)


def test_sessions_of_threads(pair: Pair) -> None:
    def rows_of(sessions: sessionmaker[Session]) -> list[Any]:
        scope = scoped_session(sessions)
        seen: list[Any] = []

        def run(number: int) -> None:
            scope.add(Thing(id=number))
            scope.commit()
            seen.append((number, scope.scalars(select(Thing.id)).all(), scope().info))
            scope.remove()
            seen.append(scope.registry.has())

        for number in range(3):
            thread = threading.Thread(target=run, args=(number,))
            thread.start()
            thread.join()
        return seen

    assert rows_of(pair.heard) == rows_of(pair.plain)


def test_get_bind_is_asked_no_more_often_for_more_rows(pair: Pair, install: Install) -> None:
    asked: list[Any] = []

    class Asking(Session):
        def get_bind(self, mapper: Any = None, **more: Any) -> Engine | Connection:
            asked.append(mapper)
            return super().get_bind(mapper, **more)

    engine = pair.plain.kw["bind"]
    install(Asking, bind=engine, deliver=False, capture="all")

    def times(count: int) -> int:
        asked.clear()
        with Asking(engine) as session:
            session.add_all(Thing() for _ in range(count))
            session.commit()
        return len(asked)

    assert 1 < times(1) == times(100) < 6
