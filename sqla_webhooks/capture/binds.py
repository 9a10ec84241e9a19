"""How we ask a session for the bind of a class: as SQLAlchemy does for what is being written."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, update
from sqlalchemy.orm import Mapper, Session


def writing(session: Session, mapper: Mapper[Any]) -> dict[str, Any]:
    """
    The arguments of `Session.get_bind()`: the class alone in a flush, and a statement that writes to it otherwise.

    A session that reads from replicas goes by either: without them, a bulk
    statement would be looked for where it does not write.
    """
    table = mapper.primary_key[0].table
    if session._flushing or not isinstance(table, Table):  # noqa: SLF001  # SQLAlchemy's own recipes go by it
        return {"mapper": mapper}
    return {"mapper": mapper, "clause": update(table)}
