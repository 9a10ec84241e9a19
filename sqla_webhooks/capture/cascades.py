"""
Rows that the database changes by itself when others are deleted, or change their keys: ON DELETE and ON UPDATE.

They are read before, where the foreign keys lead, and again after. In the
application's thread, on the connection and in the transaction of what it
writes. Nothing is read where no foreign key leads to a class that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, Session, UOWTransaction
from sqlalchemy.orm.attributes import instance_state

from sqla_webhooks.capture import snapshot
from sqla_webhooks.capture.plan import UNKNOWN, Plan, State, identity
from sqla_webhooks.capture.references import GONE, Fate, Node, Reference, References
from sqla_webhooks.capture.runs import Found
from sqla_webhooks.capture.snapshot import PlanFor, Snapshot, is_polymorphic
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox.database import among, chunks

#: Primary keys of rows, by their class and what happens to them.
Start: TypeAlias = Mapping[tuple[Node, Fate], Sequence[Identity]]


# --------------------------------------------------------------------------- the rows of other tables


def is_wanted(references: References, node: Node, fate: Fate, *, plan_for: PlanFor) -> bool:
    """Whether somebody wants to know of rows that the database may change when one of *node* has that fate."""
    known = references.current()
    return bool(known) and any(plan_for(one) is not None for one in known.affected(node, fate))


def reached(
    connection: Connection,
    references: References,
    start: Start,
    *,
    plan_for: PlanFor,
    deleted: Mapping[Node, Collection[Identity]] | None = None,
) -> dict[Plan, list[Identity]]:
    """
    The rows that the database will change by itself, with those of *start*, by how their class is captured.

    Without those of *deleted*, of which it is known that they go.

    One query for each foreign key and level; none over those that lead to
    nothing that is wanted. Locks what it finds: nobody else may refer to a
    row of it meanwhile.
    """
    known = references.current()
    seen: dict[Node, dict[Identity, None]] = {}
    done: dict[tuple[Node, Fate], set[Identity]] = {}
    for (node, fate), identities in start.items():
        done.setdefault((node, fate), set()).update(identities)
    ahead: Start = start
    while ahead:
        found: dict[tuple[Node, Fate], list[Identity]] = {}
        for (node, fate), identities in ahead.items():
            for reference, passed in known.steps(node, fate):
                if not _leads_to_wanted(references, reference, passed, plan_for=plan_for):
                    continue
                for child, its in _referring(connection, reference, node, identities=identities):
                    there = done.setdefault((child, passed), set())
                    if its not in there and its not in (deleted or {}).get(child, ()):
                        there.add(its)
                        seen.setdefault(child, {})[its] = None
                        found.setdefault((child, passed), []).append(its)
        ahead = found
    planned = ((plan_for(node), its) for node, its in seen.items() if isinstance(node, Mapper))
    return {plan: list(its) for plan, its in planned if plan is not None}


def lock(connection: Connection, node: Node, identities: Sequence[Identity]) -> None:
    """Lock rows, so that nobody can refer to them any more whom we would not find."""
    if connection.dialect.name == "sqlite":
        return
    key = _key(node)
    query = select(*key).select_from(_source(node)).order_by(*key).with_for_update()
    for some in chunks(identities, width=len(key)):
        connection.execute(query.where(among(key, some))).all()


def _leads_to_wanted(references: References, reference: Reference, passed: Fate, *, plan_for: PlanFor) -> bool:
    child = reference.child
    its_own = child.self_and_descendants if isinstance(child, Mapper) else ()
    return any(plan_for(one) is not None for one in its_own) or is_wanted(references, child, passed, plan_for=plan_for)


def _referring(
    connection: Connection, reference: Reference, node: Node, *, identities: Sequence[Identity]
) -> Iterator[tuple[Node, Identity]]:
    """The rows that refer to others, each with its class."""
    child, columns = reference.child, reference.columns
    key = _key(child)
    kind = [child.polymorphic_on] if isinstance(child, Mapper) and is_polymorphic(child) else []
    query = select(*key, *kind).select_from(_source(child)).with_for_update(of=reference.constraint.table)
    referred = _referred(connection, reference, node, identities=identities)
    for some in chunks(referred, width=len(columns)):
        for row in connection.execute(query.where(among(columns, some))):
            of = child.polymorphic_map.get(row[len(key)], child) if isinstance(child, Mapper) and kind else child
            yield of, tuple(row[: len(key)])


def _referred(
    connection: Connection, reference: Reference, node: Node, *, identities: Sequence[Identity]
) -> list[Identity]:
    """What stands in the columns that a foreign key refers to, in rows of these primary keys."""
    key = _key(node)
    places = [_place(node, key, column) for column in reference.referred]
    if all(place is not None for place in places):
        return [tuple(one[place] for place in places if place is not None) for one in identities]
    query = select(*reference.referred).select_from(_source(node))
    return [
        tuple(row)
        for some in chunks(identities, width=len(key))
        for row in connection.execute(query.where(among(key, some)))
        if not any(value is None for value in row)
    ]


def _place(node: Node, key: Sequence[ColumnElement[Any]], column: ColumnElement[Any]) -> int | None:
    """Where a column stands in the primary key, be it that of a table of the class's own or of its base."""
    if isinstance(node, Mapper):
        try:
            same = set(node.get_property_by_column(column).columns)
        except InvalidRequestError:
            return None
    else:
        same = {column}
    return next((place for place, one in enumerate(key) if one in same), None)


