"""Dialects of an application's own, beside those that there are; and what becomes of one that fails."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support.clock import START
from support.events import event, post
from support.hostile import CREDENTIALS, LOOPBACK, SECRET, answers, claim_for, http, stored
from support.local import Install

import sqla_webhooks
from sqla_webhooks import (
    CloudEvents,
    CloudEventsBinary,
    ConfigurationError,
    Dialect,
    Event,
    GitHub,
    OpenFront,
    Post,
    SigningFailed,
    Standard,
)
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery.credentials import Credentials
from sqla_webhooks.delivery.dialects.known import Dialects
from sqla_webhooks.delivery.parcel import Parcel, Piece
from sqla_webhooks.delivery.request import USER_AGENT, request
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.dialect import checked
from sqla_webhooks.encoding import dumps

BUILT_IN: tuple[Dialect, ...] = (Standard(), OpenFront(), GitHub(), CloudEvents(), CloudEventsBinary())


@dataclass
class Plain:
    """A dialect of an application's own, whose headers are as a test wants them."""

    name: str = "plain"
    batches: bool = False
    said: Any = field(default_factory=lambda: {"Content-Type": "text/plain"})

    def check_secret(self, secret: str) -> str:
        return secret

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        return dumps(event.type)

    def headers(self, post: Post) -> Mapping[str, str]:
        if isinstance(self.said, Exception):
            raise self.said
        said: Mapping[str, str] = self.said
        return said


# --- which there are


def test_there_are_these() -> None:
    known = Dialects.of(())

    assert known.names == ("standard", "openfront", "github", "cloudevents", "cloudevents-binary")
    assert [known.get(name) for name in known.names] == list(BUILT_IN)
    assert [one.name for one in BUILT_IN if one.batches] == ["standard", "cloudevents"]


def test_those_of_the_application_are_beside_them_and_replace_those_of_their_name() -> None:
    own, other = Plain(), OpenFront(list_keys={"order": "Purchase"})
    known = Dialects.of([own, other])

    assert known.names == (*Dialects.of(()).names, "plain")
    assert (known.get("plain"), known.get("openfront")) == (own, other)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("open-front", "'open-front', did you mean 'openfront': there are standard, openfront, github, cloudevents, "),
        ("Standard", "did you mean 'standard'"),
        ("zzz", "no dialect is called 'zzz': there are standard"),
        (None, "no dialect is called None: there are"),
        (["standard"], "no dialect is called ['standard']"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(name: Any, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Dialects.of(()).get(name)
    assert says in str(caught.value)


class Unsigned:
    name, batches = "unsigned", False

    def check_secret(self, secret: str) -> str:
        return secret

    headers = None

    def body(self) -> None: ...


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (OpenFront, "the class OpenFront: give an object of it, as in [OpenFront()]"),
        ("openfront", "dialects has 'openfront', which has no check_secret()"),
        (None, "dialects has None, which has no check_secret()"),
        (Unsigned(), "which has no headers()"),
        *((Plain(name), f"whose name is {name!r}") for name in ("", "Plain", "pläin", "a b", "a\n", "x" * 33)),
        (Plain(batches=1), "whose batches is 1"),  # type: ignore[arg-type]  # what is no bool
    ],
)
def test_what_is_no_dialect_is_refused_with_what_it_lacks(one: Any, says: str) -> None:
    for refuse in (lambda: checked([one]), lambda: Dialects.of([one]), lambda: install_with([one])):
        with pytest.raises(ConfigurationError) as caught:
            refuse()
        assert says in str(caught.value)


def install_with(dialects: Any) -> None:
    sqla_webhooks.Settings.of({"dialects": dialects})


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="dialects has 2 that are called 'plain'"):
        install_with([Plain(), GitHub(), Plain()])


def test_a_lone_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="give a list"):
        install_with(Plain())


def test_an_installation_has_them_and_the_same_ones_are_no_others(install: Install, sessions: Any) -> None:
    webhooks = install(sessions, deliver=False, dialects=[OpenFront(list_keys={"order": "Purchase"})])

    assert webhooks.settings.dialects == (OpenFront(list_keys={"order": "Purchase"}),)
    assert sqla_webhooks.install(sessions, dialects=[OpenFront(list_keys={"order": "Purchase"})]) is webhooks
    with pytest.raises(ConfigurationError, match="other settings"):
        sqla_webhooks.install(sessions, dialects=[OpenFront()])


@pytest.mark.parametrize("dialect", BUILT_IN, ids=lambda one: str(one.name))
def test_no_dialect_can_be_changed_and_equal_ones_are_one(dialect: Dialect) -> None:
    assert len({dialect, type(dialect)()}) == 1
    with pytest.raises((AttributeError, TypeError)):  # which of them, depends on the version of Python
        dialect.name = "other"  # type: ignore[misc]  # what must fail


def test_a_subclass_may_be_another_beside_its_base() -> None:
    class Partner(OpenFront):
        name = "partner"

    known = Dialects.of([Partner(list_keys={"order": "Purchase"})])

    assert b'"listKey":"Purchase"' in known.get("partner").body(event(), dumps=dumps)
    assert b'"listKey":"Order"' in known.get("openfront").body(event(), dumps=dumps)


@pytest.mark.parametrize("dialect", BUILT_IN, ids=lambda one: str(one.name))
def test_what_the_check_takes_signs(dialect: Dialect) -> None:
    headers = dialect.headers(post(dialect, event(), secrets=(dialect.check_secret(SECRET),)))

    assert headers != dialect.headers(post(dialect, event()))


