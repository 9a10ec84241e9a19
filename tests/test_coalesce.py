from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.clock import START

from sqla_webhooks.coalesce import coalesce, resource_id
from sqla_webhooks.events import Change, Event, Operation, OutboxRow
from sqla_webhooks.ids import event_id
from sqla_webhooks.net import net

CREATE, UPDATE, DELETE = Operation.CREATE, Operation.UPDATE, Operation.DELETE

checked = settings(deadline=None, max_examples=200)


# --------------------------------------------------------------------------- changes by hand


def created(id_: Any = 1, **data: Any) -> Change:
    return Change("order", CREATE, (id_,), {"id": id_, **data})


def deleted(id_: Any = 1, **data: Any) -> Change:
    return Change("order", DELETE, (id_,), {"id": id_, **data})


def updated(id_: Any = 1, *, before: dict[str, Any], unknown: Iterable[str] = (), **data: Any) -> Change:
    """*before* has the known old values of what changed."""
    moved_from = (before["id"],) if "id" in before else None
    return Change("order", UPDATE, (id_,), {"id": id_, **data}, before, (*before, *unknown), moved_from)


def flushes(*changes: Change | Sequence[Change], transaction: str = "t") -> list[OutboxRow]:
    """One flush for each argument, a second apart."""
    return [
        OutboxRow(
            number, transaction, START + timedelta(seconds=number), (one,) if isinstance(one, Change) else tuple(one)
        )
        for number, one in enumerate(changes)
    ]


def amount(*changes: Change | Sequence[Change], together: bool = True) -> list[tuple[Any, ...]]:
    """What the changes of one transaction amount to: type, id, data, changes."""
    events = coalesce(flushes(*changes), together=together)
    return [(one.type, one.resource_id, one.data, one.changes) for one in events]


def test_one_change_is_one_event() -> None:
    assert amount(created(total=5)) == [("order.created", "1", {"id": 1, "total": 5}, None)]
    assert amount(deleted(total=5)) == [("order.deleted", "1", {"id": 1, "total": 5}, None)]
    assert amount(updated(before={"total": 4}, total=5)) == [
        ("order.updated", "1", {"id": 1, "total": 5}, {"total": {"from": 4, "to": 5}})
    ]


def test_everything_an_event_says() -> None:
    (event,) = coalesce([OutboxRow(7, "t", START, (created(5, total=1),))])
    assert event.id.startswith("evt_")
    assert event == Event(
        id=event.id,
        type="order.created",
        timestamp=START,
        resource="order",
        resource_id="5",
        operation=CREATE,
        data={"id": 5, "total": 1},
        changes=None,
        identity=(5,),
    )


def test_no_rows_are_no_events() -> None:
    assert coalesce([]) == []
    assert coalesce([OutboxRow(1, "t", START, ())]) == []
    assert net([]) == []


def test_the_first_old_value_and_the_last_new_one() -> None:
    assert amount(
        updated(before={"total": 1}, total=2, note=None),
        updated(before={"total": 2}, total=3, note=None),
        updated(before={"note": None}, total=3, note="x"),
    ) == [
        (
            "order.updated",
            "1",
            {"id": 1, "total": 3, "note": "x"},
            {"total": {"from": 1, "to": 3}, "note": {"from": None, "to": "x"}},
        )
    ]


def test_a_value_set_and_set_back_is_no_change() -> None:
    assert amount(updated(before={"total": 1}, total=2), updated(before={"total": 2}, total=1)) == []


def test_a_value_set_back_leaves_the_others() -> None:
    assert amount(
        updated(before={"total": 1, "note": "a"}, total=2, note="b"),
        updated(before={"total": 2}, total=1, note="b"),
    ) == [("order.updated", "1", {"id": 1, "total": 1, "note": "b"}, {"note": {"from": "a", "to": "b"}})]


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (0, False), (1, "1"), (None, ""), ([1], [True]), ({"a": 1}, {"a": True}), ([], {})]
)
def test_values_that_differ_as_json_are_different(old: Any, new: Any) -> None:
    ((_, _, _, changes),) = amount(
        updated(before={"v": old}, v="between"),
        updated(before={"v": "between"}, v=new),
    )
    assert json.dumps(changes) == json.dumps({"v": {"from": old, "to": new}})


