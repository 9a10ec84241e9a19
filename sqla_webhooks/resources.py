"""
The mapped classes as the outside sees them: resources and their attributes.

A `Shape` is what capture knows of one mapper, computed once. `Resources`
holds the shapes of one installation, by mapper and by resource name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement
from sqlalchemy.orm import MANYTOONE, ColumnProperty, Mapper

from sqla_webhooks import attributes, declared, models
from sqla_webhooks.attributes import Attribute
from sqla_webhooks.declared import Declared
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import CHANGES, Event, Operation
from sqla_webhooks.mappers import full_name, mapped, table_name
from sqla_webhooks.naming import snake_case
from sqla_webhooks.selection import Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """What is captured of the rows of one mapper."""

    resource: str
    table: str
    mapper: Mapper[Any]
    #: Attribute name to column, or expression, for every attribute that is captured: those that are sent, and `hidden`.
    columns: Mapping[str, ColumnElement[Any]]
    #: Those that are columns, in the same order; and those that are expressions. The database works these out, so no
    #: object knows them after a flush.
    stored: tuple[str, ...]
    expressions: frozenset[str]
    #: The attributes of the primary key, in key order.
    key: tuple[str, ...]
    key_columns: tuple[ColumnElement[Any], ...]
    #: The attribute that counts the row's versions, if it is sent; none or one.
    version: tuple[str, ...]
    #: Attributes whose value an UPDATE may change without anybody setting it.
    volatile: frozenset[str]
    #: Each many-to-one relationship to the attributes of its foreign key.
    foreign: Mapping[str, tuple[str, ...]]
    #: The attributes that hold JSON, where the null of JSON is another value than that of SQL.
    json: frozenset[str]
    #: Those of `columns` that are not sent, but tell whose a row is.
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Standing:
    """How a class stands to the outside, before its attributes are looked at. Configures no mapper."""

    mapper: Mapper[Any]
    said: Declared
    resource: str
    table: str
    operations: frozenset[Operation]
    #: Why it is not captured; empty if it is.
    why_not: str
    #: Whether that is nobody's wish, and must be told.
    is_mistake: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Examined:
    """All that is decided of a class: of itself, and of its attributes."""

    standing: Standing
    attributes: tuple[Attribute, ...]
    #: Those of the primary key, in its order.
    key: tuple[str, ...]

    @property
    def why_not(self) -> str:
        """Why it is not captured; empty if it is."""
        if self.standing.why_not:
            return self.standing.why_not
        return "" if set(self.key) <= {one.name for one in self.attributes if one.sent} else _NO_KEY


class Resources:
    """
    The shapes of one installation.

    Shapes are made when first asked for, in whichever thread that is, and are
    never changed; when two threads make the same one, the first is kept.
    """

    def __init__(
        self, *, include: Iterable[Any] = (), exclude: Iterable[Any] = (), names: Mapping[Any, Any] | None = None
    ) -> None:
        """
        Understand what `install()` was told.

        Raises:
            ConfigurationError: It makes no sense, or what a class that is mapped by now says of itself.
        """
        self._selection = Selection.of(include=include, exclude=exclude, names=names)
        self._standings: dict[Mapper[Any], Standing] = {}
        self._shapes: dict[Mapper[Any], Shape | None] = {}
        self._named: dict[str, list[Shape]] = {}
        for mapper in mapped():
            attributes.check_needed(mapper, declared.declared(mapper), self._selection)

    def shape(self, mapper: Mapper[Any]) -> Shape | None:
        """The shape of *mapper*, or None if its class is not captured. Raises nothing: a flush may ask."""
        try:
            return self._shapes[mapper]
        except KeyError:
            shape = self._make(mapper)
        kept = self._shapes.setdefault(mapper, shape)
        if shape is not None and kept is shape:
            self._warn_of_namesakes(shape)
        return kept

    def names(self) -> frozenset[str]:
        """Every resource captured, of the classes mapped so far in this process."""
        return frozenset(shape.resource for shape in self.all())

    def never(self) -> frozenset[str]:
        """The event types of these resources that there are not, since their operations are left out."""
        every, some = set(), set()
        for one in map(self.standing, (shape.mapper for shape in self.all())):
            every |= {f"{one.resource}.{operation.verb}" for operation in CHANGES}
            some |= {f"{one.resource}.{operation.verb}" for operation in one.operations}
        return frozenset(every - some)

    def wanted(self, events: Iterable[Event]) -> list[Event]:
        """
        *events* without those of operations that are left out.

        Asked of what a transaction came to, not of each change: a row that it has
        created and updated was created. Those of classes that this process does
        not map, or does not capture, are for those to judge who wrote them.
        """
        standings = [one for one in map(self.standing, mapped()) if not one.why_not]
        left_out = {
            (one.resource, one.table, operation) for one in standings for operation in declared.EVERY - one.operations
        } - {(one.resource, one.table, operation) for one in standings for operation in one.operations}
        return [one for one in events if (one.resource, one.table, one.operation) not in left_out]

    def mapper(self, resource: str, table: str) -> Mapper[Any] | None:
        """The mapper behind a resource, if this process maps it."""
        return next((one.mapper for one in self.all() if (one.resource, one.table) == (resource, table)), None)

    def shapes(self, resource: str, table: str) -> tuple[Shape, ...]:
        """Of every class of this process that is captured as that resource of that table; mostly one."""
        return tuple(one for one in self.all() if (one.resource, one.table) == (resource, table))

    def says_tenant(self, mapper: Mapper[Any]) -> bool:
        """Whether a class itself says whose its rows are."""
        return self.standing(mapper).said.says_tenant

    def say_tenants(self) -> bool:
        """Whether any class of this process does."""
        return any(map(self.says_tenant, mapped()))

    def tenants_said(self) -> dict[str, bool]:
        """Of every resource captured, whether any class behind it says whose its rows are."""
        said: dict[str, bool] = {}
        for shape in self.all():
            said[shape.resource] = said.get(shape.resource, False) or self.says_tenant(shape.mapper)
        return said

    def key(self, resource: str, table: str) -> tuple[str, ...]:
        """The attributes of the primary key of a resource's rows; none, if this process does not map it."""
        mapper = self.mapper(resource, table)
        shape = None if mapper is None else self.shape(mapper)
        return () if shape is None else shape.key

    def version(self, resource: str, table: str) -> tuple[str, ...]:
        """The attribute that counts the versions of a resource's rows; none, if there is none, or none is known."""
        mapper = self.mapper(resource, table)
        shape = None if mapper is None else self.shape(mapper)
        return () if shape is None else shape.version

    def standing(self, mapper: Mapper[Any]) -> Standing:
        """How the class of *mapper* stands to the outside."""
        if mapper not in self._standings:
            self._standings[mapper] = self._stand(mapper)
        return self._standings[mapper]

    def examine(self, mapper: Mapper[Any]) -> Examined:
        """All that is decided of the class of *mapper*."""
        standing = self.standing(mapper)
        key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        found = () if standing.is_mistake else attributes.attributes(mapper, standing.said, self._selection)
        return Examined(standing, found, key)

    def _stand(self, mapper: Mapper[Any]) -> Standing:
        cls, selection, mistake = mapper.class_, self._selection, ""
        try:
            said = declared.declared(mapper)
        except ConfigurationError as error:  # of a class that was mapped after `install()`
            said, mistake = Declared(), str(error)
        name = selection.called.get(cls) or said.name or snake_case(cls.__name__)
        why_not = mistake or selection.why_not(cls, said)
        if any(getattr(table, "fullname", "") in models.metadata.tables for table in mapper.tables):
            why_not = "a table of ours"  # by name, since they may be mapped by reflection too
        elif not why_not and not name:
            mistake = why_not = _NO_NAME
        operations = selection.operations(cls, said)
        return Standing(mapper, said, name, table_name(mapper), operations, why_not, bool(mistake))

    def all(self) -> list[Shape]:
        """That of every captured class, of those mapped so far in this process."""
        return [shape for mapper in mapped() if (shape := self.shape(mapper)) is not None]

    def _warn_of_namesakes(self, shape: Shape) -> None:
        """Their events are kept apart, but receivers cannot tell them by their types."""
        namesakes = self._named.setdefault(shape.resource, [])
        namesakes.append(shape)  # first, or two threads could miss each other's
        for other in list(namesakes):
            if other.table != shape.table:
                logger.warning(
                    "%s and %s are both sent as %r: rename one with names={...}, or leave it out with exclude=[...]",
                    *(full_name(other.mapper.class_), full_name(shape.mapper.class_), shape.resource),
                )

    def _make(self, mapper: Mapper[Any]) -> Shape | None:
        examined = self.examine(mapper)
        if examined.why_not:
            if examined.standing.is_mistake or examined.why_not is _NO_KEY:
                logger.error("%s is not captured: %s", full_name(mapper.class_), examined.why_not)
            return None
        _tell_what_is_left_out(mapper, examined.attributes)
        taken = [one for one in examined.attributes if one.sent or _tells_tenant(one, examined.standing.said)]
        columns = {one.name: one.column for one in taken if one.column is not None}
        return Shape(
            resource=examined.standing.resource,
            table=examined.standing.table,
            mapper=mapper,
            columns=columns,
            stored=tuple(one.name for one in taken if not one.is_expression),
            expressions=frozenset(one.name for one in taken if one.is_expression),
            key=examined.key,
            key_columns=tuple(mapper.primary_key),
            version=tuple(one.name for one in taken if one.sent and _counts_versions(mapper, one)),
            volatile=frozenset(one.name for one in taken if one.prop is not None and _volatile(mapper, one.prop)),
            foreign=_foreign(mapper, columns),
            json=frozenset(name for name, column in columns.items() if _holds_json(column)),
            hidden=tuple(one.name for one in taken if not one.sent),
        )


