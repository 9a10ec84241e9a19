"""
One bulk write, while it is done: how its rows were, and what they have become.

In the application's thread, on the connection and in the transaction of the
write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.orm import Mapper, Session

from sqla_webhooks.capture import cascades, snapshot
from sqla_webhooks.capture.plan import Plan
from sqla_webhooks.capture.recorder import Recorder
from sqla_webhooks.capture.references import Fate, Node
from sqla_webhooks.capture.snapshot import Snapshot, by_kind, is_polymorphic, of_kinds
from sqla_webhooks.keys import Identity


@dataclass(slots=True)
class BulkWrite:
    """One statement, or one call of a bulk method: the rows it is about, and how they were."""

    session: Session
    mapper: Mapper[Any]
    recorder: Recorder
    plan_for: Callable[[Mapper[Any]], Plan | None]
    #: What it does to rows, if the database may change others by that.
    fate: Fate | None = None
    before: Snapshot = field(default_factory=Snapshot)

    @property
    def is_all_or_nothing(self) -> bool:
        """Whether a statement that the database refuses leaves nothing behind, nor lets another be executed."""
        return self.session.get_bind(self.mapper).dialect.name == "postgresql"

    def note(self, wanted: Mapping[Plan, Iterable[Identity]]) -> None:
        """Read rows as they are, those that are not read already."""
        new = {plan: [one for one in some if one not in self.before.of.get(plan, {})] for plan, some in wanted.items()}
        for plan, found in Snapshot.read(self.session, new).of.items():
            self.before.of.setdefault(plan, {}).update(found)

    def reach(self, connection: Connection, of: Mapping[Mapper[Any], Sequence[Identity]]) -> dict[Plan, list[Identity]]:
        """The rows that the database will change by itself, with these."""
        if self.fate is None:
            return {}
        start: dict[tuple[Node, Fate], Sequence[Identity]] = {(mapper, self.fate): its for mapper, its in of.items()}
        return cascades.reached(connection, self.recorder.references, start, plan_for=self.plan_for)

    def meet(self, mapper: Mapper[Any], connection: Connection, condition: ColumnElement[bool]) -> list[Identity]:
        """Note rows that new ones may meet; which those are."""
        self.recorder.take_write_lock(connection)
        kind = [mapper.polymorphic_on] if is_polymorphic(mapper) else []
        query = select(*mapper.primary_key, *kind).where(condition).with_for_update(of=mapper.base_mapper.local_table)
        width = len(mapper.primary_key)
        found = [(tuple(row[:width]), row[width] if kind else None) for row in connection.execute(query)]
        self.note(of_kinds(mapper, found, plan_for=self.plan_for))
        self.note(self.reach(connection, by_kind(mapper, found)))
        return [identity for identity, _ in found]

    def end(self, inserted: Mapping[Plan, Sequence[Identity]], *, moved: Mapping[Identity, Identity]) -> int:
        """
        Look what the rows have become, and write it down.

        Returns:
            How many of those that were there are there and different.

        Raises:
            OutboxWriteError: It could not be written.
        """
        # Of other classes there may be rows that the database has changed, which have kept keys that look the same.
        moves = {plan: moved for plan in self.before.of if plan.shape.mapper.base_mapper is self.mapper.base_mapper}
        wanted: dict[Plan, dict[Identity, None]] = {
            plan: {moves.get(plan, {}).get(identity, identity): None for identity in some}
            for plan, some in self.before.of.items()
        }
        for plan, some in inserted.items():
            wanted.setdefault(plan, {}).update(dict.fromkeys(some))
        after = Snapshot.read(self.session, wanted)
        runs = snapshot.compare(self.before, after, moved=moves)
        if runs.found:
            self.recorder.write(self.session, runs.found)
        return self.before.count_changed(after)
