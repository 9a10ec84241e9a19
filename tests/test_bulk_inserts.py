"""INSERT of many rows, upserts among them: the caller cannot tell that we listen, and each row is told of once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, literal, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session, with_loader_criteria
from support.bulk.models import NUMBER, Animal, Book, Car, Color, Dog, Item, Paper, Seat, Tag, Thing, Token, Truck
from support.bulk.twins import Operation, Twins, twins_on
from support.databases import NAMES


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins_on(request.param, tmp_path_factory.mktemp("twins")) as twins:
        yield twins


def one(statement: Any, parameters: Any = None, **options: Any) -> Operation:
    """Execute one statement, for its result."""
    return lambda session: session.execute(statement, parameters, execution_options=options)


def ask(operation: Operation) -> Operation:
    return operation


SOME = [{"label": "a", "amount": 5}, {"label": "b", "amount": 6}]
ODD = {"color": Color.BLUE, "number": NUMBER, "word": "new"}

INSERTS: dict[str, Operation] = {
    "a list": one(insert(Item), SOME),
    "a list of one": one(insert(Item), SOME[:1]),
    "a dictionary": one(insert(Item), SOME[0]),
    "nothing": one(insert(Item)),
    "an empty list": one(insert(Item), []),
    "a list of unlike keys": one(
        insert(Item), [{"label": "a"}, {"amount": 2}, {"amount": 3}, {"code": "q", "label": "x"}, {}]
    ),
    "a list with keys": one(insert(Item), [{"id": 50, "label": "a"}, {"id": 51, "label": "b"}]),
    "a list, some with keys": one(insert(Item), [{"label": "z"}, {"id": 50, "label": "a"}, {"label": "b"}]),
    "a list with nulls": one(insert(Item), [{"label": "a", "code": None}, {"label": "b", "code": "b"}]),
    "a list, nulls as they are": one(
        insert(Item), [{"label": "a", "code": None}, {"label": "b", "code": "b"}], render_nulls=True
    ),
    "a list with common values": one(insert(Item).values(label="common"), [{"amount": 5}, {"amount": 6}]),
    "values": one(insert(Item).values(label="a")),
    "values with a key": one(insert(Item).values(id=50, label="a")),
    "values by attribute": one(insert(Item).values({Item.label: "a", Item.amount: 3})),
    "values of an expression": one(
        insert(Item).values(label="a", amount=select(func.count(Seat.number)).scalar_subquery())
    ),
    "values that are bound": one(insert(Item).values(label=bindparam("text")), {"text": "bound"}),
    "several values": one(insert(Item).values([{"label": "a"}, {"label": "b"}])),
    "several values with keys": one(insert(Item).values([{"id": 50, "label": "a"}, {"id": 51, "label": "b"}])),
    "from a select": one(
        insert(Item).from_select(["item_label", "amount"], select(Item.label + "!", Item.amount * 10))
    ),
    "from a select of nothing": one(
        insert(Item).from_select(["item_label"], select(Tag.name).where(Tag.name == "nobody"))
    ),
    "from a select with keys": one(
        insert(Item).from_select(["id", "item_label"], select(Seat.number + 60, Seat.line).where(Seat.line == "a"))
    ),
    "composite keys": one(insert(Seat), [{"line": "c", "number": 1}, {"line": "c", "number": 2, "taken": 1}]),
    "one composite key": one(insert(Seat).values(line="c", number=1)),
    "composite keys from a select": one(
        insert(Seat).from_select(["line", "number"], select(literal("q"), Seat.number).where(Seat.line == "a"))
    ),
    "natural keys": one(insert(Tag), [{"name": "p"}, {"name": "q", "uses": 3}]),
    "a natural key": one(insert(Tag).values(name="p")),
    "odd keys": one(insert(Thing), [ODD, {**ODD, "word": "newer"}]),
    "an odd key": one(insert(Thing).values(ODD)),
    "a uuid": one(insert(Token), [{"id": uuid.UUID(int=1)}, {"id": uuid.UUID(int=2), "size": 5}]),
    "joined, as a list": one(insert(Dog), [{"name": "a", "tricks": 1}, {"name": "b"}]),
    "joined, with keys": one(insert(Dog), [{"id": 50, "name": "a", "tricks": 1}, {"id": 51, "name": "b", "tricks": 1}]),
    "joined, of the base": one(insert(Animal), [{"name": "a"}, {"name": "b"}]),
    "joined, values of the base": one(insert(Animal).values(name="a", kind="animal")),
    "single": one(insert(Car), [{"wheels": 1}, {"wheels": 2}]),
    "single, derived": one(insert(Truck), [{"wheels": 1, "load": 4}, {"load": 2}]),
    "single, of any kind": one(insert(Car).values(kind="truck", wheels=6)),
    "concrete": one(insert(Paper), [{"title": "a"}, {"title": "b"}]),
    "concrete, derived": one(insert(Book), [{"title": "a"}, {"title": "b", "pages": 3}]),
    "concrete, values": one(insert(Book).values(title="a")),
    "a key that is there": one(insert(Item), [{"id": 1, "label": "a"}]),
    "a value that is there": one(insert(Item).values(code="c1")),
    "no such column": one(insert(Item).values(nothing=1)),
    "a missing value": one(insert(Tag), [{"uses": 3}]),
    "many": one(insert(Tag), [{"name": f"tag {n}"} for n in range(2500)]),
}

RETURNING: dict[str, Operation] = {
    "columns": one(insert(Item).returning(Item.id, Item.label), SOME),
    "a column that is called otherwise": one(insert(Item).returning(Item.label), SOME),
    "entities": one(insert(Item).returning(Item), SOME),
    "entities and columns": one(insert(Item).returning(Item, Item.doubled), SOME),
    "an expression": one(insert(Item).returning(Item.amount + 1, literal("x").label("x")), SOME),
    "in order": one(insert(Item).returning(Item.id, Item.label, sort_by_parameter_order=True), SOME * 3),
    "entities in order": one(insert(Item).returning(Item, sort_by_parameter_order=True), SOME * 3),
    "of values": one(insert(Item).values(label="a").returning(Item)),
    "of a column of values": one(insert(Item).values(label="a").returning(Item.state)),
    "of several values": one(insert(Item).values([{"label": "a"}, {"label": "b"}]).returning(Item.label)),
    "of a select": one(insert(Item).from_select(["item_label"], select(Tag.name)).returning(Item.label)),
    "of unlike keys": one(insert(Item).returning(Item.label, Item.amount), [{"label": "a"}, {"amount": 2}, {}]),
    "joined": one(insert(Dog).returning(Dog), [{"name": "a", "tricks": 1}, {"name": "b", "tricks": 3}]),
    "joined, columns": one(insert(Dog).returning(Dog.id, Dog.name), [{"name": "a", "tricks": 1}]),
    "joined, in order": one(
        insert(Dog).returning(Dog, sort_by_parameter_order=True),
        [{"name": "a", "tricks": 1}, {"name": "b", "tricks": 3}],
    ),
    "single": one(insert(Truck).returning(Truck), [{"wheels": 1, "load": 4}]),
    "concrete": one(insert(Book).returning(Book), [{"title": "a"}]),
    "composite keys": one(insert(Seat).returning(Seat), [{"line": "c", "number": 1}, {"line": "c", "number": 2}]),
    "odd keys": one(insert(Thing).returning(Thing), [ODD, {**ODD, "word": "newer"}]),
    "a natural key's name": one(insert(Tag).returning(Tag.uses), [{"name": "p"}]),
    "scalars": ask(lambda s: s.scalars(insert(Item).returning(Item), SOME).all()),
    "scalars of columns": ask(lambda s: s.scalars(insert(Item).returning(Item.label), SOME).all()),
    "scalar": ask(lambda s: s.scalar(insert(Item).values(label="a").returning(Item.amount))),
    "mappings": ask(lambda s: s.execute(insert(Item).returning(Item.id, Item.label), SOME).mappings().all()),
    "by name": ask(
        lambda s: [(row.id, row.label) for row in s.execute(insert(Item).returning(Item.id, Item.label), SOME)]
    ),
    "one after the other": ask(
        lambda s: (
            (r := s.execute(insert(Item).returning(Item), SOME)) is not None
            and [r.fetchone(), r.fetchone(), r.fetchone()]
        )
    ),
    "unique": ask(lambda s: s.execute(insert(Item).returning(Item), SOME).unique().all()),
    "partitions": ask(
        lambda s: [list(some) for some in s.execute(insert(Item).returning(Item.id), SOME).partitions(1)]
    ),
    "the session's own objects": ask(
        lambda s: [s.get(Item, one.id) is one for one in s.scalars(insert(Item).returning(Item), SOME)]
    ),
    "populate existing": ask(
        lambda s: (
            s.get(Item, 1),
            s.scalars(
                insert(Item).returning(Item), [{"label": "q"}], execution_options={"populate_existing": True}
            ).all(),
        )
    ),
    "an error": one(insert(Item).returning(Item), [{"id": 1, "label": "a"}]),
}


def upserts(name: str) -> dict[str, Operation]:
    """What SQLite and PostgreSQL have alike."""
    kind = {"sqlite": sqlite, "postgresql": postgresql}[name]
    made = kind.insert(Item)
    update_amount = made.on_conflict_do_update(
        index_elements=[Item.__table__.c.id], set_={"amount": made.excluded.amount}
    )
    by_code = made.on_conflict_do_update(
        index_elements=["unique_code"], set_={"item_label": made.excluded.item_label, "amount": Item.amount + 1}
    )
    seats = kind.insert(Seat)
    rows = [{"id": 1, "amount": 70}, {"id": 60, "amount": 71}, {"id": 2, "amount": 2}]
    coded = [{"code": "c1", "label": "again"}, {"code": "c9", "label": "new"}]
    return {
        "update, one": one(update_amount.values(rows[0])),
        "update, a new one": one(update_amount.values(rows[1])),
        "update, one to what it was": one(update_amount.values(rows[2])),
        "update, several": one(update_amount.values(rows)),
        "update, a list": one(update_amount, rows),
        "update, a dictionary": one(update_amount, rows[0]),
        "update by another key, one": one(by_code.values(coded[0])),
        "update by another key, several": one(by_code.values(coded)),
        "update by another key, a list": one(by_code, coded),
        "update where": one(
            made.on_conflict_do_update(
                index_elements=["id"], set_={"amount": made.excluded.amount}, where=Item.id > 1
            ).values(rows)
        ),
        "update of the key": one(
            kind.insert(Tag).on_conflict_do_update(index_elements=["name"], set_={"uses": 30}).values(name="x")
        ),
        "update of composite keys": one(
            seats.on_conflict_do_update(index_elements=["seat_line", "number"], set_={"taken": 9}),
            [{"line": "a", "number": 1}, {"line": "q", "number": 1}],
        ),
        "update of several composite keys": one(
            seats.on_conflict_do_update(index_elements=["seat_line", "number"], set_={"taken": 9}).values(
                [{"line": "a", "number": 1}, {"line": "q", "number": 1}]
            )
        ),
        "update by a composite unique key": one(
            seats.on_conflict_do_update(index_elements=["seat_line", "ticket"], set_={"taken": 9}).values(
                [{"line": "a", "number": 30, "ticket": 1}, {"line": "q", "number": 1, "ticket": 1}]
            )
        ),
        "update from a select": one(
            update_amount.from_select(["id", "amount"], select(Seat.number, Seat.number + 50).where(Seat.line == "a"))
        ),
        "update from a select by another key": one(
            by_code.from_select(["unique_code", "item_label"], select(Item.code, Item.label + "!").where(Item.id < 3))
        ),
        "update, returning": one(update_amount.values(rows).returning(Item.id, Item.amount)),
        "update, returning entities": one(update_amount.returning(Item), rows),
        "update, returning entities of another key": one(by_code.returning(Item), coded),
        "update, with loaded objects": ask(
            lambda s: (
                s.scalars(select(Item)).all(),
                s.scalars(update_amount.returning(Item), rows, execution_options={"populate_existing": True}).all(),
            )[1]
        ),
        "nothing, one": one(made.on_conflict_do_nothing().values(rows[0])),
        "nothing, a new one": one(made.on_conflict_do_nothing().values(rows[1])),
        "nothing, several": one(made.on_conflict_do_nothing().values(rows)),
        "nothing, a list": one(made.on_conflict_do_nothing(), rows),
        "nothing by another key": one(made.on_conflict_do_nothing(index_elements=["unique_code"]).values(coded)),
        "nothing by another key, a list": one(made.on_conflict_do_nothing(index_elements=["unique_code"]), coded),
        "nothing, from a select": one(
            kind.insert(Tag)
            .on_conflict_do_nothing()
            .from_select(["name", "uses"], select(Tag.name, Tag.uses + 9).where(Tag.uses >= 0))
        ),
        "nothing, returning": one(made.on_conflict_do_nothing().values(rows).returning(Item.id)),
        "twice": ask(lambda s: [s.execute(update_amount.values(rows)).rowcount for _ in range(2)]),
    }


def _each(names: tuple[str, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("twins", "case"), [(name, case) for name in names for case in upserts(name)], indirect=["twins"]
    )


MARIADB: dict[str, Operation] = {}
_made = mysql.insert(Item)
_on_duplicate = _made.on_duplicate_key_update(amount=_made.inserted.amount)
_rows = [{"id": 1, "amount": 70}, {"id": 60, "amount": 71}, {"id": 2, "amount": 2}]
_coded = [{"code": "c1", "label": "again", "amount": 44}, {"code": "c9", "label": "new", "amount": 45}]
MARIADB = {
    "update, one": one(_on_duplicate.values(_rows[0])),
    "update, a new one": one(_on_duplicate.values(_rows[1])),
    "update, one to what it was": one(_on_duplicate.values(_rows[2])),
    "update, several": one(_on_duplicate.values(_rows)),
    "update, a list": one(_on_duplicate, _rows),
    "update by another key, one": one(_on_duplicate.values(_coded[0])),
    "update by another key, several": one(_on_duplicate.values(_coded)),
    "update by another key, a list": one(_on_duplicate, _coded),
    "update of composite keys": one(
        (_seats := mysql.insert(Seat)).on_duplicate_key_update(taken=_seats.inserted.taken),
        [{"line": "a", "number": 1}, {"line": "q", "number": 1}],
    ),
    "update by a composite unique key": one(
        mysql.insert(Seat).on_duplicate_key_update(taken=9).values(line="a", number=30, ticket=1)
    ),
    "update from a select": one(
        _on_duplicate.from_select(["id", "amount"], select(Seat.number, Seat.number + 50).where(Seat.line == "a"))
    ),
    "ignore, one": one(insert(Item).prefix_with("IGNORE").values(_rows[0])),
    "ignore, a new one": one(insert(Item).prefix_with("IGNORE").values(_rows[1])),
    "ignore, several": one(insert(Item).prefix_with("IGNORE").values(_rows)),
    "ignore, a list": one(insert(Item).prefix_with("IGNORE"), _rows),
    "ignore, by another key": one(insert(Item).prefix_with("IGNORE"), _coded),
}

SQLITE: dict[str, Operation] = {
    f"{word}, {name}": one(statement, parameters)
    for word in ("REPLACE", "IGNORE")
    for name, (statement, parameters) in {
        "one": (insert(Item).prefix_with(f"OR {word}").values(_rows[0]), None),
        "a new one": (insert(Item).prefix_with(f"OR {word}").values(_rows[1]), None),
        "several": (insert(Item).prefix_with(f"OR {word}").values(_rows), None),
        "a list": (insert(Item).prefix_with(f"OR {word}"), _rows),
        "by another key": (insert(Item).prefix_with(f"OR {word}").values(_coded), None),
        "by another key, a list": (insert(Item).prefix_with(f"OR {word}"), _coded),
        "of composite keys": (
            insert(Seat).prefix_with(f"OR {word}"),
            [{"line": "a", "number": 1, "ticket": 2}, {"line": "q", "number": 1, "ticket": 1}],
        ),
    }.items()
}


def _savepoint(released: bool) -> Operation:  # noqa: FBT001  # an example's word
    def operation(session: Session) -> Any:
        savepoint = session.begin_nested()
        result = session.execute(insert(Item), SOME)
        savepoint.commit() if released else savepoint.rollback()
        return result

    return operation


LIVES: dict[str, Operation] = {
    "savepoint released": _savepoint(released=True),
    "savepoint rolled back": _savepoint(released=False),
    "after pending changes": ask(
        lambda s: (
            s.add(Item(label="pending")),
            s.get_one(Item, 1).__setattr__("amount", 20),
            s.execute(insert(Item), SOME),
        )[2]
    ),
    "inserted, and updated": ask(
        lambda s: [s.execute(insert(Tag), [{"name": "p"}]), s.execute(update(Tag).values(uses=50))]
    ),
    "inserted, and changed by the session": ask(
        lambda s: s.scalars(insert(Item).returning(Item), SOME).first().__setattr__("amount", 60)
    ),
    "with criteria that do not matter": one(insert(Item).options(with_loader_criteria(Item, Item.id > 1)), SOME),
}


REFUSED = {
    "a key that is there",
    "a value that is there",
    "no such column",
    "a missing value",
    "an error",
}


def _cases(cases: dict[str, Operation]) -> pytest.MarkDecorator:
    found = [pytest.param(operation, name in REFUSED, id=name) for name, operation in cases.items()]
    return pytest.mark.parametrize(("operation", "fails"), found)


def _on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("twins", names, indirect=True)


@_cases(INSERTS)
def test_an_insert_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(RETURNING)
def test_rows_that_the_caller_has_asked_for_are_the_callers(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_each(("sqlite", "postgresql"))
def test_an_upsert_is_told_of(twins: Twins, case: str) -> None:
    twins.check(upserts(twins.name)[case])


@_on("mariadb")
@_cases(MARIADB)
def test_an_upsert_of_mariadb_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_on("sqlite")
@_cases(SQLITE)
def test_an_insert_or_replace_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(LIVES)
def test_a_transaction_with_inserts_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)
