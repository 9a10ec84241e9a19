"""What the objects in memory do not know of their rows, read in one query for each class."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.orm import Session

from sqla_webhooks.capture import binds
from sqla_webhooks.outbox.database import among, chunks
from sqla_webhooks.resources import Shape

logger = logging.getLogger(__name__)

T = TypeVar("T")
Identity: TypeAlias = tuple[Any, ...]
#: A primary key and the values of some attributes.
Row: TypeAlias = tuple[Identity, dict[str, Any]]


def read(session: Session, shape: Shape, *, wanted: Mapping[Identity, T]) -> Iterator[tuple[T, dict[str, Any]]]:
    """
    The rows of some primary keys: what was wanted under each key, with its row's attribute values.

    In the application's thread, on the connection and in the transaction of
    its flush. Core, not ORM: an ORM query in a flush would flush again, and
    would load a second object beside the application's own. A row may be
    missing, and a value that its type cannot read.

    Raises:
        DBAPIError: The database failed.
    """
    yield from read_on(session.connection(bind_arguments=binds.writing(session, shape.mapper)), shape, wanted=wanted)


def read_on(
    connection: Connection, shape: Shape, *, wanted: Mapping[Identity, T]
) -> Iterator[tuple[T, dict[str, Any]]]:
    """The same on any connection."""
    for some in chunks(list(wanted), width=len(shape.key)):
        rows = _rows(connection, shape, identities=some)
        if len(rows) == len(some) == 1:  # whatever the database has made of the key: "5" may have become 5
            yield wanted[some[0]], rows[0][1]
        else:
            yield from ((wanted[identity], values) for identity, values in rows if identity in wanted)


def _rows(connection: Connection, shape: Shape, *, identities: Sequence[Identity]) -> Sequence[Row]:
    rows = _readable(connection, shape, identities=identities, names=list(shape.columns))
    if rows is not None:
        return rows
    logger.warning("some rows of %s have values that their columns' types cannot read: left out", shape.resource)
    found: dict[Identity, dict[str, Any]] = {}
    for name in shape.columns:
        rows = _readable(connection, shape, identities=identities, names=[name])
        if rows is None:
            alone = (_readable(connection, shape, identities=[identity], names=[name]) for identity in identities)
            rows = [row for some in alone if some is not None for row in some]
        for identity, values in rows:
            found.setdefault(identity, {}).update(values)
    return list(found.items())


def _readable(
    connection: Connection, shape: Shape, *, identities: Sequence[Identity], names: Sequence[str]
) -> Sequence[Row] | None:
    """The values of some attributes; None if a type cannot read what is there, as the application might never have."""
    columns = [shape.columns[name].label(name) for name in names]
    query = select(*shape.key_columns, *columns).select_from(shape.mapper.persist_selectable)
    width = len(shape.key_columns)
    try:
        found = connection.execute(query.where(among(shape.key_columns, identities)))
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
