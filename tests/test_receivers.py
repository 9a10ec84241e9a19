"""
The receivers that judge our deliveries, judged: they accept what is signed by hand, and refuse each single fault of it.

Nothing here is made by what they are to judge.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers.by_hand import (
    ATTRIBUTES,
    JSON,
    OPENFRONT,
    ORDER,
    OTHER,
    PLAIN,
    SECRET,
    STRANGE,
    STRUCTURED,
    UNSIGNED,
    Message,
    Step,
    body,
    compact,
    header,
    header_as,
    in_turn,
    item,
    key,
    now,
    openfront,
    raw,
    refusal_of,
    signed,
    without,
)
from receivers.cloudevents_sdk import Binary, Structured
from receivers.github import GitHub
from receivers.javascript import NodeReceiver, node_receiver
from receivers.openfront import Openfront
from receivers.served import Receives, served
from receivers.standard import Standard

PYTHON: dict[str, Callable[..., Receives]] = {
    "standard": Standard,
    "cloudevents": Structured,
    "cloudevents-binary": Binary,
    "github": GitHub,
    "openfront": Openfront,
}
DIALECTS = list(PYTHON)

pytestmark = pytest.mark.pure


# --------------------------------------------------------------------------- faults

#: The signature is right, and what it signs is not.
FAULTS: dict[str, dict[str, Step]] = {
    "standard": {},
    "cloudevents": {
        **{f"without {name}": without(name) for name in ("id", "source", "type", "specversion")},
        "empty source": key("source", ""),
        "other version": key("specversion", "0.3"),
        "name in capitals": key("Actor", "a"),
        "plain content type": header(*PLAIN),
        "no content type": header("Content-Type", None),
        "binary too": in_turn(*(header(f"ce-{name}", value) for name, value in ATTRIBUTES.items()), header(*PLAIN)),
        "batch that is none": header("Content-Type", "application/cloudevents-batch+json"),
    },
    "cloudevents-binary": {
        **{f"without {name}": header(f"ce-{name}", None) for name in ("id", "source", "type", "specversion")},
        "other version": header("ce-specversion", "0.3"),
        "structured too": in_turn(raw(lambda _: UNSIGNED["cloudevents"].body), header(*STRUCTURED)),
    },
    "github": {
        "without event": header("X-GitHub-Event", None),
        "without delivery": header("X-GitHub-Delivery", None),
    },
    "openfront": {
        f"without {name}": header(f"X-OpenFront-{name}", None)
        for name in ("Topic", "ListKey", "Operation", "Delivery-ID")
    },
}
for faults in FAULTS.values():
    faults["no JSON"] = raw(lambda one: one[:-1])
    faults["no UTF-8"] = raw(lambda one: one[:-1] + b',"x":"\xff"}')

#: What only the receivers in Python look at.
FINER: dict[str, dict[str, Step]] = {
    "standard": {"other content type": header("Content-Type", "text/plain")},
    "cloudevents": {
        "key twice": raw(lambda one: one[:-1] + b',"type":"order.deleted"}'),
        "time of no zone": key("time", "2026-03-01T12:00:00"),
        "time that is none": key("time", "yesterday"),
    },
    "cloudevents-binary": {"time that is none": header("ce-time", "yesterday")},
    "github": {"a list": raw(lambda one: b"[%s]" % one), "other content type": header("Content-Type", "text/plain")},
    "openfront": {
        "other content type": header("Content-Type", "text/plain"),
        "other topic": header("X-OpenFront-Topic", "order.created"),
        "topic of another list": header("X-OpenFront-Topic", "orders.updated"),
        "topic as in the body": header("X-OpenFront-Topic", "order.update"),
        "other list": header("X-OpenFront-ListKey", "order"),
        "other operation": header("X-OpenFront-Operation", "updated"),
        "event as in the topic": key("event", "order.updated"),
        "operation that is none": openfront("upsert", "Order", "upserted"),
        "list key that is none": openfront("create", "", "created"),
        "changes that are none": key("changes", []),
        "a list": raw(lambda one: b"[%s]" % one),
        "time of no milliseconds": key("timestamp", "2026-03-01T12:00:00Z"),
        "time of a zone": key("timestamp", "2026-03-01T12:00:00.000+00:00"),
        "spaces": raw(lambda one: one.replace(b'":', b'": ')),
        "a line's end": raw(lambda one: one + b"\n"),
        "key more": key("id", "e1"),
        "keys in another order": body(lambda content: content.update({"listKey": content.pop("listKey")})),
        "without previousData": without("previousData"),
        "without changes": without("changes"),
        "item of no id": body(lambda content: content["data"].pop("id")),
        "change of no from": body(lambda content: content["changes"]["status"].pop("from")),
        "change of no to": body(lambda content: content["changes"]["status"].pop("to")),
        "change to what is not": item("changes", "status", {"from": "pending", "to": "lost"}),
        "change from what was not": item("changes", "status", {"from": "lost", "to": ORDER["status"]}),
        "change that is none": item("changes", "note", {"from": None, "to": None}),
        "change that is not said": item("previousData", "total", "1.00"),
        "change from true to one": item("previousData", "id", True),  # noqa: FBT003  # JSON's
        "key twice": raw(lambda one: one.replace(b'"note":null', b'"note":null,"note":null', 1)),
    },
}

#: The signature is not right; all receivers look at it.
FORGED: dict[str, Step] = {
    "other body": raw(lambda one: one.replace(b"}", b" }", 1)),
}
FORGED_STANDARD: dict[str, Step] = {
    **{f"without {name}": header(name, None) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")},
    "other id": header("webhook-id", "m2"),
    "other second": header_as("webhook-timestamp", lambda value: str(int(value) + 1)),
    "time that is none": header("webhook-timestamp", "today"),
    "other version of signatures": header_as("webhook-signature", lambda value: value.replace("v1,", "v2,")),
    "signature that is none": header("webhook-signature", "nothing"),
}


def forged(dialect: str) -> dict[str, Step]:
    if dialect in {"github", "openfront"}:
        name = next(iter(signed(dialect, UNSIGNED[dialect]).headers.keys() - UNSIGNED[dialect].headers.keys()))
        return {
            **FORGED,
            "without signature": header(name, None),
            "signature of another length": header_as(name, lambda value: value[:-2]),
            "signature without its method": header_as(name, lambda value: value.removeprefix("sha256=")),
            "signature that is no ASCII": header(name, "sha256=ü"),
        }
    return {**FORGED, **FORGED_STANDARD}


# --------------------------------------------------------------------------- receivers


class Judge(Protocol):
    """Why the receiver of a dialect refuses a message, or None."""

    def __call__(self, dialect: str, message: Message) -> str | None: ...


def in_python(dialect: str, message: Message) -> str | None:
    return refusal_of(PYTHON[dialect](OTHER, SECRET), message)


@pytest.fixture(scope="module")
def node() -> Iterator[NodeReceiver]:
    with node_receiver({f"/{dialect}": [OTHER, SECRET] for dialect in DIALECTS}) as node:
        yield node


@pytest.fixture(scope="module", params=["python", "node"])
def judge(request: pytest.FixtureRequest) -> Judge:
    if request.param == "python":
        return in_python
    node: NodeReceiver = request.getfixturevalue("node")

    def by_node(dialect: str, message: Message) -> str | None:
        status = post(node.url(f"/{dialect}"), message)
        report = node.report()
        assert status == (204 if report.error is None else 400)
        return report.error

    return by_node


def post(url: str, message: Message) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        headers = {name: value.encode() for name, value in message.headers.items()}
        connection.request("POST", parts.path, message.body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def cases(faults: Mapping[str, Mapping[str, Step]]) -> pytest.MarkDecorator:
    every = [
        pytest.param(dialect, step, id=f"{dialect}-{name}")
        for dialect in faults
        for name, step in faults[dialect].items()
    ]
    return pytest.mark.parametrize(("dialect", "fault"), every)


every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


# --------------------------------------------------------------------------- tests


@every_dialect
def test_what_is_signed_by_hand_is_accepted(judge: Judge, dialect: str) -> None:
    for secret in (SECRET, OTHER):
        assert judge(dialect, signed(dialect, UNSIGNED[dialect], secret=secret)) is None


@every_dialect
def test_what_a_stranger_signs_is_refused(judge: Judge, dialect: str) -> None:
    assert judge(dialect, signed(dialect, UNSIGNED[dialect], secret=STRANGE)) is not None


@cases({dialect: forged(dialect) for dialect in DIALECTS})
def test_what_is_changed_after_it_was_signed_is_refused(judge: Judge, dialect: str, fault: Step) -> None:
    assert judge(dialect, fault(signed(dialect, UNSIGNED[dialect]))) is not None


@pytest.mark.parametrize("dialect", ["standard", "cloudevents", "cloudevents-binary"])
@pytest.mark.parametrize(("off", "accepted"), [(-360, False), (-240, True), (240, True), (360, False)])
def test_what_was_signed_five_minutes_ago_or_will_be_is_refused(
    judge: Judge, dialect: str, off: int, *, accepted: bool
) -> None:
    refusal = judge(dialect, signed(dialect, UNSIGNED[dialect], at=now() + off))
    assert (refusal is None) == accepted


@cases(FAULTS)
def test_what_its_sender_should_not_send_is_refused(judge: Judge, dialect: str, fault: Step) -> None:
    assert judge(dialect, signed(dialect, fault(UNSIGNED[dialect]))) is not None


@cases(FINER)
def test_nor_what_only_python_looks_at(dialect: str, fault: Step) -> None:
    assert in_python(dialect, signed(dialect, fault(UNSIGNED[dialect]))) is not None


def test_a_content_type_of_cloudevents_may_name_its_charset(judge: Judge) -> None:
    named = header_as("Content-Type", lambda value: f"{value}; charset=utf-8")
    assert judge("cloudevents", signed("cloudevents", named(UNSIGNED["cloudevents"]))) is None


@every_dialect
def test_headers_are_found_in_any_case(dialect: str) -> None:
    message = signed(dialect, UNSIGNED[dialect])
    for change in (str.lower, str.upper):
        headers = {change(name): value for name, value in message.headers.items()}
        assert in_python(dialect, replace(message, headers=headers)) is None


@every_dialect
@given(data=st.data())
def test_no_bit_of_a_body_may_differ(dialect: str, data: st.DataObject) -> None:
    message = signed(dialect, UNSIGNED[dialect])
    at = data.draw(st.integers(0, len(message.body) - 1))
    flipped = message.body[at] ^ (1 << data.draw(st.integers(0, 7)))
    spoilt = message.body[:at] + bytes([flipped]) + message.body[at + 1 :]
    assert in_python(dialect, replace(message, body=spoilt)) is not None


def test_node_says_what_it_has_read(node: NodeReceiver) -> None:
    reads = {
        "standard": json.loads(UNSIGNED["standard"].body),
        "cloudevents": {**ATTRIBUTES, "datacontenttype": "application/json", "data": ORDER},
        "cloudevents-binary": {**ATTRIBUTES, "datacontenttype": "application/json", "data": ORDER},
        "github": {"action": "updated"},
        "openfront": OPENFRONT,
    }
    for dialect, expected in reads.items():
        message = signed(dialect, UNSIGNED[dialect])
        assert post(node.url(f"/{dialect}"), message) == 204
        report = node.report()
        assert (report.path, report.error, report.events) == (f"/{dialect}", None, [expected])
        assert report.body == json.loads(message.body)
        assert {name.lower(): value for name, value in message.headers.items()}.items() <= report.headers.items()


def test_node_receives_nothing_where_it_knows_no_dialect(node: NodeReceiver) -> None:
    assert post(node.url("/constructor"), signed("standard", UNSIGNED["standard"])) == 400
    assert node.report().error is not None


def test_batches_are_read_by_each_that_knows_them(node: NodeReceiver) -> None:
    types = {"Content-Type": "application/cloudevents-batch+json"}
    attributes = [{**ATTRIBUTES, "id": one, "data": ORDER} for one in ("e1", "e2")]
    for dialect, headers, several in (
        ("standard", JSON, [{"data": 1}, {"data": 2}]),
        ("cloudevents", types, attributes),
    ):
        message = signed(dialect, Message(headers, compact(several)))
        assert post(node.url(f"/{dialect}"), message) == 204
        assert node.report().events == several
        receiver: Any = PYTHON[dialect](SECRET)
        receiver.receive(message.headers, message.body)
        assert len(receiver.events) == 2
        worse = signed(dialect, Message(types, compact([attributes[0], {"id": "e2"}])))
        assert dialect == "standard" or in_python(dialect, worse) is not None
        assert dialect == "standard" or (post(node.url("/cloudevents"), worse), node.report().events) == (400, [])


def test_the_sdk_of_python_reads_the_same_of_both_modes() -> None:
    structured, binary = Structured(SECRET), Binary(SECRET)
    for dialect, receiver in (("cloudevents", structured), ("cloudevents-binary", binary)):
        message = signed(dialect, UNSIGNED[dialect])
        receiver.receive(message.headers, message.body)
    [one], [other] = structured.events, binary.events
    assert (one.get_attributes(), one.get_data()) == (other.get_attributes(), other.get_data())
    assert (one.get_type(), one.get_source(), one.get_data()) == ("order.updated", "/shop", ORDER)


def test_github_s_names_stand_beside_its_payloads() -> None:
    receiver, message = GitHub(SECRET), signed("github", UNSIGNED["github"])
    receiver.receive(message.headers, message.body)
    assert (receiver.events, receiver.named) == ([{"action": "updated"}], [("order", "d1")])


def test_a_served_receiver_answers_for_itself() -> None:
    receiver = Openfront(SECRET)
    good = signed("openfront", UNSIGNED["openfront"])
    with served({"/here": receiver}) as server:
        assert post(server.url("/here"), good) == 204
        assert post(server.url("/here"), replace(good, body=b"{}")) == 400
        assert post(server.url("/there"), good) == 400
        reports = [server.report() for _ in range(3)]
    assert [(report.path, report.error is None) for report in reports] == [
        ("/here", True),
        ("/here", False),
        ("/there", False),
    ]
    assert [report.events for report in reports] == [[OPENFRONT], [], []]
    assert [report.body for report in reports] == [OPENFRONT, {}, OPENFRONT]
    assert receiver.events == [OPENFRONT]


def test_what_is_not_said_to_be_an_update_needs_nothing_of_one() -> None:
    for operation, verb in (("create", "created"), ("delete", "deleted")):
        message = openfront(operation, "OrderLine", verb)(UNSIGNED["openfront"])
        assert in_python("openfront", signed("openfront", message)) is None