def test_the_members_of_a_json_object_have_no_order() -> None:
    first, second = {"a": 1, "b": [{"c": 1, "d": 2}]}, {"b": [{"d": 2, "c": 1}], "a": 1}
    assert amount(updated(before={"v": first}, v=None), updated(before={"v": None}, v=second)) == []
    assert amount(deleted(v=first), created(v=second)) == []


def test_insert_then_delete_is_nothing() -> None:
    assert amount(created(total=1), deleted(total=1)) == []
    assert amount(created(total=1), updated(before={"total": 1}, total=2), deleted(total=2)) == []


def test_insert_then_delete_then_insert_is_an_insert() -> None:
    assert amount(created(total=1), deleted(total=1), created(total=2)) == [
        ("order.created", "1", {"id": 1, "total": 2}, None)
    ]


def test_insert_then_update_is_the_insert_of_the_last_values() -> None:
    assert amount(created(total=1), updated(before={"total": 1}, total=2), updated(before={"total": 2}, total=3)) == [
        ("order.created", "1", {"id": 1, "total": 3}, None)
    ]


def test_update_then_delete_shows_the_row_as_it_was_before_the_transaction() -> None:
    assert amount(
        updated(before={"total": 1}, total=2, note="a"),
        updated(before={"note": "a"}, total=2, note="b"),
        deleted(total=2, note="b"),
    ) == [("order.deleted", "1", {"id": 1, "total": 1, "note": "a"}, None)]


def test_delete_then_insert_of_one_key_is_an_update() -> None:
    assert amount(deleted(total=1, note="a"), created(total=2, note="a")) == [
        ("order.updated", "1", {"id": 1, "total": 2, "note": "a"}, {"total": {"from": 1, "to": 2}})
    ]


def test_delete_then_insert_of_the_same_values_is_nothing() -> None:
    assert amount(deleted(total=1), created(total=1)) == []


def test_update_then_delete_then_insert_is_an_update_from_the_first_values() -> None:
    assert amount(updated(before={"total": 1}, total=2), deleted(total=2), created(total=3)) == [
        ("order.updated", "1", {"id": 1, "total": 3}, {"total": {"from": 1, "to": 3}})
    ]


def test_delete_then_insert_then_delete_is_a_delete_of_the_first_values() -> None:
    assert amount(deleted(total=1), created(total=2), deleted(total=2)) == [
        ("order.deleted", "1", {"id": 1, "total": 1}, None)
    ]


def test_a_row_deleted_twice_is_deleted_whoever_inserted_it_in_between() -> None:
    # An INSERT in SQL, or by another library, is not captured.
    assert amount(deleted(total=1), deleted(total=2)) == [("order.deleted", "1", {"id": 1, "total": 1}, None)]


def test_a_row_updated_and_then_inserted_was_there_before() -> None:
    # A DELETE in SQL is not captured.
    assert amount(updated(before={"total": 1}, total=2), created(total=3)) == [
        ("order.updated", "1", {"id": 1, "total": 3}, {"total": {"from": 1, "to": 3}})
    ]


def test_one_flush_may_hold_several_changes_of_one_row() -> None:
    found = amount([created(total=1), created(2, total=1), updated(before={"total": 1}, total=2)])
    assert sorted(found, key=lambda one: str(one[1])) == [
        ("order.created", "1", {"id": 1, "total": 2}, None),
        ("order.created", "2", {"id": 2, "total": 1}, None),
    ]


def test_rows_of_different_resources_with_one_key_are_different_rows() -> None:
    other = Change("customer", DELETE, (1,), {"id": 1})
    assert [one[0] for one in amount(created(), other)] == ["order.created", "customer.deleted"]


def test_keys_that_look_the_same_as_text_are_different_rows() -> None:
    first = Change("seat", CREATE, ("a,b", "c"), {})
    second = Change("seat", DELETE, ("a", "b,c"), {})
    assert [one[:2] for one in amount(first, second)] == [("seat.created", "a,b,c"), ("seat.deleted", "a,b,c")]


