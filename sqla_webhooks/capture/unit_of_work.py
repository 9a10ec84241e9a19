"""
What a flush has changed, out of SQLAlchemy's unit of work.

After the flush new values are there: keys, defaults, foreign keys; what it
has forgotten is in the notes. The truth about who was inserted, updated and
deleted is in `UOWTransaction.states`; `session.new`, `dirty` and `deleted` are
only what was asked for, without orphans and with objects that did not change.

Most objects know all of their rows, and are written down at once, with little
more than what SQLAlchemy itself spends on them. The others become drafts, to
be completed by one query for each class. Nothing here loads through the ORM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import JSON
from sqlalchemy.orm import LoaderCallableStatus, Mapper, Session, UOWTransaction
from sqlalchemy.orm.attributes import instance_state

from sqla_webhooks.capture import rows
from sqla_webhooks.capture.notes import Note, Notes, PlanOf
from sqla_webhooks.capture.plan import UNKNOWN, Plan, State, identity, is_unknown, with_plain_null
from sqla_webhooks.events import Change, Operation
from sqla_webhooks.outbox import sheet
from sqla_webhooks.resources import Shape

#: Changes, written down, and the shape of their rows.
Found: TypeAlias = tuple[Shape, sheet.Run]


def changes(session: Session, flush_context: UOWTransaction, plan_of: PlanOf, notes: Notes) -> list[Found]:
    """
    What the flush has changed: updates of keys, creates in the order of their adding, other updates, deletes.

    Keys first, as SQLAlchemy does it: a key that is given up may be given to a
    new row in the same flush.

    In the application's thread, in `after_flush`: the SQL is done, the objects
    are not yet refreshed. Reads what the database has put into rows by itself,
    one query for each class.
    """
    states = _states(session, flush_context)
    runs = _Runs()
    _write_created(runs, states, plan_of, notes)
    _write_updated(runs, _by_key(states.updated, plan_of), notes)
    if runs.drafts:
        runs = _completed(session, runs)
    _write_deleted(runs, _by_key([*states.deleted, *_replaced_by_another_class(states)], plan_of), notes)
    return runs.found


class _Runs:
    """What has been written down so far, and what is still to be."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        #: How many runs there were before each draft.
        self.drafts: list[tuple[int, _Draft]] = []
        self._last: sheet.Layout | None = None
        self._run: list[sheet.Packed] = []

    def put(self, shape: Shape, layout: sheet.Layout, packed: sheet.Packed) -> None:
        """Write a change down."""
        if layout is not self._last:
            self._last, self._run = layout, []
            self.found.append((shape, (layout, self._run)))
        self._run.append(packed)

    def put_change(self, shape: Shape, change: Change) -> None:
        self._last = None
        self.found.append((shape, sheet.run_of(change)))

    def put_draft(self, draft: _Draft) -> None:
        self._last = None
        self.drafts.append((len(self.found), draft))


def _completed(session: Session, runs: _Runs) -> _Runs:
    """*runs* with the drafts in their places, those of moved keys first."""
    drafts = [draft for _, draft in runs.drafts]
    _fill(session, drafts)
    completed = _Runs()
    for draft in _moves(drafts):
        _put_draft(completed, draft)
    done = 0
    for before, draft in runs.drafts:
        completed.found += runs.found[done:before]
        done = before
        if draft.moved_from is None:
            _put_draft(completed, draft)
    completed.found += runs.found[done:]
    return completed


def _put_draft(runs: _Runs, draft: _Draft) -> None:
    change = _change(draft)
    if change is not None:
        runs.put_change(draft.plan.shape, change)


# --------------------------------------------------------------------------- who


@dataclass(frozen=True, slots=True)
class _States:
    created: list[State]
    updated: list[State]
    deleted: list[State]
    #: By identity key: objects whose rows may live on under new ones.
    replaced: Mapping[Any, State]


def _states(session: Session, flush_context: UOWTransaction) -> _States:
    states = _States([], [], [], replaced := {})
    # A key is no sign that an object was there before: eager defaults set it within the flush.
    keyed = {state for state in map(instance_state, session.new) if state.key is not None}
    for state, (is_delete, list_only) in flush_context.states.items():
        if list_only:
            if is_delete:
                replaced[state.key] = state
        elif is_delete:
            states.deleted.append(state)
        elif state.key is None or state in keyed:
            states.created.append(state)
        else:
            states.updated.append(state)
    states.created.sort(key=lambda state: state.insert_order or 0)
    return states


def _replaced_by_another_class(states: _States) -> Iterable[State]:
    """A dog deleted and a cat added under its key: one row to SQLAlchemy, two to everybody else."""
    for state in states.created if states.replaced else ():
        before = states.replaced.get(state.mapper.identity_key_from_instance(state.obj()))
        if before is not None and before.mapper is not state.mapper:
            yield before


