"""The cases that capture of an ORM gets wrong: changes upon changes, and values. Each test compares all events."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.attributes import flag_modified
from support.cases import (
    Base,
    Filled,
    Late,
    Lorry,
    Marker,
    Papers,
    Plain,
    Spot,
    Strange,
    Typed,
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


# ------------------------------------------------------------------ several changes of one transaction


def test_several_flushes_in_one_transaction(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Plain(id=1))
    with sessions.begin() as session:
        row = session.get_one(Plain, 1)
        row.n = 1
        session.flush()
        row.note = "a"
        session.flush()
        row.n = 2

    assert told() == [("plain.updated", "1", {"id": 1, "n": (0, 2), "note": (None, "a")})]


def test_create_and_update_in_one_transaction(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        row = Plain(id=1)
        session.add(row)
        session.flush()
        row.n = 5

    assert told() == [("plain.created", "1", {"id": 1, "n": 5, "note": None})]


def test_create_and_delete_in_one_transaction(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        row = Plain(id=1)
        session.add(row)
        session.flush()
        session.delete(row)

    assert told() == []


def test_set_flush_set_back_flush(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Plain(id=1))
    with sessions.begin() as session:
        row = session.get_one(Plain, 1)
        row.n = 5
        session.flush()
        row.n = 0

    assert told() == []


@pytest.mark.parametrize("coalesced", [True, False])
def test_every_flush_is_told_if_not_coalesced(install: Install, sessions: Sessions, *, coalesced: bool) -> None:
    told = Told(install(sessions, deliver=False, capture="all", coalesce=coalesced))
    with sessions.begin() as session:
        row = Plain(id=1)
        session.add(row)
        session.flush()
        row.n = 5
        session.flush()
        row.n = 0
        session.flush()
        session.delete(row)

    each = ["plain.created 1", "plain.updated 1", "plain.updated 1", "plain.deleted 1"]
    assert told.names() == ([] if coalesced else each)


def test_assignment_of_the_same_value(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Plain(id=1, note="a"))
    with sessions.begin() as session:
        row = session.get_one(Plain, 1)
        row.n, row.note = 0, "a"
    with sessions.begin() as session:
        expired = session.get_one(Plain, 1)
        session.expire(expired)
        expired.n = 0  # SQLAlchemy does not know, and writes it

    assert told() == []


def test_flag_modified(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Plain(id=1))
    with sessions.begin() as session:
        flag_modified(session.get_one(Plain, 1), "n")  # which is written, and is what it was

    assert told() == []


# ------------------------------------------------------------------ values that the object does not know


def test_server_default_on_insert(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Filled(id=1, n=2))

    filled = {"status": "new", "double": 4, "by_python": None, "by_sql": 0, "by_trigger": None}
    assert told() == [("filled.created", "1", {"id": 1, "n": 2, **filled})]


def test_python_onupdate_sql_onupdate_server_onupdate_and_computed(
    sessions: Sessions, told: Told, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER t AFTER UPDATE OF n ON filled BEGIN UPDATE filled SET by_trigger = 7 WHERE id = new.id; END"
        )
    put(sessions, told, Filled(id=1, n=2))
    with sessions.begin() as session:
        session.get_one(Filled, 1).n = 3

    changed = {"n": (2, 3), "double": (4, 6), "by_python": (None, "python"), "by_sql": (0, 1), "by_trigger": (None, 7)}
    assert told() == [("filled.updated", "1", {"id": 1, "status": "new", **changed})]


def test_expression_as_the_only_change(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Plain(id=1, n=4))
    with sessions.begin() as session:
        session.get_one(Plain, 1).n = Plain.n + 1

    assert told() == [("plain.updated", "1", {"id": 1, "n": (4, 5), "note": None})]


def test_deferred_column_never_loaded(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Late(id=1, n=1, long="text"))
    with sessions.begin() as session:
        row = session.get_one(Late, 1)
        row.n = 2
        session.flush()
        assert "long" in inspect(row).unloaded

    assert told() == [("late.updated", "1", {"id": 1, "n": (1, 2), "long": "text"})]


def test_update_of_an_expired_instance(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Plain(id=1, note="a"))
    with sessions() as session:
        row = session.get_one(Plain, 1)
        session.commit()
        row.note = "b"
        session.commit()

    assert told() == [("plain.updated", "1", {"id": 1, "n": 0, "note": ("a", "b")})]


def test_delete_with_deferred_and_expired_columns(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Late(id=1, n=1, long="text"), Lorry(id=2, load=3))
    with sessions.begin() as session:
        late = session.get_one(Late, 1)
        session.expire(late, ["n"])
        session.delete(late)
        session.delete(session.get_one(Vehicle, 2))  # which has not loaded the columns of the lorry

    deleted = told()
    assert sorted(deleted) == [
        ("late.deleted", "1", {"id": 1, "n": 1, "long": "text"}),
        ("lorry.deleted", "2", {"id": 2, "kind": "lorry", "wheels": 4, "load": 3}),
    ]


# ------------------------------------------------------------------ values


def test_mutable_dict_in_place(sessions: Sessions, told: Told) -> None:
    put(sessions, told, Papers(id=1, tracked={"a": 1}))
    with sessions.begin() as session:
        papers = session.get_one(Papers, 1)
        papers.tracked["a"] = 2

    assert told() == [("papers.updated", "1", {"id": 1, "n": 0, "tracked": ({"a": 1}, {"a": 2}), "untracked": None})]


def test_plain_json_in_place(sessions: Sessions, told: Told) -> None:
    """SQLAlchemy does not see it, and does not write it."""
    put(sessions, told, Papers(id=1, untracked={"a": 1}))
    with sessions.begin() as session:
        papers = session.get_one(Papers, 1)
        papers.untracked["a"] = 2

    assert told() == []


def test_plain_json_in_place_with_another_column(sessions: Sessions, told: Told) -> None:
    """It is no change; the data is what the object has, and not what the row has."""
    put(sessions, told, Papers(id=1, untracked={"a": 1}))
    with sessions.begin() as session:
        papers = session.get_one(Papers, 1)
        papers.untracked["a"] = 2
        papers.n = 1

    assert told() == [("papers.updated", "1", {"id": 1, "n": (0, 1), "tracked": None, "untracked": {"a": 2}})]


def test_composite_hybrid_column_property_and_column_names(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Marker(id=1, spot=Spot(3, 4)))
    with sessions.begin() as session:
        session.get_one(Marker, 1).spot = Spot(3, 5)

    assert told() == [
        ("marker.created", "1", {"id": 1, "x": 3, "y": 4}),
        ("marker.updated", "1", {"id": 1, "x": 3, "y": (4, 5)}),
    ]


def test_coerced_types(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.add(Typed(id=1, number="7", amount=Decimal("1.005"), moment=datetime(2026, 1, 1, tzinfo=UTC)))
        session.flush()
        stored = session.execute(select(*Typed.__table__.c)).one()

    as_stored = {"id": 1, "number": stored.number, "amount": str(stored.amount), "moment": "2026-01-01T00:00:00Z"}
    assert stored.number == 7
    assert told() == [("typed.created", "1", as_stored)]


def test_serialisation_failure(sessions: Sessions, told: Told) -> None:
    key = uuid.UUID(int=1)
    with sessions.begin() as session:
        session.add(
            Strange(
                id=key,
                raw=b"\x00\xff",
                span=timedelta(seconds=90),
                price=Decimal("9.50"),
                broken=float("inf"),
                lone=["\ud800", 2**70, float("nan")],
                other=object(),
            )
        )

    written = {"raw": "AP8=", "span": "PT1M30S", "price": "9.50", "broken": None, "lone": ["\ufffd", 2**70, None]}
    unwritable = {"$unencodable": "builtins.object"}
    assert told() == [("strange.created", str(key), {"id": str(key), **written, "other": unwritable})]