@pytest.mark.parametrize("part", [[1, 2], {"$unencodable": "ulid.ULID"}, {"a": [1]}], ids=json.dumps)
def test_a_key_may_be_any_json_value(part: Any) -> None:
    # An ARRAY as primary key; a key of a type that no rule of the encoding knows.
    assert [one[0] for one in amount(created(part))] == ["order.created"]
    assert amount(created(part), deleted(part)) == []


# --------------------------------------------------------------------------- primary keys that move


def test_a_moved_key_is_an_update_of_the_new_one() -> None:
    assert amount(updated(2, before={"id": 1}, total=5)) == [
        ("order.updated", "2", {"id": 2, "total": 5}, {"id": {"from": 1, "to": 2}})
    ]


def test_a_key_moved_twice_is_moved_once() -> None:
    assert amount(updated(2, before={"id": 1}), updated(3, before={"id": 2})) == [
        ("order.updated", "3", {"id": 3}, {"id": {"from": 1, "to": 3}})
    ]


def test_a_key_moved_there_and_back_is_no_change() -> None:
    assert amount(updated(2, before={"id": 1}), updated(1, before={"id": 2})) == []


def test_a_row_changed_then_moved_then_changed_is_one_update() -> None:
    assert amount(
        updated(1, before={"total": 1}, total=2),
        updated(5, before={"id": 1}, total=2),
        updated(5, before={"total": 2}, total=3),
    ) == [("order.updated", "5", {"id": 5, "total": 3}, {"total": {"from": 1, "to": 3}, "id": {"from": 1, "to": 5}})]


def test_a_row_inserted_and_moved_is_an_insert_of_the_last_key() -> None:
    assert amount(created(1), updated(2, before={"id": 1})) == [("order.created", "2", {"id": 2}, None)]


def test_a_row_moved_and_deleted_is_a_delete_of_the_first_key() -> None:
    assert amount(updated(2, before={"id": 1}, total=1), deleted(2, total=1)) == [
        ("order.deleted", "1", {"id": 1, "total": 1}, None)
    ]


def test_a_row_moved_to_the_key_of_a_deleted_one_leaves_both_events() -> None:
    assert amount(deleted(2, total=2), updated(2, before={"id": 1}, total=1)) == [
        ("order.deleted", "2", {"id": 2, "total": 2}, None),
        ("order.updated", "2", {"id": 2, "total": 1}, {"id": {"from": 1, "to": 2}}),
    ]


def test_a_new_row_at_the_key_that_another_has_left_is_an_insert() -> None:
    assert amount(updated(2, before={"id": 1}), created(1)) == [
        ("order.updated", "2", {"id": 2}, {"id": {"from": 1, "to": 2}}),
        ("order.created", "1", {"id": 1}, None),
    ]


def test_a_key_is_given_up_before_it_is_taken() -> None:
    assert amount(updated("c", before={"id": "b"}), created("b"), updated("a", before={"id": "c"})) == [
        ("order.updated", "a", {"id": "a"}, {"id": {"from": "b", "to": "a"}}),
        ("order.created", "b", {"id": "b"}, None),
    ]


def test_keys_handed_on_in_a_row_are_told_from_the_last_to_the_first() -> None:
    found = amount(*[updated(key + 1, before={"id": key}) for key in (3, 2, 1)], created(1))
    assert [one[1] for one in found] == ["4", "3", "2", "1"]
    # Moved out of the way first, and put in place later.
    away = [updated(key + 10, before={"id": key}) for key in (1, 2, 3)]
    back = [updated(key + 1, before={"id": key + 10}) for key in (1, 2, 3)]
    assert [one[1] for one in amount(*away, *back)] == ["4", "3", "2"]


def test_keys_handed_on_by_thousands_of_rows() -> None:
    away = [updated(-key, before={"id": key}) for key in range(1, 5001)]
    back = [updated(key + 1, before={"id": -key}) for key in range(1, 5001)]
    assert [int(one[1]) for one in amount(away, back)] == list(range(5001, 1, -1))


def test_rows_that_swap_their_keys_are_updated_where_they_stand() -> None:
    assert amount(
        updated(3, before={"id": 1}, total=1, note="x"),
        updated(1, before={"id": 2}, total=2, note="x"),
        updated(2, before={"id": 3}, total=1, note="x"),
    ) == [
        ("order.updated", "1", {"id": 1, "total": 2, "note": "x"}, {"total": {"from": 1, "to": 2}}),
        ("order.updated", "2", {"id": 2, "total": 1, "note": "x"}, {"total": {"from": 2, "to": 1}}),
    ]


