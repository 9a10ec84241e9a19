"""Headers that an endpoint adds to its requests: which may be, and what of them is on the wire."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session, sessionmaker
from support.clock import START, MovedClock
from support.databases import Database
from support.hostile import CREDENTIALS, LOOPBACK, Server, answers, claim_for, http, stored
from support.local import Install
from support.receiver import Receiver
from support.shop import Base, put

from sqla_webhooks import Endpoint, EndpointError, InvalidHeaders, NotFound, Webhooks, headers, models
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery.credentials import Credentials
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.request import request
from sqla_webhooks.delivery.send import Sender

URL = "https://partner.example/hooks"
TOKEN = "Bearer s3cr3t-value"

#: What is nobody's to set, as a list that is read by people.
_KEPT = """
host content-* transfer-encoding connection keep-alive proxy proxy-* te trailer upgrade http2-settings expect
cookie cookie2 accept-encoding user-agent via forwarded forwarded-for x-forwarded x-forwarded-* x-envoy-* x-host
x-url-scheme client-ip true-client-ip fastly-client-ip cf-connecting-* x-client-ip x-cluster-client-ip x-real-ip
x-remote-ip x-remote-addr x-originating-ip x-proxyuser-ip x-azure-clientip date webhook-* ce-* x-openfront-*
x-github-* x-hub-signature* metadata metadata-flavor
x-metadata-token x-aws-ec2-metadata-* x-google-metadata-request x-ibm-metadata-* x-http-method-override x-http-method
x-method-override x-original-* x-rewrite-url
"""
KEPT = _KEPT.split()

NAME = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
VALUE = "".join(map(chr, range(33, 127)))


def refused(given_headers: Any) -> str:
    with pytest.raises(InvalidHeaders) as caught:
        headers.check(given_headers)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return str(caught.value)


# --- the rules


@pytest.mark.parametrize(
    ("given_headers", "says"),
    [
        (["Authorization", TOKEN], "headers is list: give a dict"),
        (TOKEN, "headers is str: give a dict"),
        ([("Authorization", TOKEN)], "headers is list"),
        ({7: TOKEN}, "the name of a header is int"),
        ({"": TOKEN}, "of 0 characters"),
        ({"X Token": TOKEN}, "that begins with 'X'"),
        ({f"Authorization: {TOKEN}": "x"}, "that begins with 'Authorization'"),
        ({"X-Tökén": TOKEN}, "that begins with 'X-T'"),
        ({"X-Token\n": TOKEN}, "that begins with 'X-Token'"),
        ({"\r\nX-Token": TOKEN}, "of 9 characters"),
        ({"x" * 101: TOKEN}, "101 characters in its name: 100 may be"),
        ({"X-Token": TOKEN, "x-TOKEN": TOKEN}, "'x-TOKEN' is there twice"),
        ({"X-Token": 7}, "the value of the header 'X-Token' is int"),
        ({"X-Token": None}, "is NoneType"),
        ({"X-Token": TOKEN.encode()}, "is bytes"),
        ({"X-Token": ""}, "is empty"),
        ({"X-Token": f" {TOKEN}"}, "no space at its ends"),
        ({"X-Token": f"{TOKEN}\t"}, "no space at its ends"),
        ({"X-Token": f"{TOKEN}\n"}, "no line break"),
        ({"X-Token": f"{TOKEN}\r\nHost: x"}, "no line break"),
        ({"X-Token": f"{TOKEN}\0"}, "printable ASCII"),
        ({"X-Token": f"{TOKEN}é"}, "printable ASCII"),
        ({"X-Token": f"{TOKEN}\x7f"}, "printable ASCII"),
        ({"X-Token": "@@@SKIP_HEADER@@@"}, "printable ASCII"),
        ({"X-Token": "s3cr3t-value" * 400}, "4800 characters: 4096 are allowed"),
        ({f"X-{number}": TOKEN for number in range(21)}, "21 headers: an endpoint may have 20"),
        ({f"X-{number}": "y" * 2721 for number in range(3)} | {"X": "y" * 4}, "8193 bytes: an endpoint may have 8192"),
    ],
)
def test_what_may_not_be_is_refused_and_no_value_repeated(given_headers: Any, says: str) -> None:
    message = refused(given_headers)
    assert says in message
    assert "s3cr3t-value" not in message
    assert len(message) < 300


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize(
    "form", [str.lower, str.upper, str.title, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")]
)
def test_what_belongs_to_the_request_is_nobodys_to_set(name: str, form: Any) -> None:
    written = form(name.replace("*", "anything"))
    assert f"the header {written!r} cannot be set" in refused({written: TOKEN})


@pytest.mark.parametrize(
    "given_headers",
    [
        {},
        {"Authorization": TOKEN},
        {"X-Api-Key": "a", "x-api-key-2": "b c\td", "!#$%&'*+-.^_`|~": VALUE},
        {"Contents": "1", "Hosts": "1", "X-Proxy": "1", "Tea": "1", "X-Webhook-Id": "1", "Metadatas": "1"},
        {"Cell": "1", "X-Openfronts": "1", "X-GitHubs": "1", "X-Hub": "1", "X-Ce-Id": "1"},
        {"x" * 100: "y" * 4096},
        {f"X-{number}": "y" for number in range(20)},
        {f"X-{number}": "y" * 2721 for number in range(3)} | {"X": "y" * 3},
    ],
)
def test_what_may_be_is_left_as_it_is(given_headers: dict[str, str]) -> None:
    checked = headers.check(given_headers)
    assert checked == given_headers
    assert list(checked) == list(given_headers)
    assert headers.read(headers.written(checked)) == given_headers


def as_variable(name: str) -> str:
    """As a server may hand it on to the program."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def may_be(given_headers: Mapping[str, str]) -> bool:
    """The rules once more, in other words."""
    names = [name.casefold() for name in given_headers]
    lines = [f"{name}: {value}\r\n".encode("utf-8", "surrogatepass") for name, value in given_headers.items()]
    return (
        len(names) == len(set(names)) <= 20
        and all(0 < len(name) <= 100 and set(name) <= set(NAME) for name in given_headers)
        and not any(fnmatchcase(as_variable(name), kept) for name in names for kept in KEPT)
        and all(0 < len(value) <= 4096 and set(value) <= {*VALUE, " ", "\t"} for value in given_headers.values())
        and all(value == value.strip() != "@@@SKIP_HEADER@@@" for value in given_headers.values())
        and sum(map(len, lines)) <= 8192
    )


