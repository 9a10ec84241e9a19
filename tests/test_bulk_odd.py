"""Bulk writes where something is in the way: limits, errors, other listeners, databases that say little."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, func, insert, select, update
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import Session, sessionmaker
from support.bulk.models import Base, Dog, Item, Seat, Tag
from support.bulk.twins import Operation, Twins, restart, rows, twins_on
from support.databases import NAMES, Database
from support.heard import heard
from support.local import Install

from sqla_webhooks import BulkLimitExceeded, OutboxWriteError, models


def two() -> list[dict[str, Any]]:
    """Rows; SQLAlchemy keeps them, and changes what it is given."""
    return [{"label": "a"}, {"label": "b"}]


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins_on(request.param, tmp_path_factory.mktemp("twins")) as twins:
        yield twins


@pytest.fixture
def things(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        restart(engine)
        yield engine


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """What is executed meanwhile, as it is sent."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: Any) -> None:
        sent.append(f"{statement} {parameters} {many}")

    with heard(engine, "before_cursor_execute", note):
        yield sent


# ------------------------------------------------------------------ what is not wanted


WRITES: dict[str, Operation] = {
    "insert": lambda s: s.execute(insert(Item), two()),
    "insert values": lambda s: s.execute(insert(Item).values(two())),
    "insert from a select": lambda s: s.execute(insert(Item).from_select(["item_label"], select(Tag.name))),
    "update": lambda s: s.execute(update(Item).values(amount=5)),
    "update by keys": lambda s: s.execute(update(Item), [{"id": 1, "amount": 5}]),
    "delete": lambda s: s.execute(delete(Item).where(Item.id > 1)),
    "save": lambda s: s.bulk_save_objects([Item(), Item()]),
    "insert mappings": lambda s: s.bulk_insert_mappings(Item, two()),
    "update mappings": lambda s: s.bulk_update_mappings(Item, [{"id": 1, "amount": 7}]),
}
WRITE = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


@WRITE
@pytest.mark.parametrize("settings", [{}, {"capture": "all", "capture_bulk": False}], ids=["subscribed", "no bulk"])
def test_where_nobody_wants_to_know_the_same_statements_are_sent(
    install: Install, things: Engine, write: Operation, settings: Any
) -> None:
    with statements(things) as before, Session(things) as session:
        write(session)
        session.rollback()
    sessions = sessionmaker(things)
    webhooks = install(sessions, deliver=False, **settings)
    if not settings:
        webhooks.endpoints.create("https://127.0.0.1/", events=["seat.*"])
        with sessions.begin() as session:  # looks what is subscribed
            session.add(Tag(name="seen"))
        with sessions.begin() as session:
            session.execute(delete(Tag).where(Tag.name == "seen"))
    restart(things)

    with statements(things) as after, sessions() as session:
        write(session)
        session.rollback()

    assert [one.split("RETURNING")[0] for one in after] == [one.split("RETURNING")[0] for one in before]
    assert after == before


@pytest.mark.parametrize("kind", ["one session", "Session itself", "a subclass"])
def test_uninstall_leaves_the_methods_as_they_were(install: Install, things: Engine, kind: str) -> None:
    class Sessions(Session):
        def bulk_insert_mappings(self, *arguments: Any, **named: Any) -> None:
            super().bulk_insert_mappings(*arguments, **named)

    listened: Any = {"one session": Session(things), "Session itself": Session, "a subclass": Sessions}[kind]
    before = {name: value for name, value in vars(listened).items() if name.startswith("bulk_")}
    webhooks = install(listened, bind=things, capture="all", deliver=False)
    assert {name for name in vars(listened) if name.startswith("bulk_")} == {
        "bulk_save_objects",
        "bulk_insert_mappings",
        "bulk_update_mappings",
    }
    session = listened if kind == "one session" else listened(things)
    session.bulk_insert_mappings(Tag, [{"name": "p"}])
    session.commit()
    session.close()

    webhooks.drain()
    assert [one.resource_id for one in webhooks.events.list()] == ["p"]
    webhooks.uninstall()

    assert {name: value for name, value in vars(listened).items() if name.startswith("bulk_")} == before


# ------------------------------------------------------------------ limits


def too_much(database: Engine, install: Install, **settings: Any) -> tuple[sessionmaker[Session], Any]:
    sessions = sessionmaker(database)
    return sessions, install(sessions, capture="all", deliver=False, bulk_limit=1, **settings)


LARGE = {
    **{name: WRITES[name] for name in WRITES if name not in ("update by keys", "update mappings")},
    "update by keys": lambda s: s.execute(update(Item), [{"id": 1, "amount": 5}, {"id": 2, "amount": 5}]),
    "update mappings": lambda s: s.bulk_update_mappings(Item, [{"id": 1, "amount": 7}, {"id": 2, "amount": 5}]),
    "insert, asked for rows": lambda s: s.execute(insert(Item).returning(Item.id), two()),
}