def test_equal_rows_that_swap_their_keys_are_no_change() -> None:
    assert amount(updated(3, before={"id": 1}), updated(1, before={"id": 2}), updated(2, before={"id": 3})) == []


def test_a_new_row_at_the_key_of_one_that_was_moved_and_deleted_is_an_update() -> None:
    expected = [("order.updated", "1", {"id": 1, "total": 9}, {"total": {"from": 1, "to": 9}})]
    moved, gone, new = updated(2, before={"id": 1}, total=1), deleted(2, total=1), created(1, total=9)
    assert amount(moved, gone, new) == expected
    assert amount(moved, new, gone) == expected


# --------------------------------------------------------------------------- old values that are not known


def test_an_unknown_old_value_stays_unknown() -> None:
    assert amount(
        updated(before={}, unknown=["total"], total=2),
        updated(before={"total": 2}, total=3),
    ) == [("order.updated", "1", {"id": 1, "total": 3}, {"total": {"to": 3}})]


def test_an_unknown_old_value_is_a_change_whatever_comes_after() -> None:
    assert amount(
        updated(before={}, unknown=["total"], total=2),
        updated(before={"total": 2}, total=1),
        updated(before={"total": 1}, total=2),
    ) == [("order.updated", "1", {"id": 1, "total": 2}, {"total": {"to": 2}})]


def test_an_old_value_known_at_first_is_known() -> None:
    assert amount(
        updated(before={"total": 1}, total=2),
        updated(before={}, unknown=["total"], total=3),
    ) == [("order.updated", "1", {"id": 1, "total": 3}, {"total": {"from": 1, "to": 3}})]


@pytest.mark.parametrize("last", [2, 3])
def test_an_unknown_old_value_stays_unknown_when_the_row_is_replaced(last: int) -> None:
    assert amount(
        updated(before={}, unknown=["total"], total=2),
        deleted(total=2),
        created(total=last),
    ) == [("order.updated", "1", {"id": 1, "total": last}, {"total": {"to": last}})]


# --------------------------------------------------------------------------- several transactions, and none together


def test_changes_of_different_transactions_stay_apart() -> None:
    first = flushes(updated(before={"total": 1}, total=2), transaction="a")
    second = flushes(updated(before={"total": 2}, total=1), transaction="b")
    assert [one.changes for one in coalesce([*first, *second])] == [
        {"total": {"from": 1, "to": 2}},
        {"total": {"from": 2, "to": 1}},
    ]


def test_rows_of_one_transaction_need_not_be_neighbours() -> None:
    rows = [
        OutboxRow(1, "a", START, (created(1, total=1),)),
        OutboxRow(2, "b", START, (created(2, total=1),)),
        OutboxRow(3, "a", START, (updated(1, before={"total": 1}, total=2),)),
        OutboxRow(4, "b", START, (deleted(2, total=1),)),
        OutboxRow(5, "c", START, (created(3),)),
        OutboxRow(6, "a", START, (created(4),)),
    ]
    # A transaction comes where its last row stands: what it changed last, another may have changed before.
    assert [(one.type, one.resource_id) for one in coalesce(rows)] == [
        ("order.created", "3"),
        ("order.created", "1"),
        ("order.created", "4"),
    ]


def test_not_together_each_change_is_an_event_in_the_order_of_the_rows() -> None:
    rows = [
        OutboxRow(1, "a", START, (created(1, total=1), created(2))),
        OutboxRow(2, "b", START + timedelta(seconds=5), (created(3),)),
        OutboxRow(3, "a", START, (updated(1, before={"total": 1}, total=2),)),
        OutboxRow(4, "a", START, (updated(1, before={"total": 2}, total=1), deleted(2))),
    ]
    events = coalesce(rows, together=False)
    assert [(one.operation, one.resource_id, one.changes) for one in events] == [
        (CREATE, "1", None),
        (CREATE, "2", None),
        (CREATE, "3", None),
        (UPDATE, "1", {"total": {"from": 1, "to": 2}}),
        (UPDATE, "1", {"total": {"from": 2, "to": 1}}),
        (DELETE, "2", None),
    ]
    assert [one.timestamp for one in events].count(START) == 5
    assert events[2].timestamp == START + timedelta(seconds=5)


