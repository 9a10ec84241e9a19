"""
What a flush will forget, noted before it.

Old values of SQL expressions, of attributes set while they were expired, and
of columns that change by themselves; and what the objects that it deletes do
not know of their rows. Nothing here loads through the ORM, and nothing keeps
an object alive: the notes are forgotten with the flush.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import LoaderCallableStatus, Session

from sqla_webhooks.capture import binds, rows
from sqla_webhooks.capture.plan import PLAIN, UNKNOWN, Plan, State, identity, is_sql, is_unknown
from sqla_webhooks.resources import Shape

#: How a state is captured; None if it is not.
PlanOf: TypeAlias = Callable[[State], Plan | None]


@dataclass(slots=True)
class Note:
    """What was known of one persistent object before the flush."""

    #: Attribute to old value, or UNKNOWN: those set, and those that may change by themselves.
    previous: dict[str, Any]
    #: Values that the object did not have and the row did, or of which the object's were outdated.
    loaded: dict[str, Any] = field(default_factory=dict)
    #: Whether the object knows it all, before the flush and after.
    quick: bool = False


Notes: TypeAlias = Mapping[State, Note]


def note(
    session: Session, plan_of: PlanOf, *, may_read: Callable[[Shape], bool], lock: Callable[[Connection], None]
) -> Notes:
    """
    Note what the flush will forget.

    In the application's thread, before the first statement of its flush. Reads the rows whose old
    values the objects do not have (an attribute set after a commit has expired
    it; a row deleted with a deferred column), one query for each class.

    Args:
        may_read: Whether such a query is worth it for a shape.
        lock: Called once with each connection on which there will be one, before it.
    """
    notes: dict[State, Note] = {}
    incomplete: dict[State, Plan] = {}
    for state, plan, gone in _forgetful(session, plan_of):
        previous = _previous(state, plan.shape)
        if not gone and not _may_forget(state, plan):
            notes[state] = Note(previous, quick=True)
        elif gone or (previous and _is_set(state, plan)):
            notes[state] = Note(previous)
            if may_read(plan.shape) and _lacks(state, plan, previous, gone=gone):
                incomplete[state] = plan
    if incomplete:
        _complete(session, notes, incomplete=incomplete, lock=lock)
    return notes


def _forgetful(session: Session, plan_of: PlanOf) -> Iterator[tuple[State, Plan, bool]]:
    """The states of which something may be forgotten, and whether they will be deleted."""
    # What `session.deleted` and `session.dirty` are made of, at half of what a flush of many would pay for it.
    deleted, dirty = session._deleted, session._dirty_states  # noqa: SLF001
    for state in list(deleted):
        plan = plan_of(state)
        if plan is not None and state.key is not None and (state.committed_state or plan.whole(state.dict) is None):
            yield state, plan, True
    for state in list(dirty):
        plan = plan_of(state)
        if plan is not None and state.key is not None and state not in deleted:
            if plan.orphans and plan.is_orphan(state):
                yield state, plan, True
            elif plan.shape.volatile or _may_forget(state, plan):
                yield state, plan, False


def _may_forget(state: State, plan: Plan) -> bool:
    """Whether the flush may forget what a changed object knows. Quick, since most know all, and forget nothing."""
    current, shape = state.dict, plan.shape
    if shape.volatile and not shape.volatile <= current.keys():
        return True
    for key, old in state.committed_state.items():
        if key in plan.same:
            new = current.get(key)
            if type(old) is LoaderCallableStatus or (type(new) not in PLAIN and is_sql(new)):
                return True
        elif key in shape.foreign and not all(name in current for name in shape.foreign[key]):
            return True
    return False


def _previous(state: State, shape: Shape) -> dict[str, Any]:
    current = state.dict
    previous = {key: current.get(key, UNKNOWN) for key in shape.volatile}
    previous.update((key, old) for key, old in state.committed_state.items() if key in shape.columns)
    for name in state.committed_state.keys() & shape.foreign.keys():  # the flush will set their foreign keys
        for key in shape.foreign[name]:
            previous.setdefault(key, current.get(key, UNKNOWN))
    return previous


def _is_set(state: State, plan: Plan) -> bool:
    """
    Whether something was set, and not to the value it had: only then may the flush write the row.

    A row that is not written does not change by itself either, and must not be
    read: on SQLite that would wait for a lock that nobody has asked for.
    """
    current, shape = state.dict, plan.shape
    return any(
        not plan.is_same(key, old, current.get(key, UNKNOWN))
        if key in shape.columns
        else key in state.mapper.columns or (key in shape.foreign and old is not current.get(key, UNKNOWN))
        for key, old in state.committed_state.items()
    )


def _lacks(state: State, plan: Plan, previous: Mapping[str, Any], *, gone: bool) -> bool:
    """Whether the row must be read to know what it was."""
    return any(map(is_unknown, previous.values())) or (gone and plan.whole(state.dict) is None)


def _complete(
    session: Session,
    notes: Mapping[State, Note],
    *,
    incomplete: Mapping[State, Plan],
    lock: Callable[[Connection], None],
) -> None:
    by_shape: dict[Shape, list[State]] = {}
    for state, plan in incomplete.items():
        by_shape.setdefault(plan.shape, []).append(state)
    for connection in {session.connection(bind_arguments=binds.writing(session, shape.mapper)) for shape in by_shape}:
        lock(connection)
    for shape, states in by_shape.items():
        of_identity = {identity(state): state for state in states}
        for state, values in rows.read(session, shape, wanted=of_identity):
            previous, loaded, current = notes[state].previous, notes[state].loaded, state.dict
            held = {key: value for key, value in current.items() if key in shape.columns and key not in previous}
            outdated = incomplete[state].outdated(held, values)
            # Of one version of the row: it may have come to another tenant since its object was loaded.
            unknown = [key for key, old in previous.items() if (outdated or is_unknown(old)) and key in values]
            previous.update((key, values[key]) for key in unknown)
            loaded.update((key, value) for key, value in values.items() if key not in current or key in outdated)
