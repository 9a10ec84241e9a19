"""Where requests may go: when an endpoint is written, and when a socket is opened."""

from __future__ import annotations

import gc
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from support import hostile
from support.hostile import http, request_for
from support.receiver import Receiver

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.config import Settings
from sqla_webhooks.delivery.adapter import MOST_ADDRESSES
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.delivery.urls import LONGEST_URL
from sqla_webhooks.errors import Blocked, ConnectFailed, DeliveryError, EndpointError, InvalidURL
from sqla_webhooks.events import Answer

#: Plain http, so that no test stops at a certificate; and public addresses only.
STRICT = EgressPolicy(allow_http=True)

Send = Callable[[str, EgressPolicy], Answer | DeliveryError]


@pytest.fixture
def send() -> Iterator[Send]:
    """Sends to a URL past every check but that of the connection; each policy has one sender."""
    senders: dict[EgressPolicy, Sender] = {}

    def send(url: str, policy: EgressPolicy) -> Answer | DeliveryError:
        if policy not in senders:
            senders[policy] = Sender(policy, connect_timeout=5.0, timeout=5.0, clock=SystemClock())
        return senders[policy].send(request_for(url)).outcome

    yield send
    for sender in senders.values():
        sender.close()


@pytest.fixture(autouse=True)
def connects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses to which a socket was to be connected. Only those of this machine are connected to."""
    asked: list[str] = []
    connect = socket.socket.connect

    def recorded(self: socket.socket, address: Any) -> None:
        asked.append(address[0])
        if not ip_address(address[0]).is_loopback:
            message = "no packet leaves this machine"
            raise ConnectionRefusedError(message)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recorded)
    return asked


class Resolver:
    """Answers for the names it is given, counts the questions, and knows no other name."""

    def __init__(self) -> None:
        #: The answers to a name's look-ups in turn, the last one for ever.
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._numeric = socket.getaddrinfo

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in self.answers:
            return self._numeric(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        self.asked.append(host)
        answers = self.answers[host]
        found: list[Any] = []
        for address in answers.pop(0) if len(answers) > 1 else answers[0]:
            of = socket.AF_INET6 if ":" in address else socket.AF_INET
            place = (address, port, 0, 0) if of is socket.AF_INET6 else (address, port)
            found.append((of, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place))
        return found


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """So that nothing is closed by accident."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def allowing(*networks: str, hosts: tuple[str, ...] = ()) -> EgressPolicy:
    return EgressPolicy.of(Settings.of({"allow_http": True, "allow_networks": networks, "allow_hosts": hosts}))


# --- the rules of a URL


@pytest.mark.parametrize(
    "url",
    [
        "https://partner.example/hooks",
        "https://partner.example",
        "https://partner.example:8443/hooks?tenant=7&at=%2F@",
        "HTTPS://Partner.Example/",
        "https://bücher.example/é",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:443/",
        pytest.param("https://partner.example/" + "x" * (LONGEST_URL - 24), id="longest"),
    ],
)
def test_a_public_https_url_is_allowed_and_comes_back_as_it_was(url: str) -> None:
    assert EgressPolicy().check_url(url) == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (None, "None: give one like https://"),
        (b"https://partner.example/", "b'https://partner.example/': give one like https://"),
        (7, "7: give one like https://"),
        ("", "'': give one like https://"),
        ("https://partner.example/" + "x" * (LONGEST_URL - 23), "2049 characters; 2048 are allowed"),
        ("https://partner.example/a b", "white space"),
        (" https://partner.example/", "white space"),
        ("https://partner.example/\n", "white space"),
        ("https://partner.example/\u00a0", "white space"),
        ("https://partner.example/\0", "control character"),
        ("https://partner.example/\r\nX-Header: 1", "control character"),
        ("https://partner\u200b.example/", "control character"),
        ("https://partner.example/\ud800", "control character"),
        ("https://127.0.0.1\\@partner.example/", "backslash"),
        ("partner.example/hooks", "has no scheme"),
        ("//partner.example/hooks", "has no scheme"),
        ("https://", "has no host"),
        ("https:///hooks", "has no host"),
        ("https:partner.example", "has no scheme: write https://"),
        ("javascript:alert(1)", "has no scheme: write https://"),
        ("https://me@partner.example/", "user or password"),
        ("https://me:secret@partner.example/", "user or password"),
        ("https://127.0.0.1:80@partner.example/", "user or password"),
        ("https://partner.example/#", "#fragment"),
        ("https://127.0.0.1#@partner.example/", "#fragment"),
        ("https://partner.example:0/", "port 0"),
        ("https://partner.example:65536/", "cannot be read"),
        ("https://partner.example:port/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://127.0.0.1%00.partner.example/", "cannot be read"),
        ("https://①②⑦.⓪.⓪.①/", "cannot be read"),
        ("https://ⓛocalhost/", "cannot be read"),
        ("ftp://partner.example/", "must start with https://, not ftp://"),
        ("gopher://partner.example/", "must start with https://, not gopher://"),
        ("http+unix://partner.example/", "must start with https://, not http+unix://"),
        ("http://partner.example/", "must start with https://, not http://; install(..., allow_http=True)"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_url_that_breaks_a_rule_is_refused_and_told_which(url: Any, complaint: str) -> None:
    with pytest.raises(InvalidURL) as refusal:
        EgressPolicy().check_url(url)

    assert complaint in str(refusal.value)
    assert isinstance(refusal.value, EndpointError)


def test_the_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(InvalidURL) as refusal:
        EgressPolicy().check_url("https://me:hunter2@partner.example/")

    assert "hunter2" not in str(refusal.value)


def test_allow_http_allows_http_and_nothing_else() -> None:
    assert STRICT.check_url("http://partner.example/") == "http://partner.example/"
    with pytest.raises(InvalidURL, match=r"not ftp://$"):
        STRICT.check_url("ftp://partner.example/")


# --- addresses that are not public

LITERALS = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[4000::1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", LITERALS)
def test_an_address_that_is_not_public_is_refused_when_written_and_when_connecting(
    send: Send, connects: list[str], host: str
) -> None:
    with pytest.raises(InvalidURL, match="is not a public address"):
        EgressPolicy().check_url(f"https://{host}/")

    # The C library may know no address in one with a zone.
    assert isinstance(send(f"http://{host}:8080/", STRICT), Blocked if "%" not in host else Blocked | ConnectFailed)
    assert connects == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0177.0.0.1",
        "0",
        "0x0a000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "localhost",
        "LocalHost",
        "localhost.",
        "LOCALHOST.",
    ],
)
def test_another_spelling_of_an_address_is_refused_when_connecting_at_the_latest(
    send: Send, connects: list[str], host: str
) -> None:
    assert isinstance(send(f"http://{host}:8080/", STRICT), Blocked | ConnectFailed)
    assert connects == []