def test_not_together_an_unknown_old_value_is_left_out() -> None:
    assert amount(updated(before={}, unknown=["total"], total=2), together=False) == [
        ("order.updated", "1", {"id": 1, "total": 2}, {"total": {"to": 2}})
    ]


def test_an_event_has_the_time_of_its_last_change() -> None:
    (event,) = coalesce(flushes(created(total=1), created(2), deleted(2), updated(before={"total": 1}, total=2)))
    assert event.timestamp == START + timedelta(seconds=3)


# --------------------------------------------------------------------------- a model: rows, and what happens to them

Row = dict[str, Any]
Table = dict[int, Row]

VALUES = [None, 0, 1, True, "a", [1], {"k": 1}]


@dataclass(frozen=True)
class Step:
    """Something that a transaction does, if it can: to the row of *key*."""

    transaction: int
    key: int
    action: str
    #: New values of a, b and c; an update leaves out what is None here.
    values: tuple[int | None, int | None, int | None]
    #: Where a moved row goes.
    target: int
    #: Whether the flush ends after it.
    last: bool
    #: Whether the old values are known, of an update.
    known: bool


@dataclass
class Model:
    """Tables by transaction, changed step by step, with a truthful account of each change."""

    tables: dict[int, Table]
    rows: list[OutboxRow] = field(default_factory=list)
    waiting: dict[int, list[Change]] = field(default_factory=dict)
    #: Transaction, key and attribute of each update that did not know the old value.
    unknown: set[tuple[int, int, str]] = field(default_factory=set)

    def take(self, step: Step) -> None:
        table = self.tables[step.transaction]
        row = table.get(step.key)
        change: Change | None = None
        if row is None:
            if step.action == "insert":
                change = self._insert(table, step)
        elif step.action == "delete":
            del table[step.key]
            change = self._change(step, DELETE, row)
        elif step.action == "update":
            change = self._update(table, row, step)
        elif step.action == "move" and step.target not in table:
            table[step.target] = {**table.pop(step.key), "id": step.target}
            change = self._change(step, UPDATE, table[step.target], previous={"id": step.key}, moved_from=(step.key,))
        if change is not None:
            self.waiting.setdefault(step.transaction, []).append(change)
        if step.last:
            self.flush(step.transaction)

    def _insert(self, table: Table, step: Step) -> Change:
        new = [None if value is None else VALUES[value] for value in step.values]
        table[step.key] = {"id": step.key, **dict(zip("abc", new, strict=True))}
        return self._change(step, CREATE, table[step.key])

    def _update(self, table: Table, row: Row, step: Step) -> Change | None:
        wanted = {name: VALUES[value] for name, value in zip("abc", step.values, strict=True) if value is not None}
        changed = [name for name in wanted if as_json(wanted[name]) != as_json(row[name])]
        if not changed:
            return None
        table[step.key] = {**row, **wanted}
        if not step.known:
            self.unknown |= {(step.transaction, step.key, name) for name in changed}
        previous = {name: row[name] for name in changed if step.known}
        return self._change(step, UPDATE, table[step.key], previous=previous, changed=changed)

    def _change(
        self,
        step: Step,
        operation: Operation,
        row: Row,
        *,
        previous: Row | None = None,
        changed: Sequence[str] | None = None,
        moved_from: tuple[int] | None = None,
    ) -> Change:
        previous = previous or {}
        names = tuple(previous) if changed is None else tuple(changed)
        resource = f"table{step.transaction}"
        return Change(resource, operation, (row["id"],), dict(row), previous, names, moved_from)

    def flush(self, transaction: int) -> None:
        if changes := self.waiting.pop(transaction, None):
            number = len(self.rows) + 1
            at = START + timedelta(seconds=number)
            self.rows.append(OutboxRow(number, f"t{transaction}", at, tuple(changes)))


def as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


keys = st.integers(1, 4)
value_numbers = st.integers(0, len(VALUES) - 1)
three_values = st.tuples(*[st.none() | value_numbers] * 3)


