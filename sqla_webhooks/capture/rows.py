"""What the objects in memory do not know of their rows, read in one query for each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from sqla_webhooks import reading
from sqla_webhooks.capture import binds
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox.database import chunks
from sqla_webhooks.resources import Shape

T = TypeVar("T")


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
        rows = reading.read(connection, shape, identities=some)
        if len(rows) == len(some) == 1:  # whatever the database has made of the key: "5" may have become 5
            yield wanted[some[0]], rows[0][1]
        else:
            yield from ((wanted[identity], values) for identity, values in rows if identity in wanted)