def _key(node: Node) -> Sequence[ColumnElement[Any]]:
    if isinstance(node, Mapper):
        return node.primary_key
    return list(node.primary_key.columns) or list(node.columns)


def _source(node: Node) -> Any:
    return node.persist_selectable if isinstance(node, Mapper) else node


# --------------------------------------------------------------------------- in a flush


@dataclass(frozen=True, slots=True)
class Cascaded:
    """What the database may change by itself in a flush."""

    #: Rows as they were before it.
    before: Snapshot
    #: The classes of rows that may be among them.
    affected: frozenset[Mapper[Any]]


def begin(
    session: Session, references: References, *, plan_for: PlanFor, lock_writes: Callable[[Connection], None]
) -> Cascaded | None:
    """
    Read what the database may change by itself in the flush that is about to begin; None if that is nothing.

    Args:
        lock_writes: Called with each connection before rows are read on it.
    """
    known = references.current()
    starts = _starts(session, references, plan_for=plan_for) if known else {}
    if not starts:
        return None
    deleted: dict[Node, set[Identity]] = {}
    for state in map(instance_state, session.deleted):
        deleted.setdefault(state.mapper, set()).add(identity(state))
    before, affected = Snapshot(), set[Mapper[Any]]()
    for connection, start in starts.items():
        lock_writes(connection)
        for (mapper, fate), identities in start.items():
            lock(connection, mapper, identities)
            affected |= known.affected(mapper, fate)
        found = reached(connection, references, start, plan_for=plan_for, deleted=deleted)
        for plan, rows in Snapshot.read(session, found).of.items():
            before.of.setdefault(plan, {}).update(rows)
    return Cascaded(before, frozenset(affected))


def changes(
    session: Session, flush_context: UOWTransaction, cascaded: Cascaded, *, plan_for: PlanFor
) -> Sequence[Found]:
    """
    What the database has changed by itself in a flush, after what the unit of work has done to the same rows.

    In `after_flush`.
    """
    before = {plan: dict(rows) for plan, rows in cascaded.before.of.items() if plan_for(plan.shape.mapper) is plan}
    old: dict[State, dict[str, Any]] = {}
    kept: list[tuple[State, Plan]] = []
    for state, (is_delete, list_only) in flush_context.states.items():
        plan = plan_for(state.mapper) if state.mapper in cascaded.affected else None
        if plan is not None and (is_delete or not list_only):
            old[state] = before.setdefault(plan, {}).pop(identity(state), {})
            kept += [] if is_delete else [(state, plan)]
    written: dict[Plan, list[Identity]] = {}
    for state, plan in kept:
        known = {name: state.dict[name] for name in plan.shape.columns if name in state.dict}
        now = tuple(known.get(name) for name in plan.shape.key)
        before[plan][now] = {**old[state], **known}
        written.setdefault(plan, []).append(now)
    after = Snapshot.read(session, before)
    for plan, identities in written.items():
        for its in identities:
            if (new := after.of[plan].get(its)) is not None:
                before[plan][its] = _as_written(plan, before[plan][its], new)
    return snapshot.compare(Snapshot(before), after).found


def _as_written(plan: Plan, written: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """
    A row as the unit of work has left it. It has told of that itself.

    Only in its foreign keys: that in the others another value stands than was
    assigned, is the work of a type.
    """
    foreign = {name for name in plan.shape.stored if plan.shape.columns[name].foreign_keys}
    return {name: written.get(name, value) if name in foreign else value for name, value in new.items()}


def _starts(
    session: Session, references: References, *, plan_for: PlanFor
) -> dict[Connection, dict[tuple[Node, Fate], list[Identity]]]:
    """The rows that the flush will delete, or give other keys, if anything comes of that for what is wanted."""
    start: dict[tuple[Mapper[Any], Fate], list[Identity]] = {}
    for state, fate in _fates(session, references):
        start.setdefault((state.mapper, fate), []).append(identity(state))
    starts: dict[Connection, dict[tuple[Node, Fate], list[Identity]]] = {}
    for (mapper, fate), identities in start.items():
        if is_wanted(references, mapper, fate, plan_for=plan_for):
            connection = session.connection(bind_arguments={"mapper": mapper})
            starts.setdefault(connection, {})[mapper, fate] = identities
    return starts


def _fates(session: Session, references: References) -> Iterator[tuple[State, Fate]]:
    """The objects that the flush will delete, or give other keys, if anything comes of that."""
    known = references.current()
    for state in map(instance_state, session.deleted):
        if state.key is not None and known.steps(state.mapper, GONE):
            yield state, GONE
    for state in map(instance_state, session.dirty):
        watched = known.watched(state.mapper)
        if state.key is None or not (watched.orphans or watched.keys):
            continue
        if watched.orphans and state.mapper._is_orphan(state):  # noqa: SLF001  # what Session._flush asks
            yield state, GONE
        elif changed := _changed_keys(state, watched.keys):
            yield state, Fate(frozenset(changed))


def _changed_keys(state: State, keys: Mapping[str, Any]) -> Iterable[Any]:
    current, before = state.dict, state.committed_state
    return [
        column for name, column in keys.items() if name in before and before[name] is not current.get(name, UNKNOWN)
    ]