def steps(
    *actions: str, keys: st.SearchStrategy[int] = keys, known: st.SearchStrategy[bool] | None = None
) -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.builds(
            Step,
            transaction=st.integers(0, 2),
            key=keys,
            action=st.sampled_from(actions),
            values=three_values,
            target=keys,
            last=st.booleans(),
            known=st.just(value=True) if known is None else known,
        ),
        max_size=30,
    )


initial_rows = st.dictionaries(st.tuples(st.integers(0, 2), keys), three_values, max_size=8)


def play(initial: dict[tuple[int, int], tuple[int | None, ...]], story: list[Step]) -> tuple[Model, dict[int, Table]]:
    """The model after the story, and the tables before it. Each transaction has a table of its own."""
    tables: dict[int, Table] = {transaction: {} for transaction in range(3)}
    for (transaction, key), values in initial.items():
        new = [None if value is None else VALUES[value] for value in values]
        tables[transaction][key] = {"id": key, **dict(zip("abc", new, strict=True))}
    before = {transaction: dict(table) for transaction, table in tables.items()}
    model = Model(tables)
    for step in story:
        model.take(step)
    for transaction in tables:
        model.flush(transaction)
    return model, before


def events_by_table(events: Iterable[Event]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {0: [], 1: [], 2: []}
    for event in events:
        found[int(event.resource.removeprefix("table"))].append(event)
    return found


def differences(old: Row, new: Row) -> dict[str, Any]:
    return {name: {"from": old[name], "to": new[name]} for name in new if as_json(old[name]) != as_json(new[name])}


@checked
@given(initial_rows, steps("insert", "update", "delete"))
def test_the_events_of_a_transaction_are_the_difference_it_made(
    initial: dict[tuple[int, int], tuple[int | None, ...]], story: list[Step]
) -> None:
    model, before = play(initial, story)

    for transaction, events in events_by_table(coalesce(model.rows)).items():
        old, new = before[transaction], model.tables[transaction]
        expected: dict[int, tuple[Operation, Row, Any]] = {}
        for key in old.keys() | new.keys():
            if key not in old:
                expected[key] = (CREATE, new[key], None)
            elif key not in new:
                expected[key] = (DELETE, old[key], None)
            elif changes := differences(old[key], new[key]):
                expected[key] = (UPDATE, new[key], changes)
        found = {one.identity[0]: (one.operation, one.data, one.changes) for one in events}
        assert len(found) == len(events), "two events for one row"
        assert found == expected
        # 1 and true are equal to Python.
        assert {key: as_json(one) for key, one in found.items()} == {key: as_json(one) for key, one in expected.items()}
        assert [one.resource_id for one in events] == [str(one.data["id"]) for one in events]
        assert [one.type for one in events] == [f"{one.resource}.{one.operation.value}d" for one in events]


def apply(table: Table, events: Iterable[Event]) -> Table:
    """What a receiver's copy of the table is after it has followed *events*, one after the other."""
    followed = dict(table)
    for event in events:
        if event.operation is DELETE:
            del followed[event.identity[0]]
        else:
            followed[event.identity[0]] = event.data
    return followed


@checked
@given(initial_rows, steps("insert", "update", "delete"), st.booleans())
def test_a_receiver_that_follows_the_events_has_what_the_database_has(
    initial: dict[tuple[int, int], tuple[int | None, ...]],
    story: list[Step],
    together: bool,  # noqa: FBT001  # drawn by Hypothesis
) -> None:
    model, before = play(initial, story)
    for transaction, events in events_by_table(coalesce(model.rows, together=together)).items():
        assert apply(before[transaction], events) == model.tables[transaction]


def origin(event: Event) -> int:
    """The key that the row of an event had before the transaction."""
    moved = (event.changes or {}).get("id", {"from": event.identity[0]})
    return int(moved["from"])


@checked
@given(initial_rows, steps("insert", "update", "delete", "move", "move"))
@example(
    # 1 moves to 2 and is deleted there; a new 1 comes, before or after that.
    {(0, 1): (0, 0, 0)},
    [
        Step(0, 1, "move", (None, None, None), target=2, last=True, known=True),
        Step(0, 1, "insert", (1, 1, 1), target=1, last=True, known=True),
        Step(0, 2, "delete", (None, None, None), target=1, last=True, known=True),
    ],
)
def test_with_keys_that_move_the_events_still_are_the_difference(
    initial: dict[tuple[int, int], tuple[int | None, ...]], story: list[Step]
) -> None:
    model, before = play(initial, story)

    for transaction, events in events_by_table(coalesce(model.rows)).items():
        old, new = before[transaction], model.tables[transaction]
        gone = [one for one in events if one.operation is DELETE]
        came = [one for one in events if one.operation is CREATE]
        changed = [one for one in events if one.operation is UPDATE]
        # Each row that was there is told of once, and so is each that is there now.
        left = [origin(one) for one in [*gone, *changed]]
        arrived = [one.identity[0] for one in [*came, *changed]]
        assert len(left) == len(set(left))
        assert len(arrived) == len(set(arrived))
        # A receiver that takes away what left, then puts what arrived, has what the database has.
        followed = {key: row for key, row in old.items() if key not in left}
        followed.update((one.identity[0], one.data) for one in [*came, *changed])
        assert {key: as_json(row) for key, row in followed.items()} == {key: as_json(row) for key, row in new.items()}
        # One that takes the events one by one finds each row where it is said to be, and each key free.
        stepwise = dict(old)
        for one in events:
            if one.operation is not CREATE:
                del stepwise[origin(one)]
            if one.operation is not DELETE:
                assert one.identity[0] not in stepwise
                stepwise[one.identity[0]] = one.data
        # And each says what is true.
        assert [one.data for one in gone] == [old[origin(one)] for one in gone]
        assert [one.changes for one in changed] == [differences(old[origin(one)], one.data) for one in changed]
        assert all(one.changes for one in changed)


@checked
@given(
    initial_rows,
    steps("insert", "update", "update", "delete", keys=st.integers(1, 2), known=st.booleans()),
)
@example(
    # An unknown old value, then the row is replaced.
    {(0, 1): (0, 0, 0)},
    [
        Step(0, 1, "update", (1, None, None), target=1, last=True, known=False),
        Step(0, 1, "delete", (None, None, None), target=1, last=True, known=True),
        Step(0, 1, "insert", (1, 0, 0), target=1, last=True, known=True),
    ],
)
def test_old_values_are_true_or_left_out(
    initial: dict[tuple[int, int], tuple[int | None, ...]], story: list[Step]
) -> None:
    model, before = play(initial, story)

    for transaction, events in events_by_table(coalesce(model.rows)).items():
        old, new = before[transaction], model.tables[transaction]
        found = {one.identity[0]: one for one in events}
        assert len(found) == len(events)
        for key in old.keys() ^ new.keys():
            assert found.pop(key).operation is (CREATE if key in new else DELETE)
        for key in old.keys() & new.keys():
            event = found.pop(key, None)
            said = (event.changes or {}) if event else {}
            true = differences(old[key], new[key])
            for name in new[key]:
                if (transaction, key, name) not in model.unknown:
                    assert said.get(name) == true.get(name)
                elif name in true:
                    assert said[name] in (true[name], {"to": new[key][name]})
                else:
                    assert said.get(name) in (None, {"to": new[key][name]})
        assert found == {}


# --------------------------------------------------------------------------- ids


@checked
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # Hypothesis wants them naive
def test_an_event_id_is_evt_and_32_digits(at: datetime) -> None:
    assert re.fullmatch(r"evt_[0-9a-f]{32}", event_id(at))


def test_no_two_event_ids_are_the_same() -> None:
    assert len({event_id(START) for _ in range(10_000)}) == 10_000


@checked
@given(st.integers(0, 200_000_000_000_000), st.integers(1, 1000))
def test_event_ids_sort_by_time(milliseconds: int, later: int) -> None:
    first = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert event_id(first) < event_id(first + timedelta(milliseconds=later))


@checked
@given(st.integers(0, 200_000_000_000_000))
def test_an_event_id_says_its_millisecond(milliseconds: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert int(event_id(at)[4:16], 16) == milliseconds


def test_each_event_has_an_id_of_its_own() -> None:
    events = coalesce(flushes([created(number) for number in range(100)]))
    assert len({one.id for one in events}) == 100


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        ((1,), "1"),
        (("abc",), "abc"),
        (("a b,c",), "a b,c"),
        (("Zoë",), "Zoë"),
        ((1, "x"), "1,x"),
        (("A", 12, "é"), "A,12,é"),
        ((True, None), "true,null"),
        ((2**70,), str(2**70)),
        ((1.5,), "1.5"),
        ((-1,), "-1"),
        (("",), ""),
        (([1, "a"],), '[1,"a"]'),
        ((), ""),
    ],
)
def test_a_resource_id_is_the_key_as_text(identity: tuple[Any, ...], text: str) -> None:
    assert resource_id(identity) == text


