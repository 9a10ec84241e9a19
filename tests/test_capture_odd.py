"""What rows, values and mappings that one would not expect do to a flush: nothing but what they do without us."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    Interval,
    Numeric,
    String,
    Table,
    TypeDecorator,
    event,
    select,
    text,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    deferred,
    load_only,
    mapped_column,
    relationship,
    sessionmaker,
)
from support.local import Install
from support.receiver import Receiver

from sqla_webhooks import Webhooks

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    pass


class Level(Enum):
    LOW = 1
    HIGH = 2


class Mode(Enum):
    ON = "on"
    OFF = "off"


class Spoilt(Base):
    """Rows that others write too, not always well."""

    __tablename__ = "spoilt"
    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column(default=0)
    document: Mapped[Any] = deferred(mapped_column(JSON, nullable=True))
    mode: Mapped[Mode | None] = deferred(mapped_column(EnumType(Mode, native_enum=False, length=20)))
    note: Mapped[str | None] = deferred(mapped_column(String(20)))


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)


class Child(Base):
    """Does not map the column of its relationship."""

    __table__ = Table(
        "child",
        Base.metadata,
        Column("id", Integer, primary_key=True),
        Column("x", Integer),
        Column("parent_id", ForeignKey("parent.id")),
    )
    __mapper_args__ = {"exclude_properties": ["parent_id"]}  # noqa: RUF012  # declarative's own form
    parent = relationship(Parent, viewonly=True)


class Stamped(Base):
    """Notes by itself when it changed."""

    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column(default=0)
    edits: Mapped[int] = mapped_column(default=0, onupdate=text("edits + 1"))


class Log(Base):
    __tablename__ = "log"
    id: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[str] = mapped_column(default="")


class Loud:
    """A key whose own text raises."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __str__(self) -> str:
        message = "no"
        raise RuntimeError(message)

    def __lt__(self, other: Loud) -> bool:
        return self.number < other.number


class LoudType(TypeDecorator[Loud]):
    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> int | None:
        return None if value is None else int(value.number)

    def process_result_value(self, value: Any, _dialect: Any) -> Loud | None:
        return None if value is None else Loud(value)


class Keyed(Base):
    __tablename__ = "keyed"
    id: Mapped[Any] = mapped_column(LoudType, primary_key=True)


_user = Table("account", Base.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
_address = Table(
    "address", Base.metadata, Column("id", ForeignKey("account.id"), primary_key=True), Column("city", String(20))
)


class Joined(Base):
    """A class mapped to a join."""

    __table__ = _user.join(_address)
    id = column_property(_user.c.id, _address.c.id)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture(autouse=True)
def endpoint(webhooks: Webhooks, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])


def sent(webhooks: Webhooks, receiver: Receiver) -> list[dict[str, Any]]:
    webhooks.drain()
    events = receiver.events()
    receiver.forget()
    return events


# ------------------------------------------------------------------ values that cannot be read


