"""
What the database changes by itself and nobody can tell of: said in the log, once for each relationship or foreign key.

Configures no mapper, since it is said at `install()` already.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
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

    def tell(self, known: Known) -> None:
        """Say what is new."""
        captured = [one for one in mapped() if self._captured(one)]
        for message in (*_moves(known, captured), *_links(known, captured)):
            if message not in self._said:
                self._said.add(message)
                logger.warning("%s", message)


def _moves(known: Known, captured: list[Mapper[Any]]) -> Iterator[str]:
    for reference in known:
        child = reference.child
        if isinstance(child, Mapper) and reference.moves_keys and child in captured:
            yield (
                f"{child.class_.__qualname__}: the foreign key {reference} is part of its primary key, and has ON "
                "UPDATE CASCADE: where the database changes it, that is not captured; give the class a primary key of "
                "its own, or change no key that it refers to"
            )


def _links(known: Known, captured: list[Mapper[Any]]) -> Iterator[str]:
    """Of rows that link others, which are told by those; so far as the flush knows that they are deleted."""
    cut = [one for one in known if isinstance(one.child, Table) and one.passes_on(GONE) == GONE]
    for mapper, relation in [(one, relation) for one in captured for relation in _relations(one)]:
        for reference in cut:
            if reference.child is not _secondary(mapper, relation):
                continue
            name = f"{mapper.class_.__qualname__}.{relation.key}"
            if why := _why_unseen(mapper, relation, reference):
                yield f"{name}: with {why}, and it is told to nobody which links that removes"


def _why_unseen(mapper: Mapper[Any], relation: RelationshipProperty[Any], reference: Reference) -> str:
    both = bool(relation.back_populates or relation.backref)
    its_own = reference.referred[0].table in mapper.tables
    others = {one.referred_table for one in reference.constraint.table.foreign_key_constraints} - set(mapper.tables)
    by_itself = f"the database deletes rows of {reference} by itself"
    if both and its_own and relation.passive_deletes:
        return f"passive_deletes (leave it out), {by_itself}"
    if not both and not (its_own and others):
        return (
            "nothing at its other end (map that too, with back_populates and without passive_deletes), when a row "
            f"there is deleted {by_itself}"
        )
    return ""


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
