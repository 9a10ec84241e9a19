"""
Which outbox rows a turn of the relay takes, and in which order their transactions come.

The oracle is a database in miniature: transactions that run side by side, each holding the lock of a row from
its first change of it until its end. On SQLite, with its one writer, they could not; so the rows are written here as
PostgreSQL would let them be written, through the library's own `write()` and `take()`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, delete, event, select
from support.clock import START

from sqla_webhooks import models
from sqla_webhooks.coalesce import coalesce
from sqla_webhooks.encoding import TABLE
from sqla_webhooks.events import Change, Operation
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.take import BYTES, Batch, take
from sqla_webhooks.outbox.write import write


@contextmanager
def empty_outbox() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    models.metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def connection() -> Iterator[Connection]:
    with empty_outbox() as connection:
        yield connection


@dataclass
class Database:
    """Transactions side by side, under row locks. A row's value is how often it was changed."""

    connection: Connection
    values: dict[str, int] = field(default_factory=dict)
    locked_by: dict[str, int] = field(default_factory=dict)
    #: Each transaction's changes of rows, by the number of its flush in the order of all flushes.
    flushes: dict[int, list[tuple[int, str, int, int]]] = field(default_factory=dict)
    #: What was committed of each row, in the order of the commits.
    committed: dict[str, list[int]] = field(default_factory=dict)
    flushed: int = 0

    def flush(self, transaction: int, row: str) -> bool:
        """Change *row*; False if another transaction holds it, and this one would have to wait."""
        if self.locked_by.setdefault(row, transaction) != transaction:
            return False
        before = self.values.get(row, 0)
        self.values[row] = before + 1
        self.flushed += 1
        self.flushes.setdefault(transaction, []).append((self.flushed, row, before, before + 1))
        return True

    def commit(self, transaction: int) -> None:
        """Make the changes of *transaction* seen, and let its rows go."""
        last: dict[str, int] = {}
        for number, row, before, after in self.flushes.pop(transaction, []):
            last[row] = after
            change = Change("order", Operation.UPDATE, (row,), {"n": after}, {"n": before}, ("n",))
            write(
                self.connection,
                [sheet.run_of(change)],
                transaction=f"t{transaction}",
                captured_at=START,
                encoding=TABLE,
            )
            # Its number was given out by the flush, though it is seen from the commit on; far from those still to come.
            newest = self.connection.execute(models.outbox.select().order_by(models.outbox.c.id.desc())).first()
            assert newest is not None
            self.connection.execute(
                models.outbox.update().where(models.outbox.c.id == newest.id).values(id=-1_000_000 + number)
            )
        for row, value in last.items():
            self.committed.setdefault(row, []).append(value)
        self.locked_by = {row: holder for row, holder in self.locked_by.items() if holder != transaction}


def relay(connection: Connection, limit: int, seen: dict[str, list[int]]) -> int:
    """One turn: take, coalesce, remove; the events of each row are added to *seen*."""
    rows = take(connection, limit).rows
    for one in coalesce(rows):
        seen.setdefault(one.resource_id, []).append(one.data["n"])
    connection.execute(delete(models.outbox).where(models.outbox.c.id.in_([row.id for row in rows])))
    return len(rows)


def interleave(database: Database) -> None:
    """Two transactions, of which the one that began first changes a row last."""
    database.flush(1, "a")
    database.flush(2, "b")
    database.commit(2)
    database.flush(1, "b")
    database.commit(1)


def test_a_row_s_events_come_in_the_order_of_the_commits(connection: Connection) -> None:
    interleave(Database(connection))
    seen: dict[str, list[int]] = {}

    relay(connection, 100, seen)

    assert seen == {"a": [1], "b": [1, 2]}


def test_a_batch_does_not_end_within_a_transaction_nor_before_one_that_came_first(connection: Connection) -> None:
    interleave(Database(connection))
    seen: dict[str, list[int]] = {}

    assert relay(connection, 2, seen) == 1
    assert seen == {"b": [1]}
    assert relay(connection, 2, seen) == 2
    assert seen == {"a": [1], "b": [1, 2]}


def test_a_transaction_of_more_rows_than_a_batch_is_taken_whole(connection: Connection) -> None:
    database = Database(connection)
    for _ in range(5):
        database.flush(1, "a")
    database.commit(1)
    database.flush(2, "b")
    database.commit(2)

    assert [row.transaction for row in take(connection, 2).rows] == ["t1"] * 5


def test_a_batch_says_whether_there_may_be_more(connection: Connection) -> None:
    database = Database(connection)
    assert take(connection, 2) == Batch([], more=False)
    database.flush(1, "a")
    database.flush(2, "b")
    database.commit(2)
    database.flush(1, "b")
    database.commit(1)

    assert take(connection, 4).more is False
    assert take(connection, 2).more is True


