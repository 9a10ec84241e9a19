"""Rules for many rows at once, without objects: ORM statements, and the session's bulk methods."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule
from sqlalchemy import delete, insert, update
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.dialects import mysql, postgresql, sqlite

from support.machine.kinds import KINDS, RENAMED, Kind
from support.machine.objects import COUNTING
from support.machine.work import LANES, NUMBERS, WHICH, Lane, Work

_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert, "mysql": mysql.insert, "mariadb": mysql.insert}

#: Whose rows stand in one table, so that a statement writes all of them.
WHOLE = tuple(kind for kind in KINDS if len(sa_inspect(kind.cls).tables) == 1)
#: Without a version counter, which SQLAlchemy wants among the parameters.
UNCOUNTED = tuple(kind for kind in KINDS if sa_inspect(kind.cls).version_id_col is None)


class Bulk(Work):
    """Rows are added, changed and deleted by statements; the session forgets what it knew of them."""

    @rule(lane=LANES, which=WHICH, count=st.integers(1, 3), number=NUMBERS, returning=st.booleans())
    def insert_list(self, lane: int, which: int, count: int, number: int, returning: bool) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            statement = insert(kind.cls)
            if returning:
                statement = statement.returning(kind.cls)
            rows = self._rows(work, kind, count, number)
            result = work.session.execute(statement, rows)
            if returning:
                assert len(result.all()) == count
            self._forget(work)

    @rule(lane=LANES, which=WHICH, count=st.integers(1, 3), number=NUMBERS)
    def insert_values(self, lane: int, which: int, count: int, number: int) -> None:
        kind = self.kind(which, among=WHOLE)
        with self.at_work(lane) as work:
            rows = self._rows(work, kind, count, number)
            given: Any = rows[0] if count == 1 else rows
            work.session.execute(insert(kind.cls).values(given))
            self._forget(work)

    @rule(lane=LANES, which=WHICH, count=st.integers(1, 3), number=NUMBERS, update=st.booleans())
    def upsert(self, lane: int, which: int, count: int, number: int, update: bool) -> None:
        kind = self.kind(which, among=RENAMED)
        with self.at_work(lane) as work:
            by_key = {tuple(kind.identity(work.number, number + place).values()): place for place in range(count)}
            rows = [row for place, row in enumerate(self._rows(work, kind, count, number)) if place in by_key.values()]
            name, value = kind.value(number)
            work.session.execute(self._upsert(kind, {name: value} if update else {}), rows)
            self._forget(work)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, synchronize=st.sampled_from(["auto", "fetch", False]))
    def update_all(self, lane: int, which: int, number: int, synchronize: Any) -> None:
        kind = self.kind(which, among=WHOLE)
        with self.at_work(lane) as work:
            name, value = kind.value(number)
            statement = update(kind.cls).where(kind.cls.lane == work.number).values({name: value})
            work.session.execute(statement, execution_options={"synchronize_session": synchronize})
            self._forget(work)

    @rule(lane=LANES, which=WHICH, number=NUMBERS)
    def count_all_up(self, lane: int, which: int, number: int) -> None:
        kind = self.kind(which, among=tuple(one for one in COUNTING if one in WHOLE))
        with self.at_work(lane) as work:
            name = kind.counts[number % len(kind.counts)]
            counter = getattr(kind.cls, name)
            work.session.query(kind.cls).filter(kind.cls.lane == work.number).update({counter: counter + 1})
            self._forget(work)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, method=st.booleans())
    def update_by_key(self, lane: int, which: int, number: int, method: bool) -> None:
        kind = self.kind(which, among=UNCOUNTED)
        with self.at_work(lane) as work:
            name, value = kind.value(number)
            rows: Any = [{**_key(one), name: value} for one in work.found(kind.cls)]
            if rows and method:
                work.session.bulk_update_mappings(kind.cls, rows)
            elif rows:
                work.session.execute(update(kind.cls), rows)
            self._forget(work)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, to=NUMBERS)
    def move_by_statement(self, lane: int, which: int, number: int, to: int) -> None:
        kind = self.kind(which, among=RENAMED)
        with self.at_work(lane) as work:
            old, new = kind.identity(work.number, number), kind.identity(work.number, to)
            where = [getattr(kind.cls, name) == part for name, part in old.items()]
            statement = update(kind.cls).where(*where).values(new)
            work.session.execute(statement, execution_options={"synchronize_session": False})
            self._forget(work)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, query=st.booleans())
    def delete_some(self, lane: int, which: int, number: int, query: bool) -> None:
        kind = self.kind(which, among=WHOLE)
        with self.at_work(lane) as work:
            name, value = kind.value(number)
            if isinstance(value, dict):  # PostgreSQL does not compare JSON
                value = None
            where = (kind.cls.lane == work.number, getattr(kind.cls, name) == value)
            if query:
                work.session.query(kind.cls).filter(*where).delete()
            else:
                work.session.execute(delete(kind.cls).where(*where))
            self._forget(work)

    @rule(lane=LANES, which=WHICH, count=st.integers(1, 3), number=NUMBERS, back=st.booleans())
    def insert_mappings(self, lane: int, which: int, count: int, number: int, back: bool) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            work.session.flush()
            rows = self._rows(work, kind, count, number)
            work.session.bulk_insert_mappings(kind.cls, rows, return_defaults=back or kind not in WHOLE)
            self._forget(work)

    @rule(lane=LANES, which=WHICH, count=st.integers(0, 3), number=NUMBERS, back=st.booleans())
    def save_objects(self, lane: int, which: int, count: int, number: int, back: bool) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            new = [kind.cls(**row) for row in self._rows(work, kind, count, number)]
            old = work.found(kind.cls)
            for one in old:
                name, value = kind.value(number)
                setattr(one, name, value)
            work.session.bulk_save_objects([*old, *new], return_defaults=back or kind not in WHOLE)
            work.session.expunge_all()
            work.kept.clear()

    def _rows(self, work: Lane, kind: Kind, count: int, number: int) -> list[dict[str, Any]]:
        """New rows, whose keys may be taken already."""
        return [
            {**kind.identity(work.number, number + place), **kind.whole(number + place), "lane": work.number}
            for place in range(count)
        ]

    def _upsert(self, kind: Kind, set_: dict[str, Any]) -> Any:
        name = self.world.engine.dialect.name
        statement: Any = _INSERTS[name](kind.cls)
        if name in ("mysql", "mariadb"):
            return statement.on_duplicate_key_update(set_) if set_ else statement.prefix_with("IGNORE")
        key = [getattr(kind.cls, one) for one in kind.key]
        if not set_:
            return statement.on_conflict_do_nothing()
        return statement.on_conflict_do_update(index_elements=key, set_=set_)

    def _forget(self, work: Lane) -> None:
        """What objects know may not be true any more, and SQLAlchemy does not see to all of it."""
        work.session.flush()
        work.session.expunge_all()
        work.kept.clear()


def _key(one: Any) -> dict[str, Any]:
    mapper = sa_inspect(type(one))
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return {name: getattr(one, name) for name in names}
