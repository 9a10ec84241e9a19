from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sqla_webhooks.errors import ConfigurationError, InvalidSubscription
from sqla_webhooks.subscriptions import Patterns, check, check_type

RESOURCES = ("customer", "order", "order_line", "Order2")
#: What is done to rows; and of all that are told of.
CHANGED = ("created", "updated", "deleted")
VERBS = (*CHANGED, "read")

checked = settings(deadline=None, max_examples=200)

#: What is told of rows without their having changed, and what else happens: to what is a resource, and to what is not.
DOMAIN = ("order.paid", "payment.captured", "payment.failed")

resources = st.sampled_from((*RESOURCES, "payment"))
verbs = st.sampled_from((*VERBS, "read", "paid", "captured"))
patterns = st.one_of(
    st.just("*"),
    resources.map("{}.*".format),
    verbs.map("*.{}".format),
    st.builds("{}.{}".format, resources, verbs),
)
# Few of them, so that most sets leave something out.
some_patterns = st.lists(patterns, max_size=4)


def is_asked_for(event_type: str, given_patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(event_type, pattern) for pattern in given_patterns)


# --------------------------------------------------------------------------- Patterns


@pytest.mark.parametrize(
    ("pattern", "matched", "missed"),
    [
        ("*", ["order.created", "customer.deleted"], []),
        ("order.*", ["order.created", "order.deleted"], ["order_line.created", "customer.created"]),
        ("*.created", ["order.created", "customer.created"], ["order.updated", "created.updated"]),
        ("order.created", ["order.created"], ["order.updated", "order_line.created", "Order.created", "created.order"]),
    ],
)
def test_each_kind_of_pattern(pattern: str, matched: list[str], missed: list[str]) -> None:
    asked = Patterns.of([pattern])
    assert [one for one in [*matched, *missed] if asked.match(one)] == matched


@checked
@given(some_patterns, resources, verbs)
def test_a_set_matches_what_any_of_its_patterns_matches(given_patterns: list[str], resource: str, verb: str) -> None:
    event_type = f"{resource}.{verb}"
    assert Patterns.of(given_patterns).match(event_type) is is_asked_for(event_type, given_patterns)


@checked
@given(some_patterns, resources)
@example(["order.read", "*.read"], "order")
def test_a_resource_is_wanted_if_any_of_its_changes_is(given_patterns: list[str], resource: str) -> None:
    wanted = any(is_asked_for(f"{resource}.{verb}", given_patterns) for verb in CHANGED)
    assert Patterns.of(given_patterns).want(resource) is wanted


@checked
@given(some_patterns)
@example([])
def test_a_set_is_true_if_it_has_a_pattern(given_patterns: list[str]) -> None:
    assert bool(Patterns.of(given_patterns)) is (given_patterns != [])


@checked
@given(some_patterns)
def test_order_and_repetition_do_not_matter_to_a_set(given_patterns: list[str]) -> None:
    assert Patterns.of(given_patterns) == Patterns.of([*reversed(given_patterns), *given_patterns])


# --------------------------------------------------------------------------- check


@checked
@given(st.lists(patterns, min_size=1))
def test_good_patterns_come_back_in_order_each_once(given_patterns: list[str]) -> None:
    expected = [pattern for at, pattern in enumerate(given_patterns) if pattern not in given_patterns[:at]]
    happens = [f"{resource}.{verb}" for resource in (*RESOURCES, "payment") for verb in ("paid", "captured")]
    assert check(given_patterns, (*RESOURCES, "payment"), domain=happens) == tuple(expected)


@checked
@given(st.lists(st.text("ocd*. ", max_size=4) | st.sampled_from(["*.*", "order.*", "*.created", "*", ".", "*."])))
@example(["*.*"])
def test_what_is_accepted_can_match_an_event(given_patterns: list[str]) -> None:
    try:
        accepted = check(given_patterns, RESOURCES)
    except InvalidSubscription:
        return
    for pattern in accepted:
        asked = Patterns.of([pattern])
        assert any(asked.match(f"{resource}.{verb}") for resource in RESOURCES for verb in VERBS), pattern


def test_any_iterable_will_do() -> None:
    assert check((one for one in ["*.created", "order.*"]), {"order"}) == ("*.created", "order.*")
    assert check({"order.created": 1}, ["order"]) == ("order.created",)


def message(given_patterns: Any, known: Iterable[str] = RESOURCES) -> str:
    with pytest.raises(InvalidSubscription) as caught:
        check(given_patterns, list(known))
    return str(caught.value)


# --------------------------------------------------------------------------- domain events


def types_there_are() -> list[str]:
    return [*(f"{resource}.{verb}" for resource in RESOURCES for verb in (*VERBS, "read")), *DOMAIN]


