"""PostgreSQL: a bulk statement changes the rows that were read for it, whatever others do between."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Date,
    Enum,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Uuid,
    delete,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Session, mapped_column, sessionmaker
from support.bulk.models import Color, Item, Seat, Shouted
from support.bulk.twins import Operation, Twins, replay, rows, twins_on
from support.databases import database_named
from support.heard import heard
from support.local import Install
from support.mapping import base

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins_on("postgresql", tmp_path_factory.mktemp("twins")) as twins:
        yield twins


@contextmanager
def between(twins: Twins, word: str, meanwhile: Any) -> Iterator[None]:
    """Another transaction commits just before the application's own statement, which begins with *word*, is sent."""
    done: list[str] = []

    def commit(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(word) and not done:
            done.append(statement)
            with Session(twins.heard) as other:  # whose writes are not captured
                other.execute(meanwhile)
                other.commit()

    with heard(twins.heard, "before_cursor_execute", commit):
        yield
    assert done


RACES: dict[str, tuple[str, Operation, Any]] = {
    "update": (
        "UPDATE item",
        lambda s: s.execute(update(Item).where(Item.amount >= 2).values(label="new")).rowcount,
        update(Item).where(Item.id == 1).values(amount=9),
    ),
    "update by keys that were read": (
        "UPDATE item",
        lambda s: s.execute(update(Item).where(Item.amount > 1).values(amount=Item.amount + 1)).rowcount,
        update(Item).where(Item.id == 1).values(amount=9),
    ),
    "delete": (
        "DELETE FROM item",
        lambda s: s.execute(delete(Item).where(Item.amount >= 2)).rowcount,
        update(Item).where(Item.id == 1).values(amount=9),
    ),
    "update of composite keys": (
        "UPDATE bulk_seat",
        lambda s: s.execute(update(Seat).where(Seat.number == 2, Seat.ticket > 1).values(taken=1)).rowcount,
        update(Seat).where(Seat.number == 1).values(number=Seat.number + 8, ticket=3),
    ),
    "delete of composite keys": (
        "DELETE FROM bulk_seat",
        lambda s: s.execute(delete(Seat).where(Seat.ticket >= 2)).rowcount,
        update(Seat).where(Seat.number == 1).values(ticket=5, number=7),
    ),
}


@pytest.mark.parametrize(("word", "write", "meanwhile"), RACES.values(), ids=RACES.keys())
def test_a_row_that_fulfils_the_criteria_too_late_is_left_alone(
    twins: Twins, word: str, write: Operation, meanwhile: Any
) -> None:
    twins.restart()
    with Session(twins.plain) as session:  # as if the other had come after it
        count = write(session)
        session.execute(meanwhile)
        session.commit()

    with between(twins, word, meanwhile), twins.sessions.begin() as session:
        assert write(session) == count

    assert rows(twins.heard) == rows(twins.plain)
    events = twins.events()
    assert len(events) == count
    twins.restart()
    before = rows(twins.heard)
    with Session(twins.plain) as session:
        write(session)
        session.commit()
    replay(events, before, rows(twins.plain))


def count(session: Session, statement: Any) -> int:
    result: Any = session.execute(statement)
    return int(result.rowcount)


KEYS: dict[str, tuple[Any, list[Any]]] = {
    "native enum": (Enum(Color), [Color.RED, Color.BLUE]),
    "other enum": (Enum(Color, native_enum=False), [Color.RED, Color.BLUE]),
    "uuid": (Uuid, [uuid.UUID(int=1), uuid.UUID(int=2)]),
    "uuid as text": (Uuid(as_uuid=False), [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))]),
    "decorator": (Shouted, ["a", "b"]),
    "string": (String(20), ["a", "b'\"{}"]),
    "number": (Numeric(10, 2), [Decimal("1.50"), Decimal("2.00")]),
    "date": (Date, [date(2026, 1, 1), date(2026, 1, 2)]),
    "bytes": (LargeBinary, [b"\x00a", b"b"]),
    "address": (INET, ["192.0.2.1", "192.0.2.2"]),
}


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize(("type_", "keys"), KEYS.values(), ids=KEYS.keys())
def test_keys_of_every_type_are_found_again(
    install: Install,
    type_: Any,
    keys: list[Any],
    composite: bool,  # noqa: FBT001  # an example
    tmp_path: Any,
) -> None:
    with base() as parent, database_named("postgresql", tmp_path) as database, database.engine() as engine:
        columns = {
            "key": mapped_column(type_, primary_key=True, autoincrement=False),
            "number": mapped_column(Integer, primary_key=composite, default=1),
            "size": mapped_column(Integer, default=0),
        }
        keyed: Any = type("Keyed", (parent,), {"__tablename__": "keyed", **columns})
        parent.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = install(sessions, capture="all", deliver=False)
        with Session(engine) as session:
            session.add_all([keyed(key=key) for key in keys])
            session.commit()
        with sessions.begin() as session:
            assert count(session, update(keyed).values(size=5)) == 2
            assert count(session, update(keyed).where(keyed.size == 0).values(size=6)) == 0
        with sessions.begin() as session:
            assert count(session, delete(keyed).where(keyed.size == 5)) == 2
        with Session(engine) as session:
            assert session.scalars(select(keyed)).all() == []
        webhooks.drain()
        assert sorted(one.operation.value for one in webhooks.events.list()) == ["delete"] * 2 + ["update"] * 2


def test_rows_that_swap_their_keys_in_one_statement_are_updated_where_they_stand(
    install: Install, tmp_path: Any
) -> None:
    with base() as parent, database_named("postgresql", tmp_path) as database, database.engine() as engine:
        columns = {
            "number": mapped_column(Integer, primary_key=True, autoincrement=False),
            "name": mapped_column(String(20)),
            "__table_args__": (PrimaryKeyConstraint("number", deferrable=True),),
        }
        keyed: Any = type("Keyed", (parent,), {"__tablename__": "keyed", **columns})
        parent.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = install(sessions, capture="all", deliver=False)
        with Session(engine) as session:
            session.add_all([keyed(number=number, name=f"{number}") for number in (1, 2)])
            session.commit()

        with sessions.begin() as session:
            assert count(session, update(keyed).values(number=3 - keyed.number)) == 2

        webhooks.drain()
        told = {one.resource_id: json.loads(one.payload)["changes"] for one in webhooks.events.list()}
        assert told == {"1": {"name": {"from": "1", "to": "2"}}, "2": {"name": {"from": "2", "to": "1"}}}
