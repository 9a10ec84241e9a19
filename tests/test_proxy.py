"""Requests through an egress proxy: what it is told, what it is not, and what comes of one that fails."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support import certificates, hostile, inside
from support.hostile import Peer, Server, http
from support.local import Install
from support.network import Connects, Resolver, Send, allowing
from support.proxy import NAME, Proxy, through
from support.receiver import Receiver
from support.shop import put

from sqla_webhooks.config import Settings
from sqla_webhooks.deliveries import Answer, DeliveryState
from sqla_webhooks.errors import Blocked, ConnectFailed, InvalidAnswer, InvalidURL, TLSFailed

#: A public address.
SIX = "2606:4700::1111"

USER = "me:hunter%2F2"
CREDENTIALS = base64.b64encode(b"me:hunter/2")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.self_signed(tmp_path_factory.mktemp("target"), names=f"DNS:{NAME},IP:{SIX}")


@pytest.fixture
def indicated() -> list[str]:
    """The names of servers that clients have indicated (RFC 6066, section 3)."""
    return []


@pytest.fixture
def tls(certificate: Path, indicated: list[str], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The target's, whose certificate is the only one that is trusted."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: indicated.append(name)
    return context


@pytest.fixture
def target() -> Iterator[Server]:
    """Of plain http."""
    with hostile.answers(http(200, b"hello")) as target:
        yield target


@pytest.fixture
def secure_target(tls: ssl.SSLContext) -> Iterator[Server]:
    with hostile.answers(http(200, b"hello"), tls=tls) as target:
        yield target


@pytest.fixture
def proxy(target: Server) -> Iterator[Proxy]:
    with Proxy({NAME: target.port}) as proxy:
        yield proxy


@pytest.fixture
def tunnel(secure_target: Server) -> Iterator[Proxy]:
    """A proxy to the target of https."""
    with Proxy({NAME: secure_target.port}) as proxy:
        yield proxy


# --- what the proxy is told


def test_https_goes_through_a_tunnel_to_its_end(
    send: Send, tunnel: Proxy, secure_target: Server, indicated: list[str]
) -> None:
    outcome = send(f"https://{NAME}:8443/hooks?a=b", through(tunnel))

    assert isinstance(outcome, Answer), repr(outcome)
    assert outcome.body == "hello"
    (head,) = tunnel.heads
    assert head.startswith(f"CONNECT {NAME}:8443 HTTP/1.".encode())
    (request,) = secure_target.requests
    assert request.startswith(b"POST /hooks?a=b HTTP/1.1\r\n")
    assert f"\r\nHost: {NAME}:8443\r\n".encode() in request
    assert indicated == [NAME]


def test_plain_http_is_told_to_the_proxy_in_full(send: Send, proxy: Proxy, target: Server) -> None:
    for path in ("/hooks?a=b", "//twice"):
        assert isinstance(send(f"http://{NAME}:8080{path}", through(proxy)), Answer)

    firsts = [head.split(b"\r\n")[0].decode() for head in proxy.heads]
    assert firsts == [f"POST http://{NAME}:8080{path} HTTP/1.1" for path in ("/hooks?a=b", "//twice")]
    assert all(f"\r\nHost: {NAME}:8080\r\n".encode() in head for head in (*proxy.heads, *target.requests))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_name_is_looked_up_but_that_of_the_proxy(
    send: Send, resolver: Resolver, connects: Connects, scheme: str
) -> None:
    """Where the proxy leads is not asked either: it is trusted."""
    resolver.lead("proxy.internal", to="127.0.0.1")
    with Proxy({}) as proxy:
        send(f"{scheme}://{NAME}/", through(f"http://proxy.internal:{proxy.port}"))

        assert len(proxy.heads) == 1
        assert connects.places == [("127.0.0.1", proxy.port)]
    assert resolver.asked == ["proxy.internal"]


def test_an_address_is_asked_for_in_brackets_and_certified_without(
    send: Send, secure_target: Server, indicated: list[str]
) -> None:
    with Proxy({f"[{SIX}]": secure_target.port}) as proxy:
        outcome = send(f"https://[{SIX}]/", through(proxy))

    assert isinstance(outcome, Answer), repr(outcome)
    assert f"\r\nHost: [{SIX}]\r\n".encode() in secure_target.requests[0]


@pytest.mark.parametrize("host", [f"[{SIX}]", "8.8.8.8"])
def test_an_address_is_told_as_it_is(send: Send, host: str) -> None:
    with Proxy({}) as proxy:
        send(f"https://{host}/", through(proxy))
        send(f"http://{host}/", through(proxy))

    assert [head.split(b" ")[1].decode() for head in proxy.heads] == [f"{host}:443", f"http://{host}/"]


@pytest.mark.parametrize("user", ["", USER])
def test_the_credentials_are_for_the_proxy_only(
    send: Send, proxy: Proxy, target: Server, tunnel: Proxy, secure_target: Server, user: str
) -> None:
    for _ in range(2):
        assert isinstance(send(f"http://{NAME}/", through(proxy, user)), Answer)
        assert isinstance(send(f"https://{NAME}/", through(tunnel, user)), Answer)

    heads = [*proxy.heads, *tunnel.heads]
    assert len(heads) == 3  # one is of the tunnel
    for head in heads:
        assert (b"\r\nProxy-Authorization: Basic " + CREDENTIALS in head) == bool(user)
    assert len(target.requests) == len(secure_target.requests) == 2
    for request in (*target.requests, *secure_target.requests):
        assert b"authorization" not in request.lower()
        assert CREDENTIALS not in request


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_credentials_are_shown_nowhere(send: Send, caplog: pytest.LogCaptureFixture, scheme: str) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    with Proxy({}) as proxy:
        policy = through(proxy, USER)
        shown += [repr(policy), repr(Settings(egress_proxy=proxy.url(USER))), send(f"{scheme}://{NAME}/", policy)]
    shown += [send(f"{scheme}://{NAME}/", policy), send(f"{scheme}://127.0.0.1/", policy)]  # it is down by now

    said = "\n".join(map(str, [*shown, *(repr(one.__cause__) for one in shown if isinstance(one, Exception))]))
    for secret in ("hunter", CREDENTIALS.decode()):
        assert secret not in said
        assert secret not in caplog.text


def test_the_proxies_of_the_environment_make_no_difference(
    send: Send, proxy: Proxy, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, receiver.url(""))
        monkeypatch.setenv(name.lower(), receiver.url(""))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")

    assert isinstance(send(f"http://{NAME}/", through(proxy)), Answer)

    assert len(proxy.heads) == 1
    assert receiver.received == []


def test_an_installation_sends_through_its_proxy(
    install: Install, sessions: sessionmaker[Session], proxy: Proxy, target: Server
) -> None:
    webhooks = install(sessions, deliver=False, allow_networks=[], egress_proxy=proxy.url())
    webhooks.endpoints.create(f"http://{NAME}/hooks", events=["*"])
    put(sessions, "a", "b")

    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED] * 2
    assert (len(proxy.heads), len(target.requests)) == (2, 2)


# --- what goes to no proxy


@pytest.mark.parametrize("url", inside.URLS, ids=ascii)
def test_what_leads_inside_by_itself_is_not_told_to_the_proxy(send: Send, connects: Connects, url: str) -> None:
    assert isinstance(send(url, through("http://127.0.0.1:4750")), Blocked)
    assert connects.places == []


@pytest.mark.parametrize("name", inside.PUBLIC_NAMES)
def test_what_a_name_leads_to_is_for_the_proxy_to_see(send: Send, name: str) -> None:
    with Proxy({}) as proxy:
        assert isinstance(send(f"https://{name}/", through(proxy)), ConnectFailed)

        assert len(proxy.heads) == 1


def test_an_address_that_is_denied_is_not_told_to_the_proxy(send: Send, connects: Connects) -> None:
    policy = allowing(egress_proxy="http://127.0.0.1:4750", allow_hosts=["10.0.0.1"], deny_networks=["10.0.0.0/8"])

    assert isinstance(send("http://10.0.0.1/", policy), Blocked)
    with pytest.raises(InvalidURL, match="deny_networks"):
        policy.check_url("http://10.0.0.1/")
    assert connects.places == []


@pytest.mark.parametrize("port", [22, 6379])
def test_a_port_that_is_not_allowed_is_not_told_to_the_proxy(send: Send, connects: Connects, port: int) -> None:
    assert isinstance(send(f"http://{NAME}:{port}/", through("http://127.0.0.1:4750")), Blocked)
    assert connects.places == []


# --- certificates


def test_a_certificate_for_another_name_is_refused_through_the_tunnel(send: Send, secure_target: Server) -> None:
    with Proxy({"other.example": secure_target.port}) as proxy:
        outcome = send("https://other.example/", through(proxy))

    assert isinstance(outcome, TLSFailed)
    assert "proxy" not in str(outcome)
    assert secure_target.requests == []


def test_a_certificate_that_nobody_vouches_for_is_refused_through_the_tunnel(
    send: Send, tunnel: Proxy, secure_target: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()

    assert isinstance(send(f"https://{NAME}/", through(tunnel)), TLSFailed)
    assert secure_target.requests == []


# --- connections that are kept


def test_a_tunnel_is_kept(send: Send, tunnel: Proxy, secure_target: Server) -> None:
    for _ in range(3):
        assert isinstance(send(f"https://{NAME}/", through(tunnel)), Answer)

    assert (len(tunnel.heads), tunnel.accepted, secure_target.accepted, len(secure_target.requests)) == (1, 1, 1, 3)


def test_a_connection_to_the_proxy_is_kept_for_all_of_plain_http(send: Send, target: Server) -> None:
    with Proxy({NAME: target.port, "other.example": target.port}) as proxy:
        for name in (NAME, "other.example", NAME):
            assert isinstance(send(f"http://{name}/", through(proxy)), Answer)

        assert (proxy.accepted, len(proxy.heads)) == (1, 3)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_the_proxy_has_closed_meanwhile_is_no_failure(
    send: Send, proxy: Proxy, tunnel: Proxy, scheme: str
) -> None:
    one = proxy if scheme == "http" else tunnel
    for _ in range(3):
        assert isinstance(send(f"{scheme}://{NAME}/", through(one)), Answer)
        one.hang_up()

    assert one.accepted == 3


def drops_kept_connections(tls: ssl.SSLContext | None) -> Server:
    """Answers the first request of each connection, and hangs up on the second."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(http(200))
        server.requests.append(peer.request())
        peer.reset()

    return Server(script, tls=tls)


