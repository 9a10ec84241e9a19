"""What a query finds, however much it is, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Select, func

from sqla_webhooks.outbox.database import Database

#: Rows of a page, which are changed in one transaction: few enough that nobody waits long for it.
SIZE = 200


@dataclass(frozen=True, slots=True)
class Pages:
    """
    The numbers of rows, in their order; rows that come later are not among them.

    Each page is a short read of its own, made when it is asked for.

    Attributes:
        total: How many rows there were at the first look.
    """

    database: Database
    number: Column[Any]
    query: Select[Any]
    total: int
    last: int

    @classmethod
    def of(cls, database: Database, number: Column[Any], query: Select[Any]) -> Pages:
        """What *query* finds; *number* is the column by which it is told apart."""
        with database.read() as connection:
            total, last = connection.execute(query.with_only_columns(func.count(), func.max(number))).one()
        return cls(database, number, query.with_only_columns(number), total, last or 0)

    def __iter__(self) -> Iterator[list[int]]:
        after = 0
        while page := self._after(after):
            yield page
            after = page[-1]

    def _after(self, number: int) -> list[int]:
        rest = self.query.where(self.number > number, self.number <= self.last).order_by(self.number).limit(SIZE)
        with self.database.read() as connection:
            return list(connection.execute(rest).scalars())
