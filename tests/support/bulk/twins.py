"""
One operation, carried out twice: by itself, and with us listening.

The caller must not be able to tell; and the events must be the difference of
the tables, as they are read before and after by somebody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Engine, delete, select, text
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.engine import Result, Row, RowMapping
from sqlalchemy.orm import Session, sessionmaker

import sqla_webhooks
from sqla_webhooks import Webhooks, encoding, models
from support.bulk.models import CLASSES, NUMBERED, Base, seed
from support.databases import clear, database_named
from support.local import LOCAL

#: Takes a session; what it returns is compared.
Operation: TypeAlias = Callable[[Any], Any]
#: Resource and key to the values.
Rows: TypeAlias = dict[tuple[str, str], dict[str, Any]]

#: What a result says of itself, beside its rows.
_SAYS = (
    "is_insert",
    "rowcount",
    "lastrowid",
    "returns_rows",
    "inserted_primary_key",
    "inserted_primary_key_rows",
    "returned_defaults",
    "returned_defaults_rows",
)
_TELLS = (
    "keys",
    "last_inserted_params",
    "last_updated_params",
    "prefetch_cols",
    "postfetch_cols",
    "lastrow_has_defaults",
)


_ADDRESS = re.compile(" at 0x[0-9a-f]+")


@dataclass
class Twins:
    """
    Two databases, equal before each check.

    Attributes:
        plain: The engine of the one that nobody listens to.
        heard: Of the one that we listen to.
    """

    name: str
    plain: Engine
    heard: Engine
    webhooks: Webhooks
    sessions: sessionmaker[Session]
    numbers: int = 0

    def check(self, operation: Operation, *, fails: bool = False, **options: Any) -> list[dict[str, Any]]:
        """
        Carry *operation* out on both, compare, and return the events.

        Args:
            fails: Whether it is an error.
            options: Of the sessions.
        """
        self.restart()
        before = rows(self.heard)
        with sessionmaker(self.plain)(**options) as session:
            plain = seen(session, operation)
        with self.sessions(**options) as session:
            heard = seen(session, operation)
        assert heard == plain
        assert _is_error(plain[0]) == fails, plain[0]
        after = rows(self.heard)
        assert after == rows(self.plain)
        events = self.events()
        replay(events, before, after)
        return events

    def restart(self) -> None:
        """The rows of the beginning in both, and no events; new numbers are the same in both."""
        self.numbers += 1000
        for engine in (self.plain, self.heard):
            restart(engine, self.numbers)
        self.forget()

    def events(self) -> list[dict[str, Any]]:
        """Those that there are since the last time."""
        assert self.webhooks.drain().complete
        with self.heard.connect() as connection:
            found = connection.scalars(select(models.event.c.payload).order_by(models.event.c.id)).all()
        self.forget()
        return [json.loads(payload) for payload in found]

    def forget(self) -> None:
        with self.heard.begin() as connection:
            for table in (models.attempt, models.delivery, models.event, models.outbox):
                connection.execute(delete(table))


@contextmanager
def twins_on(name: str, directory: Path, **settings: Any) -> Iterator[Twins]:
    """
    Twins on one of `databases.NAMES`.

    Args:
        settings: Of the installation, beside `capture="all"`.
    """
    for part in ("plain", "heard"):
        (directory / part).mkdir()
    with (
        database_named(name, directory / "plain") as one,
        database_named(name, directory / "heard") as other,
        one.engine() as plain,
        other.engine() as heard,
    ):
        for engine in (plain, heard):
            Base.metadata.create_all(engine)
        sessions = sessionmaker(heard)
        given = {**LOCAL, "capture": "all", "deliver": False, **settings}
        with sqla_webhooks.install(sessions, **given) as webhooks:
            yield Twins(name, plain, heard, webhooks, sessions)


def restart(engine: Engine, start: int = 1000) -> None:
    """The rows of the beginning, and generated numbers from *start*, but on SQLite, which has the next that is free."""
    clear(engine, *Base.metadata.sorted_tables)
    with sessionmaker(engine).begin() as session:
        session.add_all(seed())
        marks = [cls(id=start) for cls in NUMBERED]
        session.add_all(marks)
        session.flush()  # MariaDB counts on from the highest that there ever was
        for mark in marks:
            session.delete(mark)
        if engine.dialect.name == "postgresql":
            for cls in NUMBERED:
                session.execute(text(f"ALTER SEQUENCE {cls.__tablename__}_id_seq RESTART WITH {start + 1}"))


def rows(engine: Engine) -> Rows:
    """Every row, read by an application that does not know us."""
    found: Rows = {}
    with sessionmaker(engine)() as session:
        for cls in CLASSES:
            for one in session.scalars(select(cls)):
                mapper = sa_inspect(type(one))
                data = {prop.key: getattr(one, prop.key) for prop in mapper.column_attrs}
                data = encoding.loads(encoding.dumps(data))
                key = [data[mapper.get_property_by_column(column).key] for column in mapper.primary_key]
                found[mapper.class_.__name__.lower(), _text(key)] = data
    return found


def replay(events: list[dict[str, Any]], before: Rows, after: Rows) -> None:
    """Lead from *before* to *after*: strictly, so that what is invented, lost or said twice fails."""
    rows, told = dict(before), set()
    for event in events:
        place = event["resource"], event["resource_id"]
        assert place not in told, "told of twice"
        told.add(place)
        match event["operation"]:
            case "create":
                assert place not in rows
                rows[place] = event["data"]
            case "update":
                changes = event["changes"]
                mapper = sa_inspect(next(cls for cls in CLASSES if cls.__name__.lower() == event["resource"]))
                names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
                old = _text([changes.get(name, {}).get("from", event["data"][name]) for name in names])
                was = rows.pop((event["resource"], old))
                now = event["data"]
                really = {name: {"from": was[name], "to": now[name]} for name in now if was[name] != now[name]}
                assert really, "an update without a change"
                assert changes == really
                assert place not in rows
                rows[place] = now
            case _:
                assert rows.pop(place) == event["data"]
    assert rows == after


def seen(session: Session, operation: Operation) -> Any:
    """What the caller of an operation sees: of its result, of its error, and of the session afterwards."""
    try:
        result: Any = plain(operation(session))
    except Exception as error:  # noqa: BLE001  # whatever it is: the other one must raise it too
        result = "raised", type(error), message(error, session)
    state = {
        "objects": sorted(map(_object, session.identity_map.values()), key=repr),
        "new": sorted(map(_object, session.new), key=repr),
        "dirty": sorted(map(_object, session.dirty), key=repr),
        "in transaction": session.in_transaction(),
        "active": session.is_active,
    }
    if session.is_active:
        session.commit()
    return result, state


def message(error: Exception, session: Session) -> str:
    """Its text, without the statement, to which we may have added, and without the name of the database."""
    text = str(getattr(error, "orig", error))
    name = session.get_bind().engine.url.database
    return text.replace(name or "", "")


def _is_error(result: Any) -> bool:
    return isinstance(result, tuple) and bool(result) and result[0] == "raised"


def plain(value: Any) -> Any:
    """A value that can be compared, of whatever an operation returns."""
    if isinstance(value, Result):
        return _result(value)
    if isinstance(value, Row | tuple | list):
        return type(value).__name__, [plain(one) for one in value]
    if isinstance(value, dict | RowMapping):
        return {str(key): plain(one) for key, one in value.items()}
    if sa_inspect(type(value), raiseerr=False) is not None:
        return _object(value)
    return value


def _result(result: Result[Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"type": type(result).__name__}
    for name in _SAYS:
        if name == "lastrowid" and not said.get("is_insert", True):
            continue  # SQLite's driver has that of the last INSERT
        said[name] = _or_error(lambda: plain(getattr(result, name)))  # noqa: B023  # called at once
    for name in _TELLS:
        said[name] = _or_error(lambda: _ADDRESS.sub("", str(getattr(result, name)())))  # noqa: B023  # called at once
    if said["returns_rows"] is not False:
        said["rows"] = _or_error(lambda: plain(result.all()))
    said["closed"] = result.closed
    if not said.get("is_insert", True):  # in which order rows are changed nobody promises, nor with which parameters
        del said["last_updated_params"]
        for name in {"rows", "returned_defaults_rows"} & said.keys():
            said[name] = sorted(said[name][1], key=repr) if said[name] else said[name]
        said["returned_defaults"] = said["returned_defaults_rows"] and said["returned_defaults_rows"][0]
    return said


def _or_error(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # whatever it is, it must be the same
        return "raised", type(error), str(error)


def _object(one: Any) -> Any:
    state = sa_inspect(one)
    loaded = {name: plain_value for name, plain_value in state.dict.items() if name != "_sa_instance_state"}
    return type(one).__name__, state.identity, loaded, sorted(state.committed_state), sorted(state.expired_attributes)


def _text(key: list[Any]) -> str:
    return ",".join(part if isinstance(part, str) else json.dumps(part) for part in key)