@pytest.fixture
def spoilt(webhooks: Webhooks, receiver: Receiver, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO spoilt VALUES (1, 0, '{bad', 'GONE', 'n'), (2, 0, '{}', 'ON', 'm')"))


@pytest.mark.usefixtures("spoilt")
def test_a_row_with_a_value_that_its_type_cannot_read_may_be_updated(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with sessions.begin() as session:
        for row in session.scalars(select(Spoilt).options(load_only(Spoilt.x)).order_by(Spoilt.id)):
            row.x = 5

    first, second = sent(webhooks, receiver)
    assert first["data"] == {"id": 1, "x": 5, "note": "n"}
    assert second["data"] == {"id": 2, "x": 5, "document": {}, "mode": "on", "note": "m"}
    assert first["changes"] == second["changes"] == {"x": {"from": 0, "to": 5}}
    assert "left out" in caplog.text


@pytest.mark.usefixtures("spoilt")
def test_a_row_with_a_value_that_its_type_cannot_read_may_be_deleted(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        for row in session.scalars(select(Spoilt).options(load_only(Spoilt.x)).order_by(Spoilt.id)):
            session.delete(row)

    assert [one["data"] for one in sent(webhooks, receiver)] == [
        {"id": 1, "x": 0, "note": "n"},
        {"id": 2, "x": 0, "document": {}, "mode": "on", "note": "m"},
    ]


def test_a_database_that_fails_before_the_flush_leaves_the_session_as_any_failed_flush(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    with sessions.begin() as session:
        session.add(Stamped(id=1))
    with sessions() as session:
        session.get_one(Stamped, 1).x = 1
        session.commit()
        row = session.get_one(Stamped, 1)
        session.commit()
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE stamped RENAME TO moved"))
        row.x = 2
        with pytest.raises(Exception, match="no such table"):
            session.flush()
        session.rollback()
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE moved RENAME TO stamped"))
        session.get_one(Stamped, 1).x = 3
        session.commit()

    assert [one["changes"]["x"]["to"] for one in sent(webhooks, receiver)[1:]] == [1, 3]


def test_json_s_own_null_is_null(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    with sessions.begin() as session:
        session.add(Spoilt(id=1, document=JSON.NULL))
        session.add(Spoilt(id=2, document={"a": 1}))
    with sessions.begin() as session:
        session.get_one(Spoilt, 2).document = JSON.NULL
    with sessions.begin() as session:
        session.get_one(Spoilt, 2).document = [1]

    first, _, third, fourth = sent(webhooks, receiver)
    assert first["data"]["document"] is None
    assert third["changes"] == {"document": {"from": {"a": 1}, "to": None}}
    assert fourth["changes"] == {"document": {"from": None, "to": [1]}}


# ------------------------------------------------------------------ mappings


def test_a_relationship_whose_column_is_not_mapped(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    with sessions.begin() as session:
        session.add(Child(x=1))

    assert sent(webhooks, receiver)[0]["data"] == {"id": 1, "x": 1}
    webhooks.endpoints.create(receiver.url(), events=["parent.*"])


def test_a_key_whose_text_raises(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    with sessions.begin() as session:
        session.add(Keyed(id=Loud(1)))

    assert "$unencodable" in sent(webhooks, receiver)[0]["resource_id"]


def test_namesakes_with_keys_of_different_types_in_one_flush(
    webhooks: Webhooks, engine: Engine, sessions: Sessions, receiver: Receiver
) -> None:
    class Other(DeclarativeBase):
        pass

    one: Any = type(
        "Twin",
        (Base,),
        {"__tablename__": "twin_1", "id": mapped_column(Integer, primary_key=True), "x": mapped_column(Integer)},
    )
    two: Any = type(
        "Twin",
        (Other,),
        {"__tablename__": "twin_2", "id": mapped_column(String(9), primary_key=True), "x": mapped_column(Integer)},
    )
    one.metadata.create_all(engine)
    two.metadata.create_all(engine)
    with sessions.begin() as session:
        session.add_all([one(id=1, x=1), two(id="a", x=1)])
    with sessions(autoflush=False) as session, session.begin():
        session.get_one(one, 1).x = 2
        session.get_one(two, "a").x = 2

    assert [one["resource_id"] for one in sent(webhooks, receiver)] == ["1", "a", "1", "a"]


def test_a_class_mapped_to_a_join_has_the_same_name_in_every_process(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    webhooks.enricher(Joined)(lambda row, payload: payload.update(found=row.id))
    with sessions.begin() as session:
        session.add(Joined(id=1, name="n", city="c"))
    with engine.connect() as connection:
        changes = connection.execute(text("SELECT changes FROM webhook_outbox")).scalar_one()

    assert b'"table":"account+address"' in changes
    assert sent(webhooks, receiver)[0]["data"] == {"id": 1, "name": "n", "city": "c", "found": 1}


def test_our_own_tables_are_not_captured_by_reflection_either(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    reflected = automap_base()
    reflected.prepare(autoload_with=engine)
    with sessions.begin() as session:
        session.scalars(select(reflected.classes.webhook_endpoint)).one().description = "changed"

    assert sent(webhooks, receiver) == []


@pytest.fixture
def tenant(webhooks: Webhooks, engine: Engine, tmp_path: Path) -> dict[str, Any]:
    """Execution options that take the tables' schema for another, where there is one of them."""

    def attach(connection: Any, _record: object) -> None:
        connection.execute(f"ATTACH DATABASE '{tmp_path}/tenant.db' AS tenant")

    engine.dispose()
    event.listen(engine, "connect", attach)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE tenant.stamped (id INTEGER PRIMARY KEY, x INTEGER, edits INTEGER)"))
    return {"schema_translate_map": {None: "tenant"}}


def test_the_schema_of_a_session_is_not_that_of_our_tables(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine, tenant: dict[str, Any]
) -> None:
    with sessions() as session:
        connection = session.connection(execution_options=tenant)
        endpoint = webhooks.endpoints.create(receiver.url(), events=["*"], session=session)
        webhooks.endpoints.delete(endpoint.id, session=session)
        row = Stamped(id=1)
        session.add(row)
        session.flush()
        session.expire(row)
        row.x = 1
        session.commit()
        assert connection.get_execution_options() == tenant
    with engine.connect() as connection:
        assert connection.execute(text("SELECT x, edits FROM tenant.stamped")).all() == [(1, 1)]

    assert [one["data"] for one in sent(webhooks, receiver)] == [{"id": 1, "x": 1, "edits": 1}]


def test_an_engine_of_another_schema_has_our_tables_there_too(
    webhooks: Webhooks, install: Install, receiver: Receiver, engine: Engine, tenant: dict[str, Any]
) -> None:
    sessions = sessionmaker(engine.execution_options(**tenant))
    there = install(sessions, deliver=False)
    there.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Stamped(id=1))

    assert [one["data"]["id"] for one in sent(there, receiver)] == [1]
    assert sent(webhooks, receiver) == []


# ------------------------------------------------------------------ what a flush does not do


def test_a_flush_that_writes_nothing_takes_no_lock(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    with sessions(expire_on_commit=False) as session:
        row = Stamped(id=1)
        session.add(row)
        session.commit()
        row.x = 2
        session.commit()
        seen: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement))
        row.x = 2
        session.scalars(select(Log)).all()

    assert [one.partition(" ")[0] for one in seen] == ["SELECT"]


def test_bulk_methods_in_a_listener_do_not_disturb_the_flush(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    def log(_mapper: Any, _connection: Any, _target: Any) -> None:
        session.bulk_insert_mappings(Log, [{"line": "changed"}])

    with sessions.begin() as session:
        session.add(Stamped(id=1))
    event.listen(Stamped, "before_update", log)
    try:
        with sessions(autoflush=False) as session:
            row = session.get_one(Stamped, 1)
            session.expire(row)
            row.x = 2
            session.commit()
    finally:
        event.remove(Stamped, "before_update", log)

    (changed,) = [one for one in sent(webhooks, receiver) if one["type"] == "stamped.updated"]
    assert changed["changes"] == {"x": {"from": 0, "to": 2}, "edits": {"from": 0, "to": 1}}


def test_bulk_methods_in_a_listener_before_the_flush_do_not_disturb_it(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        session.add(Stamped(id=1))
    sessions = sessionmaker(sessions.kw["bind"], class_=sessions.class_, autoflush=False)

    def log(session: Session, _context: Any, _instances: Any) -> None:
        session.bulk_insert_mappings(Log, [{"line": "changed"}])

    with sessions() as session:
        event.listen(session, "before_flush", log)
        row = session.get_one(Stamped, 1)
        session.expire(row)
        row.x = 2
        session.commit()

    (changed,) = [one for one in sent(webhooks, receiver) if one["type"] == "stamped.updated"]
    assert changed["changes"] == {"x": {"from": 0, "to": 2}, "edits": {"from": 0, "to": 1}}


@pytest.mark.filterwarnings("ignore:The .objects. parameter of .Session.flush. is deprecated")
def test_bulk_methods_after_a_flush_that_had_nothing_to_do_are_none(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    with sessions.begin() as session:
        session.add_all([Stamped(id=1), Stamped(id=2)])
    with sessions() as session:
        row, clean = session.get_one(Stamped, 1), session.get_one(Stamped, 2)
        session.expire(row)
        row.x = 2
        session.flush([clean])
        seen: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement))
        session.bulk_insert_mappings(Log, [{"line": "a"}])

        # Theirs; and of ours those for its rows, and none for those of the flush.
        assert [one.partition(" ")[0] for one in seen] == ["INSERT", "SELECT", "INSERT"]


def test_sessions_of_shards_are_not_captured_and_work(
    install: Install, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = sessionmaker(
        class_=ShardedSession,
        shards={"one": engine},
        shard_chooser=lambda _mapper, instance, _clause=None: "one" if instance.x is not None else "none",
        identity_chooser=lambda *_arguments, **_options: ["one"],
        execute_chooser=lambda _context: ["one"],
    )
    install(sessions, bind=engine, deliver=False, capture="all")
    with sessions() as session:
        session.add(Stamped(id=1, x=1))
        session.commit()

    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM webhook_outbox")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM stamped")).scalar() == 1
    assert "changes in sessions of ShardedSession" in caplog.text


def test_bulk_methods_are_no_flush(webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine) -> None:
    with sessions.begin() as session:
        session.add(Stamped(id=1))
    with sessions() as session:
        row = session.get_one(Stamped, 1)
        session.expire(row)
        row.x = 2
        seen: list[str] = []
        event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement))
        session.bulk_save_objects([Log(line="a")])

        # Theirs; and of ours those for its rows, and none for those of the flush.
        assert [one.partition(" ")[0] for one in seen] == ["INSERT", "SELECT", "INSERT"]


def test_a_key_that_the_database_writes_otherwise_is_found_again(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions(expire_on_commit=False) as session:
        row = Stamped(id="5")
        session.add(row)
        session.commit()
        row.x = 2
        session.commit()

    (changed,) = [one for one in sent(webhooks, receiver) if one["type"] == "stamped.updated"]
    assert changed["changes"] == {"x": {"from": 0, "to": 2}, "edits": {"from": 0, "to": 1}}


def test_what_cannot_be_found_again_is_left_out_and_not_called_null(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions(expire_on_commit=False) as session:
        rows = [Stamped(id="5"), Stamped(id="6")]
        session.add_all(rows)
        session.commit()
        for row in rows:
            row.x = 2
        session.commit()

    assert [one["changes"] for one in sent(webhooks, receiver)[2:]] == [{"x": {"from": 0, "to": 2}}] * 2


def test_the_first_flush_after_a_subscription_knows_the_old_values(
    install: Install, webhooks: Webhooks, engine: Engine, receiver: Receiver
) -> None:
    sessions = sessionmaker(engine)
    here = install(sessions, deliver=False)
    with sessions() as session:
        session.add(Stamped(id=1))
        session.commit()
        row = session.get_one(Stamped, 1)
        webhooks.endpoints.delete(webhooks.endpoints.list()[0].id)
        here.endpoints.create(receiver.url(), events=["*"])
        session.expire(row)
        row.x = 2
        session.commit()

    assert sent(here, receiver)[-1]["changes"]["x"] == {"from": 0, "to": 2}


# ------------------------------------------------------------------ keys, there and back


class AwareType(TypeDecorator[datetime]):
    """Stores UTC without saying so."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=None)

    def process_result_value(self, value: Any, _dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


KEYS: dict[str, tuple[Any, Any]] = {
    "an enum of numbers": (EnumType(Level, native_enum=False), Level.HIGH),
    "an interval": (Interval(), timedelta(days=1, microseconds=5)),
    "a number that is written otherwise": (Numeric(10, 2), Decimal(5)),
    "a decorated datetime": (AwareType(), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    "an aware datetime": (DateTime(timezone=True), datetime(2026, 1, 2, tzinfo=UTC)),
    "text for a number": (Integer(), "7"),
}


@pytest.fixture
def keyed() -> Iterator[Any]:
    """Makes a class whose key is of a type."""
    bases: list[type[DeclarativeBase]] = []

    def make(type_: Any) -> Any:
        base: Any = type("Base", (DeclarativeBase,), {})
        bases.append(base)
        return type(
            "Thing",
            (base,),
            {"__tablename__": f"thing_{uuid.uuid4().hex}", "id": mapped_column(type_, primary_key=True)},
        )

    yield make
    for base in bases:
        base.registry.dispose()


@pytest.mark.filterwarnings("ignore:Dialect sqlite.*does .not. support Decimal")
@pytest.mark.parametrize("kind", KEYS)
def test_rows_are_found_for_their_enrichers_by_keys_of_every_kind(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine, keyed: Any, kind: str
) -> None:
    type_, key = KEYS[kind]
    thing = keyed(type_)
    thing.metadata.create_all(engine)
    webhooks.enricher(thing)(lambda _row, payload: payload.update(found=True))
    with sessions.begin() as session:
        session.add(thing(id=key))

    assert sent(webhooks, receiver)[0]["data"].get("found") is True
