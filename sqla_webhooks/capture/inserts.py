"""
Which rows an INSERT puts in: its watcher.

A statement that does not say is asked for the primary keys, in such a way that
its caller gets the result it would have got.

SQLAlchemy has no public names for the parts of an INSERT: those with an
underscore here are what its own compiler reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Column,
    ColumnElement,
    Connection,
    Insert,
    Table,
    UniqueConstraint,
    and_,
    exists,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Mapper

from sqla_webhooks.capture.watch import DML
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox.database import among, chunks

#: Told, before rows are put in that may meet others, which rows those can be; says which they are.
Meet: TypeAlias = Callable[[Connection, ColumnElement[bool]], Iterable[Identity]]


#: So many values are sent in one statement by every driver; a list of more may be cut.
_AT_ONCE = 900


class Inserts:
    """
    The watcher of an operation that inserts.

    Args:
        mapper: The class whose rows they are.
        meet: See `Meet`. Not called for a statement that fails if it meets a row.
    """

    def __init__(self, mapper: Mapper[Any], *, meet: Meet) -> None:
        self._key: tuple[Any, ...] = tuple(mapper.primary_key)  # columns, of a table
        self._meet = meet
        #: What we have made of the statement that is being executed.
        self._asked: Insert | None = None
        #: The keys of its rows, where the statement gives them, and the database is not asked.
        self._given: list[Identity] | None = None
        #: The result that was asked for keys on MariaDB, which then does not count as it would have.
        self._uncounted: CursorResult[Any] | None = None
        #: Rows that were there, and in the way of new ones.
        self._met: set[Identity] = set()
        #: Whether the statement that is being executed can be refused when some of its rows are in already.
        self.is_doubtful = False
        #: Primary keys of the rows that were put in, or were met.
        self.identities: list[Identity] = []

    @property
    def table(self) -> Table:
        """Where the rows' primary keys are: of several tables, the first that is written."""
        table: Table = self._key[0].table
        return table

    def before(self, connection: Connection, statement: DML, parameters: Any) -> DML:
        """Ask for primary keys, if the statement would not give them."""
        self._asked = self._given = None
        if not isinstance(statement, Insert) or not self._is_of_key(statement):
            return statement
        if may_meet_others(statement):
            for condition in self._others(statement, parameters):
                self._met.update(self._meet(connection, condition))
        if not statement._returning and not statement._return_defaults:  # noqa: SLF001  # see above
            self._ask(connection, statement, parameters)
        rows = len(parameters) if isinstance(parameters, list) else 1
        at_once = rows * len(self.table.columns) <= _AT_ONCE and self._asked is not None
        self.is_doubtful = rows > 1 and not at_once
        return statement if self._asked is None else self._asked

    def _ask(self, connection: Connection, statement: Insert, parameters: Any) -> None:
        dialect: Any = connection.dialect
        several = _is_several(statement)
        if not dialect.insert_returning:
            if several or (may_meet_others(statement) and dialect.name == "sqlite"):  # whose last number may be older
                self._given = self._keys_given(statement, parameters)
        elif several:
            self._asked = statement.returning(*self._key)
        elif (
            isinstance(parameters, list)
            or set(self._key) != set(self.table.primary_key.columns)
            or (may_meet_others(statement) and dialect.postfetch_lastrowid)  # which it is not, if it was met
        ):
            self._asked = statement.return_defaults(*self._key)

    def after(self, statement: DML, result: CursorResult[Any]) -> None:
        """Read the primary keys, unless the caller asked for values: those are the caller's to read."""
        if not isinstance(statement, Insert) or not self._is_of_key(statement):
            return
        self.is_doubtful = False
        if statement is not self._asked:
            if self._given is not None:
                self.identities += self._given
            elif not statement._returning:  # noqa: SLF001  # see above
                self._read_inserted(result)
            return
        rows = result.all() if statement._returning else result.returned_defaults_rows  # noqa: SLF001  # see above
        if rows is None:  # the database was not asked: the parameters had them
            self._read_inserted(result)
            return
        found = [tuple(row._mapping[column] for column in self._key) for row in rows]  # noqa: SLF001  # public, by its documentation
        self.identities += found
        _as_if_not_asked(result)
        if result.context.dialect.name in ("mysql", "mariadb"):
            self._restore_number(statement, result, found)

    def _restore_number(self, statement: Insert, result: CursorResult[Any], found: Sequence[Identity]) -> None:
        """Give the caller the `lastrowid` and, in the end, the `rowcount` of a statement without RETURNING."""
        numbers = [identity[0] for identity in found if len(found) == 1 or identity not in self._met]
        if self._key[0].key in (statement._select_names or ()):  # noqa: SLF001  # see above
            given = numbers
        else:
            given = [identity[0] for identity in self._keys_given(statement, None) if None not in identity]
        number = given[-1] if given else (numbers or [0])[0]
        cursor: Any = result.context.cursor
        cursor.lastrowid = number if self._key[0] is self.table.autoincrement_column else 0
        if statement._post_values_clause is not None:  # noqa: SLF001  # see above
            self._uncounted = result

    def restore_count(self, changed: int) -> None:
        """
        Count a row that was changed twice, as MariaDB does after ON DUPLICATE KEY UPDATE.

        Args:
            changed: How many were.
        """
        if self._uncounted is not None:
            context: Any = self._uncounted.context
            context._rowcount = context.rowcount + changed  # noqa: SLF001  # where the result looks first

    def _read_inserted(self, result: CursorResult[Any]) -> None:
        self.identities += self._in_order(result.inserted_primary_key_rows)

    def _keys_given(self, statement: Insert, parameters: Any) -> list[Identity]:
        """The keys that the statement itself has for its rows; None in place of what it has not."""
        if statement.select is not None:
            return [(None,)]
        names = [column.key for column in self._key]
        return [tuple(row.get(name) for name in names) for row in _values(statement, parameters)]

    def _in_order(self, rows: Any) -> list[Identity]:
        """Keys as the class has them, of those that the table has."""
        columns = list(self.table.primary_key.columns)
        places = [columns.index(column) for column in self._key]
        return [tuple(row[place] for place in places) for row in rows]

    def _is_of_key(self, statement: Insert) -> bool:
        table = statement._annotations.get("_emit_insert_table", statement.table)  # noqa: SLF001  # of several, the one
        return getattr(table, "fullname", None) == self.table.fullname

    def _others(self, statement: Insert, parameters: Any) -> Iterator[ColumnElement[bool]]:
        """Which rows the new ones can meet: those that are alike in what must be unique."""
        values = list(_values(statement, parameters))
        for columns in _unique(self.table):
            if statement.select is not None:
                yield _alike(statement, columns)
                continue
            tuples = {tuple(row.get(column.key) for column in columns): None for row in values}
            known = [one for one in tuples if None not in one]
            for some in chunks(known, width=len(columns)):
                yield among(columns, some)


