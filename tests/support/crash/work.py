"""
What the application does until it is killed: transactions of every kind and end.

Each locks the slots of its items first, in order, so the transactions that
change one item go one after the other, whichever thread or process makes them.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Sequence

from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from sqla_webhooks import OutboxWriteError
from support.crash.models import Base, Item, Ledger, Slot

#: How many items there are: few, so that all write to the same.
SLOTS = 8

#: Seconds between the transactions of one thread: the relay is to come along.
PACE = 0.01

_slot = Base.metadata.tables[Slot.__tablename__]


class _Undone(Exception):
    """Ends a transaction that is to come to nothing."""


class Writer:
    """
    One thread of the application.

    Args:
        most: After how many transactions it ends.
        wrote: Called after each commit.
    """

    def __init__(
        self, sessions: sessionmaker[Session], seed: str, *, most: float, wrote: Callable[[], None] = lambda: None
    ) -> None:
        self._sessions = sessions
        self._random = random.Random(seed)
        self._most = most
        self._wrote = wrote
        self.thread = threading.Thread(target=self.run, name=f"writer {seed}", daemon=True)

    def run(self) -> None:
        done = 0
        while done < self._most:
            done += 1
            try:
                self.transact()
            except _Undone:
                pass
            except (DBAPIError, OutboxWriteError):  # a deadlock, or a lock that came too late: it is given up
                continue
            else:
                self._wrote()
            threading.Event().wait(PACE)

    def transact(self) -> None:
        """One transaction; a fifth of them is rolled back."""
        with self._sessions.begin() as session:
            slots = sorted(self._random.sample(range(SLOTS), self._random.choice([1, 1, 2, 3])))
            versions = _lock(session, slots)
            for slot in slots:
                self._change(session, slot, version=versions[slot])
            if self._random.random() < 0.2:
                session.flush()
                raise _Undone

    def _change(self, session: Session, slot: int, *, version: int) -> None:
        """In a savepoint, which is rolled back or released, or without."""
        fate = self._random.choice(["no savepoint", "no savepoint", "no savepoint", "released", "undone"])
        if fate == "no savepoint":
            self._write(session, slot, version=version)
            return
        savepoint = session.begin_nested()
        self._write(session, slot, version=version)
        session.flush()
        if fate == "undone":
            savepoint.rollback()
        else:
            savepoint.commit()

    def _write(self, session: Session, slot: int, *, version: int) -> None:
        item = session.get(Item, slot)
        if item is None:
            operation, mark = self._create(session, slot, version=version)
        else:
            operation, mark = self._alter(session, item, version=version)
        if operation:
            session.add(Ledger(item=slot, version=version, operation=operation, mark=mark))

    def _create(self, session: Session, slot: int, *, version: int) -> tuple[str, str]:
        item = Item(id=slot, version=version, mark=_mark())
        session.add(item)
        kind = self._random.choice(["once", "once", "changed", "deleted"])
        if kind != "once":
            session.flush()
        if kind == "changed":
            item.mark = _mark()
        if kind == "deleted":
            session.delete(item)
            session.flush()
            return "", ""  # it never was
        return "create", item.mark

    def _alter(self, session: Session, item: Item, *, version: int) -> tuple[str, str]:
        kind = self._random.choice(["once", "once", "twice", "bulk", "deleted", "changed and deleted"])
        mark, before = _mark(), item.mark
        if kind == "bulk":
            session.execute(update(Item).where(Item.id == item.id).values(version=version, mark=mark))
            return "update", mark
        if kind != "deleted":
            item.version, item.mark = version, mark
        if kind == "twice":
            session.flush()
            item.mark = mark = _mark()
        if kind.endswith("deleted"):
            session.flush()
            session.delete(item)
            session.flush()
            return "delete", before
        return "update", mark


def _mark() -> str:
    return uuid.uuid4().hex


def _lock(session: Session, slots: Sequence[int]) -> dict[int, int]:
    """Lock them, and give each its next version; the first statement writes, as it should on SQLite."""
    for slot in slots:
        session.execute(update(_slot).where(_slot.c.id == slot).values(version=_slot.c.version + 1))
    found = session.execute(select(_slot.c.id, _slot.c.version).where(_slot.c.id.in_(slots)))
    return {row.id: row.version for row in found}
