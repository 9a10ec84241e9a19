"""
Rows that an object does not know whole after the flush: drafts, until what is missing is read.

The database has filled in a value, or the object was expired, or has columns
that were never loaded. One query for each class, in the application's thread,
on the connection and in the transaction of its flush.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from sqla_webhooks.capture import links, rows
from sqla_webhooks.capture.notes import Note, Notes
from sqla_webhooks.capture.plan import UNKNOWN, Plan, State, identity, is_unknown, with_plain_null
from sqla_webhooks.events import Change, Links, Operation
from sqla_webhooks.resources import Shape


@dataclass(frozen=True, slots=True)
class Draft:
    """A created or updated row, until what is missing of it is read."""

    plan: Plan
    operation: Operation
    data: dict[str, Any]
    missing: frozenset[str]
    previous: dict[str, Any]
    moved_from: tuple[Any, ...] | None = None
    links: Links = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(self.data.get(name) for name in self.plan.shape.key)


def of_created(state: State, plan: Plan, before: State | None, notes: Notes) -> Draft:
    current, shape = state.dict, plan.shape
    # What nobody set is NULL, unless the database is to say; or unless another row stands there.
    unset = shape.columns.keys() - current.keys() - state.expired_attributes if before is None else ()
    data = {key: current.get(key) for key in shape.stored if key in current or key in unset}
    missing = frozenset(shape.columns.keys() - data.keys())
    if before is not None and before.mapper is state.mapper:
        # Deleted and added again under one key: SQLAlchemy made it an UPDATE ("row switch").
        previous = as_it_was(before, shape, notes.get(before))
        linked = links.exchanged(before, state, plan)
        return Draft(plan, Operation.UPDATE, data, missing, previous, links=linked)
    return Draft(plan, Operation.CREATE, data, missing, {}, links=links.changed(state, plan))


def of_unlinked(state: State, plan: Plan, linked: Links) -> Draft:
    """A row of which nothing was set, and that is linked to another no more."""
    data = {key: state.dict[key] for key in plan.shape.stored if key in state.dict}
    return Draft(plan, Operation.UPDATE, data, frozenset(plan.shape.columns.keys() - data.keys()), {}, links=linked)


def of_updated(state: State, plan: Plan, note: Note | None) -> Draft | None:
    """None if nothing was set."""
    current, shape, linked = state.dict, plan.shape, links.changed(state, plan)
    previous = {key: old for key, old in state.committed_state.items() if key in shape.columns}
    if note is None:
        if not previous and not linked:
            return None
        # Found by the flush itself: nobody knows what its volatile columns were.
        previous.update(dict.fromkeys(shape.volatile - previous.keys(), UNKNOWN))
    else:
        previous.update(note.previous)
        # Set during the flush, by a listener, on an object whose row was read before it.
        late = [key for key, old in previous.items() if is_unknown(old) and key in note.loaded]
        previous.update((key, note.loaded[key]) for key in late)
    if shape.expressions:  # not written, whoever set them
        previous = {key: old for key, old in previous.items() if key not in shape.expressions}
    if not previous and not linked:
        return None
    values = current
    if note is not None and note.loaded:
        untouched = note.loaded.keys() - previous.keys()
        values = {**current, **{key: note.loaded[key] for key in untouched}}
    data = {key: values[key] for key in shape.stored if key in values}
    missing = shape.columns.keys() - data.keys()
    if missing and not linked and not _may_be_written(previous, data, plan):
        return None  # nothing was set, so nothing was written: not worth a query
    old = identity(state)
    moved = any(data.get(key) != part for key, part in zip(shape.key, old, strict=True))
    return Draft(plan, Operation.UPDATE, data, frozenset(missing), previous, old if moved else None, linked)


def _may_be_written(previous: Mapping[str, Any], data: Mapping[str, Any], plan: Plan) -> bool:
    """Whether anything may have been written: a value differs, or cannot be compared yet."""
    return any(
        not plan.is_same(key, old, data[key]) if key in data else key not in plan.shape.volatile or not is_unknown(old)
        for key, old in previous.items()
    )


def unsettled_missing(draft: Draft) -> Draft:
    """*draft*, in which values are missing too that the database may have stored differently."""
    unsettled = {name for name, value in draft.data.items() if not draft.plan.is_settled(name, value)}
    return replace(draft, missing=draft.missing | unsettled) if unsettled - draft.missing else draft


def fill(session: Session, drafts: Iterable[Draft]) -> None:
    """Read what the database has put into rows by itself."""
    waiting: dict[Shape, dict[tuple[Any, ...], list[Draft]]] = {}
    for draft in drafts:
        if draft.missing:
            waiting.setdefault(draft.plan.shape, {}).setdefault(draft.key, []).append(draft)
    for shape, of_identity in waiting.items():
        for some, values in rows.read(session, shape, wanted=of_identity):
            for draft in some:
                draft.data.update((key, values[key]) for key in draft.missing if key in values)
                _bring_up_to_date(draft, values)


def _bring_up_to_date(draft: Draft, row: Mapping[str, Any]) -> None:
    """Let all be of one version of the row: it may have come to another tenant since its object was loaded."""
    if draft.operation is Operation.CREATE:
        return
    held = {key: value for key, value in draft.data.items() if key not in draft.missing and key not in draft.previous}
    if outdated := draft.plan.outdated(held, row):
        draft.data.update(outdated)
        draft.previous.update(dict.fromkeys(draft.previous, UNKNOWN))


def moves_in_order(drafts: Iterable[Draft]) -> Sequence[Draft]:
    """Updates of keys, each after the one that gave its key up."""
    moves = {(one.plan.shape, one.moved_from): one for one in drafts if one.moved_from is not None}
    ordered: list[Draft] = []
    while moves:
        chain = [moves.pop(next(iter(moves)))]
        while (giver := moves.pop((chain[-1].plan.shape, chain[-1].key), None)) is not None:
            chain.append(giver)
        ordered += reversed(chain)
    return ordered


def change_of(draft: Draft) -> Change | None:
    """The change of a created or updated row; None if no value is another than before."""
    shape = draft.plan.shape
    # What was read came last; attributes are sent in the order of their class.
    data = draft.data if not draft.missing else {key: draft.data[key] for key in shape.columns if key in draft.data}
    data = with_plain_null(shape, data)
    now = tuple(data.get(key) for key in shape.key)
    if draft.operation is Operation.CREATE:
        return Change(shape.resource, Operation.CREATE, now, data, table=shape.table, links=draft.links)
    known = {key: old for key, old in draft.previous.items() if not is_unknown(old) and key in data}
    changed = [key for key, old in known.items() if not draft.plan.is_same(key, old, data[key])]
    unknown = [key for key, old in draft.previous.items() if is_unknown(old) and key in data]
    if not changed and not draft.links and all(key in shape.volatile for key in unknown):
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
        links=draft.links,
    )


def as_it_was(state: State, shape: Shape, note: Note | None) -> dict[str, Any]:
    """A row before the flush, whatever was set on its object since."""
    values = {**state.dict, **(note.loaded if note else {}), **state.committed_state}
    if note is not None:
        values.update(note.previous)
    before = {key: values[key] for key in shape.columns if key in values and not is_unknown(values[key])}
    return with_plain_null(shape, before)
