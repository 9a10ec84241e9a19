"""The same code on two equal databases, with an installation and without: what an application can see of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import MetaData, event, inspect
from sqlalchemy.orm import Session, sessionmaker

from support.databases import database_named

#: Says what the application has seen.
Note: TypeAlias = Callable[..., None]
#: Code of an application.
Workload: TypeAlias = Callable[[Session, Note], None]

_ENGINE_EVENTS = ("begin", "commit", "rollback", "savepoint", "rollback_savepoint", "release_savepoint")


@dataclass
class Observed:
    """
    One run of a workload.

    Attributes:
        statements: What reached the database, but for statements on our tables, with begins, savepoints and ends.
        ours: How many statements there were on our tables.
        flushes: How often the session has flushed.
        notes: What the workload itself has noted.
    """

    statements: list[Any] = field(default_factory=list)
    ours: int = 0
    flushes: int = 0
    notes: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """Two equal applications; one is heard."""

    plain: sessionmaker[Session]
    heard: sessionmaker[Session]

    def run(self, workload: Workload) -> tuple[Observed, Observed]:
        """The workload, in a new session of each."""
        return observe(self.plain, workload), observe(self.heard, workload)

    def same(self, workload: Workload) -> None:
        """Run the workload in both: the application sees no difference at all."""
        plain, heard = self.run(workload)
        assert heard.statements == plain.statements
        assert heard.notes == plain.notes
        assert heard.flushes == plain.flushes
        assert plain.ours == 0

    def extra(self, workload: Workload) -> list[str]:
        """The same, but for statements that only the heard one makes: those."""
        plain, heard = self.run(workload)
        assert heard.notes == plain.notes
        assert heard.flushes == plain.flushes
        return added(plain.statements, heard.statements)


def added(few: list[Any], many: list[Any]) -> list[str]:
    """The SQL in *many* beyond *few*, all of which must be there, in its order."""
    rest, more = list(few), []
    for one in many:
        if rest and one == rest[0]:
            del rest[0]
        else:
            more.append(one[0])
    assert not rest, f"missing: {rest}"
    return more


def observe(sessions: sessionmaker[Session], workload: Workload) -> Observed:
    observed = Observed()
    engine = sessions.kw["bind"]
    listeners = _listeners(observed)
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        with sessions() as session:

            def flushed(*_: object) -> None:
                observed.flushes += 1

            event.listen(session, "before_flush", flushed)
            workload(session, lambda *what: observed.notes.append(without_addresses(what)))
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)
    return observed


def _listeners(observed: Observed) -> dict[str, Callable[..., None]]:
    def execute(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if "webhook_" in statement:
            observed.ours += 1
        else:
            observed.statements.append((statement, without_addresses(parameters)))

    def marking(name: str) -> Callable[..., None]:
        def mark(*_: object) -> None:
            observed.statements.append((name, ""))

        return mark

    return {"before_cursor_execute": execute, **{name: _arity(name, marking(name)) for name in _ENGINE_EVENTS}}


def _arity(name: str, mark: Callable[..., None]) -> Callable[..., None]:
    """SQLAlchemy looks at the arguments of its listeners."""
    if name in ("begin", "commit", "rollback"):
        return lambda _connection: mark()
    if name == "savepoint":
        return lambda _connection, _name: mark()
    return lambda _connection, _name, _context: mark()


def without_addresses(what: Any) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", repr(what))


def picture(session: Session) -> dict[str, Any]:
    """All that a session shows of itself, and of its objects, without loading anything."""
    rows = sorted(session.identity_map.values(), key=repr_of_key)
    return {
        "rows": [_picture_of(row) for row in rows],
        **{name: sorted(map(repr_of_key, getattr(session, name))) for name in ("new", "dirty", "deleted")},
        "in": (session.in_transaction(), session.in_nested_transaction(), session.is_active),
        "info": {key: value for key, value in session.info.items() if not key.startswith("sqla_webhooks.")},
    }


def _picture_of(row: object) -> dict[str, Any]:
    state = inspect(row)
    assert state is not None
    return {
        "key": repr_of_key(row),
        "values": {name: repr_of(value) for name, value in sorted(state.dict.items()) if name[0] != "_"},
        "committed": sorted(state.committed_state),
        "expired": sorted(state.expired_attributes),
        "unloaded": sorted(state.unloaded),
        "modified": state.modified,
    }


def repr_of(value: Any) -> str:
    if isinstance(value, list):
        return repr([repr_of(one) for one in value])
    return repr_of_key(value) if inspect(value, raiseerr=False) is not None else repr(value)


def repr_of_key(row: object) -> str:
    state: Any = inspect(row)
    return f"{type(row).__name__} {state.key[1] if state.key else 'without a key'}"


def failing(note: Note, do: Callable[[], object]) -> None:
    """Note with what *do* fails."""
    try:
        do()
    except Exception as error:  # noqa: BLE001  # which it is, is the question
        note(type(error).__name__, str(error), type(error.__cause__).__name__)
    else:
        note("nothing was raised")


@contextmanager
def pair_at(directory: Path, metadata: MetaData) -> Iterator[Pair]:
    """Two SQLite files with equal tables, neither of which is heard yet."""
    with ExitStack() as stack:
        engines = []
        for name in ("plain", "heard"):
            (directory / name).mkdir()
            database = stack.enter_context(database_named("sqlite", directory / name))
            engines.append(stack.enter_context(database.engine()))
            metadata.create_all(engines[-1])
        yield Pair(*map(sessionmaker, engines))
