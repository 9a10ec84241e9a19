"""
An installation is not felt: the same code, with one that a subscriber to everything listens to, and without.

Statements, flushes, exceptions, the objects' states, the order of listeners: all must be equal. Where we must read a
row, it is by one of the SELECTs that are named below.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload
from support.cases import Base, Chief, Counted, Filled, Late, Lorry, Member, Papers, Plain, Square, Team
from support.clock import MovedClock
from support.databases import clear
from support.local import Install
from support.observed import Note, Pair, failing, pair_at, picture


@pytest.fixture
def pair(install: Install, tmp_path: Path, clock: MovedClock) -> Iterator[Pair]:
    with pair_at(tmp_path, Base.metadata) as pair:
        webhooks = install(pair.heard, deliver=False, clock=clock)
        webhooks.endpoints.create("http://127.0.0.1:1024/hooks", events=["*"])
        yield pair


def filled(session: Session) -> None:
    """Rows of every kind."""
    session.add_all(
        [
            Team(id=1, members=[Member(id=1), Member(id=2)]),
            Team(id=2),
            Plain(id=1),
            Plain(id=2, note="two"),
            Late(id=1, n=1, long="text"),
            Lorry(id=1, load=3),
            Counted(id=1),
            Square(file="e", rank=2, piece="pawn"),
            Papers(id=1, tracked={"a": 1}, untracked=[1]),
            Chief(id=1),
        ]
    )
    session.commit()


# ------------------------------------------------------------------ the unit of work


def test_objects_that_know_their_rows(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        filled(session)
        plain, other = session.get_one(Plain, 1), session.get_one(Plain, 2)
        note(picture(session))
        plain.n, plain.note = 5, "five"
        session.delete(other)
        session.add(Plain(id=3))
        note(picture(session))
        session.flush()
        note(picture(session))
        session.commit()
        note(picture(session))

    pair.same(work)


def test_autoflush_and_lazy_loads(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        filled(session)
        team = session.get_one(Team, 1)
        note([member.id for member in team.members])
        member = team.members[0]
        note(member.visits)
        member.visits.append(session.get_one(Team, 2))
        note(session.scalars(select(Member.id)).all())
        note(picture(session))
        with session.no_autoflush:
            session.add(Member(id=9, team=team))
            note(session.scalars(select(Member.id)).all())
        note(session.scalars(select(Team).options(joinedload(Team.members))).unique().all()[0].members[-1].id)
        team.members.remove(member)
        note(picture(session))
        session.commit()
        note(picture(session))

    pair.same(work)


def test_savepoints(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        filled(session)
        plain = session.get_one(Plain, 1)
        with session.begin_nested():
            plain.n = 1
        note(picture(session))
        savepoint = session.begin_nested()
        session.add(Plain(id=5))
        session.flush()
        note(picture(session))
        savepoint.rollback()
        note(picture(session))
        session.get_one(Plain, 1).n = 7
        session.commit()
        note(picture(session))

    pair.same(work)


def test_expire_refresh_merge_and_expunge(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        filled(session)
        plain = session.get_one(Plain, 1)
        session.refresh(plain)
        note(picture(session))
        session.expunge(plain)
        plain.n = 4
        merged = session.merge(plain)
        note(merged is plain, picture(session))
        session.flush()
        session.expire(merged, ["n"])
        note(picture(session), merged.n)
        session.expunge_all()
        note(picture(session))
        session.reset()

    pair.same(work)


# ------------------------------------------------------------------ where a row must be read


def set_while_expired(session: Session, rows: list[Plain]) -> None:
    for row in rows:
        session.expire(row)
        row.n = 5


def set_to_expressions(session: Session, rows: list[Plain]) -> None:
    for row in rows:
        row.n = Plain.n + 1


def set_to_what_the_column_makes_something_of(session: Session, rows: list[Plain]) -> None:
    for row in rows:
        row.n = "5"  # type: ignore[assignment]  # an Integer takes it, on SQLite


def deleted_while_expired_in_part(session: Session, rows: list[Plain]) -> None:
    for row in rows:
        session.expire(row, ["note"])
        session.delete(row)


def updated_while_expired_in_part(session: Session, rows: list[Plain]) -> None:
    for row in rows:
        session.expire(row, ["note"])
        row.n = 5


def updated_in_bulk(session: Session, rows: list[Plain]) -> None:
    session.execute(update(Plain).values(n=5).execution_options(synchronize_session=False))


#: How many SELECTs each costs, for any number of rows of one class.
COSTS: dict[Callable[[Session, list[Plain]], None], int] = {
    set_while_expired: 1,
    set_to_expressions: 1,
    set_to_what_the_column_makes_something_of: 1,
    deleted_while_expired_in_part: 1,
    updated_while_expired_in_part: 1,
    updated_in_bulk: 3,  # which rows, and what they were, and are
}


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("change", COSTS)
def test_rows_are_read_by_one_select_for_each_class(
    change: Callable[[Session, list[Plain]], None], count: int, pair: Pair
) -> None:
    def work(session: Session, note: Note) -> None:
        session.add_all(Plain(id=number) for number in range(count))
        session.commit()
        rows = list(session.scalars(select(Plain)))
        change(session, rows)
        session.flush()
        note(picture(session))
        session.rollback()
        note(picture(session))

    extra = pair.extra(work)
    assert [one.split()[0] for one in extra] == ["SELECT"] * COSTS[change], extra


def test_columns_that_the_database_fills_are_read_by_one_select(pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        rows = [Filled(id=number) for number in range(30)]
        session.add_all(rows)
        session.flush()
        note(picture(session))
        session.commit()
        for row in session.scalars(select(Filled)):
            row.n = 5
        session.flush()
        note(picture(session))

    (extra,) = pair.extra(work)  # after the update: what it was is in the objects
    assert extra.startswith("SELECT")


# ------------------------------------------------------------------ whatever an application does

#: What one step does to a row of a kind, which may not be there.
STEPS = ("set", "set while expired", "expression", "delete", "add", "replace", "move", "link")
ENDS = ("flush", "commit", "roll back", "savepoint", "back to the savepoint", "expire all", "query")
KINDS: tuple[type[Any], ...] = (Plain, Late, Counted, Filled, Member, Lorry)

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(STEPS), st.sampled_from(KINDS), st.integers(1, 3)), st.tuples(st.sampled_from(ENDS))
    ),
    max_size=25,
)


class Work:
    """One application at its work."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.values = itertools.count(10)

    def do(self, step: tuple[Any, ...]) -> None:
        if len(step) == 1:
            self.end(step[0])
        else:
            self.change(*step)

    def end(self, end: str) -> None:
        session = self.session
        if end == "flush":
            session.flush()
        elif end == "commit":
            session.commit()
        elif end == "roll back":
            session.rollback()
        elif end == "savepoint":
            session.begin_nested()
        elif end == "back to the savepoint" and (nested := session.get_nested_transaction()) is not None:
            nested.rollback()
        elif end == "expire all":
            session.expire_all()
        elif end == "query":
            session.scalars(select(Plain).order_by(Plain.id)).all()

    def change(self, what: str, kind: type[Any], id: int) -> None:
        session, attribute = self.session, KIND_OF_NUMBER[kind]
        row = session.get(kind, id)
        if row is None:
            if what == "add":
                session.add(self.new(kind, id))
        elif what == "set":
            setattr(row, attribute, next(self.values) if kind is not Member else None)
        elif what == "set while expired":
            session.expire(row)
            setattr(row, attribute, next(self.values) if kind is not Member else None)
        elif what == "expression":
            setattr(row, attribute, getattr(kind, attribute) + 1)
        elif what == "delete":
            session.delete(row)
        elif what == "replace":
            session.delete(row)
            session.add(self.new(kind, id))
        elif what == "move":
            row.id = id + 10
        elif what == "link" and kind is Member:
            row.visits = [Team(id=next(self.values))] if not row.visits else []

    def new(self, kind: type[Any], id: int) -> Any:
        number = {} if kind is Member else {KIND_OF_NUMBER[kind]: next(self.values)}
        return kind(id=id, **number, **({"long": "text"} if kind is Late else {}))


KIND_OF_NUMBER = {Plain: "n", Late: "n", Counted: "n", Filled: "n", Member: "team_id", Lorry: "load"}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # what they warn of is compared too, as it fails
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=steps)
def test_any_work_is_the_same(steps: list[Any], pair: Pair) -> None:
    for sessions in (pair.plain, pair.heard):
        clear(sessions.kw["bind"], *Base.metadata.sorted_tables)

    def work(session: Session, note: Note) -> None:
        at_work = Work(session)
        for step in steps:
            note(step)
            failing(note, lambda step=step: at_work.do(step))  # type: ignore[misc]  # a default of its own
            if not session.is_active:
                session.rollback()
            note(picture(session))
        session.rollback()

    assert all(one.startswith("SELECT") for one in pair.extra(work))
