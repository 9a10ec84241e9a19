"""Rules for transactions, and for what sessions remember."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule
from sqlalchemy import inspect as sa_inspect

from support.machine.work import LANES, NUMBERS, WHICH, Work


class Endings(Work):
    """Transactions end, in whole or in part; objects are flushed, expired and forgotten."""

    @rule(lane=LANES)
    def commit(self, lane: int) -> None:
        self.end(self.lane(lane))
        self.compare()

    @rule(lane=LANES)
    def commit_again(self, lane: int) -> None:
        """Twice as often as other rules."""
        self.commit(lane)

    @rule(lane=LANES)
    def rollback(self, lane: int) -> None:
        self.roll_back(self.lane(lane))

    @rule(lane=LANES)
    def close(self, lane: int) -> None:
        self.reopen(self.lane(lane))
        self.compare()

    @rule(lane=LANES)
    def begin_savepoint(self, lane: int) -> None:
        with self.at_work(lane) as work:
            work.savepoints.append(work.session.begin_nested())

    @rule(lane=LANES, kept=st.booleans())
    def end_savepoint(self, lane: int, kept: bool) -> None:
        with self.at_work(lane) as work:
            if not work.savepoints:
                return
            savepoint = work.savepoints.pop()
            if not savepoint.is_active:
                return
            if kept:
                savepoint.commit()
            else:
                savepoint.rollback()

    @rule(lane=LANES)
    def flush(self, lane: int) -> None:
        with self.at_work(lane) as work:
            work.session.flush()

    @rule(lane=LANES, which=WHICH, number=NUMBERS, flush=st.booleans())
    def expire(self, lane: int, which: int, number: int, flush: bool) -> None:
        """What was not flushed is forgotten with it."""
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some(kind.cls, number)
            if flush:
                work.session.flush()
            if one is not None and sa_inspect(one).persistent:
                work.session.expire(one)

    @rule(lane=LANES)
    def expire_all(self, lane: int) -> None:
        with self.at_work(lane) as work:
            work.session.flush()
            work.session.expire_all()

    @rule(lane=LANES, which=WHICH, number=NUMBERS)
    def refresh(self, lane: int, which: int, number: int) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some(kind.cls, number)
            if one is not None and sa_inspect(one).persistent:
                work.session.refresh(one)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, flush=st.booleans(), value=st.none() | NUMBERS)
    def expunge(self, lane: int, which: int, number: int, flush: bool, value: int | None) -> None:
        """What was not flushed is forgotten with it, unless it is changed outside and added again."""
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some(kind.cls, number)
            if flush:
                work.session.flush()
            if one is None:
                return
            work.session.expunge(one)
            if value is not None:
                setattr(one, *kind.value(value))
                work.session.add(one)

    @rule(lane=LANES)
    def let_go(self, lane: int) -> None:
        """What the application does not hold on to, the session forgets once it is flushed."""
        with self.at_work(lane) as work:
            work.session.flush()
            work.kept.clear()