# --------------------------------------------------------------------------- what is no change


def emitted(number: int, key: int = 0) -> Change:
    return Change("order", Operation.EMIT, (key,), {"number": number}, type="order.seen")


def by_hand(id_: int = 1, operation: Operation = UPDATE, **data: Any) -> Change:
    return Change("order", operation, (id_,), {"id": id_, **data}, by_hand=True)


def types(*changes: Change, together: bool = True) -> list[str]:
    return [f"{one.type} {one.resource_id}" for one in coalesce(flushes(*changes), together=together)]


def test_what_is_no_change_is_told_of_each_time_and_changes_nothing() -> None:
    story = [created(total=1), emitted(1), by_hand(total=1), updated(before={"total": 1}, total=2), emitted(2)]
    events = coalesce(flushes(*story))

    assert [(one.operation, one.data, one.changes) for one in events] == [
        (CREATE, {"id": 1, "total": 2}, None),
        (Operation.EMIT, {"number": 1}, None),
        (UPDATE, {"id": 1, "total": 1}, {}),
        (Operation.EMIT, {"number": 2}, None),
    ]
    assert [one.by_hand for one in events] == [False, False, True, False]
    assert len(coalesce(flushes(*story), together=False)) == 5


def test_it_stands_behind_what_was_told_of_before_and_before_what_was_not() -> None:
    moved = updated(2, before={"id": 1})
    assert types(emitted(1, 1), updated(before={"total": 1}, total=2), emitted(1, 1)) == [
        "order.seen 1",
        "order.updated 1",
        "order.seen 1",
    ]
    assert types(updated(before={"a": 1}, a=2), emitted(1, 1), moved, emitted(2, 2)) == [
        "order.seen 1",  # of the key that the row had
        "order.updated 2",
        "order.seen 2",
    ]
    assert types(created(1), emitted(1, 1), deleted(1)) == ["order.seen 1"]


