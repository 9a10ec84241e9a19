"""The cases that capture of an ORM gets wrong: rows that belong together. Each test compares all events, whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError
from support.cases import (
    Base,
    Book,
    Chief,
    Counted,
    Gold,
    Lorry,
    Member,
    Metal,
    Shelf,
    Square,
    Team,
    Tricycle,
    Vehicle,
)
from support.databases import database_named
from support.local import Install
from support.told import Told

Sessions = sessionmaker[Session]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with database_named("sqlite", tmp_path) as database, database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    return sessionmaker(engine)


@pytest.fixture
def told(install: Install, sessions: Sessions) -> Told:
    return Told(install(sessions, deliver=False, capture="all"))


def put(sessions: Sessions, told: Told, *rows: Any) -> None:
    """Commit rows, and forget that they were told."""
    with sessions.begin() as session:
        session.add_all(rows)
    told()


# ------------------------------------------------------------------ relationships


def test_delete_orphan(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Team(id=1, members=[Member(id=1), Member(id=2)]))
    with sessions.begin() as session:
        team = session.get_one(Team, 1)
        team.members.remove(session.get_one(Member, 1))

    assert told() == [("member.deleted", "1", {"id": 1, "team_id": 1})]


def test_collection_append(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Team(id=1), Member(id=2))
    with sessions.begin() as session:
        team, member = session.get_one(Team, 1), session.get_one(Member, 2)
        team.members.append(member)

    assert told() == [("member.updated", "2", {"id": 2, "team_id": (None, 1)})]


def test_m2m_secondary_rows(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Team(id=1), Team(id=2), Member(id=3))
    with sessions.begin() as session:
        member = session.get_one(Member, 3)
        member.visits.append(session.get_one(Team, 1))
    with sessions.begin() as session:
        member = session.get_one(Member, 3)
        member.visits = [session.get_one(Team, 2)]

    row = {"id": 3, "team_id": None}
    assert told() == [
        ("member.updated", "3", {**row, "visits": {"added": ["1"], "removed": []}}),
        ("member.updated", "3", {**row, "visits": {"added": ["2"], "removed": ["1"]}}),
    ]


def test_orm_cascade_delete(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Team(id=1, members=[Member(id=1), Member(id=2)]))
    with sessions.begin() as session:
        session.delete(session.get_one(Team, 1))

    assert told() == [
        ("member.deleted", "1", {"id": 1, "team_id": 1}),
        ("member.deleted", "2", {"id": 2, "team_id": 1}),
        ("team.deleted", "1", {"id": 1}),
    ]


def test_db_on_delete_cascade_with_passive_deletes(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Shelf(name="a", books=[Book(id=1), Book(id=2)]), Shelf(name="b", books=[Book(id=3)]))
    with sessions.begin() as session:
        session.delete(session.get_one(Shelf, "a"))  # whose books nobody has loaded

    assert sorted(told()) == [
        ("book.deleted", "1", {"id": 1, "shelf": "a"}),
        ("book.deleted", "2", {"id": 2, "shelf": "a"}),
        ("shelf.deleted", "a", {"name": "a"}),
    ]


def test_on_update_cascade(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Shelf(name="a", books=[Book(id=1)]), Shelf(name="b", books=[Book(id=2)]))
    with sessions.begin() as session:
        shelf = session.get_one(Shelf, "a")
        shelf.name = "c"

    assert sorted(told()) == [
        ("book.updated", "1", {"id": 1, "shelf": ("a", "c")}),
        ("shelf.updated", "c", {"name": ("a", "c")}),
    ]


def test_post_update_self_reference(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        one, two = Chief(id=1), Chief(id=2)
        one.deputy, two.deputy = two, one
        session.add_all([one, two])
    with sessions.begin() as session:
        session.get_one(Chief, 1).deputy = None

    assert told() == [
        ("chief.created", "1", {"id": 1, "deputy_id": 2}),
        ("chief.created", "2", {"id": 2, "deputy_id": 1}),
        ("chief.updated", "1", {"id": 1, "deputy_id": (2, None)}),
    ]


# ------------------------------------------------------------------ inheritance


def test_joined_inheritance(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Lorry(id=1, load=3))
    with sessions.begin() as session:
        session.get_one(Vehicle, 1).wheels = 6  # of the table of the base alone
    with sessions.begin() as session:
        session.get_one(Lorry, 1).load = 4  # of its own alone
    with sessions.begin() as session:
        session.delete(session.get_one(Vehicle, 1))

    row = {"id": 1, "kind": "lorry"}
    assert told() == [
        ("lorry.created", "1", {**row, "wheels": 4, "load": 3}),
        ("lorry.updated", "1", {**row, "wheels": (4, 6), "load": 3}),
        ("lorry.updated", "1", {**row, "wheels": 6, "load": (3, 4)}),
        ("lorry.deleted", "1", {**row, "wheels": 6, "load": 4}),
    ]


def test_single_inheritance(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Tricycle(id=1, wheels=3))
    with sessions.begin() as session:
        session.delete(session.get_one(Vehicle, 1))

    row = {"id": 1, "kind": "tricycle", "wheels": 3}
    assert told() == [("tricycle.created", "1", row), ("tricycle.deleted", "1", row)]


def test_concrete_inheritance(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add_all([Metal(id=1, weight=5), Gold(id=1, weight=6, carat=14)])
    with sessions.begin() as session:
        session.get_one(Gold, 1).carat = 18

    assert sorted(told()) == [
        ("gold.created", "1", {"id": 1, "weight": 6, "carat": 14}),
        ("gold.updated", "1", {"id": 1, "weight": 6, "carat": (14, 18)}),
        ("metal.created", "1", {"id": 1, "weight": 5}),
    ]


# ------------------------------------------------------------------ keys


def test_composite_pk(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Square(file="e", rank=4))
    with sessions.begin() as session:
        session.get_one(Square, ("e", 4)).piece = "pawn"
    with sessions.begin() as session:
        session.delete(session.get_one(Square, ("e", 4)))

    assert told() == [
        ("square.created", "e,4", {"file": "e", "rank": 4, "piece": None}),
        ("square.updated", "e,4", {"file": "e", "rank": 4, "piece": (None, "pawn")}),
        ("square.deleted", "e,4", {"file": "e", "rank": 4, "piece": "pawn"}),
    ]


def test_pk_change(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Square(file="e", rank=2, piece="pawn"))
    with sessions.begin() as session:
        session.get_one(Square, ("e", 2)).rank = 4

    assert told() == [("square.updated", "e,4", {"file": "e", "rank": (2, 4), "piece": "pawn"})]


def test_row_switch(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Square(file="e", rank=4, piece="pawn"))
    with sessions.begin() as session:
        session.delete(session.get_one(Square, ("e", 4)))
        session.add(Square(file="e", rank=4, piece="queen"))

    assert told() == [("square.updated", "e,4", {"file": "e", "rank": 4, "piece": ("pawn", "queen")})]


def test_version_id_col_stale_data_error(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Counted(id=1))
    with sessions() as session:
        row = session.get_one(Counted, 1)
        session.execute(update(Counted.__table__).values(version=9))  # type: ignore[arg-type]  # it is a Table
        row.n = 1
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
        row.n = 2
        session.commit()

    assert told() == [("counted.updated", "1", {"id": 1, "n": (0, 2), "version": (1, 2)})]
