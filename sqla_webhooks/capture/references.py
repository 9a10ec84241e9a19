"""
Which rows the database changes by itself when others are deleted, or change their keys: by the foreign keys.

Not by the relationships: the database knows nothing of them. What is worked
out here is about classes and tables, and makes no query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Column, ForeignKeyConstraint, MetaData, Table
from sqlalchemy.exc import InvalidRequestError, NoReferenceError
from sqlalchemy.orm import Mapper

from sqla_webhooks import mappers

#: Whose rows they are: a mapped class, or a table that nobody maps, but through which others are reached.
Node: TypeAlias = Mapper[Any] | Table

_CASCADE = "CASCADE"
_SETS = frozenset({"SET NULL", "SET DEFAULT"})


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to a row: some of its columns change, or else it is deleted."""

    changed: frozenset[Column[Any]] = frozenset()


GONE = Fate()


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """A foreign key of the rows of one class, or table."""

    child: Node
    constraint: ForeignKeyConstraint
    columns: tuple[Column[Any], ...]
    referred: tuple[Column[Any], ...]

    def passes_on(self, fate: Fate) -> Fate | None:
        """What the database does to a row when the one that it refers to has that fate; None if nothing."""
        if fate == GONE:
            rule = _rule(self.constraint.ondelete)
            if rule == _CASCADE:
                return GONE
            return Fate(frozenset(self.columns)) if rule in _SETS else None
        if fate.changed.isdisjoint(self.referred) or self.is_of_key:
            return None
        rule = _rule(self.constraint.onupdate)
        return Fate(frozenset(self.columns)) if rule == _CASCADE or rule in _SETS else None

    @property
    def is_of_key(self) -> bool:
        """Whether a row whose foreign key changes gets another primary key, under which nobody can look it up."""
        return not set(self.columns).isdisjoint(self.child.primary_key)

    @property
    def moves_keys(self) -> bool:
        """Whether the database may give the rows other primary keys."""
        return self.is_of_key and _rule(self.constraint.onupdate) == _CASCADE

    def __str__(self) -> str:
        columns = ", ".join(column.name for column in self.columns)
        return f"{self.constraint.table.fullname} ({columns}) to {self.referred[0].table.fullname}"


@dataclass(frozen=True, slots=True)
class Watched:
    """How an object's changes may become those of other rows."""

    #: Whether the flush may find that it is an orphan, and something comes of that.
    orphans: bool
    #: The attributes whose change is passed on, with their columns.
    keys: Mapping[str, Column[Any]]


#: A foreign key, and what comes over it.
Step: TypeAlias = tuple[Reference, Fate]


class References:
    """
    The foreign keys of the mapped tables, for one installation.

    Worked out when first asked for, in whichever thread that is, and anew when
    more classes are mapped.

    Args:
        report: Called with what is new.
    """

    def __init__(self, report: Callable[[Known], None]) -> None:
        self._report = report
        self._known = Known({}, (), ())

    def current(self) -> Known:
        """Those of the classes that are mapped now. Cheap, unless there are new ones."""
        known = self._known
        if known.extent != _extent(known.metadatas):
            known = self._known = _known()
            self._report(known)
        return known


