"""The replica of Openfront's receiver, which is an oracle of order and of loss: judged by histories made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from receivers.by_hand import OPENFRONT, OPENFRONT_HEADERS, ORDER, SECRET, Message, compact, refusal_of, signed
from receivers.openfront import Openfront

pytestmark = pytest.mark.pure


def told(delivery: str, operation: str, data: dict[str, Any], previous: dict[str, Any] | None = None) -> Message:
    """What Openfront says of one change."""
    content = {**OPENFRONT, "event": f"order.{operation}", "operation": operation, "data": data}
    verb = {"create": "order.created", "update": "order.updated", "delete": "order.deleted"}[operation]
    if previous is None:
        del content["previousData"], content["changes"]
    else:
        changed = [name for name in data if data[name] != previous[name]]
        content["previousData"] = previous
        content["changes"] = {name: {"from": previous[name], "to": data[name]} for name in changed}
    names = {"Topic": verb, "Operation": operation, "Delivery-ID": delivery}
    headers = OPENFRONT_HEADERS | {f"X-OpenFront-{name}": value for name, value in names.items()}
    return signed("openfront", Message(headers, compact(content)))


def history(steps: list[tuple[int, int | None]]) -> tuple[list[tuple[int, Message]], dict[int, dict[str, Any]]]:
    """
    What is told of these steps, each with the id of its item, and what there is in the end.

    Args:
        steps: An id and its new stock, or None where it is deleted; what would change nothing is left out.
    """
    items: dict[int, dict[str, Any]] = {}
    messages: list[tuple[int, Message]] = []
    for id_, stock in steps:
        before, delivery = items.get(id_), f"d{len(messages)}"
        # A version that only grows, so that no two states of an item are the same.
        after = {"id": id_, "stock": stock, "version": len(messages)}
        if stock is None:
            if before is not None:
                messages.append((id_, told(delivery, "delete", items.pop(id_))))
        else:
            items[id_] = after
            message = told(delivery, "create", after) if before is None else told(delivery, "update", after, before)
            messages.append((id_, message))
    return messages, items


STEPS = st.lists(st.tuples(st.integers(1, 2), st.none() | st.integers(0, 3)), min_size=3, max_size=12)


@given(STEPS, st.lists(st.integers(0, 11)))
def test_the_replica_is_what_there_is_whatever_comes_again(
    steps: list[tuple[int, int | None]], again: list[int]
) -> None:
    messages, items = history(steps)
    receiver = Openfront(SECRET)
    for number, (_, message) in enumerate(messages):
        for _ in range(1 + again.count(number)):
            receiver.receive(message.headers, message.body)
    for number in again:
        for _, message in messages[number : number + 1]:
            receiver.receive(message.headers, message.body)
    assert receiver.replica == {("Order", id_): item for id_, item in items.items()}
    assert len(receiver.events) == len(messages)


@given(STEPS, st.data())
def test_what_comes_before_another_of_its_item_may_not_be_lost(
    steps: list[tuple[int, int | None]], data: st.DataObject
) -> None:
    messages, _ = history(steps)
    # What is first, or follows a deletion, creates; whoever has not heard of an item takes what comes.
    known = [number for number, (id_, _) in enumerate(messages) if id_ in [one for one, _ in messages[:number]]]
    followed = [number for number in known if messages[number][0] in [one for one, _ in messages[number + 1 :]]]
    operations = [message.headers["X-OpenFront-Operation"] for _, message in messages]
    updates = [number for number in followed if operations[number] == "update"]
    assume(updates)
    lost = data.draw(st.sampled_from(updates))
    receiver = Openfront(SECRET)
    refusals = [refusal_of(receiver, message) for _, message in messages[:lost] + messages[lost + 1 :]]
    assert any(refusal is not None and "was" in refusal for refusal in refusals)


def test_what_is_there_is_not_created_again() -> None:
    receiver = Openfront(SECRET)
    assert refusal_of(receiver, told("d1", "create", ORDER)) is None
    assert "there already" in str(refusal_of(receiver, told("d2", "create", ORDER)))
