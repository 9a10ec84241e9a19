"""
Which rows an UPDATE or DELETE with criteria changes: its watcher.

They are read, and locked, before it, by the statement's own criteria.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, ColumnElement, Connection, Update, any_, bindparam, func, literal, select, tuple_
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Mapper

from sqla_webhooks.capture.snapshot import is_polymorphic
from sqla_webhooks.capture.watch import DML
from sqla_webhooks.keys import Identity

#: Told the primary keys of the rows, each with its discriminator, if that was read; says whether to go on with them.
Tell: TypeAlias = Callable[[Sequence[tuple[Identity, Any]]], bool]


class Changed:
    """
    The watcher of an UPDATE or DELETE.

    Args:
        mapper: The class that the statement names.
        lock: Called with the connection before rows are read on it.
        tell: See `Tell`. Called before the statement is executed.
    """

    def __init__(self, mapper: Mapper[Any], *, lock: Callable[[Connection], None], tell: Tell) -> None:
        self._mapper = mapper
        self._lock = lock
        self._tell = tell
        #: Primary keys that the statement changes, old to new; and has changed, once it is executed.
        self._moves: dict[Identity, Identity] = {}
        self.moved: dict[Identity, Identity] = {}

    def before(self, connection: Connection, statement: DML, parameters: Any) -> DML:
        """Read which rows the statement will change, and see that it changes no others."""
        self._lock(connection)
        key, kind = self._key(), self.kind
        one = parameters[0] if isinstance(parameters, list) and parameters else parameters or {}
        new_key = self._new_key(statement, one)
        query = select(*key, *kind, *new_key).with_for_update(of=self._mapper.local_table)
        if (criteria := statement.whereclause) is not None:  # type: ignore[union-attr]  # an INSERT has none
            query = query.where(criteria)
        query = query.options(*statement._with_options)  # noqa: SLF001  # criteria of the ORM's; nothing public has them
        found: dict[Identity, Any] = {}
        for row in connection.execute(query, one):
            identity = tuple(row[: len(key)])
            found[identity] = row[len(key)] if kind else None
            if new_key and (new := tuple(row[len(key) + len(kind) :])) != identity:
                self._moves[identity] = new
        if not self._tell(list(found.items())) or connection.dialect.name != "postgresql":
            return statement
        return statement.where(self._among(list(found)))  # type: ignore[union-attr]  # an INSERT has none

    def after(self, _statement: DML, _result: CursorResult[Any]) -> None:
        """All else was said before."""
        self.moved = self._moves

    @property
    def kind(self) -> list[Any]:
        """The discriminator, if the rows are of several classes and it stands in the table that is written."""
        return [self._mapper.polymorphic_on] if is_polymorphic(self._mapper) and not self._is_joined else []

    @property
    def _is_joined(self) -> bool:
        return self._mapper.local_table is not self._mapper.base_mapper.local_table and not self._mapper.concrete

    def _key(self) -> list[Any]:
        """
        Columns of the table that is written.

        As attributes, to which SQLAlchemy adds what it adds to the statement; but not where it would join a table
        to them that the statement does not join.
        """
        if self._is_joined:
            table: Any = self._mapper.local_table
            return list(table.primary_key.columns)
        return [self._mapper.get_property_by_column(column).class_attribute for column in self._mapper.primary_key]

    def _new_key(self, statement: DML, parameters: Mapping[str, Any]) -> list[ColumnElement[Any]]:
        """What the statement makes of the primary key; nothing, if it leaves it alone."""
        if not isinstance(statement, Update):
            return []
        values: dict[Any, Any] = {**(statement._values or {}), **parameters}  # noqa: SLF001  # nothing public has them
        by_key = {name if isinstance(name, str) else name.key: value for name, value in values.items()}
        columns = self._mapper.primary_key
        if not any(column.key in by_key for column in columns):
            return []
        given = [by_key.get(column.key, column) for column in columns]
        return [
            one if isinstance(one, ColumnElement) else literal(one, column.type)
            for one, column in zip(given, columns, strict=True)
        ]

    def _among(self, identities: Sequence[Identity]) -> ColumnElement[bool]:
        """
        Whether a row is one of these.

        At READ COMMITTED, PostgreSQL's own default, rows may fulfil the
        criteria by the time of the statement that did not when we looked.
        """
        table: Any = self._mapper.local_table
        columns: list[ColumnElement[Any]] = list(table.primary_key.columns)
        parts = [
            bindparam(None, [identity[place] for identity in identities], type_=ARRAY(column.type))
            for place, column in enumerate(columns)
        ]
        if len(columns) == 1:
            only: ColumnElement[bool] = columns[0] == any_(parts[0])
            return only
        return tuple_(*columns).in_(select(*(func.unnest(part) for part in parts)))