def test_a_repr_of_a_post_shows_neither_body_nor_secret() -> None:
    shown = repr(post(Standard(), event(data={}), body=b"4111", secrets=(SECRET,)))

    assert "4111" not in shown
    assert SECRET not in shown


def test_the_event_of_a_post_is_its_only_one() -> None:
    assert post(Standard(), event()).event == event()
    for several in ((), (event(), event())):
        with pytest.raises(ValueError, match="to unpack"):
            _ = replace(post(Standard(), event()), events=several).event


# --- the request


def test_the_dialects_headers_come_before_the_endpoints_and_ours_before_both() -> None:
    dialect = Plain(said={"content-TYPE": "text/plain", "X-Key": "dialect", "user-agent": "dialect"})
    theirs = {"x-key": "endpoint", "Content-Type": "endpoint", "X-Other": "endpoint", "ACCEPT-ENCODING": "gzip"}

    made = request(
        stored(claim_for("https://a.example")), replace(CREDENTIALS, headers=theirs), dialect=dialect, now=START
    )

    assert made.headers == {
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "content-TYPE": "text/plain",
        "X-Key": "dialect",
        "X-Other": "endpoint",
    }


@pytest.mark.parametrize("dialect", BUILT_IN, ids=lambda one: str(one.name))
def test_each_dialect_is_on_the_wire_as_it_says(dialect: Dialect) -> None:
    one = event(resource_id='Zoë "%" \n', data={"name": "Zoë"})
    body = dialect.body(one, dumps=dumps)
    with answers(http(200)) as server:
        sender = Sender(LOOPBACK, connect_timeout=5.0, timeout=5.0, clock=SystemClock())
        made = request(Parcel.of(Piece(claim_for(server.url()), body, one)), CREDENTIALS, dialect=dialect, now=START)
        result = sender.send(made)
        sender.close()
        head, _, sent = server.requests.pop().partition(b"\r\n\r\n")

    assert isinstance(result.outcome, Answer)
    assert sent == body
    lines = head.decode("ascii").split("\r\n")
    said = dialect.headers(post(dialect, one, secrets=(SECRET,), now=START))
    assert {f"{name}: {value}" for name, value in said.items()} <= set(lines)


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (RuntimeError("no key"), "RuntimeError: no key"),
        (None, "headers() returned NoneType"),
        ([("Content-Type", "a")], "headers() returned list"),
        ({}, "headers() returned no Content-Type"),
        ({"Content-Type": "a", "content-type": "b"}, "is there twice"),
        ({"Content-Type": "a", "Content-Length": "0"}, "the header 'Content-Length' cannot be set"),
        ({"Content-Type": "a", "Transfer_Encoding": "chunked"}, "the header 'Transfer_Encoding' cannot be set"),
        ({"Content_Type": "a"}, "the header 'Content_Type' cannot be set"),
        ({"Content-Type": "a", "Host": "inside"}, "the header 'Host' cannot be set"),
        ({"Content-Type": "a\r\nHost: inside"}, "the value of the header 'Content-Type' may be printable ASCII only"),
        ({"Content-Type": "a", "X-Name": "Zoë"}, "the value of the header 'X-Name' may be printable ASCII only"),
        ({"Content-Type": "a", "X-Number": 7}, "the value of the header 'X-Number' is int"),
        ({"Content-Type": "a", 7: "b"}, "the name of a header is int"),
    ],
)
def test_a_dialect_that_fails_signs_nothing_and_the_log_says_why(
    said: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(SigningFailed) as caught:
        request(stored(claim_for("https://a.example")), CREDENTIALS, dialect=Plain(said=said), now=START)

    assert "no key" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert logged in caplog.text
    assert "endpoint ep_1: the dialect 'plain' made no headers" in caplog.text
    assert SECRET not in caplog.text


def test_what_a_dialect_cannot_say_of_a_stored_body_fails_that_attempt() -> None:
    with pytest.raises(SigningFailed, match="its dialect has failed"):
        request(stored(claim_for("https://a.example")), CREDENTIALS, dialect=OpenFront(), now=START)


def test_nothing_is_signed_without_a_secret() -> None:
    with pytest.raises(SigningFailed):
        request(stored(claim_for("https://a.example")), Credentials(()), dialect=Standard(), now=START)


def test_a_dialect_of_ones_own_sees_what_it_signs() -> None:
    seen: list[Post] = []

    class Chat(Plain):
        def headers(self, post: Post) -> Mapping[str, str]:
            seen.append(post)
            digest = hmac.new(post.secrets[0].encode(), post.body, hashlib.sha256).hexdigest()
            return {"Content-Type": "text/plain", "X-Chat": digest}

    claim = claim_for("https://a.example", b"stored", number=3)
    made = request(Parcel.of(Piece(claim, b"body", event())), CREDENTIALS, dialect=Chat(), now=START)

    assert seen == [
        Post(
            id="evt_3",
            endpoint_id="ep_1",
            events=(event(),),
            body=b"body",
            batch=False,
            secrets=(SECRET,),
            now=START,
        )
    ]
    assert made.headers["X-Chat"] == hmac.digest(SECRET.encode(), b"body", "sha256").hex()
    assert (made.claim, made.body) == (claim, b"body")
