"""The mapped classes of this process, and what they have that could be sent. Nothing here configures a mapper."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.ext.hybrid import HybridExtensionType
from sqlalchemy.orm import ColumnProperty, Mapper, mapperlib


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
        return sorted(mappers, key=lambda mapper: full_name(mapper.class_))


def count() -> int:
    """How many classes are mapped. Cheap: a flush may ask whether there are new ones."""
    while True:
        try:
            return sum(len(registry._managers) for registry in mapperlib._all_registries())  # noqa: SLF001  # as above
        except RuntimeError:  # as above
            continue


#: An expression in `polymorphic_on` is an attribute of SQLAlchemy's own.
_OF_SQLALCHEMY = "_sa_"


def full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def has_mapper(cls: type) -> bool:
    """Mapped itself."""
    return isinstance(sa_inspect(cls, raiseerr=False), Mapper)


def is_mapped(cls: type) -> bool:
    """Mapped itself, or a base of mapped classes such as a mixin or an abstract base."""
    return has_mapper(cls) or any(issubclass(mapper.class_, cls) for mapper in mapped())


def table_name(mapper: Mapper[Any]) -> str:
    """The same in every process: of the class's own table, or of all that it selects from."""
    table = mapper.local_table
    # As plain text: the names of tables are of a type of their own, which a JSON library does not know.
    return str(table.fullname) if isinstance(table, Table) else "+".join(sorted(one.fullname for one in mapper.tables))


def column_properties(mapper: Mapper[Any]) -> list[ColumnProperty[Any]]:
    """The attributes that are loaded with a row: columns, and expressions named by `column_property`."""
    names = dict.fromkeys(name for name in mapper.columns.keys() if mapper.has_property(name))  # noqa: SIM118  # columns are what it yields
    found = [prop for prop in map(mapper.get_property, names) if isinstance(prop, ColumnProperty)]
    return [prop for prop in found if is_column(prop) or not prop.key.startswith(_OF_SQLALCHEMY)]


def hybrids(mapper: Mapper[Any]) -> list[str]:
    """The names of the hybrid properties."""
    kind = HybridExtensionType.HYBRID_PROPERTY
    return [name for name, one in mapper.all_orm_descriptors.items() if one.extension_type is kind]


def is_column(prop: ColumnProperty[Any]) -> bool:
    return isinstance(prop.columns[0], Column)


def sendable(mapper: Mapper[Any]) -> list[str]:
    """The names of all that could be sent, if it were named."""
    return [*(prop.key for prop in column_properties(mapper)), *hybrids(mapper)]


def infos(prop: ColumnProperty[Any]) -> Iterable[Any]:
    """What the application has noted on an attribute, and on its columns."""
    return [prop.info, *(column.info for column in prop.columns if isinstance(column, Column))]