def _by_key(states: Iterable[State], plan_of: PlanOf) -> Iterator[tuple[Plan, list[State]]]:
    """In the order of the flush itself, which has sorted the same keys: by class, then by key."""
    by_mapper: dict[Mapper[Any], list[State]] = {}
    for state in states:
        by_mapper.setdefault(state.mapper, []).append(state)
    planned = [(plan, some) for some in by_mapper.values() if (plan := plan_of(some[0])) is not None]
    planned.sort(key=lambda one: (one[0].layout.resource, one[0].layout.table))
    for plan, some in planned:
        some.sort(key=_key_order(plan))
        yield plan, some


def _key_order(plan: Plan) -> Callable[[State], Any]:
    functions = [column.type.sort_key_function for column in plan.shape.key_columns]
    if not any(functions):
        return attrgetter("key")  # of one class all, so that the identities decide

    def order(state: State) -> tuple[Any, ...]:
        parts = zip(functions, identity(state), strict=True)
        return tuple(part if function is None else function(part) for function, part in parts)

    return order


# --------------------------------------------------------------------------- objects that know all of their rows


def _write_created(runs: _Runs, states: _States, plan_of: PlanOf, notes: Notes) -> None:
    replaced = states.replaced
    for state in states.created:
        plan = plan_of(state)
        if plan is None:
            continue
        before = replaced.get(state.mapper.identity_key_from_instance(state.obj())) if replaced else None
        if before is None and not state.expired_attributes:
            # What nobody set, and the database was not to say, is NULL.
            _put(runs, plan, [sheet.CREATED], tuple(map(state.dict.get, plan.layout.attributes)))
        else:
            runs.put_draft(_draft_of_created(state, plan, before, notes))


def _write_updated(runs: _Runs, planned: Iterable[tuple[Plan, list[State]]], notes: Notes) -> None:
    for plan, states in planned:
        for state in states:
            note = notes.get(state)
            if (previous := _differences(state, plan, note)) is None:
                if (draft := _draft_of_updated(state, plan, note)) is not None:
                    runs.put_draft(draft)
            elif previous:
                if plan.shape.json:
                    previous = with_plain_null(plan.shape, previous)
                _put(runs, plan, [sheet.UPDATED, previous], plan.values(state.dict))


def _differences(state: State, plan: Plan, note: Note | None) -> dict[str, Any] | None:
    """What has changed, to the old values; None if the object does not know, or if its key has changed."""
    before: Mapping[str, Any] = state.committed_state
    if note is not None:
        if not note.quick:
            return None
        before = {**before, **note.previous}
    elif plan.shape.volatile:
        return None
    current, previous = state.dict, {}
    try:
        plan.values(current)
        for key, old in before.items():
            if (same := plan.same.get(key)) is not None:
                if type(old) is LoaderCallableStatus:
                    return None
                if not same(old, current[key]):
                    previous[key] = old
    except Exception:  # noqa: BLE001  # a value is missing, or a stranger's __eq__ fails: an array has no truth
        return None
    return previous if previous.keys().isdisjoint(plan.shape.key) else None


def _write_deleted(runs: _Runs, planned: Iterable[tuple[Plan, list[State]]], notes: Notes) -> None:
    for plan, states in planned:
        shape = plan.shape
        for state in states:
            if not state.committed_state and state not in notes and plan.is_whole(state.dict):
                _put(runs, plan, [sheet.DELETED], plan.values(state.dict))
            else:
                data = _as_it_was(state, shape, notes.get(state))
                change = Change(shape.resource, Operation.DELETE, identity(state), data, table=shape.table)
                runs.put_change(shape, change)


def _put(runs: _Runs, plan: Plan, packed: sheet.Packed, values: tuple[Any, ...]) -> None:
    """Write a change down: its letter and old values, and the values that the object has."""
    if plan.shape.json:
        values = tuple(None if value is JSON.NULL else value for value in values)
    if not plan.has_plain_key(values):
        packed[0] = packed[0].upper()
        packed.insert(1, {"identity": sheet.parts([values[place] for place in plan.key_places])})
    packed += values
    runs.put(plan.shape, plan.layout, packed)


# --------------------------------------------------------------------------- objects that do not


@dataclass(frozen=True, slots=True)
class _Draft:
    """A created or updated row, until what is missing of it is read."""

    plan: Plan
    operation: Operation
    data: dict[str, Any]
    missing: frozenset[str]
    previous: dict[str, Any]
    moved_from: tuple[Any, ...] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(self.data.get(name) for name in self.plan.shape.key)


