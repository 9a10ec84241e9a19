"""
What the database changes by itself and nobody can tell of: said in the log, once for each relationship or foreign key.

Configures no mapper, since it is said at `install()` already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.orm import Mapper, RelationshipProperty

from sqla_webhooks.capture.references import GONE, Known, Reference
from sqla_webhooks.mappers import mapped

logger = logging.getLogger(__name__)


class Unseen:
    """
    What was said of it so far, in one installation.

    Args:
        captured: Whether a class is captured.
    """

    def __init__(self, captured: Callable[[Mapper[Any]], bool]) -> None:
        self._captured = captured
        self._said: set[str] = set()
        #: By table: the relationships whose links go with its rows.
        self._cut: dict[Any, list[str]] = {}

    def tell(self, known: Known) -> None:
        """Say what is new."""
        captured = [one for one in mapped() if self._captured(one)]
        cuts = list(_cuts(known, captured))
        self._cut = {}
        for cut in cuts:
            if cut.is_other_end:
                self._cut.setdefault(cut.reference.referred[0].table, []).append(cut.name)
        for message in (*_moves(known, captured), *(cut.message(known) for cut in cuts)):
            self._say(message)

    def deleted_in_bulk(self, mapper: Mapper[Any]) -> None:
        """Rows of a class are about to be deleted by a statement."""
        for name in [name for table in mapper.tables for name in self._cut.get(table, ())]:
            self._say(
                f"{name}: a bulk delete() of {mapper.class_.__qualname__} lets the database delete its links by "
                "itself, and it is told to nobody which links that removes; delete the objects by the session"
            )

    def _say(self, message: str) -> None:
        if message and message not in self._said:
            self._said.add(message)
            logger.warning("%s", message)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A relationship whose links the database deletes by itself."""

    mapper: Mapper[Any]
    relation: RelationshipProperty[Any]
    #: Over which it does.
    reference: Reference

    @property
    def name(self) -> str:
        return f"{self.mapper.class_.__qualname__}.{self.relation.key}"

    @property
    def is_other_end(self) -> bool:
        """Whether that is with the rows at its other end, and not with its own."""
        others = {one.referred_table for one in self.reference.constraint.table.foreign_key_constraints}
        return self.reference.referred[0].table not in self.mapper.tables or others <= set(self.mapper.tables)

    def message(self, known: Known) -> str:
        """What is to be said of it; empty if the flush knows what it removes, and tells it."""
        why = self._why(known)
        return (
            f"{self.name}: {why}; there the database deletes rows of {self.reference} by itself, and it is told to "
            "nobody which links that removes"
            if why
            else ""
        )

    def _why(self, known: Known) -> str:
        both = bool(self.relation.back_populates or self.relation.backref)
        if both and self.relation.passive_deletes and self.reference.referred[0].table in self.mapper.tables:
            return "it has passive_deletes (leave it out)"
        if not self.is_other_end:
            return ""
        if not both:
            return "its other end does not map it (do so, with back_populates and without passive_deletes)"
        by = next((one for one in known if self._goes_by(one)), None)
        return "" if by is None else f"the rows at its other end may be deleted by the database (foreign key {by})"

    def _goes_by(self, other: Reference) -> bool:
        return other.constraint.table is self.reference.referred[0].table and other.passes_on(GONE) == GONE


def _moves(known: Known, captured: list[Mapper[Any]]) -> Iterator[str]:
    for reference in known:
        child = reference.child
        if isinstance(child, Mapper) and reference.moves_keys and child in captured:
            yield (
                f"{child.class_.__qualname__}: the foreign key {reference} is part of its primary key, and has ON "
                "UPDATE CASCADE: where the database changes it, that is not captured; give the class a primary key of "
                "its own, or change no key that it refers to"
            )


def _cuts(known: Known, captured: list[Mapper[Any]]) -> Iterator[_Cut]:
    by_itself = [one for one in known if isinstance(one.child, Table) and one.passes_on(GONE) == GONE]
    for mapper, relation in [(one, relation) for one in captured for relation in _relations(one)]:
        secondary = _secondary(mapper, relation)
        yield from (_Cut(mapper, relation, one) for one in by_itself if one.child is secondary)


def _relations(mapper: Mapper[Any]) -> list[RelationshipProperty[Any]]:
    props = mapper._props.values()  # noqa: SLF001  # `Mapper.relationships` would configure it
    return [one for one in props if isinstance(one, RelationshipProperty) and not one.viewonly]


def _secondary(mapper: Mapper[Any], relation: RelationshipProperty[Any]) -> Any:
    """The table that links. None if it is not known yet."""
    if "secondary" in relation.__dict__:
        return relation.secondary
    given: Any = relation._init_args.secondary.argument  # noqa: SLF001  # nothing public has it before it is configured
    if callable(given):
        try:
            given = given()
        except Exception:  # noqa: BLE001  # the application's code: what it names is not there yet
            return None
    table: Any = mapper.local_table
    return table.metadata.tables.get(given) if isinstance(given, str) and isinstance(table, Table) else given