@checked
@given(
    initial_rows,
    steps("insert", "update", "delete", "move"),
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=6),
)
def test_the_net_changes_are_the_same_with_and_without_it(
    initial: dict[tuple[int, int], tuple[int | None, ...]], story: list[Step], places: list[tuple[int, bool]]
) -> None:
    model, _ = play(initial, story)
    mixed = [replace(row, changes=tuple(_between(row, places))) for row in model.rows]

    events = [_shown(one) for one in coalesce(mixed) if one.operation is not Operation.EMIT and not one.by_hand]
    assert events == [_shown(one) for one in coalesce(model.rows)]
    told = [one.data for row in mixed for one in row.changes if not one.is_net]
    found = [one.data for one in coalesce(mixed) if one.operation is Operation.EMIT or one.by_hand]
    assert sorted(map(as_json, found)) == sorted(map(as_json, told))


def _between(row: OutboxRow, places: list[tuple[int, bool]]) -> Iterable[Change]:
    for number, change in enumerate(row.changes):
        for place, hand in places:
            if place % 5 == number:
                yield by_hand(place, DELETE, row=row.id) if hand else emitted(place)
        yield change


def _shown(event: Event) -> Event:
    return replace(event, id="")


@checked
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12))
def test_each_stands_where_it_was_told_and_each_row_where_it_first_was(story: list[tuple[int, bool]]) -> None:
    """A model in which rows are only updated: the place of each is that of its first update."""
    changes, expected = [], []
    for number, (key, is_emitted) in enumerate(story):
        if is_emitted:
            changes.append(emitted(number, key))
            expected.append(f"order.seen {key}")
        else:
            changes.append(updated(key, before={"total": number - 1}, total=number))
            expected += [line for line in [f"order.updated {key}"] if line not in expected]
    assert types(*changes) == expected
