"""
Rows as they stand in the database at one instant, and what has become of them at another.

For what changes rows without objects: bulk statements, and the database
itself. In the application's thread, on the connection and in the transaction of
what changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import Connection, select
from sqlalchemy.orm import Mapper, Session

from sqla_webhooks.capture import binds, rows
from sqla_webhooks.capture.plan import Plan
from sqla_webhooks.capture.runs import Runs
from sqla_webhooks.events import Change, Operation
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.database import among, chunks
from sqla_webhooks.reading import Row

#: How the rows of a class are captured; None if they are not.
PlanFor: TypeAlias = Callable[[Mapper[Any]], Plan | None]


@dataclass(slots=True)
class Snapshot:
    """Rows, by class and primary key, in the order in which they were asked for."""

    of: dict[Plan, dict[Identity, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, session: Session, wanted: Mapping[Plan, Iterable[Identity]]) -> Snapshot:
        """Those of *wanted* that are there."""
        taken = cls()
        for plan, identities in wanted.items():
            asked = {identity: identity for identity in identities}
            found = dict(rows.read(session, plan.shape, wanted=asked))
            taken.of[plan] = {identity: found[identity] for identity in asked if identity in found}
        return taken

    def identities(self) -> dict[Plan, list[Identity]]:
        return {plan: list(of_plan) for plan, of_plan in self.of.items()}

    def count_changed(self, after: Snapshot) -> int:
        """How many rows are in both, and different."""
        return sum(
            values != after.of.get(plan, {}).get(identity, values)
            for plan, rows_of_plan in self.of.items()
            for identity, values in rows_of_plan.items()
        )


def by_class(
    session: Session, mapper: Mapper[Any], identities: Sequence[Identity], *, plan_for: PlanFor
) -> dict[Plan, list[Identity]]:
    """*identities* of rows of *mapper* or of classes derived from it, by how the class of each is captured."""
    if not is_polymorphic(mapper):
        plan = plan_for(mapper)
        return {} if plan is None else {plan: list(identities)}
    connection = session.connection(bind_arguments=binds.writing(session, mapper))
    found = [
        (identity, kind)
        for some in chunks(identities)
        for identity, kind in _kinds(connection, mapper, identities=some)
    ]
    return of_kinds(mapper, found, plan_for=plan_for)


def of_kinds(
    mapper: Mapper[Any], found: Iterable[tuple[Identity, Any]], *, plan_for: PlanFor
) -> dict[Plan, list[Identity]]:
    """The same, where the discriminator of each row is known."""
    planned = ((plan_for(one), its) for one, its in by_kind(mapper, found).items())
    return {plan: its for plan, its in planned if plan is not None}


def by_kind(mapper: Mapper[Any], found: Iterable[tuple[Identity, Any]]) -> dict[Mapper[Any], list[Identity]]:
    """Rows by their class, wanted or not."""
    sorted_: dict[Mapper[Any], list[Identity]] = {}
    for identity, kind in found:
        sorted_.setdefault(mapper.polymorphic_map.get(kind, mapper), []).append(identity)
    return sorted_


def is_polymorphic(mapper: Mapper[Any]) -> bool:
    """Whether a row of the class's table may be of another class, and its discriminator says of which."""
    return mapper.polymorphic_on is not None and len(mapper.polymorphic_map) > 1 and not mapper.concrete


def _kinds(
    connection: Connection, mapper: Mapper[Any], *, identities: Sequence[Identity]
) -> Iterable[tuple[Identity, Any]]:
    key, kind = mapper.primary_key, [mapper.polymorphic_on]
    query = select(*key, *kind).select_from(mapper.base_mapper.local_table)
    for row in connection.execute(query.where(among(key, identities))):
        yield tuple(row[:-1]), row[-1]


def compare(
    before: Snapshot, after: Snapshot, *, moved: Mapping[Plan, Mapping[Identity, Identity]] | None = None
) -> Runs:
    """
    What has become of the rows of *before*; those of *after* that it lacks are new.

    Args:
        moved: Primary keys that were changed, old to new, of the classes whose keys they are.
    """
    runs = Runs()
    ordered = {plan: _in_order(its) for plan, its in (moved or {}).items()}
    for plan, then in before.of.items():
        now, moves = after.of.get(plan, {}), ordered.get(plan, {})
        movers = [identity for identity in moves if identity in then]
        for identity in dict.fromkeys([*movers, *then]):
            old, place = then[identity], moves.get(identity, identity)
            if (new := now.get(place)) is None:
                _put(runs, plan, Operation.DELETE, (identity, old))
            else:
                _put_changed(runs, plan, identity, old=old, new=new, place=place)
    for plan, now in after.of.items():
        then, moves = before.of.get(plan, {}), ordered.get(plan, {})
        known = {moves.get(identity, identity) for identity in then}
        for identity, values in now.items():
            if identity not in known:
                _put(runs, plan, Operation.CREATE, (identity, values))
    return runs


def _in_order(moved: Mapping[Identity, Identity]) -> dict[Identity, Identity]:
    """Changes of keys, each after the one that gave its key up; rows that pass theirs around stand where they stood."""
    left = dict(moved)
    ordered: dict[Identity, Identity] = {}
    while left:
        chain = dict.fromkeys([next(iter(left))])
        while (giver := left[next(reversed(chain))]) in left and giver not in chain:
            chain[giver] = None
        is_circle = giver in chain
        for identity in reversed(chain):
            place = left.pop(identity)
            if not is_circle:
                ordered[identity] = place
    return ordered


def _put_changed(
    runs: Runs, plan: Plan, identity: Identity, *, old: Mapping[str, Any], new: dict[str, Any], place: Identity
) -> None:
    stored = plan.shape.stored
    changed = [
        name for name in new if name in stored and name in old and not plan.is_stored_same(name, old[name], new[name])
    ]
    previous = {name: old[name] for name in changed}
    if place != identity:
        shape = plan.shape
        change = Change(
            resource=shape.resource,
            operation=Operation.UPDATE,
            identity=place,
            data=new,
            previous=previous,
            changed=tuple(previous),
            moved_from=identity,
            table=shape.table,
        )
        runs.put_change(shape, change)
    elif previous:
        _put(runs, plan, Operation.UPDATE, (identity, new), previous)


def _put(runs: Runs, plan: Plan, operation: Operation, row: Row, previous: dict[str, Any] | None = None) -> None:
    identity, values = row
    if plan.is_whole(values):
        packed: sheet.Packed = [sheet.LETTERS[operation]]
        runs.put(plan, packed if previous is None else [*packed, previous], plan.values(values))
        return
    shape, changes = plan.shape, previous or {}
    runs.put_change(
        shape, Change(shape.resource, operation, identity, values, changes, tuple(changes), table=shape.table)
    )
