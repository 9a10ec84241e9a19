from __future__ import annotations

import base64
import json
import string
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook
from support.clock import START, MovedClock

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.delivery.sign import check_secret, generate_secret, sign
from sqla_webhooks.delivery.verify import verify
from sqla_webhooks.errors import ConfigurationError, SignatureError

checked = settings(deadline=None, max_examples=150)

NOW = int(START.timestamp())
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
ID = "evt_1"
EVENT = {"type": "order.created", "data": {"note": "Zoë 😀"}}
BODY = json.dumps(EVENT, ensure_ascii=False).encode()


def signed_by_the_book(secret: str, message_id: str, timestamp: int, body: str) -> str:
    return Webhook(secret).sign(message_id, datetime.fromtimestamp(timestamp, UTC), body)


def headers_of(
    body: bytes = BODY, *, secret: str = SECRET, message_id: str = ID, timestamp: int = NOW
) -> dict[str, str]:
    """The headers that the independent library signs for *body*."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signed_by_the_book(secret, message_id, timestamp, body.decode()),
    }


secrets = st.binary(min_size=24, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode())
message_ids = st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=40) | st.text(min_size=1)
timestamps = st.integers(0, 4_000_000_000)
events = st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.booleans()))


def written(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)


# --------------------------------------------------------------------------- sign


@checked
@given(secrets, message_ids, timestamps, events.map(written) | st.text())
def test_the_independent_library_signs_the_same(secret: str, message_id: str, timestamp: int, body: str) -> None:
    ours = sign([secret], message_id, timestamp=timestamp, body=body.encode())
    assert ours == signed_by_the_book(secret, message_id, timestamp, body)


@checked
@given(secrets, message_ids, events)
def test_the_independent_library_verifies_what_we_sign(secret: str, message_id: str, event: dict[str, Any]) -> None:
    timestamp = int(SystemClock().now().timestamp())
    body = written(event).encode()
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([secret], message_id, timestamp=timestamp, body=body),
    }
    assert Webhook(secret).verify(body, headers) == event


def test_several_secrets_give_several_signatures_in_their_order() -> None:
    both = sign([SECRET, OTHER], ID, timestamp=NOW, body=BODY)
    assert both.split(" ") == [
        signed_by_the_book(SECRET, ID, NOW, BODY.decode()),
        signed_by_the_book(OTHER, ID, NOW, BODY.decode()),
    ]


def test_a_body_need_not_be_text() -> None:
    assert sign([SECRET], ID, timestamp=NOW, body=b"\xff") != sign([SECRET], ID, timestamp=NOW, body=b"\xfe")


# --------------------------------------------------------------------------- verify: what is accepted


@checked
@given(secrets, message_ids, events)
def test_what_the_independent_library_signs_is_accepted(secret: str, message_id: str, event: dict[str, Any]) -> None:
    body = written(event).encode()
    headers = headers_of(body, secret=secret, message_id=message_id)
    assert verify(body, headers, secret, clock=MovedClock()) == event


@checked
@given(secrets, message_ids, events)
def test_what_we_sign_we_accept(secret: str, message_id: str, event: dict[str, Any]) -> None:
    body = written(event).encode()
    headers = headers_of(body, secret=secret, message_id=message_id)
    headers["webhook-signature"] = sign([OTHER, secret], message_id, timestamp=NOW, body=body)
    assert verify(body, headers, secret, clock=MovedClock()) == event


def test_the_clock_of_the_machine_is_the_default() -> None:
    headers = headers_of(timestamp=int(SystemClock().now().timestamp()))
    assert verify(BODY, headers, SECRET) == EVENT


@pytest.mark.parametrize(
    "body", [BODY, BODY.decode(), bytearray(BODY), memoryview(BODY)], ids=lambda b: type(b).__name__
)
def test_the_body_may_be_text_or_any_bytes(body: Any, clock: MovedClock) -> None:
    assert verify(body, headers_of(), SECRET, clock=clock) == EVENT


@pytest.mark.parametrize("secrets_", [[SECRET], (OTHER, SECRET), [SECRET, OTHER], [OTHER, OTHER, SECRET]])
def test_one_of_several_secrets_is_enough(secrets_: list[str], clock: MovedClock) -> None:
    assert verify(BODY, headers_of(), secrets_, clock=clock) == EVENT


@pytest.mark.parametrize("spelt", [str.upper, str.title, str.lower, str.swapcase])
def test_headers_may_be_in_any_case(spelt: Any, clock: MovedClock) -> None:
    headers = {spelt(name): value for name, value in headers_of().items()}
    assert verify(BODY, MappingProxyType({"Host": "example.org", **headers}), SECRET, clock=clock) == EVENT


@pytest.mark.parametrize(
    "form",
    [
        "{other} {right}",
        "{right} {other}",
        "v1a,abc {right}",
        "{right} v1a,abc v2,",
        "nonsense {right} ,",
        "v1 v1, v1,é {right}",
        "  {other}   {right}  ",
    ],
)
def test_one_right_signature_among_several_is_enough(form: str, clock: MovedClock) -> None:
    headers = headers_of()
    other = headers_of(secret=OTHER)["webhook-signature"]
    headers["webhook-signature"] = form.format(right=headers["webhook-signature"], other=other)
    assert verify(BODY, headers, SECRET, clock=clock) == EVENT


@pytest.mark.parametrize("off", [-300, -299, 0, 299, 300])
def test_a_timestamp_up_to_the_tolerance_is_accepted(off: int, clock: MovedClock) -> None:
    assert verify(BODY, headers_of(timestamp=NOW + off), SECRET, clock=clock) == EVENT


@pytest.mark.parametrize("off", [-10, 10])
def test_the_tolerance_can_be_set(off: int, clock: MovedClock) -> None:
    assert verify(BODY, headers_of(timestamp=NOW + off), SECRET, tolerance=10, clock=clock) == EVENT
    with pytest.raises(SignatureError):
        verify(BODY, headers_of(timestamp=NOW + off), SECRET, tolerance=9.5, clock=clock)


# --------------------------------------------------------------------------- verify: what is refused


def refused(
    body: Any = BODY,
    headers: Mapping[str, Any] | None = None,
    secret: Any = SECRET,
    *,
    clock: MovedClock | None = None,
) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(body, headers_of() if headers is None else headers, secret, clock=clock or MovedClock())
    return str(caught.value)


NO_FIT = "no v1 signature in webhook-signature fits: the body was changed, or another secret signed it"


@checked
@given(st.data())
def test_a_body_with_one_bit_changed_is_refused(data: st.DataObject) -> None:
    changed = bytearray(BODY)
    changed[data.draw(st.integers(0, len(BODY) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert refused(bytes(changed)) == NO_FIT


@checked
@given(st.data())
def test_a_signature_with_one_bit_changed_is_refused(data: st.DataObject) -> None:
    version, _, signature = headers_of()["webhook-signature"].partition(",")
    raw = bytearray(base64.b64decode(signature))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = f"{version},{base64.b64encode(raw).decode()}"
    assert refused(headers=headers_of() | {"webhook-signature": changed}) == NO_FIT


@checked
@given(message_ids.filter(lambda one: one != ID))
def test_another_id_is_refused(message_id: str) -> None:
    assert refused(headers=headers_of() | {"webhook-id": message_id}) == NO_FIT


@checked
@given(st.integers(NOW - 300, NOW + 300).filter(lambda one: one != NOW))
def test_another_timestamp_is_refused(timestamp: int) -> None:
    assert refused(headers=headers_of() | {"webhook-timestamp": str(timestamp)}) == NO_FIT


@checked
@given(secrets.filter(lambda one: one != SECRET))
def test_another_secret_is_refused(secret: str) -> None:
    assert refused(secret=secret) == NO_FIT
    assert refused(secret=[secret, OTHER]) == NO_FIT


def test_a_dot_moved_from_one_part_to_another_is_refused() -> None:
    headers = headers_of(b'.{"a":1}', message_id="a.b")
    assert refused(b'{"a":1}', headers | {"webhook-id": "a.b."}) == NO_FIT


@pytest.mark.parametrize(
    "form",
    [
        "v1a,{}",
        "v2,{}",
        "V1,{}",
        "v1{}",
        "{}",
        ",{}",
        "v1;{}",
        "v1,,{}",
        "v1,v1,{}",
        "v1,{}v1,{}",
        "v1,",
        "v1",
        ",",
        " ",
    ],
)
def test_a_right_signature_in_a_wrong_form_is_refused(form: str) -> None:
    right = headers_of()["webhook-signature"].removeprefix("v1,")
    assert refused(headers=headers_of() | {"webhook-signature": form.format(right, right)}) == NO_FIT


def test_a_shortened_signature_is_refused() -> None:
    right = headers_of()["webhook-signature"]
    for length in range(3, len(right)):
        assert refused(headers=headers_of() | {"webhook-signature": right[:length]}) == NO_FIT


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (301, "webhook-timestamp is 301 s old; 300 s are allowed"),
        (-301, "webhook-timestamp is 301 s ahead; 300 s are allowed"),
        (86400, "webhook-timestamp is 86400 s old; 300 s are allowed"),
    ],
)
def test_a_timestamp_beyond_the_tolerance_is_refused(moved: float, said: str, clock: MovedClock) -> None:
    clock.advance(moved)
    assert refused(clock=clock) == said


@pytest.mark.parametrize(("moved", "word"), [(300.001, "old"), (-300.001, "ahead")])
def test_a_fraction_beyond_the_tolerance_is_beyond_it(moved: float, word: str, clock: MovedClock) -> None:
    clock.advance(moved)
    assert word in refused(clock=clock)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused_and_named(name: str) -> None:
    headers = headers_of()
    missing = f"the header {name} is missing: this is no Standard Webhooks request"
    assert refused(headers={key: value for key, value in headers.items() if key != name}) == missing
    assert refused(headers=headers | {name: ""}) == missing
    assert refused(headers=headers | {name: None}) == missing
    assert refused(headers=headers | {name: headers[name].encode()}) == missing
    assert refused(headers={name.replace("-", "_"): value for name, value in headers.items()}).startswith("the header")


NOT_A_TIME = [
    *("now", "-1", "+1", "1.0", "1e9", "0x10", " ", "1 ", " 1", "1_0", "1\n", "\x00", "nan", "inf", "''"),
    # Digits to Python, but no number of seconds.
    *("²", "١٢٣", "１７６", "1²", f"{NOW}²", "Ⅷ"),
    *("9" * 13, "9" * 5000, "1" * 1_000_000, "é", "\udce9", "\ud800", "😀"),
]


@pytest.mark.parametrize("garbage", NOT_A_TIME, ids=lambda text: ascii(text)[:20])
def test_a_timestamp_that_is_no_number_of_seconds_is_refused(garbage: str) -> None:
    assert refused(headers=headers_of() | {"webhook-timestamp": garbage}) == (
        "webhook-timestamp is not a number of seconds"
    )


def test_a_timestamp_of_the_far_future_is_refused() -> None:
    assert "ahead" in refused(headers=headers_of() | {"webhook-timestamp": "9" * 12})


GARBAGE = ["é", "\udce9", "\ud800", "😀", "\x00", "'\"\\", "a" * 1_000_000, "v1,é", "v1,\udce9", "v1,\ud800", "v1,\x00"]


@pytest.mark.parametrize("name", ["webhook-id", "webhook-signature"])
@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: ascii(text)[:20])
def test_garbage_in_a_header_is_refused(name: str, garbage: str) -> None:
    assert refused(headers=headers_of() | {name: garbage}) == NO_FIT


any_header = st.text(st.characters(codec=None, categories=None), min_size=1)


@checked
@given(any_header, any_header)
@example("\ud800", "x")
@example("x", "v1,\ud800")
def test_any_garbage_is_refused(message_id: str, signature: str) -> None:
    headers = headers_of() | {"webhook-id": message_id, "webhook-signature": signature}
    assert refused(headers=headers) == NO_FIT


@checked
@given(any_header)
def test_any_text_that_is_no_timestamp_is_refused(timestamp: str) -> None:
    assert refused(headers=headers_of() | {"webhook-timestamp": timestamp}).startswith("webhook-timestamp is ")


def test_headers_with_names_that_are_no_text_do_no_harm(clock: MovedClock) -> None:
    headers: Any = {b"webhook-id": b"x", 1: 2, None: None, **headers_of()}
    assert verify(BODY, headers, SECRET, clock=clock) == EVENT


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"a": 1} trailing', b'{"a":' * 100_000, b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"],
    ids=lambda body: body[:12].decode(),
)
def test_a_signed_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert refused(body, headers_of(body)) == "the signature fits, but the body is not JSON"


def test_a_signed_batch_is_no_event() -> None:
    assert refused(b"[]", headers_of(b"[]")) == (
        "the signature fits, but the body is not a JSON object: several events are for verify_batch()"
    )


@pytest.mark.parametrize("body", [b"null", b'"text"', b"1", b"true"])
def test_a_signed_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert refused(body, headers_of(body)) == "the signature fits, but the body is not a JSON object"


def test_a_signed_body_that_is_no_text_is_refused() -> None:
    body = b'{"a": "\xff"}'
    headers = headers_of() | {"webhook-signature": sign([SECRET], ID, timestamp=NOW, body=body)}
    assert refused(body, headers) == "the signature fits, but the body is not JSON"


def test_a_text_body_that_cannot_have_come_over_the_wire_is_refused() -> None:
    assert refused('{"a": "\ud800"}') == NO_FIT


def test_no_secret_is_a_mistake_of_the_receiver() -> None:
    with pytest.raises(ConfigurationError, match="no secret was given"):
        verify(BODY, headers_of(), [])


# --------------------------------------------------------------------------- secrets


def test_a_new_secret_is_the_base64_of_32_bytes() -> None:
    secret = generate_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert check_secret(secret) == secret


def test_no_two_new_secrets_are_the_same() -> None:
    assert len({generate_secret() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("length", [24, 25, 32, 64])
def test_a_secret_of_24_to_64_bytes_is_one(length: int) -> None:
    secret = "whsec_" + base64.b64encode(b"x" * length).decode()
    assert check_secret(secret) == secret


def bad_secrets() -> Iterator[tuple[Any, str]]:
    coded = SECRET.removeprefix("whsec_")
    yield from ((None, "it is not text"), (5, "it is not text"), (SECRET.encode(), "it is not text"))
    for text in ("", "swordfish", coded, f"WHSEC_{coded}", f" {SECRET}", f"whsk_{coded}"):
        yield text, "it does not start with 'whsec_'"
    for text in ("swordfish!", f"{coded}!", f"{coded} ", f"{coded}\n", coded[:-1], "ÿ" * 40, "\ud800" * 40, "-_" * 20):
        yield f"whsec_{text}", "what follows the prefix is not base64"
    for length in (0, 1, 23, 65, 1000):
        secret = "whsec_" + base64.b64encode(b"x" * length).decode()
        yield secret, f"it has {length} bytes, not 24 to 64"


@pytest.mark.parametrize(("secret", "problem"), list(bad_secrets()), ids=lambda one: ascii(one)[:30])
def test_what_is_no_secret_is_refused_without_being_repeated(secret: Any, problem: str) -> None:
    for use in (
        lambda: check_secret(secret),
        lambda: sign([SECRET, secret], ID, timestamp=NOW, body=BODY),
        lambda: verify(BODY, headers_of(), [SECRET, secret], clock=MovedClock()),
    ):
        with pytest.raises(ConfigurationError) as caught:
            use()
        said = str(caught.value)
        assert said.startswith(f"the secret cannot be used: {problem}.")
        # Nor in what a log would show of the error and of those behind it.
        shown = "".join(traceback.format_exception(caught.value))
        text = str(secret).removeprefix("whsec_").strip()
        assert len(text) < 4 or text not in shown


@pytest.mark.parametrize("body", [{"type": "order.created"}, None, 7])
def test_a_body_that_was_parsed_already_is_told_from_one(body: Any) -> None:
    with pytest.raises(ConfigurationError, match="as they came, before any parsing"):
        verify(body, {}, SECRET)
