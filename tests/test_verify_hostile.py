"""Requests that nobody has signed, in every form in which they can come: refused, and with an error of ours."""

from __future__ import annotations

import base64
import hmac
import io
import json
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.message import Message
from http.client import parse_headers
from types import MappingProxyType
from typing import Any
from wsgiref.headers import Headers as WSGIHeaders

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict
from standardwebhooks import Webhook, WebhookVerificationError
from support.clock import START, MovedClock
from werkzeug.datastructures import EnvironHeaders
from werkzeug.datastructures import Headers as WerkzeugHeaders

from sqla_webhooks import (
    ConfigurationError,
    MemoryReplayGuard,
    Replayed,
    SignatureError,
    WebhooksError,
    verify,
    verify_batch,
)
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.delivery.sign import sign
from sqla_webhooks.delivery.verify import MOST_SIGNATURES

checked = settings(deadline=None, max_examples=300)

NOW = int(START.timestamp())
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
EVENT = {"type": "order.created", "data": {"note": "Zoë"}}
BODY = json.dumps(EVENT, ensure_ascii=False).encode()
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")

RIGHT = {
    "webhook-id": "evt_1",
    "webhook-timestamp": str(NOW),
    "webhook-signature": sign([SECRET], "evt_1", timestamp=NOW, body=BODY),
}

secrets = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
any_text = st.text(st.characters(codec=None, categories=None))  # lone surrogates too


def is_accepted(body: Any, headers: Any, secret: Any = SECRET) -> bool:
    """By verify(), which must not raise anything but errors of ours."""
    try:
        verify(body, headers, secret, clock=MovedClock())
    except WebhooksError:
        return False
    return True


# --------------------------------------------------------------------------- what headers can be