@pytest.mark.parametrize("write", LARGE.values(), ids=LARGE.keys())
def test_one_about_too_many_rows_fails_and_leaves_nothing(install: Install, things: Engine, write: Operation) -> None:
    sessions, webhooks = too_much(things, install)
    before = rows(things)
    with sessions() as session:
        with pytest.raises(BulkLimitExceeded, match="and bulk_limit is 1: "):
            write(session)
        with suppress(PendingRollbackError):
            session.commit()
        session.rollback()
        session.execute(update(Tag).where(Tag.name == "x").values(uses=50))
        session.commit()

    after = rows(things)
    assert {key for key in after if after[key] != before.get(key)} == {("tag", "x")}
    webhooks.drain()
    assert [one.resource_id for one in webhooks.events.list()] == ["x"]


@pytest.mark.parametrize("write", LARGE.values(), ids=LARGE.keys())
def test_one_about_too_many_rows_goes_uncaptured_if_so_wished(
    install: Install, things: Engine, write: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    sessions, webhooks = too_much(things, install, beyond_bulk_limit="skip")
    before = rows(things)
    with caplog.at_level(logging.WARNING, "sqla_webhooks"), sessions.begin() as session:
        write(session)

    assert rows(things) != before
    webhooks.drain()
    assert webhooks.events.list() == []
    assert "in one statement, and bulk_limit is 1" in caplog.text


# ------------------------------------------------------------------ errors


@WRITE
def test_a_change_whose_event_cannot_be_written_is_not_committed(
    install: Install, things: Engine, write: Operation
) -> None:
    sessions = sessionmaker(things)
    install(sessions, capture="all", deliver=False)
    before = rows(things)
    models.outbox.drop(things)
    with sessions() as session:
        with pytest.raises(OutboxWriteError):
            write(session)
        with suppress(PendingRollbackError):  # unless it could be known before anything was written
            session.commit()
        session.rollback()
        session.commit()
    assert rows(things) == before
    models.outbox.create(things)


def test_the_event_of_a_savepoint_that_cannot_be_written_undoes_the_savepoint_only(twins: Twins) -> None:
    twins.restart()
    with twins.sessions() as session:
        session.execute(update(Tag).where(Tag.name == "x").values(uses=9))
        with heard(twins.heard, "before_cursor_execute", _refuse_outbox):
            savepoint = session.begin_nested()
            with pytest.raises(RuntimeError):
                session.execute(update(Item).values(amount=90))
            savepoint.rollback()
        session.commit()
    assert [one["resource_id"] for one in twins.events()] == ["x"]
    assert rows(twins.heard)["item", "1"]["amount"] == 1


def _refuse_outbox(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if statement.startswith("INSERT INTO webhook_outbox"):
        raise RuntimeError


def _caught(write: Operation) -> Operation:
    """The application catches the error, and commits what there is."""

    def operation(session: Session) -> Any:
        session.execute(update(Tag).where(Tag.name == "x").values(uses=50))
        with pytest.raises(IntegrityError):
            write(session)
        return session.is_active

    return operation


def test_rows_before_one_that_is_refused_are_told_of_if_they_stay(twins: Twins) -> None:
    twins.check(_caught(lambda s: s.execute(update(Item), [{"id": 1, "amount": 50}, {"id": 2, "code": "c1"}])))
    twins.check(_caught(lambda s: s.execute(update(Item).values(code="same"))))
    twins.check(_caught(lambda s: s.execute(insert(Item).values(code="c1"))))


@pytest.mark.parametrize("asked", [True, False])
def test_of_a_long_list_that_is_refused_nothing_stays(twins: Twins, asked: bool) -> None:  # noqa: FBT001  # an example
    twins.restart()
    statement = insert(Tag).returning(Tag.name) if asked else insert(Tag)
    before = rows(twins.heard)
    with twins.sessions() as session:
        with pytest.raises(IntegrityError):
            session.execute(statement, [*({"name": f"t{n}"} for n in range(1500)), {"name": "x"}])
        if session.is_active:
            session.commit()
    assert rows(twins.heard) == before
    assert twins.events() == []


# ------------------------------------------------------------------ other listeners


@pytest.mark.parametrize("first", [True, False])
def test_an_applications_own_listener_may_execute_it_itself(twins: Twins, first: bool) -> None:  # noqa: FBT001  # an example
    def rename(state: Any) -> Any:
        if state.is_update:
            return state.invoke_statement(statement=state.statement.where(Item.id > 1))
        return None

    def tell(session: Session) -> Any:
        event.listen(session, "do_orm_execute", rename, insert=first)
        return session.execute(update(Item).values(amount=8))

    assert {one["resource_id"] for one in twins.check(tell)} == {"2", "3"}


@pytest.mark.parametrize("first", [True, False])
def test_a_listener_may_write_meanwhile(twins: Twins, first: bool) -> None:  # noqa: FBT001  # an example
    def count(state: Any) -> None:
        if state.is_update and state.bind_mapper.class_ is Item:
            state.session.execute(update(Tag).where(Tag.name == "x").values(uses=Tag.uses + 1))
            state.session.execute(insert(Tag), [{"name": "written"}])
            state.session.bulk_insert_mappings(Seat, [{"line": "q", "number": 9}])

    def tell(session: Session) -> Any:
        event.listen(session, "do_orm_execute", count, insert=first)
        return session.execute(update(Item).where(Item.id == 1).values(amount=8))

    assert len(twins.check(tell)) == 4


def test_bulk_writes_in_a_flush_are_told_of_beside_it(twins: Twins) -> None:
    def write(session: Session, *_: Any) -> None:
        session.execute(update(Tag).where(Tag.name == "x").values(uses=70))
        session.execute(insert(Tag), [{"name": "in a flush"}])
        session.bulk_insert_mappings(Seat, [{"line": "q", "number": 9}])
        session.bulk_update_mappings(Seat, [{"line": "a", "number": 1, "taken": 9}])

    def tell(session: Session) -> Any:
        session.get_one(Item, 1).amount = 30
        session.add(Item(label="flushed"))
        event.listen(session, "before_flush", write)
        session.flush()
        event.remove(session, "before_flush", write)

    assert len(twins.check(tell)) == 6


# ------------------------------------------------------------------ databases that cannot say what they insert


@pytest.fixture
def silent(tmp_path: Any) -> Iterator[Twins]:
    """MariaDB, as if it were a MySQL: without RETURNING."""
    with twins_on("mariadb", tmp_path) as twins:
        for engine in (twins.plain, twins.heard):
            dialect = engine.dialect
            for name in ("insert_returning", "insert_executemany_returning", "delete_returning", "update_returning"):
                setattr(dialect, name, False)
            dialect.insert_executemany_returning_sort_by_parameter_order = False
            dialect.use_insertmanyvalues = dialect.use_insertmanyvalues_wo_returning = False
        yield twins


_made = mysql.insert(Item)
_on_duplicate = _made.on_duplicate_key_update(amount=_made.inserted.amount)
SILENT: dict[str, Operation] = {
    "a list": lambda s: s.execute(insert(Item), [*two(), {"amount": 3}]),
    "a list of one": lambda s: s.execute(insert(Item), two()[:1]),
    "a list with keys": lambda s: s.execute(insert(Item), [{"id": 50}, {"id": 51, "label": "x"}]),
    "a list, some with keys": lambda s: s.execute(insert(Item), [{"id": 50}, {"label": "x"}]),
    "natural keys": lambda s: s.execute(insert(Tag), [{"name": "p"}, {"name": "q", "uses": 3}]),
    "composite keys": lambda s: s.execute(insert(Seat), [{"line": "q", "number": 1}, {"line": "q", "number": 2}]),
    "values": lambda s: s.execute(insert(Item).values(label="x")),
    "several values with keys": lambda s: s.execute(insert(Item).values([{"id": 50}, {"id": 51}])),
    "joined": lambda s: s.execute(insert(Dog), [{"name": "a"}, {"name": "b"}]),
    "save": lambda s: s.bulk_save_objects([Dog(name="a"), Dog(name="b"), Tag(name="c"), Tag(name="d")]),
    "upsert": lambda s: s.execute(_on_duplicate.values(id=1, amount=40)),
    "upsert a list": lambda s: s.execute(_on_duplicate, [{"id": 1, "amount": 40}, {"id": 60, "amount": 41}]),
    "upsert several": lambda s: s.execute(_on_duplicate.values([{"id": 1, "amount": 40}, {"id": 60, "amount": 41}])),
    "upsert by another key": lambda s: s.execute(_on_duplicate, [{"code": "c1", "amount": 40}, {"code": "c9"}]),
    "ignore": lambda s: s.execute(insert(Item).prefix_with("IGNORE"), [{"id": 1}, {"id": 60}]),
    "update": lambda s: s.execute(update(Item).values(amount=Item.amount + 1)),
    "delete": lambda s: s.execute(delete(Seat).where(Seat.line == "a")),
}


def test_without_returning_what_can_be_known_is_told_of(silent: Twins) -> None:
    for operation in SILENT.values():
        silent.check(operation)


def test_without_returning_the_log_says_what_cannot_be_known(silent: Twins, caplog: pytest.LogCaptureFixture) -> None:
    writes: tuple[Operation, ...] = (
        lambda s: s.execute(insert(Item).values(two())),
        lambda s: s.execute(insert(Item).from_select(["item_label"], select(func.lower(Tag.name)))),
        lambda s: s.bulk_insert_mappings(Item, two()),
    )
    for write in writes:
        silent.restart()
        caplog.clear()
        with silent.sessions.begin() as session:
            write(session)
        assert silent.events() == []
        assert "changes of Item are not captured: the database does not say" in caplog.text
