"""
The rows of the application's tables, by their primary keys: Core, and no objects.

A value that its type cannot read is left out of its row: the application may
never have asked for it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.exc import DataError, DBAPIError

from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox.database import among
from sqla_webhooks.resources import Shape

logger = logging.getLogger(__name__)

#: A primary key and the values of some attributes.
Row: TypeAlias = tuple[Identity, dict[str, Any]]
#: What the rows must fulfil besides.
Where: TypeAlias = tuple[ColumnElement[bool], ...]


def read(connection: Connection, shape: Shape, *, identities: Sequence[Identity], where: Where = ()) -> Sequence[Row]:
    """
    The rows of some primary keys, no more than fit an IN list, in whatever order. A row may be missing.

    Raises:
        DBAPIError: The database failed.
    """
    rows = _readable(connection, shape, identities=identities, names=list(shape.columns), where=where)
    if rows is not None:
        return rows
    logger.warning("some rows of %s have values that their columns' types cannot read: left out", shape.resource)
    found: dict[Identity, dict[str, Any]] = {}
    for name in shape.columns:
        rows = _readable(connection, shape, identities=identities, names=[name], where=where)
        if rows is None:
            each = (_readable(connection, shape, identities=[one], names=[name], where=where) for one in identities)
            rows = [row for some in each if some is not None for row in some]
        for identity, values in rows:
            found.setdefault(identity, {}).update(values)
    return list(found.items())


def _readable(
    connection: Connection, shape: Shape, *, identities: Sequence[Identity], names: Sequence[str], where: Where
) -> Sequence[Row] | None:
    """The values of some attributes; None if a type cannot read what is there, as the application might never have."""
    columns = [shape.columns[name].label(name) for name in names]
    query = select(*shape.key_columns, *columns).select_from(shape.mapper.persist_selectable)
    width = len(shape.key_columns)
    try:
        found = connection.execute(query.where(among(shape.key_columns, identities), *where))
    except DBAPIError:
        raise
    except Exception:  # noqa: BLE001  # a type's own code, for the keys
        return None
    try:
        return [(tuple(row[:width]), dict(zip(names, row[width:], strict=True))) for row in found]
    except DataError:  # the driver has no value for it: psycopg none for the date 'infinity'
        return None
    except DBAPIError:
        raise
    except Exception:  # noqa: BLE001  # a type's own code: JSON that was spoilt, an enum's former member
        return None