_NO_NAME = "no name can be made of its name: give it one with names={...}"
_NO_KEY = (
    "its primary key is left out, and without it no row can be named; take it out of exclude=[...], or, if it is left "
    "out for its name, name it in include=[...]"
)


def _tell_what_is_left_out(mapper: Mapper[Any], found: Iterable[Attribute]) -> None:
    cls = mapper.class_.__qualname__
    by_why: dict[str, list[str]] = {}
    for one in found:
        by_why.setdefault(one.why, []).append(one.name)
    if secret := by_why.get(attributes.SECRET):
        logger.info("%s: left out, for their names say secret: %s", cls, sorted(secret))
    if no_sql := by_why.get(attributes.NO_SQL):
        logger.error(
            "%s: left out, for these hybrids have no form in SQL: %s; give them an expression, or let an enricher add "
            "them",
            *(cls, sorted(no_sql)),
        )


def _tells_tenant(attribute: Attribute, said: Declared) -> bool:
    """Whether it must be captured though it is not sent."""
    return said.tenant is not None and attribute.name == said.tenant and not attribute.is_expression


def _counts_versions(mapper: Mapper[Any], one: Attribute) -> bool:
    return one.column is not None and one.column is mapper.version_id_col


def _volatile(mapper: Mapper[Any], prop: ColumnProperty[Any]) -> bool:
    """Whether an UPDATE may change the column by itself: onupdate, computed, a version counter."""
    return any(
        column.onupdate is not None
        or column.server_onupdate is not None
        or column.computed is not None
        or column is mapper.version_id_col
        for column in prop.columns
        if isinstance(column, Column)
    )


def _foreign(mapper: Mapper[Any], columns: Mapping[str, ColumnElement[Any]]) -> dict[str, tuple[str, ...]]:
    return {
        relation.key: tuple(key for key, column in columns.items() if column in relation.local_columns)
        for relation in mapper.relationships
        if relation.direction is MANYTOONE and not relation.viewonly
    }


def _holds_json(column: ColumnElement[Any]) -> bool:
    return isinstance(column.type, JSON) or isinstance(getattr(column.type, "impl", None), JSON)
