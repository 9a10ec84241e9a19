"""Where a socket may be opened to: the last of the checks, which is the one that counts."""

from __future__ import annotations

import gc
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
from support import hostile, inside
from support.hostile import http, request_for
from support.network import PUBLIC, STRICT, Connects, Resolver, Send, allowing, connect_only
from support.receiver import Receiver

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery.adapter import MOST_ADDRESSES
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.errors import Blocked, ConnectFailed, InvalidURL

pytestmark = pytest.mark.usefixtures("connects")

#: A name that tells nothing.
NAME = "hooks.partner.example"


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """So that nothing is closed by accident."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- the table


@pytest.mark.parametrize("address", inside.ADDRESSES)
def test_a_name_that_leads_to_an_address_inside_is_blocked(
    send: Send, resolver: Resolver, connects: Connects, address: str
) -> None:
    resolver.answers[NAME] = [[address]]

    for url in (f"http://{NAME}/", f"https://{NAME}:8443/"):
        assert isinstance(send(STRICT.check_url(url), STRICT), Blocked)
    assert resolver.asked == [NAME, NAME]
    assert connects.addresses == []


@pytest.mark.parametrize("address", inside.NEIGHBOURS)
def test_a_name_that_leads_beside_those_addresses_is_connected_to(
    send: Send, resolver: Resolver, connects: Connects, address: str
) -> None:
    resolver.answers[NAME] = [[address]]

    assert isinstance(send(f"http://{NAME}/", STRICT), ConnectFailed)
    assert [ip_address(one) for one in connects.addresses] == [ip_address(address)]


@pytest.mark.parametrize("name", inside.PUBLIC_NAMES)
@pytest.mark.parametrize("answer", [["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::a9fe:a9fe"]], ids=str)
def test_a_name_that_says_nothing_is_blocked_by_where_it_leads(
    send: Send, resolver: Resolver, connects: Connects, name: str, answer: list[str]
) -> None:
    resolver.answers[name] = [[*answer]]

    assert isinstance(send(STRICT.check_url(f"http://{name}/"), STRICT), Blocked)
    assert connects.addresses == []


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:7f00:1", "64:ff9b::a9fe:a9fe", "fe80::1"])
def test_one_address_inside_spoils_the_public_ones_in_whatever_order(
    send: Send, resolver: Resolver, connects: Connects, inner: str
) -> None:
    for answer in ([PUBLIC, inner], [inner, PUBLIC], [PUBLIC, inner, "1.1.1.1"], ["2606:4700::1111", inner]):
        resolver.answers[NAME] = [[*answer]]

        assert isinstance(send(f"http://{NAME}/", STRICT), Blocked)
    assert connects.addresses == []


@pytest.mark.parametrize("host", [*inside.LITERALS, *inside.NAMES])
def test_an_endpoint_that_was_written_before_all_rules_is_blocked(
    send: Send, resolver: Resolver, connects: Connects, host: str
) -> None:
    resolver.lead(host.lower().rstrip("."), to="127.0.0.1")

    assert isinstance(send(f"http://{host}/", STRICT), Blocked)
    assert connects.addresses == []


@pytest.mark.parametrize("url", inside.URLS, ids=ascii)
def test_a_url_that_leads_inside_is_blocked_when_requested(
    send: Send, resolver: Resolver, connects: Connects, url: str
) -> None:
    resolver.lead("partner.example", to=PUBLIC)
    resolver.lead(*(name.lower().rstrip(".") for name in inside.NAMES), to="127.0.0.1")

    assert isinstance(send(url, STRICT), Blocked)
    assert connects.addresses == []


@pytest.mark.parametrize("url", inside.URLS, ids=ascii)
def test_no_url_leads_inside_when_only_the_connection_is_checked(
    resolver: Resolver, connects: Connects, url: str
) -> None:
    """What the readers of URLs below make of it does not matter."""
    resolver.lead("partner.example", to=PUBLIC)
    resolver.lead(*(name.lower().rstrip(".") for name in inside.NAMES), to="127.0.0.1")

    assert connect_only(url) is not None
    assert {*connects.addresses} <= {PUBLIC, *inside.OCTAL.values()}


@pytest.mark.parametrize("host", [*inside.LITERALS, *inside.SPELLINGS])
def test_an_address_is_blocked_by_the_connection_in_whatever_spelling(
    resolver: Resolver, connects: Connects, host: str
) -> None:
    """The C library reads more spellings than others do: it is asked, and what it says is checked."""
    error = connect_only(f"http://{host}/")

    assert isinstance(error, Blocked) or "resolve" in str(error)
    assert connects.addresses == []


@pytest.mark.parametrize("port", inside.PORTS)
def test_a_port_that_an_endpoint_was_given_under_a_laxer_policy_is_blocked(
    send: Send, resolver: Resolver, connects: Connects, port: int
) -> None:
    resolver.answers[NAME] = [[PUBLIC]]
    url = allowing(egress_ports=[port]).check_url(f"http://{NAME}:{port}/")

    assert isinstance(send(url, STRICT), Blocked)
    assert connects.addresses == []
    assert isinstance(send(url, allowing(egress_ports=[port])), ConnectFailed)
    assert connects.places == [(PUBLIC, port)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_what_is_inside_is_not_followed(
    send: Send, resolver: Resolver, connects: Connects, status: int
) -> None:
    locations = [url for url in inside.URLS if url.isprintable()]
    with hostile.answers(*(http(status, b"", f"Location: {url}") for url in locations)) as server:
        for _ in locations:
            outcome = send(server.url(), allowing("127.0.0.1/32"))
            assert isinstance(outcome, Answer)
            assert outcome.status == status

    assert len(server.requests) == len(locations)
    assert connects.places == [("127.0.0.1", server.port)]
    assert resolver.asked == []


# --- names, when connecting


def test_a_name_of_this_machine_is_blocked_without_a_connection(send: Send, connects: Connects) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outcome = send(f"http://localhost:{listener.getsockname()[1]}/", STRICT)

        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(outcome, Blocked)
    assert connects.addresses == []


def test_https_is_guarded_as_well(send: Send, connects: Connects) -> None:
    assert isinstance(send("https://localhost:8443/", EgressPolicy()), Blocked)
    assert connects.addresses == []


def test_the_refusal_names_the_host_and_no_address(send: Send, resolver: Resolver) -> None:
    resolver.answers[NAME] = [["10.1.2.3", "fd00::7"]]

    outcome = str(send(f"http://{NAME}/", STRICT))

    assert NAME in outcome
    assert "fd00" not in outcome
    assert not re.search(r"\d", outcome)


@pytest.mark.parametrize("answer", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
def test_one_address_that_is_not_allowed_spoils_the_answer(
    send: Send, resolver: Resolver, connects: Connects, answer: list[str]
) -> None:
    resolver.answers[NAME] = [[*answer]]

    outcome = send(f"http://{NAME}/", allowing("127.0.0.1/32"))

    assert isinstance(outcome, Blocked)
    assert connects.addresses == []


def test_the_next_address_is_tried_when_one_refuses(
    send: Send, resolver: Resolver, receiver: Receiver, connects: Connects
) -> None:
    resolver.answers[NAME] = [["127.0.0.3", "127.0.0.1"]]
    url = receiver.url().replace("127.0.0.1", NAME)

    assert isinstance(send(url, allowing("127.0.0.0/8")), Answer)
    assert connects.addresses == ["127.0.0.3", "127.0.0.1"]


def test_of_many_addresses_only_the_first_few_are_tried(send: Send, resolver: Resolver, connects: Connects) -> None:
    many = [f"198.18.0.{last}" for last in range(1, 250)]
    resolver.answers[NAME] = [[*many]]

    assert isinstance(send(f"http://{NAME}/", allowing("198.18.0.0/15")), ConnectFailed)
    assert connects.addresses == many[:MOST_ADDRESSES]


def test_of_many_addresses_every_one_is_checked(send: Send, resolver: Resolver, connects: Connects) -> None:
    resolver.answers[NAME] = [[*(f"198.18.0.{last}" for last in range(1, 250)), "127.0.0.1"]]

    assert isinstance(send(f"http://{NAME}/", allowing("198.18.0.0/15")), Blocked)
    assert connects.addresses == []


def test_close_closes_the_connection_to_the_next_address(resolver: Resolver) -> None:
    resolver.answers[NAME] = [["127.0.0.3", "127.0.0.1"]]
    sender = Sender(allowing("127.0.0.0/8"), connect_timeout=5.0, timeout=5.0, clock=SystemClock())
    with hostile.answers(http(200)) as server, no_garbage_collection():
        sender.send(request_for(server.url(host=NAME)))

        sender.close()

        assert not server.ended(within=1.0).cut_off


def test_a_name_without_any_address_is_connect_failed(send: Send, resolver: Resolver) -> None:
    resolver.answers[NAME] = [[]]

    assert isinstance(send(f"http://{NAME}/", STRICT), ConnectFailed)


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
    policy = allowing(allow_hosts=("RECEIVER.internal.",))
    url = policy.check_url(receiver.url().replace("127.0.0.1", host))

    assert isinstance(send(url, policy), Answer)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost."])
def test_a_host_is_allowed_in_every_spelling(host: str) -> None:
    policy = allowing(allow_hosts=("LOCALHOST.",))

    assert policy.admits_host(host)
    assert policy.check_url(f"http://{host}/")


def test_a_host_that_is_allowed_opens_no_way_for_others(send: Send, resolver: Resolver, connects: Connects) -> None:
    policy = allowing(allow_hosts=("receiver.internal", "localhost"))
    for name in ("other.internal", "receiver.internal.partner.example", "x.receiver.internal"):
        resolver.answers[name] = [["127.0.0.1"]]
        assert isinstance(send(f"http://{name}:8080/", policy), Blocked)
    with pytest.raises(InvalidURL):
        policy.check_url("http://127.0.0.1/")

    assert isinstance(send("http://127.0.0.1:8080/", policy), Blocked)
    assert connects.addresses == []


def test_an_address_may_be_an_allowed_host(send: Send, receiver: Receiver) -> None:
    policy = allowing(allow_hosts=("127.0.0.1", "::1"))
    policy.check_url("http://[::1]/")

    assert isinstance(send(policy.check_url(receiver.url()), policy), Answer)
    assert isinstance(send("http://127.0.0.2:8080/", policy), Blocked)


# --- what is denied


@pytest.mark.parametrize("options", [{"allow_hosts": [NAME]}, {}], ids=["trusted", "not trusted"])
@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::1", PUBLIC])
def test_what_is_denied_is_not_connected_to_whatever_else_is_allowed(
    send: Send, resolver: Resolver, connects: Connects, address: str, options: dict[str, list[str]]
) -> None:
    networks = ["10.0.0.0/8", "64:ff9b::/96", "2002::/16"]
    for answer in ([address], ["1.1.1.1", address]):
        resolver.answers[NAME] = [[*answer]]
        denying = allowing(*networks, deny_networks=["10.1.0.0/16", PUBLIC], **options)
        assert isinstance(send(f"http://{NAME}/", denying), Blocked)
    assert connects.addresses == []

    assert isinstance(send(f"http://{NAME}/", allowing(*networks, **options)), ConnectFailed)
    assert connects.addresses == ["1.1.1.1", address]


def test_an_address_that_is_an_allowed_host_can_be_denied(send: Send, connects: Connects) -> None:
    policy = allowing(allow_hosts=["10.1.2.3"], deny_networks=["10.0.0.0/8"])

    assert isinstance(send("http://10.1.2.3/", policy), Blocked)
    assert connects.addresses == []


def test_nat64_that_is_allowed_leads_to_what_is_public_behind_it(
    send: Send, resolver: Resolver, connects: Connects
) -> None:
    policy = allowing("64:ff9b::/96")
    for inner in ("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1"):
        resolver.answers[NAME] = [[inner]]
        assert isinstance(send(f"http://{NAME}/", policy), Blocked)
    resolver.answers[NAME] = [["64:ff9b::8.8.8.8"]]

    assert isinstance(send(f"http://{NAME}/", policy), ConnectFailed)
    assert connects.addresses == ["64:ff9b::8.8.8.8"]
