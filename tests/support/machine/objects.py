"""Rules for single rows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule
from sqlalchemy import func
from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import flag_modified

from support.machine.kinds import KINDS, RENAMED, SISTERS, Kind
from support.machine.models import Eager, Node, Thing
from support.machine.work import LANES, NUMBERS, WHICH, Lane, Work

#: Kinds with an attribute that SQL may count up.
COUNTING = tuple(one for one in KINDS if one.counts)


class Objects(Work):
    """Single rows are added, changed, moved, replaced and deleted."""

    @rule(lane=LANES, which=WHICH, number=NUMBERS, values=st.lists(NUMBERS, max_size=4))
    def add(self, lane: int, which: int, number: int, values: list[int]) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            self._add(work, kind, number, values)

    @rule(lane=LANES, which=WHICH, count=st.integers(2, 4), number=NUMBERS)
    def add_several(self, lane: int, which: int, count: int, number: int) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            for place in range(count):
                self._add(work, kind, number + place, [number])

    @rule(lane=LANES, which=WHICH, number=NUMBERS, values=st.lists(NUMBERS, min_size=1, max_size=4))
    def change(self, lane: int, which: int, number: int, values: list[int]) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            self._set(work.some_or_new(kind, number), kind, values)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, value=NUMBERS)
    def change_and_change_back(self, lane: int, which: int, number: int, value: int) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            name, new = kind.value(value)
            work.session.flush()
            old = getattr(one, name)
            setattr(one, name, new)
            work.session.flush()
            setattr(one, name, old)

    @rule(
        lane=LANES, which=WHICH, number=NUMBERS, values=st.lists(NUMBERS, min_size=1, max_size=3), whole=st.booleans()
    )
    def change_without_loading(self, lane: int, which: int, number: int, values: list[int], whole: bool) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            work.session.flush()
            names = None if whole else [kind.value(value)[0] for value in values]
            work.session.expire(one, names)
            self._set(one, kind, values)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, expired=st.booleans())
    def count_up_in_sql(self, lane: int, which: int, number: int, expired: bool) -> None:
        kind = self.kind(which, among=COUNTING)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            name = kind.counts[number % len(kind.counts)]
            work.session.flush()
            if expired:
                work.session.expire(one)
            setattr(one, name, getattr(kind.cls, name) + 1)

    @rule(lane=LANES, which=WHICH, number=NUMBERS)
    def add_what_sql_makes(self, lane: int, which: int, number: int) -> None:
        kind = self.kind(which, among=COUNTING)
        with self.at_work(lane) as work:
            key = kind.identity(work.number, number)
            if not (key and self._taken(work, kind, key)):
                name = kind.counts[number % len(kind.counts)]
                work.add(kind.cls(**key, **{name: func.abs(-number)}))

    @rule(lane=LANES, which=WHICH, number=NUMBERS)
    def write_as_it_is(self, lane: int, which: int, number: int) -> None:
        """An UPDATE that changes nothing but what changes by itself."""
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            work.session.flush()
            name, _ = kind.value(number)
            if getattr(one, name) is not None:
                flag_modified(one, name)

    @rule(lane=LANES, cls=st.sampled_from([Thing, Eager]), number=NUMBERS, value=st.integers(0, 2))
    def edit_in_place(self, lane: int, cls: type[Any], number: int, value: int) -> None:
        with self.at_work(lane) as work:
            one = work.some(cls, number)
            if one is None:
                work.add(cls(details={"a": value}))
            elif one.details is None:
                one.details = {"b": value}
            elif value:
                one.details["a"] = value
            else:
                one.details.clear()

    @rule(lane=LANES, which=WHICH, number=NUMBERS, flush=st.booleans())
    def delete(self, lane: int, which: int, number: int, flush: bool) -> None:
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            if sa_inspect(one).persistent:
                work.session.delete(one)
            else:
                work.session.expunge(one)
            if flush:
                work.session.flush()

    @rule(lane=LANES, which=WHICH, number=NUMBERS, values=st.lists(NUMBERS, max_size=3), flush=st.booleans())
    def replace(self, lane: int, which: int, number: int, values: list[int], flush: bool) -> None:
        """Delete a row and add another under its key."""
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            work.session.flush()
            key = _key(one)
            work.session.delete(one)
            if flush or kind.cls is Node:  # of a class that refers to itself, SQLAlchemy updates the row and deletes it
                work.session.flush()
            new = kind.cls()
            for name, value in (*key.items(), *kind.whole(number).items()):  # what nobody sets becomes NULL
                setattr(new, name, value)
            self._set(new, kind, values)
            work.add(new)

    @rule(lane=LANES, kinds=st.sampled_from(SISTERS), number=NUMBERS, flush=st.booleans())
    def replace_by_another_class(self, lane: int, kinds: tuple[Kind, Kind], number: int, flush: bool) -> None:
        """A dog is deleted and a cat added under its key."""
        kind, other = kinds
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            work.session.flush()
            key = _key(one)
            work.session.delete(one)
            if flush or sa_inspect(kind.cls).local_table is not sa_inspect(other.cls).local_table:
                work.session.flush()  # SQLAlchemy itself would update rows of the other's own table
            work.add(other.cls(**key, **other.whole(number)))

    @rule(lane=LANES, which=WHICH, number=NUMBERS, to=NUMBERS, expired=st.booleans())
    def rename(self, lane: int, which: int, number: int, to: int, expired: bool) -> None:
        kind = self.kind(which, among=RENAMED)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            work.session.flush()
            if expired:
                work.session.expire(one)
            key = kind.identity(work.number, to)
            if not self._taken(work, kind, key):
                _move(one, key)

    @rule(lane=LANES, which=WHICH, number=NUMBERS, flush=st.booleans())
    def swap(self, lane: int, which: int, number: int, flush: bool) -> None:
        """Two rows swap their keys, by way of a third one."""
        kind = self.kind(which, among=RENAMED)
        with self.at_work(lane) as work:
            rows = self._two(work, kind)
            if len(rows) < 2:
                return
            first, second = rows[number % len(rows)], rows[(number + 1) % len(rows)]
            keys = _key(first), _key(second)
            away = {name: f"{work.number}z" if isinstance(part, str) else part for name, part in keys[0].items()}
            _move(first, away)
            work.session.flush()
            _move(second, keys[0])
            if flush:
                work.session.flush()
            _move(first, keys[1])
            work.session.flush()

    @rule(lane=LANES, which=WHICH)
    def shift(self, lane: int, which: int) -> None:
        """In one flush, a row gives its key up and another takes it."""
        kind = self.kind(which, among=RENAMED)
        with self.at_work(lane) as work:
            rows = self._two(work, kind)
            if len(rows) < 2:
                return
            first, second = rows[:2]
            key = _key(first)
            before = {name: f"{work.number}0" if isinstance(part, str) else part for name, part in key.items()}
            if not self._taken(work, kind, before):
                _move(first, before)
                _move(second, key)
                work.session.flush()

    @rule(lane=LANES, which=WHICH, number=NUMBERS, values=st.lists(NUMBERS, min_size=1, max_size=3), load=st.booleans())
    def merge(self, lane: int, which: int, number: int, values: list[int], load: bool) -> None:
        """Changes made to a detached object come back; or those to one that was made from a key alone."""
        kind = self.kind(which)
        with self.at_work(lane) as work:
            one = work.some_or_new(kind, number)
            work.session.flush()
            if load:
                work.session.refresh(one)
                work.session.expunge(one)
            else:
                key = _key(one)
                one = sa_inspect(kind.cls).class_manager.new_instance()
                for name, part in key.items():
                    setattr(one, name, part)
                make_transient_to_detached(one)
            self._set(one, kind, values)
            work.keep(work.session.merge(one))

    def _add(self, work: Lane, kind: Kind, number: int, values: list[int]) -> None:
        key = kind.identity(work.number, number)
        if key and self._taken(work, kind, key):
            return
        one = kind.cls(**key)
        self._set(one, kind, values)
        work.add(one)

    def _two(self, work: Lane, kind: Kind) -> list[Any]:
        """All rows of a kind, two at the least if there are keys for them."""
        for number in range(3):
            if len(work.found(kind.cls)) < 2:
                self._add(work, kind, number, [])
        return work.found(kind.cls)

    def _taken(self, work: Lane, kind: Kind, key: dict[str, Any]) -> bool:
        """Whether a row, of whatever class in the same table, has that key."""
        base = sa_inspect(kind.cls).base_mapper.class_
        work.session.flush()
        return work.session.get(base, tuple(key.values())) is not None

    def _set(self, one: Any, kind: Kind, values: list[int]) -> None:
        for value in values:
            name, new = kind.value(value)
            setattr(one, name, dict(new) if isinstance(new, dict) else new)


def _key(one: Any) -> dict[str, Any]:
    mapper = sa_inspect(type(one))
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return {name: getattr(one, name) for name in names}


def _move(one: Any, key: dict[str, Any]) -> None:
    for name, part in key.items():
        setattr(one, name, part)
