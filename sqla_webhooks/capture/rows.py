"""What the objects in memory do not know of their rows, read in one query for each class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from sqla_webhooks.outbox.database import chunks
from sqla_webhooks.resources import Shape


def read(
    session: Session, shape: Shape, identities: Collection[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """
    The rows of *identities*: each primary key with its attribute values.

    In the application's thread, on the connection and in the transaction of
    its flush. Core, not ORM: an ORM query in a flush would flush again, and
    would load a second object beside the application's own.
    """
    connection = session.connection(bind_arguments={"mapper": shape.mapper})
    columns = [column.label(name) for name, column in shape.columns.items()]
    query = select(*shape.key_columns, *columns).select_from(shape.mapper.persist_selectable)
    width = len(shape.key_columns)
    for some in chunks(list(identities)):
        for row in connection.execute(query.where(_among(shape, some))):
            yield tuple(row[:width]), dict(zip(shape.columns, row[width:], strict=True))


def _among(shape: Shape, identities: Sequence[tuple[Any, ...]]) -> Any:
    if len(shape.key_columns) == 1:
        return shape.key_columns[0].in_([identity[0] for identity in identities])
    return tuple_(*shape.key_columns).in_(identities)