def test_a_kept_connection_to_the_proxy_that_turns_out_to_be_dead_is_no_failure(send: Send) -> None:
    with drops_kept_connections(None) as proxy:
        for _ in range(3):
            outcome = send(f"http://{NAME}/", through(proxy))
            assert isinstance(outcome, Answer), repr(outcome)

    # The second and the third were sent on a dead connection first.
    assert (proxy.accepted, len([one for one in proxy.requests if one])) == (3, 5)


def test_a_kept_tunnel_that_turns_out_to_be_dead_is_no_failure(send: Send, tls: ssl.SSLContext) -> None:
    with drops_kept_connections(tls) as target, Proxy({NAME: target.port}) as proxy:
        for _ in range(3):
            outcome = send(f"https://{NAME}/", through(proxy))
            assert isinstance(outcome, Answer), repr(outcome)

        assert (proxy.accepted, target.accepted) == (3, 3)


def test_a_target_that_hangs_up_is_no_failure_of_the_proxy(send: Send, tls: ssl.SSLContext) -> None:
    def hangs_up(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())

    with Server(hangs_up, tls=tls) as target, Proxy({NAME: target.port}) as proxy:
        outcome = send(f"https://{NAME}/", through(proxy))

    assert isinstance(outcome, InvalidAnswer), repr(outcome)
    assert "proxy" not in str(outcome)
    assert len(target.requests) == 1