@checked
@given(patterns)
@example("payment.*")
@example("payment.created")
@example("*.captured")
@example("*.read")
def test_what_is_accepted_is_what_matches_an_event_that_there_is(pattern: str) -> None:
    try:
        check([pattern], RESOURCES, domain=DOMAIN)
        accepted = True
    except InvalidSubscription:
        accepted = False
    assert accepted is any(fnmatchcase(one, pattern) for one in types_there_are())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("payment.captred", "no event of 'payment' is called 'captred'; did you mean 'payment.captured'? "),
        (
            "payment.created",
            "no event of 'payment' is called 'created'; did you mean 'payment.captured'? Known: captured, failed",
        ),
        ("paymnt.captured", "called 'paymnt'; did you mean 'payment.captured'? Known: Order2, customer, order, "),
        ("orders.captured", "no captured class is called 'orders'; Known: "),
        (
            "order.captured",
            "of 'order' is called 'captured'; did you mean 'payment.captured'? Known: created, updated, ",
        ),
        ("*.capture", "no event is called 'capture'; did you mean '*.captured'? "),
        ("order.pay", "did you mean 'order.paid'? Known: created, updated, deleted, read, paid"),
    ],
)
def test_what_is_refused_is_told_of_the_domain_events_too(wrong: str, says: str) -> None:
    with pytest.raises(InvalidSubscription) as caught:
        check([wrong], RESOURCES, domain=DOMAIN)
    assert says in str(caught.value)


@checked
@given(st.text("ab._- é", max_size=6) | st.sampled_from(["payment.captured", "a.read", "x.created", "delivery.dead"]))
@example("payment.captured")
@example("a.read")
@example("delivery.dead")
@example(f"{'a' * 201}.b")
@example(f"a.{'b' * 249}")
def test_a_type_is_two_words_that_nothing_else_is_called_by(type_: str) -> None:
    formed = re.fullmatch(r"[A-Za-z0-9_]{1,200}\.[A-Za-z0-9_]+", type_) is not None and len(type_) <= 250
    taken = type_.endswith((".created", ".updated", ".deleted", ".read")) or type_ == "delivery.dead"
    if formed and not taken:
        assert check_type(type_, "here") == type_
        return
    with pytest.raises(ConfigurationError) as refused:
        check_type(type_, "here")
    assert str(refused.value).startswith(f"here has {type_!r}: ")


def test_text_instead_of_a_list_is_refused() -> None:
    assert message("order.*") == "events is 'order.*', not a list of patterns: write events=['order.*']"


@pytest.mark.parametrize("empty", [[], (), set(), iter([])])
def test_no_pattern_is_refused(empty: Any) -> None:
    said = message(empty)
    assert said.startswith("events is empty")
    assert '"order.*"' in said
    assert '"*"' in said


@pytest.mark.parametrize(
    "malformed",
    [
        *(
            "",
            " ",
            "order",
            "order.",
            ".created",
            ".",
            "**",
            "order*",
            "order.created.now",
            "order.cre*",
            "ord*.created",
        ),
        *("order.* ", " order.*", "order.*\n", "order-line.*", "order.created\n", "örder.created", "order:created"),
        *("?.created", "[o]rder.*", "*.*", "*.", ".*", "order..created"),
        *(None, 5, ("order", "created"), b"order.*", ["order.*"]),
    ],
    ids=repr,
)
def test_a_malformed_pattern_is_refused_and_shown(malformed: Any) -> None:
    said = message(["order.*", malformed])
    assert said.startswith(f"{malformed!r} is not a subscription pattern")
    assert '"*", "order.*", "*.created" or "order.created"' in said


def test_an_unknown_verb_is_refused_with_the_known_ones() -> None:
    assert message(["order.paid"]) == (
        "'order.paid' can match nothing: no event of 'order' is called 'paid'; Known: created, updated, deleted, read"
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("order.create", "order.created"),
        ("order.Created", "order.created"),
        ("*.update", "*.updated"),
        ("order.deletd", "order.deleted"),
        # The verb alone is wrong, though the resource has it in its name.
        ("update_log.update", "update_log.updated"),
        ("delete.delete", "delete.deleted"),
    ],
)
def test_an_almost_right_verb_is_suggested(wrong: str, right: str) -> None:
    said = message([wrong], [*RESOURCES, "update_log", "delete"])
    assert f"did you mean {right!r}? Known: created, updated, deleted, read" in said
    assert check([right], [*RESOURCES, "update_log", "delete"]) == (right,)


def test_an_unknown_resource_is_refused_with_the_known_ones() -> None:
    assert message(["zebra.created"]) == (
        "'zebra.created' can match nothing: no captured class is called 'zebra'; "
        "Known: Order2, customer, order, order_line"
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("orders.*", "order.*"),
        ("Order.created", "order.created"),
        ("order_lines.deleted", "order_line.deleted"),
        ("custmer.updated", "customer.updated"),
        # The resource alone is wrong, though the verb has it in its name.
        ("update.updated", "updates.updated"),
    ],
)
def test_an_almost_right_resource_is_suggested(wrong: str, right: str) -> None:
    said = message([wrong], [*RESOURCES, "updates"])
    assert f"did you mean {right!r}? Known: " in said
    assert check([right], [*RESOURCES, "updates"]) == (right,)


def test_where_no_class_is_mapped_the_message_says_so() -> None:
    said = message(["order.created"], [])
    assert "no captured class is called 'order'" in said
    assert said.endswith("Known: none: import the modules that map your classes first")


def test_where_no_class_is_mapped_wildcards_will_do() -> None:
    assert check(["*", "*.created"], []) == ("*", "*.created")


def test_one_bad_pattern_among_good_ones_is_enough() -> None:
    assert "'order.paid'" in message(["order.*", "order.paid", "*"])
