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

from sqlalchemy import JSON, Column, ColumnElement, Table
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import MANYTOONE, ColumnProperty, Mapper, QueryableAttribute, mapperlib

from sqla_webhooks import models
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.naming import says_secret, snake_case

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """What is captured of the rows of one mapper."""

    resource: str
    table: str
    mapper: Mapper[Any]
    #: Attribute name to column, for every attribute that is sent.
    columns: Mapping[str, Column[Any]]
    #: The attributes of the primary key, in key order.
    key: tuple[str, ...]
    key_columns: tuple[ColumnElement[Any], ...]
    #: Attributes whose value an UPDATE may change without anybody setting it.
    volatile: frozenset[str]
    #: Each many-to-one relationship to the attributes of its foreign key.
    foreign: Mapping[str, tuple[str, ...]]
    #: The attributes that hold JSON, where the null of JSON is another value than that of SQL.
    json: frozenset[str]


class Resources:
    """
    The shapes of one installation.

    Shapes are made when first asked for, in whichever thread that is, and are
    never changed; when two threads make the same one, the first is kept.
    """

    def __init__(self, *, include: Iterable[Any] = (), exclude: Iterable[Any] = ()) -> None:
        self._only, self._named = _classes_and_attributes("include", include)
        self._without, self._unsent = _classes_and_attributes("exclude", exclude)
        self._shapes: dict[Mapper[Any], Shape | None] = {}

    def shape(self, mapper: Mapper[Any]) -> Shape | None:
        """The shape of *mapper*, or None if its class is not captured."""
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
        return frozenset(shape.resource for shape in self._all())

    def mapper(self, resource: str, table: str) -> Mapper[Any] | None:
        """The mapper behind a resource, if this process maps it."""
        return next((one.mapper for one in self._all() if (one.resource, one.table) == (resource, table)), None)

    def _all(self) -> list[Shape]:
        return [shape for mapper in mapped() if (shape := self.shape(mapper)) is not None]

    def _warn_of_namesakes(self, shape: Shape) -> None:
        """Their events are kept apart, but receivers cannot tell them by their types."""
        for other in list(self._shapes.values()):
            if other is not None and other.resource == shape.resource and other.table != shape.table:
                logger.warning(
                    "%s and %s are both sent as %r: rename one, or leave it out with exclude=[...]",
                    *(_full_name(other.mapper), _full_name(shape.mapper), shape.resource),
                )

    def _make(self, mapper: Mapper[Any]) -> Shape | None:
        if not self._captured(mapper):
            return None
        resource = snake_case(mapper.class_.__name__)
        if not resource:
            logger.warning("%s is not captured: no name can be made of its name", _full_name(mapper))
            return None
        columns, secret = self._columns(mapper)
        key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        if not columns.keys() >= set(key):
            logger.warning(
                "%s is not captured: its primary key is left out, and without it no row can be named; take it out of "
                "exclude=[...] or, if it is left out for its name, name it in include=[...]",
                mapper.class_.__qualname__,
            )
            return None
        if secret:
            logger.info("%s: left out, for their names say secret: %s", mapper.class_.__qualname__, sorted(secret))
        return Shape(
            resource=resource,
            table=_table_name(mapper),
            mapper=mapper,
            columns=columns,
            key=key,
            key_columns=tuple(mapper.primary_key),
            volatile=frozenset(name for name in columns if _volatile(mapper, name)),
            foreign=_foreign(mapper, columns),
            json=frozenset(name for name, column in columns.items() if _holds_json(column)),
        )

    def _captured(self, mapper: Mapper[Any]) -> bool:
        """Whether the class is wanted, and is not a view of our own tables."""
        if any(getattr(table, "fullname", "") in models.metadata.tables for table in mapper.tables):
            return False  # by name, since they may be mapped by reflection too
        if any(issubclass(mapper.class_, one) for one in self._without):
            return False
        return not self._only or any(issubclass(mapper.class_, one) for one in self._only)

    def _columns(self, mapper: Mapper[Any]) -> tuple[dict[str, Column[Any]], frozenset[str]]:
        """What is sent, and what is not because it says secret."""
        columns, secret = {}, set()
        for prop in mapper.column_attrs:
            column = prop.columns[0]
            if not isinstance(column, Column) or _names(mapper, prop.key, self._unsent):
                continue  # a column_property of an expression is no column; an excluded one is not sent
            hidden = says_secret(prop.key) or says_secret(column.name)
            if hidden and not _names(mapper, prop.key, self._named):
                secret.add(prop.key)
            else:
                columns[prop.key] = column
        return columns, frozenset(secret)


def mapped() -> list[Mapper[Any]]:
    """
    Every mapper of this process, by class name.

    SQLAlchemy has no public listing across registries; its own
    `configure_mappers()` walks the same one.
    """
    while True:
        try:
            registries = mapperlib._all_registries()  # noqa: SLF001  # see above
            mappers = {mapper for registry in registries for mapper in registry.mappers}
        except RuntimeError:  # a class was being mapped in another thread, and the listing changed under our eyes
            continue
        return sorted(mappers, key=_full_name)


def _full_name(mapper: Mapper[Any]) -> str:
    return f"{mapper.class_.__module__}.{mapper.class_.__qualname__}"


def _volatile(mapper: Mapper[Any], name: str) -> bool:
    """Whether an UPDATE may change the column by itself: onupdate, computed, a version counter."""
    columns = mapper.attrs[name].columns
    return any(
        column.onupdate is not None
        or column.server_onupdate is not None
        or column.computed is not None
        or column is mapper.version_id_col
        for column in columns
    )


def _foreign(mapper: Mapper[Any], columns: Mapping[str, Column[Any]]) -> dict[str, tuple[str, ...]]:
    return {
        relation.key: tuple(key for key, column in columns.items() if column in relation.local_columns)
        for relation in mapper.relationships
        if relation.direction is MANYTOONE and not relation.viewonly
    }


def _table_name(mapper: Mapper[Any]) -> str:
    """The same in every process: of the class's own table, or of all that it selects from."""
    table = mapper.local_table
    # As plain text: the names of tables are of a type of their own, which a JSON library does not know.
    return str(table.fullname) if isinstance(table, Table) else "+".join(sorted(one.fullname for one in mapper.tables))


def _holds_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JSON) or isinstance(getattr(column.type, "impl", None), JSON)


def _names(mapper: Mapper[Any], key: str, attributes: Iterable[tuple[type, str]]) -> bool:
    return any(key == name and issubclass(mapper.class_, owner) for owner, name in attributes)


def _classes_and_attributes(setting: str, given: Iterable[Any]) -> tuple[tuple[type, ...], frozenset[tuple[type, str]]]:
    """Sort the entries of `include` or `exclude` by what they name."""
    classes, attributes = [], set()
    for one in given:
        if isinstance(one, QueryableAttribute) and _is_column(one.property):
            attributes.add((one.parent.class_, one.property.key))
        elif isinstance(one, type) and _is_mapped(one):
            classes.append(one)
        else:
            message = f"{setting} has {one!r}: name mapped classes (User) or their columns (User.api_key)"
            raise ConfigurationError(message)
    return tuple(classes), frozenset(attributes)


def _is_column(prop: Any) -> bool:
    return isinstance(prop, ColumnProperty) and isinstance(prop.columns[0], Column)


def _is_mapped(cls: type) -> bool:
    """Mapped itself, or a base of mapped classes such as a mixin or an abstract base."""
    return sa_inspect(cls, raiseerr=False) is not None or any(issubclass(mapper.class_, cls) for mapper in mapped())
