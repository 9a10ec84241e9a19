"""UPDATE and DELETE of many rows: the caller cannot tell that we listen, and each row that changed is told of once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import bindparam, case, delete, exists, func, literal, select, text, update
from sqlalchemy.orm import Session, aliased, with_loader_criteria
from support.bulk.models import NUMBER, Animal, Book, Car, Color, Dog, Item, Paper, Seat, Tag, Thing, Token, Truck
from support.bulk.twins import Operation, Twins, message, twins_on
from support.databases import NAMES


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins_on(request.param, tmp_path_factory.mktemp("twins")) as twins:
        yield twins


def animals(session: Session) -> list[Animal]:
    return session.query(Animal).order_by(Animal.id).all()


def one(statement: Any, parameters: Any = None, **options: Any) -> Operation:
    """Execute one statement, for its result."""
    return lambda session: session.execute(statement, parameters, execution_options=options)


def loaded(statement: Any, how: Any) -> Operation:
    """Execute one statement with objects in the session."""

    def operation(session: Session) -> Any:
        in_order = [select(cls).order_by(*cls.__mapper__.primary_key) for cls in (Item, Animal, Seat)]
        everything = [row for query in in_order for row in session.scalars(query)]
        result = session.execute(statement, execution_options={"synchronize_session": how})
        return result, [row for row in everything if row in session]

    return operation


def query(ask: Callable[[Session], Any]) -> Operation:
    return ask


TWO = Item.id.in_([1, 2])

UPDATES: dict[str, Operation] = {
    "all": one(update(Item).values(amount=7)),
    "one": one(update(Item).where(Item.id == 2).values(amount=7)),
    "none": one(update(Item).where(Item.id == 99).values(amount=7)),
    "to what it was": one(update(Item).where(Item.id == 2).values(amount=2)),
    "some to what they were": one(update(Item).values(amount=2)),
    "by an expression": one(update(Item).where(TWO).values(amount=Item.amount + 1)),
    "by an attribute": one(update(Item).where(TWO).values({Item.label: "new"})),
    "by a function": one(update(Item).values(label=func.upper(Item.label))),
    "by case": one(update(Item).values(label=case((Item.id == 1, "first"), else_=Item.label))),
    "in order": one(update(Item).where(TWO).ordered_values((Item.amount, 8), (Item.label, "x"))),
    "to null": one(update(Item).where(TWO).values(code=None)),
    "of a unique column to itself": one(update(Item).where(TWO).values(code=Item.code)),
    "by a subquery": one(update(Item).where(Item.id.in_(select(Seat.number))).values(amount=70)),
    "by exists": one(update(Item).where(exists().where(Seat.number == Item.id)).values(amount=70)),
    "from a subquery": one(update(Item).values(amount=select(func.count(Seat.number)).scalar_subquery())),
    "from a correlated subquery": one(
        update(Item).values(amount=select(func.count(Seat.number)).where(Seat.number == Item.id).scalar_subquery())
    ),
    "of no criteria that hold what is changed": one(update(Item).where(Item.amount >= 2).values(amount=0)),
    "with bound parameters": one(
        update(Item).where(Item.id == bindparam("which")).values(amount=bindparam("many")), {"which": 2, "many": 9}
    ),
    "with values as parameters": one(update(Item).where(Item.id == 2), {"amount": 9}),
    "with text": one(update(Item).where(text("amount > 1")).values(amount=0)),
    "of a composite key's row": one(update(Seat).where(Seat.line == "a", Seat.number == 1).values(taken=1)),
    "of some composite keys": one(update(Seat).where(Seat.line == "a").values(taken=1)),
    "of a natural key's row": one(update(Tag).where(Tag.name == "y").values(uses=Tag.uses + 1)),
    "of odd types of keys": one(update(Thing).values(size=Thing.size + 1)),
    "of one of odd types": one(update(Thing).where(Thing.color == Color.RED).values(size=50)),
    "of a uuid": one(update(Token).where(Token.id == NUMBER).values(size=50)),
    "of a base class": one(update(Animal).values(name="all")),
    "of some of a base class": one(update(Animal).where(Animal.id <= 2).values(name="some")),
    "of a derived class's table": one(update(Dog).values(tricks=Dog.tricks + 1)),
    "of a derived class by its table": one(update(Dog).where(Dog.tricks == 1).values(tricks=9)),
    "of a single table": one(update(Car).values(wheels=3)),
    "of a class of a single table": one(update(Truck).values(wheels=3)),
    "of a column of a single table's class": one(update(Truck).where(Truck.load == 10).values(load=11)),
    "of a concrete base": one(update(Paper).values(title="new")),
    "of a concrete class": one(update(Book).values(title="new", pages=3)),
    "of keys, to a value": one(update(Tag).where(Tag.name == "x").values(name="q")),
    "of keys, and more": one(update(Tag).where(Tag.name == "x").values(name="q", uses=40)),
    "of keys, to the same": one(update(Tag).where(Tag.name == "x").values(name="x")),
    "of keys, by an expression": one(update(Seat).where(Seat.line == "a").values(number=Seat.number + 10)),
    "of keys, by a function": one(update(Tag).values(name=func.upper(Tag.name))),
    "of keys, with parameters": one(update(Seat).where(Seat.line == "a"), {"line": "q"}),
    "of generated keys": one(update(Item).where(Item.id == 1).values(id=50)),
    "by keys": one(update(Item), [{"id": 1, "amount": 50}, {"id": 3, "label": "three"}]),
    "by keys, one of no row": one(update(Item), [{"id": 1, "amount": 50}, {"id": 99, "amount": 1}]),
    "by one key": one(update(Item), [{"id": 1, "amount": 50}]),
    "by composite keys": one(update(Seat), [{"line": "a", "number": n, "taken": n} for n in (1, 2)]),
    "by keys of a derived class": one(update(Dog), [{"id": 2, "name": "new", "tricks": 5}, {"id": 3, "name": "fido"}]),
    "by keys of a base class": one(update(Animal), [{"id": 1, "name": "new"}, {"id": 2, "name": "new too"}]),
    "by keys of a single table": one(update(Car), [{"id": 1, "wheels": 1}, {"id": 2, "wheels": 2}]),
    "by keys, to what it was": one(update(Item), [{"id": 1, "amount": 1}, {"id": 2, "amount": 1}]),
    "by keys of odd types": one(update(Thing), [{"color": Color.RED, "number": NUMBER, "word": "one", "size": 9}]),
    "of a value the database refuses": one(update(Item).values(code="same")),
    "of no such column": one(update(Item).values(nothing=1)),
    "with criteria for the class": one(update(Item).values(amount=30).options(with_loader_criteria(Item, Item.id > 1))),
    "with criteria for all": one(
        update(Item).values(amount=30).options(with_loader_criteria(Item, lambda cls: cls.id > 1))
    ),
    "with a name": one(update(Item).where(TWO).values(amount=3), logging_token="x"),
}

DELETES: dict[str, Operation] = {
    "all": one(delete(Item)),
    "one": one(delete(Item).where(Item.id == 2)),
    "none": one(delete(Item).where(Item.id == 99)),
    "by a subquery": one(delete(Item).where(Item.id.in_(select(Seat.number)))),
    "with bound parameters": one(delete(Item).where(Item.id == bindparam("which")), {"which": 2}),
    "with text": one(delete(Item).where(text("amount > 1"))),
    "of a composite key's row": one(delete(Seat).where(Seat.line == "a", Seat.number == 1)),
    "of some composite keys": one(delete(Seat).where(Seat.line == "a")),
    "of a natural key's row": one(delete(Tag).where(Tag.name == "y")),
    "of odd types of keys": one(delete(Thing).where(Thing.word == "two")),
    "of odd types, of all": one(delete(Thing)),
    "of a base class that others refer to": one(delete(Animal)),
    "of one of a base class": one(delete(Animal).where(Animal.kind == "animal")),
    "of a single table": one(delete(Car)),
    "of a class of a single table": one(delete(Truck)),
    "of a concrete base": one(delete(Paper)),
    "of a concrete class": one(delete(Book)),
    "with criteria for the class": one(delete(Item).options(with_loader_criteria(Item, Item.id > 1))),
}

SYNCHRONIZED = {
    f"{name}, {how}": loaded(statement, how)
    for how in ("auto", "evaluate", "fetch", False)
    for name, statement in {
        "update": update(Item).where(Item.id < 3).values(amount=Item.amount + 1, label="new"),
        "update to a function": update(Item).where(Item.id < 3).values(label=func.upper("new")),
        "update of a base class": update(Animal).where(Animal.name != "cat").values(name="new"),
        "update of composite keys": update(Seat).where(Seat.line == "a").values(taken=Seat.taken + 1),
        "update by a subquery": update(Item).where(Item.id.in_(select(Seat.number))).values(amount=0),
        "delete": delete(Item).where(Item.id < 3),
        "delete of composite keys": delete(Seat).where(Seat.number == 1),
        "delete by a subquery": delete(Item).where(Item.id.in_(select(Seat.number))),
    }.items()
}


def pending(statement: Any) -> Operation:
    """A statement after changes that were not flushed."""

    def operation(session: Session) -> Any:
        item = session.get_one(Item, 1)
        item.amount = 20
        session.add(Item(label="pending"))
        return session.execute(statement), item.amount

    return operation


def in_savepoint(*statements: Any, released: bool) -> Operation:
    def operation(session: Session) -> Any:
        savepoint = session.begin_nested()
        results = [session.execute(statement) for statement in statements]
        savepoint.commit() if released else savepoint.rollback()
        return results

    return operation


def several(*statements: Any) -> Operation:
    return lambda session: [session.execute(statement) for statement in statements]


def caught(statement: Any) -> Operation:
    """The application catches the error, and goes on within its savepoint."""

    def operation(session: Session) -> Any:
        seen = []
        try:
            with session.begin_nested():
                session.execute(statement)
        except Exception as error:  # noqa: BLE001  # whichever it is
            seen.append((type(error), message(error, session)))
        return seen, session.execute(update(Item).where(Item.id == 3).values(amount=33))

    return operation


LIVES: dict[str, Operation] = {
    "update after pending changes": pending(update(Item).values(amount=Item.amount + 1)),
    "delete after pending changes": pending(delete(Item).where(Item.amount > 15)),
    "savepoint released": in_savepoint(update(Item).values(amount=5), delete(Tag), released=True),
    "savepoint rolled back": in_savepoint(update(Item).values(amount=5), delete(Tag), released=False),
    "updated and updated back": several(
        update(Item).values(amount=Item.amount + 1), update(Item).values(amount=Item.amount - 1)
    ),
    "updated and deleted": several(update(Item).values(amount=0), delete(Item).where(Item.id > 1)),
    "updated twice": several(update(Item).values(amount=50), update(Item).values(label="twice")),
    "moved on": several(
        update(Tag).where(Tag.name == "x").values(name="q"), update(Tag).where(Tag.name == "q").values(name="r")
    ),
    "keys passed on": several(
        update(Tag).where(Tag.name == "x").values(name="q"), update(Tag).where(Tag.name == "y").values(name="x")
    ),
    "an error that is caught": caught(update(Item).values(code="same")),
    "Query.update": query(lambda s: s.query(Item).filter(Item.id < 3).update({"amount": 9})),
    "Query.update of an expression": query(
        lambda s: s.query(Item).filter_by(id=2).update({Item.amount: Item.amount + 1}, synchronize_session="fetch")
    ),
    "Query.delete": query(lambda s: s.query(Item).filter(Item.id < 3).delete()),
    "Query.delete without synchronizing": query(lambda s: s.query(Tag).delete(synchronize_session=False)),
    "Query.update of objects": query(lambda s: (animals(s), s.query(Animal).update({"name": "q"}), animals(s))),
}

RETURNING: dict[str, Operation] = {
    "update of columns": one(update(Item).where(TWO).values(amount=5).returning(Item.id, Item.amount)),
    "update of none": one(update(Item).where(Item.id == 99).values(amount=5).returning(Item.id)),
    "update of entities": one(update(Item).where(TWO).values(amount=5).returning(Item)),
    "update of an expression": one(update(Item).values(amount=5).returning(Item.amount + 1, literal("x"))),
    "update of keys": one(update(Tag).values(name=Tag.name + "!").returning(Tag)),
    "update scalars": query(
        lambda s: sorted(s.scalars(update(Item).where(TWO).values(amount=5).returning(Item)), key=lambda item: item.id)
    ),
    "update mappings": query(
        lambda s: sorted(
            s.execute(update(Item).where(TWO).values(amount=5).returning(Item.id)).mappings(), key=lambda row: row["id"]
        )
    ),
    "update of loaded": query(
        lambda s: (
            objects := list(s.scalars(select(Item))),
            [one in objects for one in s.scalars(update(Item).values(amount=4).returning(Item))],
        )[1]
    ),
    "update of composite keys": query(
        lambda s: sorted((one.line, one.number) for one in s.scalars(update(Seat).values(taken=3).returning(Seat)))
    ),
    "update of a base class": one(update(Animal).values(name="q").returning(Animal.id)),
    "delete of columns": one(delete(Item).where(TWO).returning(Item.id, Item.label)),
    "delete of entities": one(delete(Tag).returning(Tag)),
    "delete of composite keys": one(delete(Seat).where(Seat.line == "b").returning(Seat.number)),
}

#: MariaDB has no such statement.
UPDATED = [operation for name, operation in RETURNING.items() if name.startswith("update")]

FROM: dict[str, Operation] = {
    "update": one(update(Item).where(Item.id == Seat.number, Seat.line == "a").values(amount=Seat.ticket + 10)),
    "update of several for one": one(update(Item).where(Item.id == Seat.number).values(amount=12)),
    "update of composite keys": one(update(Seat).where(Item.id == Seat.number).values(taken=Item.amount + 1)),
    "update by an alias": one(
        update(Item).where(Item.id == (other := aliased(Item)).id + 1).values(amount=other.amount + 10)
    ),
    "update of a joined class": one(update(Dog).where(Animal.id == Dog.id, Animal.name == "rex").values(tricks=9)),
}


REFUSED = {
    "by keys, one of no row",
    "of a value the database refuses",
    "of no such column",
    "of a base class that others refer to",
    "update by a subquery, evaluate",
    "delete by a subquery, evaluate",
}


def _cases(cases: dict[str, Operation]) -> pytest.MarkDecorator:
    found = [pytest.param(operation, name in REFUSED, id=name) for name, operation in cases.items()]
    return pytest.mark.parametrize(("operation", "fails"), found)


@_cases(UPDATES)
def test_an_update_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(DELETES)
def test_a_delete_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(SYNCHRONIZED)
def test_objects_in_the_session_are_brought_up_to_date_as_ever(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(LIVES)
def test_a_transaction_with_bulk_statements_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


@_cases(RETURNING)
def test_rows_that_the_caller_has_asked_for_are_the_callers(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    refused = twins.plain.dialect.name in ("mysql", "mariadb") and operation in UPDATED  # which has no such statement
    twins.check(operation, fails=fails or refused)


@_cases(FROM)
def test_an_update_from_other_tables_is_told_of(twins: Twins, operation: Operation, fails: bool) -> None:  # noqa: FBT001  # an example
    twins.check(operation, fails=fails)


def test_pending_changes_are_not_flushed_where_the_session_does_not(twins: Twins) -> None:
    twins.check(pending(update(Item).values(amount=Item.amount + 1)), autoflush=False)
    twins.check(pending(delete(Item).where(Item.amount > 15)), autoflush=False)