odd = st.text(st.sampled_from(" \t\r\n\0:é\x7f\u2028\U0001f600aZ9-_"), max_size=6)
names = st.one_of(
    st.text(NAME, min_size=1, max_size=101),
    st.sampled_from([*KEPT, "Authorization", "X-Api-Key", "x-api-KEY"]).map(lambda name: name.replace("*", "x")),
    st.tuples(st.sampled_from(["X-Key", ""]), odd).map("".join),
)
values = st.one_of(
    st.text(VALUE + " \t", max_size=60),
    st.tuples(st.text(VALUE, max_size=5), odd, st.text(VALUE, max_size=5)).map("".join),
    st.integers(1, 4100).map(lambda count: "v" * count),
)


@dataclass
class Wire:
    """Sends requests to a server that keeps them as they came."""

    server: Server
    sender: Sender

    def lines(self, credentials: Credentials) -> list[bytes]:
        """Of the head of a request with these."""
        made = request(stored(claim_for(self.server.url(), b"{}")), credentials, dialect=Standard(), now=START)
        result = self.sender.send(made)
        assert isinstance(result.outcome, Answer), result.outcome
        head, _, body = self.server.requests.pop().partition(b"\r\n\r\n")
        assert body == b"{}"
        return head.split(b"\r\n")


@contextmanager
def wire() -> Iterator[Wire]:
    with ExitStack() as stack:
        server = stack.enter_context(answers(http(200)))
        sender = Sender(LOOPBACK, connect_timeout=5.0, timeout=5.0, clock=SystemClock())
        stack.callback(sender.close)
        yield Wire(server, sender)


@pytest.fixture(scope="module")
def open_wire() -> Iterator[Wire]:
    with wire() as opened:
        yield opened


@given(st.dictionaries(names, values, max_size=4))
@example({"X-Token": "@@@SKIP_HEADER@@@"})
@example({"Accept": "a", "Range": "bytes=0-1", "Authorization": "Basic eA==", "Origin": "b", "X": '"\\'})
def test_what_passes_is_on_the_wire_as_it_is_and_changes_nothing_else(
    open_wire: Wire, given_headers: dict[str, str]
) -> None:
    if not may_be(given_headers):
        message = refused(given_headers)
        assert not any(value in message for value in given_headers.values() if len(value) > 8)
        return
    checked = headers.read(headers.written(headers.check(given_headers)))
    added = [f"{name}: {value}".encode("ascii") for name, value in checked.items()]
    lines = open_wire.lines(Credentials(CREDENTIALS.secrets, checked))
    assert sorted(lines) == sorted([*open_wire.lines(CREDENTIALS), *added])


@given(st.lists(st.sampled_from([*KEPT, "X-Key"]), min_size=1), st.sampled_from([str.lower, str.upper, str.title]))
def test_a_header_of_ours_wins_whatever_stands_in_the_table(kept: list[str], form: Any) -> None:
    theirs = {form(name.replace("*", "id")): "theirs" for name in kept}
    plain = request(stored(claim_for(URL)), CREDENTIALS, dialect=Standard(), now=START).headers
    made = request(stored(claim_for(URL)), Credentials(CREDENTIALS.secrets, theirs), dialect=Standard(), now=START)
    lower = [name.lower() for name in made.headers]
    assert len(lower) == len(set(lower))
    assert {name: made.headers[name] for name in plain} == plain