def _is_several(statement: Insert) -> bool:
    """Whether one execution of it puts in several rows."""
    return bool(statement._multi_values) or statement.select is not None  # noqa: SLF001  # see above


def may_meet_others(statement: Insert) -> bool:
    """Whether it does not just fail where a row is in its way: ON CONFLICT, ON DUPLICATE KEY, IGNORE, REPLACE."""
    return statement._post_values_clause is not None or bool(statement._prefixes)  # noqa: SLF001  # see above


def _as_if_not_asked(result: CursorResult[Any]) -> None:
    """Give the caller the result of a statement that was not asked for primary keys."""
    context: Any = result.context
    if context._is_explicit_returning or not context.dialect.favor_returning_over_lastrowid:  # noqa: SLF001  # see above
        result._metadata = result._no_result_metadata  # noqa: SLF001  # as it is made for a statement without rows
    context._is_explicit_returning = False  # noqa: SLF001  # it was not
    context.returned_default_rows = None


def _unique(table: Table) -> Iterator[tuple[Column[Any], ...]]:
    """What no two rows share."""
    yield tuple(table.primary_key.columns)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield tuple(constraint.columns)
    for index in table.indexes:
        if index.unique and all(isinstance(one, Column) for one in index.expressions):
            yield tuple(index.columns)


def _values(statement: Insert, parameters: Any) -> Iterator[Mapping[str, Any]]:
    """The rows to put in, by the keys of columns, as far as their values are known here."""
    several: Iterable[Mapping[Any, Any]]
    if statement._multi_values:  # noqa: SLF001  # see above
        several = [row for rows in statement._multi_values for row in rows]  # type: ignore[misc]  # noqa: SLF001  # mappings, by now
    else:
        several = parameters if isinstance(parameters, list) and parameters else [parameters or {}]
        several = [{**(statement._values or {}), **row} for row in several]  # noqa: SLF001  # see above
    for row in several:
        known = {key if isinstance(key, str) else key.key: _value(one) for key, one in row.items()}
        yield {key: one for key, one in known.items() if one is not None}


def _value(given: Any) -> Any:
    if isinstance(given, BindParameter):
        return given.effective_value
    return None if isinstance(given, ClauseElement) else given


def _alike(statement: Insert, columns: tuple[Column[Any], ...]) -> ColumnElement[bool]:
    """Whether one of the rows that the statement selects is alike; one that it gives no value for is not."""
    names = list(statement._select_names or ())  # noqa: SLF001  # see above
    select: Any = statement.select
    rows = select.subquery()
    given = dict(zip(names, rows.c, strict=True))
    if not all(column.key in given for column in columns):
        return columns[0].in_([])
    return exists().where(and_(*(column == given[column.key] for column in columns)))
