"""The session's bulk methods: the caller cannot tell that we listen, and each row that changed is told of once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import inspect as sa_inspect
from sqlalchemy import select
from support.bulk.models import NUMBER, Animal, Book, Car, Color, Dog, Item, Paper, Seat, Tag, Thing, Token, Truck
from support.bulk.twins import Operation, Twins, plain, twins_on
from support.databases import NAMES


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins_on(request.param, tmp_path_factory.mktemp("twins")) as twins:
        yield twins


def save(*make: Any, **options: Any) -> Operation:
    """Save new objects; what has become of them."""

    def operation(session: Any) -> Any:
        objects = [cls(**values) for cls, values in make]
        result = session.bulk_save_objects(objects, **options)
        return result, [(plain(one), sa_inspect(one).key) for one in objects]

    return operation


def change(cls: Any, values: dict[str, Any], **options: Any) -> Operation:
    """Load objects, change them, and save them in bulk; what has become of them."""

    def operation(session: Any) -> Any:
        with session.no_autoflush:
            objects = list(session.scalars(select(cls)))
            session.expunge_all()
            for one in objects:
                for name, value in values.items():
                    setattr(one, name, value)
            result = session.bulk_save_objects(objects, **options)
        return result, [plain(one) for one in objects]

    return operation


def insert(cls: Any, *mappings: dict[str, Any], **options: Any) -> Operation:
    """Insert mappings; what has become of them."""

    def operation(session: Any) -> Any:
        given = [dict(one) for one in mappings]
        return session.bulk_insert_mappings(cls, given, **options), given

    return operation


def update(cls: Any, *mappings: dict[str, Any]) -> Operation:
    def operation(session: Any) -> Any:
        given = [dict(one) for one in mappings]
        return session.bulk_update_mappings(cls, given), given

    return operation


ODD = {"color": Color.BLUE, "number": NUMBER, "word": "new"}
MIXED = (
    (Item, {"label": "a"}),
    (Seat, {"line": "c", "number": 1}),
    (Item, {"label": "b", "amount": 4}),
    (Dog, {"name": "d", "tricks": 1}),
    (Animal, {"name": "e"}),
    (Truck, {"load": 3}),
    (Car, {"wheels": 3}),
    (Paper, {"title": "f"}),
    (Book, {"title": "g", "pages": 2}),
    (Thing, ODD),
    (Dog, {"name": "h"}),
)

METHODS: dict[str, Operation] = {
    "save": save((Item, {"label": "a"}), (Item, {"label": "b", "amount": 3})),
    "save nothing": save(),
    "save with keys": save((Item, {"id": 50}), (Item, {"id": 51, "code": "x"})),
    "save and be told": save((Item, {"label": "a"}), (Item, {"label": "b"}), return_defaults=True),
    "save and be told of given keys": save((Item, {"id": 50}), (Item, {"label": "b"}), return_defaults=True),
    "save composite keys": save((Seat, {"line": "c", "number": 1}), (Seat, {"line": "c", "number": 2})),
    "save odd keys": save((Thing, ODD), (Thing, {**ODD, "word": "other"})),
    "save uuids": save((Token, {"id": uuid.UUID(int=5)}), (Token, {"id": uuid.UUID(int=6), "size": 4})),
    "save joined": save((Dog, {"name": "a", "tricks": 2}), (Dog, {"name": "b"})),
    "save joined and be told": save((Dog, {"name": "a"}), (Animal, {"name": "b"}), return_defaults=True),
    "save mixed": save(*MIXED),
    "save mixed and be told": save(*MIXED, return_defaults=True),
    "save mixed in any order": save(*MIXED, preserve_order=False),
    "save what is refused": save((Item, {"label": "a"}), (Item, {"code": "c1"})),
    "change": change(Item, {"amount": 50}),
    "change to what it was": change(Item, {"label": "item 2"}),
    "change all columns": change(Seat, {"taken": 50}, update_changed_only=False),
    "change nothing": change(Item, {}),
    "change composite keys' rows": change(Seat, {"taken": 5}),
    "change odd keys' rows": change(Thing, {"size": 5}),
    "change joined": change(Animal, {"name": "new"}),
    "change of joined": change(Dog, {"name": "new", "tricks": 7}),
    "change single": change(Car, {"wheels": 2}),
    "change concrete": change(Book, {"title": "new", "pages": 2}),
    "insert": insert(Item, {"label": "a"}, {"label": "b", "amount": 3}),
    "insert unlike": insert(Item, {"label": "a"}, {"amount": 3}, {}, {"id": 50}),
    "insert nothing": insert(Item),
    "insert nulls": insert(Item, {"label": "a", "code": None}, {"label": "b", "code": "x"}, render_nulls=True),
    "insert and be told": insert(Item, {"label": "a"}, {"label": "b"}, return_defaults=True),
    "insert composite keys": insert(Seat, {"line": "c", "number": 1}, {"line": "c", "number": 2, "taken": 1}),
    "insert composite keys and be told": insert(Seat, {"line": "c", "number": 1}, return_defaults=True),
    "insert joined": insert(Dog, {"name": "a", "tricks": 1}, {"name": "b", "tricks": 1}),
    "insert joined and be told": insert(Dog, {"name": "a", "tricks": 1}, {"name": "b"}, return_defaults=True),
    "insert single": insert(Truck, {"load": 1}, {"wheels": 1, "load": 2}),
    "insert concrete": insert(Book, {"title": "a"}, {"title": "b"}),
    "insert of a mapper": lambda s: s.bulk_insert_mappings(sa_inspect(Tag), [{"name": "p"}]),
    "insert a generator": lambda s: s.bulk_insert_mappings(Tag, ({"name": name} for name in "pq")),
    "insert what is refused": insert(Item, {"label": "a"}, {"code": "c1"}),
    "insert what is not there": insert(Item, {"nothing": 1}),
    "update": update(Item, {"id": 1, "amount": 50}, {"id": 3, "label": "three"}),
    "update to what it was": update(Item, {"id": 1, "amount": 1}, {"id": 2, "amount": 50}),
    "update what is not there": update(Item, {"id": 1, "amount": 40}, {"id": 99, "amount": 50}),
    "update without a key": update(Item, {"amount": 50}),
    "update composite keys' rows": update(Seat, {"line": "a", "number": 1, "taken": 3}),
    "update odd keys' rows": update(Thing, {"color": Color.RED, "number": NUMBER, "word": "one", "size": 30}),
    "update joined": update(Dog, {"id": 2, "name": "a", "tricks": 5}, {"id": 3, "tricks": 6}),
    "update joined by the base": update(Animal, {"id": 2, "name": "a"}, {"id": 1, "name": "b"}),
    "update single": update(Truck, {"id": 2, "load": 5}),
    "update twice": update(Item, {"id": 1, "amount": 4}, {"id": 1, "amount": 5}),
    "update a generator": lambda s: s.bulk_update_mappings(Tag, ({"name": name, "uses": 8} for name in "xy")),
}


def _in_savepoint(*operations: Operation, released: bool) -> Operation:
    def operation(session: Any) -> Any:
        savepoint = session.begin_nested()
        results = [operation(session) for operation in operations]
        savepoint.commit() if released else savepoint.rollback()
        return results

    return operation


LIVES: dict[str, Operation] = {
    f"{name}, {'released' if released else 'rolled back'}": _in_savepoint(METHODS[name], released=released)
    for name in ("save mixed", "change", "insert", "update")
    for released in (True, False)
}
LIVES["inserted and updated"] = lambda s: (
    s.bulk_insert_mappings(Tag, [{"name": "p"}]),
    s.bulk_update_mappings(Tag, [{"name": "p", "uses": 5}, {"name": "x", "uses": 6}]),
    s.bulk_update_mappings(Tag, [{"name": "x", "uses": 0}]),
)
LIVES["with pending objects"] = lambda s: (s.add(Item(label="pending")), METHODS["insert"](s), METHODS["update"](s))


REFUSED = {
    "save what is refused",
    "insert what is refused",
    "update what is not there",
    "update without a key",
}


def _cases(cases: dict[str, Operation]) -> pytest.MarkDecorator:
    found = [pytest.param(operation, name in REFUSED, id=name) for name, operation in cases.items()]
    return pytest.mark.parametrize(("operation", "fails"), found)


@_cases(METHODS)
def test_a_bulk_method_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(LIVES)
def test_a_transaction_with_bulk_methods_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)