@pytest.mark.parametrize("host", ["127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "[::1", "127.0.0.1%00.invalid"], ids=ascii)
def test_what_is_no_host_is_connected_to_by_nobody(send: Send, connects: list[str], host: str) -> None:
    assert isinstance(send(f"http://{host}:8080/", STRICT), DeliveryError)
    assert connects == []


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost.", "LOCALHOST.", "hooks.localhost"])
@pytest.mark.parametrize("policy", [EgressPolicy(), allowing("10.0.0.0/8")], ids=["strict", "another network"])
def test_localhost_is_refused_when_written(host: str, policy: EgressPolicy) -> None:
    with pytest.raises(InvalidURL, match="is not a public address"):
        policy.check_url(f"https://{host}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_a_public_address_is_admitted(address: str) -> None:
    assert EgressPolicy().admits(address)


# --- names, when connecting


def test_a_name_of_this_machine_is_blocked_without_a_connection(send: Send, connects: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = send(f"http://localhost:{listener.getsockname()[1]}/", STRICT)

        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(outcome, Blocked)
    assert connects == []


def test_https_is_guarded_as_well(send: Send, connects: list[str]) -> None:
    assert isinstance(send("https://localhost:8443/", EgressPolicy()), Blocked)
    assert connects == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1"])
def test_a_name_that_leads_inside_passes_when_written_and_is_blocked_when_connecting(
    send: Send, resolver: Resolver, connects: list[str], address: str
) -> None:
    resolver.answers["hooks.partner.example"] = [[address]]
    url = STRICT.check_url("http://hooks.partner.example/")

    outcome = send(url, STRICT)

    assert isinstance(outcome, Blocked)
    assert connects == []


def test_the_refusal_names_the_host_and_no_address(send: Send, resolver: Resolver) -> None:
    resolver.answers["hooks.partner.example"] = [["10.1.2.3", "fd00::7"]]

    outcome = str(send("http://hooks.partner.example/", STRICT))

    assert "hooks.partner.example" in outcome
    assert "fd00" not in outcome
    assert not re.search(r"\d", outcome)


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
def test_one_address_that_is_not_allowed_spoils_the_answer(
    send: Send, resolver: Resolver, connects: list[str], answer: list[str]
) -> None:
    resolver.answers["hooks.partner.example"] = [answer]

    outcome = send("http://hooks.partner.example/", allowing("127.0.0.1/32"))

    assert isinstance(outcome, Blocked)
    assert connects == []


def test_what_is_connected_to_is_what_was_checked(
    send: Send, resolver: Resolver, receiver: Receiver, connects: list[str]
) -> None:
    resolver.answers["hooks.partner.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    url = receiver.url().replace("127.0.0.1", "hooks.partner.example")

    outcome = send(url, allowing("127.0.0.1/32"))

    assert isinstance(outcome, Answer)
    assert resolver.asked == ["hooks.partner.example"]
    assert connects == ["127.0.0.1"]
    (request,) = receiver.received
    assert request.headers["host"].startswith("hooks.partner.example:")


def test_every_connection_is_checked_anew(send: Send, resolver: Resolver, connects: list[str]) -> None:
    resolver.answers["hooks.partner.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    policy = allowing("127.0.0.1/32")
    with hostile.says(http(200)) as server:
        url = server.url(host="hooks.partner.example")
        assert isinstance(send(url, policy), Answer)
        server.ended()

        assert isinstance(send(url, policy), Blocked)

    assert len(resolver.asked) == 2
    assert connects == ["127.0.0.1"]


def test_the_next_address_is_tried_when_one_refuses(
    send: Send, resolver: Resolver, receiver: Receiver, connects: list[str]
) -> None:
    resolver.answers["hooks.partner.example"] = [["127.0.0.3", "127.0.0.1"]]
    url = receiver.url().replace("127.0.0.1", "hooks.partner.example")

    assert isinstance(send(url, allowing("127.0.0.0/8")), Answer)
    assert connects == ["127.0.0.3", "127.0.0.1"]


def test_of_many_addresses_only_the_first_few_are_tried(send: Send, resolver: Resolver, connects: list[str]) -> None:
    many = [f"198.18.0.{last}" for last in range(1, 250)]
    resolver.answers["hooks.partner.example"] = [many]

    assert isinstance(send("http://hooks.partner.example/", allowing("198.18.0.0/15")), ConnectFailed)
    assert connects == many[:MOST_ADDRESSES]


def test_of_many_addresses_every_one_is_checked(send: Send, resolver: Resolver, connects: list[str]) -> None:
    resolver.answers["hooks.partner.example"] = [[*(f"198.18.0.{last}" for last in range(1, 250)), "127.0.0.1"]]

    assert isinstance(send("http://hooks.partner.example/", allowing("198.18.0.0/15")), Blocked)
    assert connects == []


def test_close_closes_the_connection_to_the_next_address(resolver: Resolver) -> None:
    resolver.answers["hooks.partner.example"] = [["127.0.0.3", "127.0.0.1"]]
    sender = Sender(allowing("127.0.0.0/8"), connect_timeout=5.0, timeout=5.0, clock=SystemClock())
    with hostile.answers(http(200)) as server, no_garbage_collection():
        sender.send(request_for(server.url(host="hooks.partner.example")))

        sender.close()

        assert not server.ended(within=1.0).cut_off


def test_a_name_without_any_address_is_connect_failed(send: Send, resolver: Resolver) -> None:
    resolver.answers["hooks.partner.example"] = [[]]

    assert isinstance(send("http://hooks.partner.example/", STRICT), ConnectFailed)


# --- what is let through


def test_a_network_that_is_allowed_is_let_through_and_no_other(send: Send, receiver: Receiver) -> None:
    policy = allowing("127.0.0.1/32", "10.0.0.0/8", "fd00::/8")

    for host in ("127.0.0.1", "10.255.0.1", "[fd00::1]"):
        assert policy.check_url(f"http://{host}/")
    for host in ("127.0.0.2", "192.168.0.1", "[fe80::1]", "[::1]", "[::ffff:192.168.0.1]"):
        with pytest.raises(InvalidURL):
            policy.check_url(f"http://{host}/")
    assert isinstance(send(receiver.url(), policy), Answer)
    assert isinstance(send("http://127.0.0.2:8080/", policy), Blocked)


def test_localhost_is_let_through_when_loopback_is(send: Send, receiver: Receiver) -> None:
    policy = allowing("127.0.0.0/8", "::1/128")
    url = policy.check_url(receiver.url().replace("127.0.0.1", "localhost"))

    assert isinstance(send(url, policy), Answer)


@pytest.mark.parametrize("host", ["receiver.internal", "Receiver.Internal", "receiver.internal."])
def test_a_host_that_is_allowed_is_let_through_wherever_it_leads(
    send: Send, resolver: Resolver, receiver: Receiver, host: str
) -> None:
    for spelling in ("receiver.internal", "receiver.internal."):
        resolver.answers[spelling] = [["127.0.0.1"]]
    policy = allowing(hosts=("RECEIVER.internal.",))
    url = policy.check_url(receiver.url().replace("127.0.0.1", host))

    assert isinstance(send(url, policy), Answer)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost."])
def test_a_host_is_allowed_in_every_spelling(host: str) -> None:
    policy = allowing(hosts=("LOCALHOST.",))

    assert policy.admits_host(host)
    assert policy.check_url(f"http://{host}/")


def test_a_host_that_is_allowed_opens_no_way_for_others(send: Send, resolver: Resolver, connects: list[str]) -> None:
    policy = allowing(hosts=("receiver.internal", "localhost"))
    for name in ("other.internal", "receiver.internal.partner.example", "x.receiver.internal"):
        resolver.answers[name] = [["127.0.0.1"]]
        assert isinstance(send(f"http://{name}:8080/", policy), Blocked)
    with pytest.raises(InvalidURL):
        policy.check_url("http://127.0.0.1/")

    assert isinstance(send("http://127.0.0.1:8080/", policy), Blocked)
    assert connects == []


def test_an_address_may_be_an_allowed_host(send: Send, receiver: Receiver) -> None:
    policy = allowing(hosts=("127.0.0.1", "::1"))
    policy.check_url("http://[::1]/")

    assert isinstance(send(policy.check_url(receiver.url()), policy), Answer)
    assert isinstance(send("http://127.0.0.2:8080/", policy), Blocked)