class Known:
    """The foreign keys over which something comes."""

    def __init__(
        self, of: Mapping[Table, list[Reference]], metadatas: tuple[MetaData, ...], extent: tuple[int, ...]
    ) -> None:
        self.of = of
        self.metadatas = metadatas
        self.extent = extent
        self._steps: dict[tuple[Node, Fate], list[Step]] = {}
        self._affected: dict[tuple[Node, Fate], frozenset[Mapper[Any]]] = {}
        self._watched: dict[Mapper[Any], Watched] = {}

    def __bool__(self) -> bool:
        return bool(self.of)

    def __iter__(self) -> Iterator[Reference]:
        return (reference for some in self.of.values() for reference in some)

    def steps(self, node: Node, fate: Fate) -> list[Step]:
        """The foreign keys over which something comes from a row of *node* that has that fate, and what."""
        try:
            return self._steps[node, fate]
        except KeyError:
            found = [
                (reference, passed)
                for table in _tables(node)
                for reference in self.of.get(table, ())
                if (passed := reference.passes_on(fate)) is not None
            ]
            return self._steps.setdefault((node, fate), found)

    def affected(self, node: Node, fate: Fate) -> frozenset[Mapper[Any]]:
        """The classes of all rows that can be reached, at whatever distance."""
        try:
            return self._affected[node, fate]
        except KeyError:
            return self._affected.setdefault((node, fate), frozenset(self._reach(node, fate)))

    def watched(self, mapper: Mapper[Any]) -> Watched:
        """What must be looked at in a changed object. Asked of each in a flush, once mappers are configured."""
        try:
            return self._watched[mapper]
        except KeyError:
            orphans = bool(mapper._delete_orphans and self.steps(mapper, GONE))  # noqa: SLF001  # as `Plan.orphans`
            return self._watched.setdefault(mapper, Watched(orphans, self.keys(mapper)))

    def keys(self, mapper: Mapper[Any]) -> Mapping[str, Column[Any]]:
        """The attributes whose change is passed on to other rows, with their columns."""
        referred = {
            column: None
            for table in _tables(mapper)
            for reference in self.of.get(table, ())
            for column in reference.referred
            if reference.passes_on(Fate(frozenset({column}))) is not None
        }
        mapped = [one for one in referred if mapper.columns.contains_column(one)]
        return {mapper.get_property_by_column(one).key: one for one in mapped}

    def _reach(self, node: Node, fate: Fate) -> Iterator[Mapper[Any]]:
        seen: set[tuple[Node, Fate]] = set()
        ahead = [(node, fate)]
        while ahead:
            for reference, passed in self.steps(*ahead.pop()):
                for child in kinds(reference.child):
                    if (child, passed) not in seen:
                        seen.add((child, passed))
                        ahead.append((child, passed))
                        if isinstance(child, Mapper):
                            yield child


def kinds(node: Node) -> Iterable[Node]:
    """The classes of which a row of a class may be."""
    return node.self_and_descendants if isinstance(node, Mapper) else (node,)


def _tables(node: Node) -> Iterable[Any]:
    return node.tables if isinstance(node, Mapper) else (node,)


def _extent(metadatas: Iterable[MetaData]) -> tuple[int, ...]:
    return (mappers.count(), *(len(one.tables) for one in metadatas))


def _known() -> Known:
    count = mappers.count()
    every = mappers.mapped()
    metadatas = tuple(
        dict.fromkeys(table.metadata for one in every for table in one.tables if isinstance(table, Table))
    )
    extent = (count, *(len(one.tables) for one in metadatas))
    owners: dict[Any, list[Node]] = {}
    for mapper in every:
        inherited = mapper.inherits.tables if mapper.inherits is not None and not mapper.concrete else ()
        for table in mapper.tables:
            if table not in inherited:
                owners.setdefault(table, []).append(mapper)
    of: dict[Table, list[Reference]] = {}
    for table in [table for one in metadatas for table in list(one.tables.values())]:
        for constraint in table.foreign_key_constraints:
            if not {_rule(constraint.ondelete), _rule(constraint.onupdate)} & {_CASCADE, *_SETS}:
                continue
            referred = _referred(constraint)
            for child in owners.get(table, [table]) if referred else ():
                if not _is_inheritance(child, constraint, referred[0].table):
                    reference = Reference(child, constraint, tuple(constraint.columns), referred)
                    of.setdefault(referred[0].table, []).append(reference)
    return Known(of, metadatas, extent)


def _rule(said: str | None) -> str:
    """In PostgreSQL's words, a rule may name columns: SET NULL (a)."""
    return " ".join((said or "").upper().partition("(")[0].split())


def _referred(constraint: ForeignKeyConstraint) -> tuple[Column[Any], ...]:
    """Nothing, if the table is not known yet."""
    try:
        return tuple(element.column for element in constraint.elements)
    except (NoReferenceError, InvalidRequestError):
        return ()


def _is_inheritance(child: Node, constraint: ForeignKeyConstraint, referred: Table) -> bool:
    """Whether both rows are parts of one object, whose class stands in the first."""
    return (
        isinstance(child, Mapper)
        and child.inherits is not None
        and child.polymorphic_on is not None
        and not child.concrete
        and referred in child.inherits.tables
        and set(constraint.columns) == set(constraint.table.primary_key.columns)
    )