@given(
    st.text(max_size=20) | st.sampled_from(["[]", "null", "7", '{"X": 7}', '{"X": null}', '{"Host": "x"}', "[" * 9999])
)
def test_what_somebody_has_put_into_the_table_is_checked_before_it_is_sent(stored: str) -> None:
    assume(stored.strip() != "{}")
    with pytest.raises(InvalidHeaders) as caught:
        headers.read(stored)
    assert caught.value.__cause__ is caught.value.__context__ is None


# --- of an endpoint


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


def test_its_requests_have_them_and_nobody_is_shown_their_values(
    webhooks: Webhooks, sessions: sessionmaker[Session], receiver: Receiver
) -> None:
    added = {"Authorization": TOKEN, "x-TENANT": "7"}
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"], headers=added)
    webhooks.endpoints.create(receiver.url("/plain"), events=["*"])
    put(sessions, "a")
    webhooks.drain()

    requests = {one.path: one for one in receiver.received}
    assert requests["/hooks"].headers | {"authorization": TOKEN, "x-tenant": "7"} == requests["/hooks"].headers
    assert requests["/hooks"].is_signed(endpoint.secret)
    assert not {"authorization", "x-tenant"} & requests["/plain"].headers.keys()
    for shown in (endpoint, webhooks.endpoints.get(endpoint.id), webhooks.endpoints.list()[0]):
        assert shown.header_names == ("Authorization", "x-TENANT")
        assert TOKEN not in repr(shown)
        assert not hasattr(shown, "headers")


def test_an_update_replaces_all_and_counts_for_what_waits(
    webhooks: Webhooks, sessions: sessionmaker[Session], receiver: Receiver, clock: MovedClock
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"], headers={"X-Old": "1", "X-Both": "1"})
    receiver.answer(500, 500)
    put(sessions, "a")
    webhooks.drain()
    updated = webhooks.endpoints.update(endpoint.id, headers={"X-Both": "2"})
    assert updated.header_names == ("X-Both",)
    assert webhooks.endpoints.update(endpoint.id, description="other").header_names == ("X-Both",)
    clock.advance(10)
    webhooks.drain()
    assert webhooks.endpoints.update(endpoint.id, headers={}).header_names == ()
    clock.advance(400)
    webhooks.drain()
    sent = [{name: value for name, value in one.headers.items() if name[:2] == "x-"} for one in receiver.received]
    assert sent == [{"x-old": "1", "x-both": "1"}, {"x-both": "2"}, {}]


def test_what_is_refused_changes_nothing(webhooks: Webhooks, engine: Engine) -> None:
    with pytest.raises(InvalidHeaders, match="cannot be set"):
        webhooks.endpoints.create(URL, events=["*"], headers={"Host": "x"})
    assert webhooks.endpoints.list() == []
    endpoint = webhooks.endpoints.create(URL, events=["*"], headers={"X-Key": "1"})
    with pytest.raises(EndpointError, match="is empty"):
        webhooks.endpoints.update(endpoint.id, description="other", headers={"X-Key": ""})
    assert webhooks.endpoints.get(endpoint.id) == Endpoint(
        **{name: getattr(endpoint, name) for name in Endpoint.__dataclass_fields__}
    )
    with pytest.raises(NotFound):
        webhooks.endpoints.update("ep_x", headers={"X-Key": "1"})


def test_they_are_forgotten_with_the_endpoint(webhooks: Webhooks, engine: Engine) -> None:
    endpoint = webhooks.endpoints.create(URL, events=["*"], headers={"Authorization": TOKEN})
    with engine.connect() as connection:
        (stored,) = connection.execute(select(models.endpoint.c.headers)).scalars()
        assert TOKEN in stored
    webhooks.endpoints.delete(endpoint.id)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM webhook_endpoint")).all()
    assert len(rows) == 1
    assert "Authorization" not in str(rows)


def test_the_largest_are_stored_and_sent(
    install: Install, sessions: sessionmaker[Session], receiver: Receiver, clock: MovedClock
) -> None:
    """Written as JSON and encrypted they are three times as large."""
    from cryptography.fernet import Fernet  # noqa: PLC0415  # only here

    webhooks = install(sessions, deliver=False, clock=clock, encryption_keys=[Fernet.generate_key()])
    added = {"X-One": '"' * 4096, "X-Two": "\\" * 4072}
    webhooks.endpoints.create(receiver.url(), events=["*"], headers=added)
    put(sessions, "a")
    webhooks.drain()
    assert [(one.headers["x-one"], one.headers["x-two"]) for one in receiver.received] == [tuple(added.values())]
