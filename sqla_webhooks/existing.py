"""
The rows of mapped classes that are there already, in the order of their primary keys: by Core, and no objects.

They are locked without waiting. While a row is locked nobody has a change of it
that has not committed, so what is read is all that its events so far have told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CHAR,
    ColumnElement,
    Connection,
    Dialect,
    Enum,
    Select,
    Table,
    and_,
    cast,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.exc import ArgumentError, CompileError
from sqlalchemy.orm import Mapper

from sqla_webhooks import keys, reading
from sqla_webhooks.encoding import TABLE
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox.database import among, chunks
from sqla_webhooks.reading import Row, Where
from sqla_webhooks.resources import Resources, Shape


@dataclass(frozen=True, slots=True, eq=False)
class Existing:
    """
    The rows of one class, and of none that is derived from it.

    Attributes:
        kind: What tells them from the rows of other classes in their table.
        where: What else they must fulfil.
    """

    shape: Shape
    kind: Where = ()
    where: Where = ()

    @property
    def tables(self) -> list[Table]:
        """Where its rows stand."""
        return [one for one in self.shape.mapper.tables if isinstance(one, Table)]

    def count(self, connection: Connection) -> int:
        """How many there are."""
        return int(connection.execute(select(func.count()).select_from(self._keys().subquery())).scalar_one())

    def after(self, connection: Connection, identity: Identity | None, *, limit: int) -> list[Identity]:
        """The keys of the next rows beyond *identity*, or of the first. Nothing is locked."""
        columns = self.shape.key_columns
        ordered = [_as_compared(one, connection.dialect) for one in columns]
        beyond = () if identity is None else (_beyond(ordered, identity),)
        others = [one for one, column in zip(ordered, columns, strict=True) if one is not column]
        query = self._keys(*beyond).add_columns(*others)  # for a database that orders distinct rows by these alone
        found = connection.execute(query.order_by(*ordered).limit(limit))
        return [tuple(row[: len(columns)]) for row in found]

    def lock(self, connection: Connection, identities: Sequence[Identity]) -> list[Identity]:
        """
        Lock the rows of these keys until the transaction ends, but for those that another has locked; the keys of both.

        By their primary keys alone: InnoDB locks all that it looks at.
        """
        # A shared lock keeps writers off, and lets through what checks foreign keys. MariaDB has none that skips.
        shared = connection.dialect.name == "postgresql"
        columns = self.shape.key_columns
        query = self._rows(select(*columns)).order_by(*columns).with_for_update(read=shared, skip_locked=True)
        return self._of(connection, query, identities)

    def there(self, connection: Connection, identities: Sequence[Identity]) -> list[Identity]:
        """Which of these rows there are, locked or not."""
        return self._of(connection, self._rows(select(*self.shape.key_columns)), identities)

    def read(self, connection: Connection, identities: Sequence[Identity]) -> list[Row]:
        """The rows of these keys, in their order, as far as they fulfil what they must."""
        found: dict[bytes, Row] = {}
        for some in chunks(identities, width=len(self.shape.key)):
            where = (*self.kind, *self.where)
            rows = reading.read(connection, self.shape, identities=some, where=where)
            found.update((keys.text(identity), (identity, values)) for identity, values in rows)
        return [found[text] for text in map(keys.text, identities) if text in found]

    def _keys(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        columns = self.shape.key_columns
        # Of a key that is none there could be no next: no database compares it.
        there = [one.is_not(None) for one in columns if getattr(one, "nullable", False)]
        query = self._rows(select(*columns), *conditions, *there, *self.kind, *self.where)
        return query.distinct() if self.where else query  # a condition that joins may find a row twice

    def _rows(self, query: Select[Any], *conditions: ColumnElement[bool]) -> Select[Any]:
        return query.select_from(self.shape.mapper.persist_selectable).where(*conditions)

    def _of(self, connection: Connection, query: Select[Any], identities: Sequence[Identity]) -> list[Identity]:
        columns = self.shape.key_columns
        pieces = chunks(identities, width=len(columns))
        return [tuple(row) for some in pieces for row in connection.execute(query.where(among(columns, some)))]


def _as_compared(column: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """A column so that the database puts it in the order in which it compares it."""
    if isinstance(column.type, Enum) and dialect.name in ("mysql", "mariadb"):
        return type_coerce(cast(column, CHAR), column.type)  # compared as text, and put in order by its number
    return column


def _beyond(columns: Sequence[ColumnElement[Any]], identity: Identity) -> ColumnElement[bool]:
    """Whether a key comes after *identity*. Not a comparison of rows, for which MariaDB would not use the index."""
    (column, *others), (value, *rest) = columns, identity
    beyond: ColumnElement[bool] = column > value
    return and_(column >= value, or_(beyond, _beyond(others, tuple(rest)))) if others else beyond


def existing(resources: Resources, model: Any, *, where: Any) -> list[Existing]:
    """
    The rows of *model*, and of each class derived from it, as far as they are captured: its own before theirs.

    Raises:
        ConfigurationError: It is no mapped class, or is not captured; *where* is no condition.
    """
    mapper: Any = sa_inspect(model, raiseerr=False) if isinstance(model, type) else None
    if not isinstance(mapper, Mapper):
        message = f"{model!r} is no mapped class: give a class such as Order"
        raise ConfigurationError(message)
    conditions = () if where is None else (_condition(where),)
    kinds = [(resources.shape(one), kind) for one, kind in _kinds(mapper)]
    found = [Existing(shape, kind, conditions) for shape, kind in kinds if shape is not None]
    if not found:
        why = resources.examine(mapper).why_not
        message = f"{mapper.class_.__qualname__} is not captured, so nothing is sent of it: {why or 'nor what it has'}"
        raise ConfigurationError(message)
    return found


def _kinds(mapper: Mapper[Any]) -> list[tuple[Mapper[Any], Where]]:
    """The class and those derived from it, each with what tells its rows from theirs."""
    found: list[tuple[Mapper[Any], Where]] = []
    for one in mapper.self_and_descendants:
        on = one.polymorphic_on
        if one.concrete or (one is mapper and (on is None or len(one.polymorphic_map) == 1)):
            found.append((one, ()))
        elif on is not None and one.polymorphic_identity is not None:
            found.append((one, (on == one.polymorphic_identity,)))
    return found


def _condition(where: Any) -> ColumnElement[bool]:
    refused: ArgumentError | None = None
    if not isinstance(where, bool):  # what `is` makes of a comparison, and SQLAlchemy takes for SQL's
        try:
            return and_(where)
        except ArgumentError as error:
            refused = error
    message = f"where is {where!r}: give a condition in SQL, such as Order.status == 'paid'"
    raise ConfigurationError(message) from refused


def digest(rows: Existing, dialect: Dialect) -> str | None:
    """
    By which a condition is known again, with its values; None if there is none.

    Raises:
        ConfigurationError: No SQL can be made of it.
    """
    if not rows.where:
        return None
    try:
        compiled = and_(*rows.where).compile(dialect=dialect)
    except CompileError as error:
        message = f"where makes no SQL: {error}"
        raise ConfigurationError(message) from error
    return hashlib.blake2b(TABLE.dumps([str(compiled), compiled.params]), digest_size=32).hexdigest()
