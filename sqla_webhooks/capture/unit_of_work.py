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

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy.orm import LoaderCallableStatus, Mapper, Session, UOWTransaction

from sqla_webhooks.capture import drafts, links
from sqla_webhooks.capture.drafts import Draft
from sqla_webhooks.capture.notes import Note, Notes, PlanOf
from sqla_webhooks.capture.plan import Plan, State, identity, with_plain_null
from sqla_webhooks.capture.runs import Found, Runs
from sqla_webhooks.events import Change, Links, Operation
from sqla_webhooks.outbox import sheet


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
    _draft_unlinked(runs, states, plan_of)
    if runs.drafts:
        runs = _completed(session, runs)
    _write_deleted(runs, _by_key([*states.deleted, *_replaced_by_another_class(states)], plan_of), notes)
    return runs.found


class _Runs(Runs):
    """What has been written down so far, and what is still to be."""

    def __init__(self) -> None:
        super().__init__()
        #: How many runs there were before each draft.
        self.drafts: list[tuple[int, Draft]] = []
        #: Objects that may have been linked and unlinked.
        self.linked: list[tuple[State, Plan]] = []

    def put_draft(self, draft: Draft) -> None:
        self.close()
        self.drafts.append((len(self.found), drafts.unsettled_missing(draft)))


def _completed(session: Session, runs: _Runs) -> _Runs:
    """*runs* with the drafts in their places, those of moved keys first."""
    every = [draft for _, draft in runs.drafts]
    drafts.fill(session, every)
    completed = _Runs()
    for draft in drafts.moves_in_order(every):
        _put_draft(completed, draft)
    done = 0
    for before, draft in runs.drafts:
        completed.found += runs.found[done:before]
        done = before
        if draft.moved_from is None:
            _put_draft(completed, draft)
    completed.found += runs.found[done:]
    return completed


def _put_draft(runs: _Runs, draft: Draft) -> None:
    change = drafts.change_of(draft)
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
    keyed = {state for state in session._new if state.key is not None}  # noqa: SLF001  # of which session.new is made
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
        by_mapper.setdefault(state.manager.mapper, []).append(state)
    planned = [(plan, some) for some in by_mapper.values() if (plan := plan_of(some[0])) is not None]
    planned.sort(key=lambda one: (one[0].layout.resource, one[0].layout.table))
    for plan, some in planned:
        some.sort(key=_key_order(plan))
        yield plan, some


def _key_order(plan: Plan) -> Callable[[State], Any]:
    functions = [column.type.sort_key_function for column in plan.shape.key_columns]
    if not any(functions):
        if len(functions) == 1:
            # Single values are compared many times as quickly as tuples.
            return lambda state: state.key[1][0]  # type: ignore[index]  # it is persistent
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
        if before is None and not state.expired_attributes and not plan.shape.expressions:
            # What nobody set, and the database was not to say, is NULL.
            values = tuple(map(state.dict.get, plan.layout.attributes))
            look = plan.look(values)
            if (stored := look.stored(values)) is not None:
                runs.put(plan, [sheet.CREATED], stored, links.changed(state, plan) if plan.links else None, look)
            else:
                runs.put_draft(drafts.of_created(state, plan, before, notes))
        else:
            runs.put_draft(drafts.of_created(state, plan, before, notes))
        if plan.links:
            runs.linked.append((state, plan))


def _write_updated(runs: _Runs, planned: Iterable[tuple[Plan, list[State]]], notes: Notes) -> None:
    for plan, states in planned:
        for state in states:
            note = notes.get(state)
            if plan.shape.expressions or not _write_quickly(runs, state, plan, note):
                if (draft := drafts.of_updated(state, plan, note)) is None:
                    continue
                runs.put_draft(draft)
            if plan.links:
                runs.linked.append((state, plan))


def _write_quickly(runs: _Runs, state: State, plan: Plan, note: Note | None) -> bool:
    """Write down an object that knows all; False if it does not, or the database may have stored it differently."""
    current = state.dict
    values, previous = plan.whole(current), _differences(state, current, plan, note)
    if values is None or previous is None:
        return False
    linked = links.changed(state, plan) if plan.links else None
    if not previous and not linked:
        return True
    look = plan.look(values)
    if (stored := look.stored(values)) is None:
        return False
    if plan.shape.json:
        previous = with_plain_null(plan.shape, previous)
    runs.put(plan, [sheet.UPDATED, previous], stored, linked, look)
    return True


def _differences(state: State, current: Mapping[str, Any], plan: Plan, note: Note | None) -> dict[str, Any] | None:
    """What has changed, to the old values; None if the object does not know, or if its key has changed."""
    before: Mapping[str, Any] = state.committed_state
    if note is not None:
        if not note.quick:
            return None
        before = {**before, **note.previous}
    elif plan.shape.volatile:
        return None
    previous = {}
    try:
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
            values = plan.whole(state.dict) if not state.committed_state and state not in notes else None
            if values is not None:
                cut = links.cut(state, plan) if plan.links else None
                runs.put(plan, [sheet.DELETED], values, cut)
            else:
                data, cut = drafts.as_it_was(state, shape, notes.get(state)), links.cut(state, plan)
                change = Change(shape.resource, Operation.DELETE, identity(state), data, table=shape.table, links=cut)
                runs.put_change(shape, change)


def _draft_unlinked(runs: _Runs, states: _States, plan_of: PlanOf) -> None:
    """
    What is linked or unlinked by what was done to the other end alone.

    That was deleted, or another took it over; or this one was expired since.
    """
    gone = set(states.deleted)
    for state in (*states.deleted, *states.replaced.values()):
        plan = plan_of(state)
        if plan is not None and plan.links:
            _draft_linked(runs, links.cut_elsewhere(state, plan), plan_of, gone=gone)
    if runs.linked:
        _draft_linked(runs, links.unaware(runs.linked), plan_of, gone=gone)


def _draft_linked(
    runs: _Runs, found: Iterable[tuple[State, Links]], plan_of: PlanOf, *, gone: Collection[State]
) -> None:
    for state, linked in found:
        plan = plan_of(state)
        if plan is not None and state not in gone and state.key is not None and linked.keys() <= plan.links.keys():
            runs.put_draft(drafts.of_unlinked(state, plan, linked))
