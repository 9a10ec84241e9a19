"""
What a flush has changed, out of SQLAlchemy's unit of work.

Twice in a flush, since each moment knows what the other does not. Before it,
old values are still there: the flush forgets those of SQL expressions and of
columns the database computes. After it, new values are there: keys, defaults,
foreign keys. The truth about who was inserted, updated and deleted is in
`UOWTransaction.states`; `session.new`, `dirty` and `deleted` are only what was
asked for, without orphans and with objects that did not change.

Nothing here loads through the ORM, and nothing keeps an object alive: the
notes are forgotten with the flush.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import JSON, Column, Connection
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import InstanceState, LoaderCallableStatus, Session, UOWTransaction

from sqla_webhooks.capture import rows
from sqla_webhooks.events import Change, Operation
from sqla_webhooks.resources import Shape

State: TypeAlias = InstanceState[Any]
#: The shape under which a state is captured; None if it is not.
ShapeOf: TypeAlias = Callable[[State], Shape | None]

#: In place of an old value that is not known.
UNKNOWN = LoaderCallableStatus.NO_VALUE


@dataclass(frozen=True, slots=True)
class Note:
    """What was known of one persistent object before the flush."""

    #: Attribute to old value, or UNKNOWN: those set, and those that may change by themselves.
    previous: dict[str, Any]
    #: Values that the object did not have and the row did.
    loaded: dict[str, Any] = field(default_factory=dict)


Notes: TypeAlias = Mapping[State, Note]


@dataclass(frozen=True, slots=True)
class Found:
    """One change, and the shape of its row."""

    shape: Shape
    change: Change


# --------------------------------------------------------------------------- before the flush


def note(
    session: Session, shape_of: ShapeOf, *, may_read: Callable[[Shape], bool], lock: Callable[[Connection], None]
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
    incomplete: dict[State, Shape] = {}
    going = {sa_inspect(instance) for instance in session.deleted}
    for state in [*going, *(sa_inspect(instance) for instance in session.dirty)]:
        shape = shape_of(state)
        if shape is None or state.key is None:
            continue
        # An orphan is deleted by the flush though nobody asked the session to.
        gone = state in going or state.mapper._is_orphan(state)  # noqa: SLF001  # what Session._flush asks
        previous = _previous(state, shape)
        if not gone and not (previous and _is_set(state, shape)):
            continue
        notes[state] = Note(previous)
        if may_read(shape) and _lacks(state, shape, previous, gone=gone):
            incomplete[state] = shape
    _complete(session, notes, incomplete=incomplete, lock=lock)
    return notes


def _previous(state: State, shape: Shape) -> dict[str, Any]:
    current = state.dict
    previous = {key: current.get(key, UNKNOWN) for key in shape.volatile}
    previous.update((key, old) for key, old in state.committed_state.items() if key in shape.columns)
    for name in state.committed_state.keys() & shape.foreign.keys():  # the flush will set their foreign keys
        for key in shape.foreign[name]:
            previous.setdefault(key, current.get(key, UNKNOWN))
    return previous


def _is_set(state: State, shape: Shape) -> bool:
    """
    Whether something was set, and not to the value it had: only then may the flush write the row.

    A row that is not written does not change by itself either, and must not be
    read: on SQLite that would wait for a lock that nobody has asked for.
    """
    current = state.dict
    return any(
        not _same(shape.columns[key], old, current.get(key, UNKNOWN))
        if key in shape.columns
        else key in state.mapper.columns or (key in shape.foreign and old is not current.get(key, UNKNOWN))
        for key, old in state.committed_state.items()
    )


def _lacks(state: State, shape: Shape, previous: Mapping[str, Any], *, gone: bool) -> bool:
    """Whether the row must be read to know what it was."""
    if any(map(_unknown, previous.values())):
        return True
    return gone and not shape.columns.keys() <= state.dict.keys()


def _complete(
    session: Session,
    notes: Mapping[State, Note],
    *,
    incomplete: Mapping[State, Shape],
    lock: Callable[[Connection], None],
) -> None:
    by_shape = _by_shape(incomplete)
    for connection in {session.connection(bind_arguments={"mapper": shape.mapper}) for shape in by_shape}:
        lock(connection)
    for shape, states in by_shape.items():
        of_identity = {_identity(state): state for state in states}
        for state, values in rows.read(session, shape, wanted=of_identity):
            previous, loaded, current = notes[state].previous, notes[state].loaded, state.dict
            unknown = [key for key, old in previous.items() if _unknown(old) and key in values]
            previous.update((key, values[key]) for key in unknown)
            loaded.update((key, value) for key, value in values.items() if key not in current)


# --------------------------------------------------------------------------- after the flush


def changes(session: Session, flush_context: UOWTransaction, shape_of: ShapeOf, notes: Notes) -> list[Found]:
    """
    What the flush has changed: updates of keys, creates in the order of their adding, other updates, deletes.

    Keys first, as SQLAlchemy does it: a key that is given up may be given to a
    new row in the same flush.

    In the application's thread, in `after_flush`: the SQL is done, the objects
    are not yet refreshed. Reads what the database has put into rows by itself,
    one query for each class.
    """
    created: list[tuple[State, Shape]] = []
    updated: list[tuple[State, Shape]] = []
    deleted: list[tuple[State, Shape]] = []
    replaced: dict[Any, State] = {}
    # Its key is no sign of a new object: eager defaults set it within the flush.
    new = {sa_inspect(instance) for instance in session.new}
    for state, (is_delete, list_only) in flush_context.states.items():
        if list_only and is_delete:
            replaced[state.key] = state  # its row may live on under a new object
        if list_only or (shape := shape_of(state)) is None:
            continue
        (deleted if is_delete else created if state in new else updated).append((state, shape))
    created.sort(key=lambda one: one[0].insert_order or 0)
    deleted += _replaced_by_another_class(created, replaced, shape_of)
    drafts = [*_drafts_of_created(created, replaced, notes), *_drafts_of_updated(sorted(updated, key=_by_key), notes)]
    drafts.sort(key=lambda draft: draft.moved_from is None)
    _fill(session, drafts)
    saved = (_found(draft) for draft in drafts)
    gone = (_deleted(state, shape, notes.get(state)) for state, shape in sorted(deleted, key=_by_key))
    return [one for one in (*saved, *gone) if one is not None]


def _replaced_by_another_class(
    created: Iterable[tuple[State, Shape]], replaced: Mapping[Any, State], shape_of: ShapeOf
) -> Iterable[tuple[State, Shape]]:
    """A dog deleted and a cat added under its key: one row to SQLAlchemy, two to everybody else."""
    if not replaced:
        return
    for state, _ in created:
        before = replaced.get(state.mapper.identity_key_from_instance(state.obj()))
        if before is not None and before.mapper is not state.mapper and (shape := shape_of(before)) is not None:
            yield before, shape


@dataclass(frozen=True, slots=True)
class _Draft:
    """A created or updated row, until what is missing of it is read."""

    shape: Shape
    operation: Operation
    data: dict[str, Any]
    missing: frozenset[str]
    previous: dict[str, Any]
    moved_from: tuple[Any, ...] | None = None


def _drafts_of_created(
    created: Iterable[tuple[State, Shape]], replaced: Mapping[Any, State], notes: Notes
) -> Iterable[_Draft]:
    for state, shape in created:
        current = state.dict
        before = replaced.get(state.mapper.identity_key_from_instance(state.obj())) if replaced else None
        # What nobody set is NULL, unless the database is to say; or unless another row stands there.
        unset = shape.columns.keys() - current.keys() - state.expired_attributes if before is None else ()
        data = {key: current.get(key) for key in shape.columns if key in current or key in unset}
        missing = frozenset(shape.columns.keys() - data.keys())
        if before is not None and before.mapper is state.mapper:
            # Deleted and added again under one key: SQLAlchemy made it an UPDATE ("row switch").
            yield _Draft(shape, Operation.UPDATE, data, missing, _as_it_was(before, shape, notes.get(before)))
        else:
            yield _Draft(shape, Operation.CREATE, data, missing, {})


def _drafts_of_updated(updated: Iterable[tuple[State, Shape]], notes: Notes) -> Iterable[_Draft]:
    for state, shape in updated:
        current, known = state.dict, notes.get(state)
        previous = {key: old for key, old in state.committed_state.items() if key in shape.columns}
        if known is None:
            if not previous:
                continue
            # Found by the flush itself: nobody knows what its volatile columns were.
            previous.update(dict.fromkeys(shape.volatile - previous.keys(), UNKNOWN))
        else:
            previous.update(known.previous)
            # Set during the flush, by a listener, on an object whose row was read before it.
            late = [key for key, old in previous.items() if _unknown(old) and key in known.loaded]
            previous.update((key, known.loaded[key]) for key in late)
        if not previous:
            continue
        values = current
        if known is not None and known.loaded:
            untouched = known.loaded.keys() - previous.keys()
            values = {**{key: known.loaded[key] for key in untouched}, **current}
        data = {key: values[key] for key in shape.columns if key in values}
        missing = shape.columns.keys() - data.keys()
        if missing and not _may_be_written(previous, data, shape):
            continue  # nothing was set, so nothing was written: not worth a query
        old = _identity(state)
        moved = any(data.get(key) != part for key, part in zip(shape.key, old, strict=True))
        yield _Draft(shape, Operation.UPDATE, data, frozenset(missing), previous, old if moved else None)


def _may_be_written(previous: Mapping[str, Any], data: Mapping[str, Any], shape: Shape) -> bool:
    """Whether anything may have been written: a value differs, or cannot be compared yet."""
    return any(
        not _same(shape.columns[key], old, data[key]) if key in data else key not in shape.volatile or not _unknown(old)
        for key, old in previous.items()
    )


def _fill(session: Session, drafts: Iterable[_Draft]) -> None:
    """Read what the database has put into rows by itself."""
    waiting: dict[Shape, dict[tuple[Any, ...], _Draft]] = {}
    for draft in drafts:
        if draft.missing:
            key = tuple(draft.data.get(name) for name in draft.shape.key)
            waiting.setdefault(draft.shape, {})[key] = draft
    for shape, of_identity in waiting.items():
        for draft, values in rows.read(session, shape, wanted=of_identity):
            draft.data.update((key, values[key]) for key in draft.missing if key in values)


def _found(draft: _Draft) -> Found | None:
    """The change of a created or updated row; None if no value is another than before."""
    shape = draft.shape
    # What was read came last; attributes are sent in the order of their class.
    data = draft.data if not draft.missing else {key: draft.data[key] for key in shape.columns if key in draft.data}
    data = _with_plain_null(shape, data)
    identity = tuple(data.get(key) for key in shape.key)
    if draft.operation is Operation.CREATE:
        return Found(shape, Change(shape.resource, Operation.CREATE, identity, data, table=shape.table))
    known = {key: old for key, old in draft.previous.items() if not _unknown(old) and key in data}
    changed = [key for key, old in known.items() if not _same(shape.columns[key], old, data[key])]
    unknown = [key for key, old in draft.previous.items() if _unknown(old) and key in data]
    if not changed and all(key in shape.volatile for key in unknown):
        return None
    return Found(
        shape,
        Change(
            resource=shape.resource,
            table=shape.table,
            operation=Operation.UPDATE,
            identity=identity,
            data=data,
            previous=_with_plain_null(shape, {key: known[key] for key in changed}),
            changed=(*changed, *unknown),
            moved_from=draft.moved_from,
        ),
    )


def _deleted(state: State, shape: Shape, known: Note | None) -> Found:
    data = _as_it_was(state, shape, known)
    return Found(shape, Change(shape.resource, Operation.DELETE, _identity(state), data, table=shape.table))


# --------------------------------------------------------------------------- both


def _as_it_was(state: State, shape: Shape, known: Note | None) -> dict[str, Any]:
    """A row before the flush, whatever was set on its object since."""
    values = {**(known.loaded if known else {}), **state.dict, **state.committed_state}
    if known is not None:
        values.update(known.previous)
    before = {key: values[key] for key in shape.columns if key in values and not _unknown(values[key])}
    return _with_plain_null(shape, before)


def _with_plain_null(shape: Shape, values: dict[str, Any]) -> dict[str, Any]:
    """*values* with `JSON.NULL` as None: it is a kind of int, and would be encoded as a number."""
    values.update(dict.fromkeys([key for key in shape.json if values.get(key) is JSON.NULL]))
    return values


def _identity(state: State) -> tuple[Any, ...]:
    """The primary key under which the session knows a persistent object."""
    return tuple(state.key[1]) if state.key is not None else ()


def _by_key(one: tuple[State, Shape]) -> tuple[str, str, tuple[Any, ...]]:
    """The order of the flush itself, which has sorted the same keys."""
    state, shape = one
    functions = (column.type.sort_key_function for column in shape.key_columns)
    parts = zip(functions, _identity(state), strict=True)
    return shape.resource, shape.table, tuple(part if function is None else function(part) for function, part in parts)


def _by_shape(states: Mapping[State, Shape]) -> dict[Shape, list[State]]:
    grouped: dict[Shape, list[State]] = {}
    for state, shape in states.items():
        grouped.setdefault(shape, []).append(state)
    return grouped


def _unknown(value: Any) -> bool:
    return isinstance(value, LoaderCallableStatus)


def _same(column: Column[Any], old: Any, new: Any) -> bool:
    """Whether the column's type calls two values equal; one that cannot say so calls them different."""
    if _unknown(old):
        return False
    try:
        return bool(column.type.compare_values(old, new))
    except Exception:  # noqa: BLE001  # a value's own __eq__: an array has no truth, a stranger's may raise anything
        return False