def test_not_more_than_a_batch_is_taken_where_transactions_are_small(connection: Connection) -> None:
    database = Database(connection)
    for number in range(10):
        database.flush(number, f"row {number}")
        database.commit(number)

    assert [row.transaction for row in take(connection, 4).rows] == ["t0", "t1", "t2", "t3"]


def write_large(connection: Connection, *transactions: str) -> None:
    """A row of a third of what a turn takes for each, and a little more."""
    for name in transactions:
        change = Change("order", Operation.CREATE, (name,), {"n": "x" * (BYTES // 3)})
        write(connection, [sheet.run_of(change)], transaction=name, captured_at=START, encoding=TABLE)


def test_not_more_is_taken_than_goes_into_memory(connection: Connection) -> None:
    write_large(connection, "t0", "t1", "t2", "t3")
    found = take(connection, 100)
    assert ([row.transaction for row in found.rows], found.more) == (["t0", "t1"], True)


def test_a_transaction_of_more_bytes_than_a_turn_takes_is_taken_whole(connection: Connection) -> None:
    write_large(connection, *["t0"] * 5, "t1")
    found = take(connection, 100)
    assert ([row.transaction for row in found.rows], found.more) == (["t0"] * 5, True)


def test_a_row_of_more_bytes_than_a_turn_takes_is_taken(connection: Connection) -> None:
    change = Change("order", Operation.CREATE, (1,), {"n": "x" * BYTES})
    write(connection, [sheet.run_of(change)], transaction="t0", captured_at=START, encoding=TABLE)
    write_large(connection, "t1")
    found = take(connection, 100)
    assert ([row.transaction for row in found.rows], found.more) == (["t0"], True)


def spoil(connection: Connection, *numbers: int) -> None:
    """Make rows such that this version cannot read them; by their place, from 1."""
    ids = connection.execute(select(models.outbox.c.id).order_by(models.outbox.c.id)).scalars().all()
    chosen = [ids[number - 1] for number in numbers]
    connection.execute(models.outbox.update().where(models.outbox.c.id.in_(chosen)).values(changes=b'[{"new": 1}]'))


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_what_cannot_be_read_is_left_and_looked_beyond(connection: Connection, limit: int) -> None:
    database, seen = Database(connection), dict[str, list[int]]()
    for number in range(6):
        database.flush(number, f"row {number}")
        database.commit(number)
    spoil(connection, 1, 2, 3, 5)
    while relay(connection, limit, seen):
        pass

    assert seen == {"row 3": [1], "row 5": [1]}
    left = take(connection, limit)
    assert (left.rows, len(left.unreadable)) == ([], 4)


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_a_transaction_one_row_of_which_cannot_be_read_is_left_whole(connection: Connection, limit: int) -> None:
    database, seen = Database(connection), dict[str, list[int]]()
    for _ in range(4):
        database.flush(1, "spoilt")
    database.commit(1)
    for number in (2, 3):
        database.flush(number, f"row {number}")
        database.commit(number)
    spoil(connection, 4)
    while relay(connection, limit, seen):
        pass

    assert seen == {"row 2": [1], "row 3": [1]}


def test_rows_that_another_relay_takes_between_two_looks(connection: Connection) -> None:
    database = Database(connection)
    for number in (1, 2, 1, 2):
        database.flush(number, f"row {number}")
    database.commit(1)
    database.commit(2)
    statements: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def another(_connection: Any, cursor: Any, statement: str, *_: object) -> None:
        statements.append(statement)
        if len(statements) == 4:  # as `take` comes to read up to the end of the first to end
            cursor.execute("DELETE FROM webhook_outbox")

    assert take(connection, 2) == Batch([], more=False)
    assert len(statements) >= 4


#: A transaction changes a row, or commits; and how many rows the relay takes afterwards, 0 if it has no turn.
STEPS = st.lists(
    st.tuples(st.integers(1, 4), st.one_of(st.none(), st.sampled_from("abc")), st.integers(0, 3)),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(STEPS, st.integers(1, 5))
def test_however_transactions_interleave(steps: list[tuple[int, str | None, int]], last_limit: int) -> None:
    with empty_outbox() as connection:
        database, seen = Database(connection), dict[str, list[int]]()
        numbers = {slot: slot for slot in range(1, 5)}
        for slot, row, limit in steps:
            if row is not None:
                database.flush(numbers[slot], row)
            else:
                database.commit(numbers[slot])
                numbers[slot] = max(numbers.values()) + 1  # the next transaction of this session
            if limit:
                relay(connection, limit, seen)
        for number in numbers.values():
            database.commit(number)
        while relay(connection, last_limit, seen):
            pass

    assert seen == database.committed
