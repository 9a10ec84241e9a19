"""The cases that capture of an ORM gets wrong: writes without objects, and those that nobody tells us of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, text, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support.databases import Database
from support.local import Install
from support.told import Line, Told

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def told(install: Install, sessions: Sessions) -> Told:
    """The entries 1 and 2 are there."""
    told = Told(install(sessions, deliver=False, capture="all"))
    with sessions.begin() as session:
        session.add_all([Entry(id=1), Entry(id=2)])
    told()
    return told


def created(id: int, n: int) -> Line:
    return ("entry.created", str(id), {"id": id, "n": n})


def updated(id: int, old: int, new: int) -> Line:
    return ("entry.updated", str(id), {"id": id, "n": (old, new)})


def deleted(id: int, n: int) -> Line:
    return ("entry.deleted", str(id), {"id": id, "n": n})


def upsert(session: Session, *rows: dict[str, Any], nothing: bool = False) -> Any:
    """INSERT that updates the rows that are there, or leaves them."""
    name = session.get_bind().dialect.name
    if name == "mysql":
        statement = mysql.insert(Entry).values(rows)
        if nothing:
            return statement.prefix_with("IGNORE")
        return statement.on_duplicate_key_update(n=statement.inserted.n)
    conflicting = (postgresql if name == "postgresql" else sqlite).insert(Entry).values(rows)
    if nothing:
        return conflicting.on_conflict_do_nothing()
    return conflicting.on_conflict_do_update(index_elements=["id"], set_={"n": conflicting.excluded.n})


# ------------------------------------------------------------------ the session's methods


def test_bulk_insert_mappings(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.bulk_insert_mappings(Entry.__mapper__, [{"id": 3, "n": 3}, {"id": 4}])

    assert told() == [created(3, 3), created(4, 0)]


def test_bulk_save_objects(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        one = session.get_one(Entry, 1)
        session.expunge(one)
        one.n = 5
        session.bulk_save_objects([one, Entry(id=3)])

    assert sorted(told()) == [created(3, 0), updated(1, 0, 5)]


def test_bulk_update_mappings(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.bulk_update_mappings(Entry.__mapper__, [{"id": 1, "n": 5}, {"id": 2, "n": 0}])

    assert told() == [updated(1, 0, 5)]


# ------------------------------------------------------------------ statements


def test_execute_insert(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.execute(insert(Entry), [{"id": 3, "n": 3}, {"id": 4, "n": 4}])
        session.execute(insert(Entry).values(id=5))

    assert told() == [created(3, 3), created(4, 4), created(5, 0)]


def test_execute_update(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.execute(update(Entry).where(Entry.id == 1).values(n=Entry.n + 5))
        session.execute(update(Entry), [{"id": 2, "n": 7}])

    assert told() == [updated(1, 0, 5), updated(2, 0, 7)]


def test_execute_delete(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.execute(delete(Entry).where(Entry.id == 2))

    assert told() == [deleted(2, 0)]


def test_query_update_and_delete(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.query(Entry).filter(Entry.id == 1).update({"n": 5})
        session.query(Entry).filter(Entry.id == 2).delete()

    assert told() == [updated(1, 0, 5), deleted(2, 0)]


def test_insert_on_conflict_do_update(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.execute(upsert(session, {"id": 1, "n": 5}, {"id": 2, "n": 0}, {"id": 3, "n": 7}))

    assert sorted(told()) == [created(3, 7), updated(1, 0, 5)]  # the row 2 is as it was


def test_insert_on_conflict_do_nothing(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        session.execute(upsert(session, {"id": 1, "n": 5}, {"id": 3, "n": 7}, nothing=True))

    assert told() == [created(3, 7)]


def test_bulk_statement_rolled_back(sessions: Sessions, told: Told) -> None:
    with sessions() as session:
        session.execute(update(Entry).values(n=5))
        session.rollback()
        session.execute(delete(Entry).where(Entry.id == 1))
        session.commit()

    assert told() == [deleted(1, 0)]


# ------------------------------------------------------------------ what cannot be seen: nothing is said of it


def textual(session: Session) -> None:
    session.execute(text("UPDATE entry SET n = 9"))


def core_in_the_session(session: Session) -> None:
    session.execute(update(Entry.__table__).values(n=9))  # type: ignore[arg-type]  # it is a Table


def core_on_the_connection(session: Session) -> None:
    session.connection().execute(update(Entry).values(n=9))


def by_the_driver(session: Session) -> None:
    session.connection().exec_driver_sql("UPDATE entry SET n = 9")


@pytest.mark.parametrize("write", [textual, core_in_the_session, core_on_the_connection, by_the_driver])
def test_textual_sql_and_core_writes(write: Callable[[Session], None], sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        write(session)
    unseen = told()
    with sessions.begin() as session:
        session.get_one(Entry, 1).n = 10

    assert unseen == []
    assert told() == [updated(1, 9, 10)]  # and what is seen later is told as it is


def test_another_program(sessions: Sessions, told: Told, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(delete(Entry.__table__).where(Entry.id == 1))  # type: ignore[arg-type]  # it is a Table

    assert told() == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # the others have neither
def test_copy_and_truncate(sessions: Sessions, told: Told) -> None:
    with sessions.begin() as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor, cursor.copy("COPY entry (id, n) FROM STDIN") as copy:
            copy.write_row((3, 3))
        session.add(Entry(id=4))
        session.flush()
        copied = session.get_one(Entry, 3).n
        session.execute(text("TRUNCATE entry"))

    assert copied == 3
    assert told() == [created(4, 0)]  # which its session wrote, and does not know to be gone