class StarletteLike(Mapping[str, str]):
    """As ASGI frameworks have them: pairs of bytes beneath, duplicates among the items, the first of them by name."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]

    def items(self) -> Any:
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._raw]

    def __getitem__(self, wanted: str) -> str:
        return str(next(value for name, value in self.items() if name == wanted.lower()))

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return len(self._raw)


def message(pairs: list[tuple[str, str]]) -> Message:
    made = Message()
    for name, value in pairs:
        made[name] = value
    return made


def parsed(pairs: list[tuple[str, str]]) -> Message:
    return parse_headers(io.BytesIO("".join(f"{name}: {value}\r\n" for name, value in [*pairs, ("x", "y")]).encode()))


def environ(pairs: list[tuple[str, str]]) -> EnvironHeaders:
    return EnvironHeaders({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in pairs})


Pairs = list[tuple[str, str]]

#: Those in which a name may come twice, and those in which it may not.
MANY: list[Callable[[Pairs], Any]] = [StarletteLike, message, parsed, WSGIHeaders, WerkzeugHeaders]
SINGLE: list[Callable[[Pairs], Any]] = [
    *(dict, UserDict, CaseInsensitiveDict, environ),
    lambda pairs: MappingProxyType(dict(pairs)),
]


@pytest.mark.parametrize("make", [*MANY, *SINGLE])
def test_headers_may_be_whatever_a_framework_has(make: Callable[[Pairs], Any]) -> None:
    pairs = [("Host", "example.org"), *((name.title(), value) for name, value in RIGHT.items())]
    assert verify(BODY, make(pairs), SECRET, clock=MovedClock()) == EVENT
    for name in NAMES:
        with pytest.raises(SignatureError, match=f"the header {name} is missing"):
            verify(BODY, make([one for one in pairs if one[0].lower() != name]), SECRET, clock=MovedClock())


@pytest.mark.parametrize("make", MANY)
@pytest.mark.parametrize("name", NAMES)
def test_two_headers_of_one_name_must_be_the_same(make: Callable[[Pairs], Any], name: str) -> None:
    """Else the one that is signed need not be the one that the receiver looks at."""
    pairs = [*RIGHT.items()]
    for other in ([(name, "other"), *pairs], [*pairs, (name.upper(), "other")]):
        with pytest.raises(SignatureError, match=f"the header {name} is there more than once"):
            verify(BODY, make(other), SECRET, clock=MovedClock())
    assert verify(BODY, make([*pairs, *pairs]), SECRET, clock=MovedClock()) == EVENT


@pytest.mark.parametrize(
    "headers",
    [None, 5, "webhook-id: evt_1", b"", [*RIGHT.items()], {*RIGHT.items()}, object(), io.BytesIO(), SECRET],
    ids=lambda one: type(one).__name__,
)
def test_what_are_no_headers_is_a_mistake_of_the_receiver(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"headers is .*: give the request's headers as a dict"):
        verify(BODY, headers, SECRET)


@pytest.mark.parametrize("items", [None, 5, [1], [(1,)], [("a", "b", "c")], ["ab", "abc"]], ids=repr)
def test_headers_whose_items_are_no_pairs_are_a_mistake_of_the_receiver(items: Any) -> None:
    class Odd:
        def items(self) -> Any:
            return items

    with pytest.raises(ConfigurationError, match="headers is Odd"):
        verify(BODY, Odd(), SECRET)


# --------------------------------------------------------------------------- whatever comes, an error of ours

numbers = st.integers() | st.sampled_from([10**4000, -(10**400), float("nan"), float("inf"), 1e308])
things = st.one_of(st.none(), st.booleans(), numbers, any_text, st.binary(), st.lists(any_text), st.just(RIGHT))


def hashable(one: Any) -> bool:
    try:
        hash(one)
    except TypeError:
        return False
    return True


some_names = st.sampled_from([*NAMES, *map(str.title, NAMES), "host"]) | things.filter(hashable)
digits = st.text("0123456789²٣１Ⅷ.+-_ e", max_size=14) | st.integers().map(str)
some_values = st.one_of(things, digits, st.sampled_from([*RIGHT.values(), f"{RIGHT['webhook-signature']} v1,x"]))


@checked
@given(st.one_of(any_text, st.binary(), things), st.dictionaries(some_names, some_values), st.one_of(things, secrets))
def test_whatever_comes_is_refused_by_an_error_of_ours(body: Any, headers: Any, secret: Any) -> None:
    assert not is_accepted(body, headers, secret)
    assert not is_accepted(BODY, headers, secret)


@checked
@given(st.sampled_from(NAMES), st.one_of(things, digits))
@example("webhook-timestamp", "\ud800")
@example("webhook-id", "\udfff")
@example("webhook-signature", "v1,\ud800")
def test_one_header_that_is_anything_is_refused(name: str, value: Any) -> None:
    assert is_accepted(BODY, RIGHT | {name: value}) is (value == RIGHT[name])


@checked
@given(st.one_of(things, st.lists(st.one_of(things, secrets, any_text.map("whsec_".__add__)))))
def test_secrets_that_are_anything_accept_nothing(secret: Any) -> None:
    assert not is_accepted(BODY, RIGHT, secret)


bodies = st.one_of(st.binary(), any_text.map(lambda text: text.encode("utf-8", "surrogatepass")))


@checked
@given(bodies | st.recursive(st.none() | numbers | any_text, st.lists).map(lambda one: json.dumps(one).encode()))
@example(b'{"a":' * 100_000)
@example(b"\xff\xfe{\x00}\x00")
@example(b'{"a": 1e999, "b": NaN}')
@example(b"\xef\xbb\xbf{}")
def test_a_signed_body_is_an_event_or_refused(body: bytes) -> None:
    headers = RIGHT | {"webhook-signature": sign([SECRET], "evt_1", timestamp=NOW, body=body)}
    try:
        event = verify(body, headers, SECRET, clock=MovedClock())
    except SignatureError as error:
        assert "the signature fits, but" in str(error)  # noqa: PT017  # either is right
    else:
        assert isinstance(event, dict)


objects = st.dictionaries(st.text(), numbers | st.text())


@checked
@given(st.lists(objects) | st.lists(objects | numbers | st.lists(objects)) | objects | numbers)
@example([])
@example([{}, []])
@example({})
def test_a_signed_body_is_a_batch_if_it_is_an_array_of_objects(content: Any) -> None:
    is_batch = isinstance(content, list) and [one for one in content if isinstance(one, dict)] == content
    body = json.dumps(content).encode()
    headers = RIGHT | {"webhook-signature": sign([SECRET], "evt_1", timestamp=NOW, body=body)}
    try:
        events = verify_batch(body, headers, SECRET, clock=MovedClock())
    except SignatureError as error:
        why = "not a JSON array of objects" + (": a single event is for verify()" if type(content) is dict else "")
        assert str(error) == f"the signature fits, but the body is {why}"  # noqa: PT017  # either is right
        assert not is_batch
    else:
        assert is_batch
        assert events == json.loads(body)


def test_a_batch_that_nobody_has_signed_is_refused() -> None:
    body = b"[{}]"
    headers = RIGHT | {"webhook-signature": sign([SECRET], "evt_1", timestamp=NOW, body=body)}

    assert verify_batch(body, headers, SECRET, clock=MovedClock()) == [{}]
    with pytest.raises(SignatureError, match="fits: the body was changed"):
        verify_batch(b"[{},{}]", headers, SECRET, clock=MovedClock())


def test_a_copy_of_a_batch_is_refused_by_the_guard() -> None:
    guard = MemoryReplayGuard(clock=MovedClock())
    headers = RIGHT | {"webhook-signature": sign([SECRET], "evt_1", timestamp=NOW, body=b"[{}]")}

    assert verify_batch(b"[{}]", headers, SECRET, replay_guard=guard, clock=MovedClock()) == [{}]
    with pytest.raises(Replayed):
        verify_batch(b"[{}]", headers, SECRET, replay_guard=guard, clock=MovedClock())


# --------------------------------------------------------------------------- one bit


def flipped(text: bytes, bit: int) -> bytes:
    changed = bytearray(text)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("name", NAMES)
def test_each_bit_of_each_header_counts(name: str) -> None:
    for bit in range(8 * len(RIGHT[name])):
        value = flipped(RIGHT[name].encode(), bit).decode("latin-1")
        assert not is_accepted(BODY, RIGHT | {name: value}), f"bit {bit} of {name}: {value!r}"


def test_each_bit_of_the_body_counts() -> None:
    for bit in range(8 * len(BODY)):
        assert not is_accepted(flipped(BODY, bit), RIGHT), f"bit {bit}"


@checked
@given(secrets, st.binary(max_size=200), st.text(st.characters(codec="ascii"), min_size=1), st.data())
def test_one_bit_of_anything_makes_a_request_another(
    secret: str, rest: bytes, message_id: str, data: st.DataObject
) -> None:
    body = b'{"a": "%s"}' % base64.b64encode(rest)
    headers = RIGHT | {"webhook-id": message_id}
    headers["webhook-signature"] = sign([secret], message_id, timestamp=NOW, body=body)
    assert is_accepted(body, headers, secret)
    where = data.draw(st.sampled_from([*NAMES, "body"]))
    text = body if where == "body" else headers[where].encode()
    changed = flipped(text, data.draw(st.integers(0, 8 * len(text) - 1)))
    if where == "body":
        assert not is_accepted(changed, headers, secret)
    else:
        assert not is_accepted(body, headers | {where: changed.decode("latin-1")}, secret)


# --------------------------------------------------------------------------- several secrets, and the other library

several = st.lists(secrets, min_size=1, max_size=5, unique=True)
events = st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.booleans()))


@checked
@given(several, st.text(min_size=1), events, st.data())
def test_what_we_sign_with_several_secrets_the_independent_library_verifies_with_each(
    keys: list[str], message_id: str, event: dict[str, Any], data: st.DataObject
) -> None:
    at = int(SystemClock().now().timestamp())
    body = json.dumps(event).encode()
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    headers["webhook-signature"] = sign(keys, message_id, timestamp=at, body=body)
    for key in keys:
        assert Webhook(key).verify(body, headers) == event
    stranger = data.draw(secrets.filter(lambda one: one not in keys))
    with pytest.raises(WebhookVerificationError):
        Webhook(stranger).verify(body, headers)


@checked
@given(several, several, events)
def test_what_the_independent_library_signs_fits_if_one_secret_does(
    theirs: list[str], ours: list[str], event: dict[str, Any]
) -> None:
    body = json.dumps(event)
    made = [Webhook(one).sign("evt_1", datetime.fromtimestamp(NOW, UTC), body) for one in theirs]
    headers = RIGHT | {"webhook-signature": " ".join(made)}
    assert is_accepted(body, headers, ours) is (not set(theirs).isdisjoint(ours))
    assert is_accepted(body, headers, [*ours, theirs[-1]])


# --------------------------------------------------------------------------- time, and how much of it


@pytest.mark.parametrize("signatures", [1, MOST_SIGNATURES])
def test_as_many_signatures_as_may_be_are_looked_at(signatures: int) -> None:
    header = " ".join(["v1,x"] * (signatures - 1) + [RIGHT["webhook-signature"]])
    assert is_accepted(BODY, RIGHT | {"webhook-signature": header})


@pytest.mark.parametrize("more", [1, 250_000])
def test_more_are_refused_though_one_may_fit(more: int) -> None:
    header = " ".join([RIGHT["webhook-signature"]] + ["v1,x"] * (MOST_SIGNATURES - 1 + more))
    with pytest.raises(SignatureError, match="webhook-signature has more than 100 signatures"):
        verify(BODY, RIGHT | {"webhook-signature": header}, SECRET, clock=MovedClock())


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What the standard library has compared in constant time."""
    compared: list[tuple[bytes, bytes]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    return compared


def test_every_signature_is_compared_with_every_secret_though_the_first_fits(
    compared: list[tuple[bytes, bytes]],
) -> None:
    others = ["whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
    header = f"{RIGHT['webhook-signature']} v1,x v1,y v2,z"
    assert is_accepted(BODY, RIGHT | {"webhook-signature": header}, [SECRET, *others])
    expected = [
        sign([one], "evt_1", timestamp=NOW, body=BODY).removeprefix("v1,").encode() for one in (SECRET, *others)
    ]
    assert compared == [(given, one) for given in (expected[0], b"x", b"y") for one in expected]


def test_nothing_is_accepted_but_by_a_comparison_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmac, "compare_digest", lambda _one, _other: False)
    assert not is_accepted(BODY, RIGHT)
    monkeypatch.undo()
    assert is_accepted(BODY, RIGHT)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("piece", ["v1,x ", "v1,", " ", ",", "9", "\ud800", "v1,\U0001f600 "], ids=ascii)
def test_a_header_of_ten_megabytes_is_dealt_with_like_a_short_one(
    name: str, piece: str, compared: list[tuple[bytes, bytes]]
) -> None:
    """By what is done, not by a clock: there are no more comparisons than may be."""
    assert not is_accepted(BODY, RIGHT | {name: piece * (10_000_000 // len(piece))}, [SECRET] * 3)
    assert len(compared) <= 3 * MOST_SIGNATURES
