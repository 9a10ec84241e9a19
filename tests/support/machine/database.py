"""What the tables really hold, read by Core alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper

from sqla_webhooks import encoding
from support.machine.models import Post, Tag, posts_fans, posts_tags
from support.machine.replica import Rows, name_of, resource_id


def rows(engine: Engine, classes: Iterable[type[Any]]) -> Rows:
    """Every committed row, as a receiver should know it."""
    found: Rows = {}
    with engine.connect() as connection:
        for cls in classes:
            mapper = sa_inspect(cls)
            names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
            for row in connection.execute(_rows_of(mapper)).mappings():
                data = encoding.loads(encoding.dumps(dict(row)))
                found[name_of(cls), resource_id([data[name] for name in names])] = data
    return found


@lru_cache(maxsize=64)  # random classes come and go
def _rows_of(mapper: Mapper[Any]) -> Any:
    """Only the rows of the class itself, not those of derived classes, out of all of its tables."""
    columns = [prop.columns[0].label(prop.key) for prop in mapper.column_attrs]
    query = select(*columns).select_from(mapper.local_table)
    for table in mapper.tables:
        if table is not mapper.local_table:
            query = query.where(_key_of(table) == _key_of(mapper.local_table))
    if mapper.polymorphic_on is not None:
        query = query.where(mapper.polymorphic_on == mapper.polymorphic_identity)
    return query


def links(engine: Engine, classes: Iterable[type[Any]]) -> dict[tuple[str, str, str], set[str]]:
    """Resource, id and relationship to what is linked."""
    found: dict[tuple[str, str, str], set[str]] = {}
    if Post not in classes:
        return found
    with engine.connect() as connection:
        for row in connection.execute(select(posts_tags)):
            found.setdefault((name_of(Post), str(row.post_id), "tags"), set()).add(row.tag_name)
            found.setdefault((name_of(Tag), row.tag_name, "posts"), set()).add(str(row.post_id))
        for row in connection.execute(select(posts_fans)):
            found.setdefault((name_of(Post), str(row.post_id), "fans"), set()).add(str(row.fan_id))
    return found


def _key_of(table: Any) -> Any:
    """The key of a table of joined inheritance, which is one column."""
    [column] = table.primary_key
    return column
