"""The kinds of writes."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    #: One UPDATE statement for all rows of a transaction.
    BULK = "bulk"


#: The life of an object.
LIFE = (Phase.INSERT, Phase.UPDATE, Phase.DELETE)