def _draft_of_created(state: State, plan: Plan, before: State | None, notes: Notes) -> _Draft:
    current, shape = state.dict, plan.shape
    # What nobody set is NULL, unless the database is to say; or unless another row stands there.
    unset = shape.columns.keys() - current.keys() - state.expired_attributes if before is None else ()
    data = {key: current.get(key) for key in shape.columns if key in current or key in unset}
    missing = frozenset(shape.columns.keys() - data.keys())
    if before is not None and before.mapper is state.mapper:
        # Deleted and added again under one key: SQLAlchemy made it an UPDATE ("row switch").
        return _Draft(plan, Operation.UPDATE, data, missing, _as_it_was(before, shape, notes.get(before)))
    return _Draft(plan, Operation.CREATE, data, missing, {})


def _draft_of_updated(state: State, plan: Plan, note: Note | None) -> _Draft | None:
    """None if nothing was set."""
    current, shape = state.dict, plan.shape
    previous = {key: old for key, old in state.committed_state.items() if key in shape.columns}
    if note is None:
        if not previous:
            return None
        # Found by the flush itself: nobody knows what its volatile columns were.
        previous.update(dict.fromkeys(shape.volatile - previous.keys(), UNKNOWN))
    else:
        previous.update(note.previous)
        # Set during the flush, by a listener, on an object whose row was read before it.
        late = [key for key, old in previous.items() if is_unknown(old) and key in note.loaded]
        previous.update((key, note.loaded[key]) for key in late)
    if not previous:
        return None
    values = current
    if note is not None and note.loaded:
        untouched = note.loaded.keys() - previous.keys()
        values = {**{key: note.loaded[key] for key in untouched}, **current}
    data = {key: values[key] for key in shape.columns if key in values}
    missing = shape.columns.keys() - data.keys()
    if missing and not _may_be_written(previous, data, plan):
        return None  # nothing was set, so nothing was written: not worth a query
    old = identity(state)
    moved = any(data.get(key) != part for key, part in zip(shape.key, old, strict=True))
    return _Draft(plan, Operation.UPDATE, data, frozenset(missing), previous, old if moved else None)


def _may_be_written(previous: Mapping[str, Any], data: Mapping[str, Any], plan: Plan) -> bool:
    """Whether anything may have been written: a value differs, or cannot be compared yet."""
    return any(
        not plan.is_same(key, old, data[key]) if key in data else key not in plan.shape.volatile or not is_unknown(old)
        for key, old in previous.items()
    )


def _fill(session: Session, drafts: Iterable[_Draft]) -> None:
    """Read what the database has put into rows by itself."""
    waiting: dict[Shape, dict[tuple[Any, ...], _Draft]] = {}
    for draft in drafts:
        if draft.missing:
            waiting.setdefault(draft.plan.shape, {})[draft.key] = draft
    for shape, of_identity in waiting.items():
        for draft, values in rows.read(session, shape, wanted=of_identity):
            draft.data.update((key, values[key]) for key in draft.missing if key in values)


def _moves(drafts: Iterable[_Draft]) -> Sequence[_Draft]:
    """Updates of keys, each after the one that gave its key up."""
    moves = {(one.plan.shape, one.moved_from): one for one in drafts if one.moved_from is not None}
    ordered: list[_Draft] = []
    while moves:
        chain = [moves.pop(next(iter(moves)))]
        while (giver := moves.pop((chain[-1].plan.shape, chain[-1].key), None)) is not None:
            chain.append(giver)
        ordered += reversed(chain)
    return ordered


def _change(draft: _Draft) -> Change | None:
    """The change of a created or updated row; None if no value is another than before."""
    shape = draft.plan.shape
    # What was read came last; attributes are sent in the order of their class.
    data = draft.data if not draft.missing else {key: draft.data[key] for key in shape.columns if key in draft.data}
    data = with_plain_null(shape, data)
    now = tuple(data.get(key) for key in shape.key)
    if draft.operation is Operation.CREATE:
        return Change(shape.resource, Operation.CREATE, now, data, table=shape.table)
    known = {key: old for key, old in draft.previous.items() if not is_unknown(old) and key in data}
    changed = [key for key, old in known.items() if not draft.plan.is_same(key, old, data[key])]
    unknown = [key for key, old in draft.previous.items() if is_unknown(old) and key in data]
    if not changed and all(key in shape.volatile for key in unknown):
        return None
    return Change(
        resource=shape.resource,
        table=shape.table,
        operation=Operation.UPDATE,
        identity=now,
        data=data,
        previous=with_plain_null(shape, {key: known[key] for key in changed}),
        changed=(*changed, *unknown),
        moved_from=draft.moved_from,
    )


def _as_it_was(state: State, shape: Shape, note: Note | None) -> dict[str, Any]:
    """A row before the flush, whatever was set on its object since."""
    values = {**(note.loaded if note else {}), **state.dict, **state.committed_state}
    if note is not None:
        values.update(note.previous)
    before = {key: values[key] for key in shape.columns if key in values and not is_unknown(values[key])}
    return with_plain_null(shape, before)
