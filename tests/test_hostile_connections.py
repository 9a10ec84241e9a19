"""Connections that come about late or never, or that hold more than the answer that was asked for."""

from __future__ import annotations

import gc
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support import hostile
from support.hostile import LOOPBACK, Peer, Server, http, request_for
from support.names import Names
from support.receiver import Receiver
from support.zoo.secure import Certificates, server_context

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.errors import ConnectFailed, InvalidAnswer, TimedOut

#: Seconds: for a connection, for a request, and what a busy machine may add.
CONNECT_TIMEOUT, TIMEOUT, LEEWAY = 0.4, 5.0, 2.0

NAME = "hooks.partner.example"


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender(LOOPBACK, connect_timeout=CONNECT_TIMEOUT, timeout=TIMEOUT, clock=SystemClock())
    yield sender
    sender.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    return names


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.made_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["plain", "TLS"])
def tls(
    request: pytest.FixtureRequest, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    """None, and a server's, whose certificate is trusted."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificates.trusted))
    return server_context(certificates.good) if request.param == "TLS" else None


def status(result: Result) -> int:
    assert isinstance(result.outcome, Answer), repr(result.outcome)
    return result.outcome.status


# --- connecting


@contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A place that takes no connection and refuses none: its backlog is full. The port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_server_that_accepts_nobody_takes_the_time_of_a_connection(sender: Sender, receiver: Receiver) -> None:
    with black_hole() as port:
        result = sender.send(request_for(f"http://127.0.0.1:{port}/hooks"))

    assert isinstance(result.outcome, TimedOut)
    assert CONNECT_TIMEOUT <= result.duration < CONNECT_TIMEOUT + LEEWAY
    assert status(sender.send(request_for(receiver.url()))) == 200


def test_behind_an_address_that_takes_no_connection_the_next_is_tried_in_time(
    sender: Sender, receiver: Receiver, names: Names
) -> None:
    names.know(NAME, addresses=("127.0.0.2", "127.0.0.1"))
    url = receiver.url().replace("127.0.0.1", NAME)
    with black_hole("127.0.0.2", int(url.split(":")[2].partition("/")[0])):
        result = sender.send(request_for(url))

    assert status(result) == 200
    assert CONNECT_TIMEOUT / 2 <= result.duration < CONNECT_TIMEOUT + LEEWAY


def test_behind_an_address_that_refuses_the_next_has_all_the_time(
    sender: Sender, receiver: Receiver, names: Names
) -> None:
    names.know(NAME, addresses=("127.0.0.2", "127.0.0.3", "127.0.0.1"))

    result = sender.send(request_for(receiver.url().replace("127.0.0.1", NAME)))

    assert status(result) == 200
    assert result.duration < CONNECT_TIMEOUT


def test_many_addresses_that_take_no_connection_take_the_time_of_one(sender: Sender, names: Names) -> None:
    many = [f"127.0.0.{last}" for last in range(2, 10)]
    names.know(NAME, addresses=tuple(many))
    with ExitStack() as stack:
        port = stack.enter_context(black_hole(many[0]))
        for address in many[1:]:
            stack.enter_context(black_hole(address, port))
        result = sender.send(request_for(f"http://{NAME}:{port}/hooks"))

    assert isinstance(result.outcome, TimedOut)
    assert CONNECT_TIMEOUT <= result.duration < CONNECT_TIMEOUT + LEEWAY


def test_the_last_address_says_why_there_is_no_connection(sender: Sender, names: Names) -> None:
    names.know(NAME, addresses=("127.0.0.2", "127.0.0.3"))
    with black_hole("127.0.0.2") as port:
        error = sender.send(request_for(f"http://{NAME}:{port}/hooks")).outcome

    assert isinstance(error, ConnectFailed)
    assert str(error) == "no connection: [Errno 111] Connection refused"


# --- answers that come before the request is through


@pytest.mark.parametrize("size", [2_000, 5_000_000], ids=["small", "large"])
def test_who_answers_and_hangs_up_without_reading_the_body_has_answered(
    sender: Sender, size: int, tls: ssl.SSLContext | None
) -> None:
    def script(_server: Server, peer: Peer) -> None:
        peer.some(100)
        peer.send(http(410, b"", "Connection: close"))

    if tls is not None:
        tls.num_tickets = 0  # the answer may wait until they are acknowledged, and be lost by the hanging up
    with Server(script, tls=tls) as server:
        told = {status(sender.send(request_for(server.url(), b"x" * size))) for _ in range(5)}

    assert told == {410}


# --- what comes behind an answer


def says_more(first: bytes, more: bytes, *, tls: ssl.SSLContext | None, pause: float = 0.0) -> Server:
    """Says more to its first request than it was asked, at once or a little later; answers later ones with 500."""

    def script(server: Server, peer: Peer) -> None:
        while request := peer.request():
            server.requests.append(request)
            if len(server.requests) > 1:
                peer.send(http(500))
            elif pause:
                peer.send(first)
                peer.pause(pause)
                peer.send(more)
            else:
                peer.send(first + more)

    return Server(script, tls=tls)


def answer_of(size: int) -> bytes:
    """An answer of so many bytes."""
    framing = len(http(200, b"x" * (size - 100))) - (size - 100)
    whole = http(200, b"x" * (size - framing))
    assert len(whole) == size
    return whole


#: Sizes of a first answer: with what follows it, it fills what is read at a time, or a record of TLS, or goes beyond.
SIZES = [200, 4096, 8191, 8192, 8193, 16_384 - 50, 16_384, 20_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "more",
    [http(200, b"smuggled"), http(200, b"smuggled") * 300, b"\r\n", b"smuggled", b"HTTP/1.1 200 OK\r\n"],
    ids=["an answer", "many answers", "a line", "bytes", "half an answer"],
)
def test_what_comes_behind_an_answer_is_not_the_next_one(
    sender: Sender, size: int, more: bytes, tls: ssl.SSLContext | None
) -> None:
    with says_more(answer_of(size), more, tls=tls) as server:
        first = sender.send(request_for(server.url()))
        second = sender.send(request_for(server.url(), number=2))

        assert (status(first), status(second)) == (200, 500)
        assert (server.accepted, len(server.requests)) == (2, 2)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["204", "no body", "chunks", "a trailer", "HTTP/1.0"],
)
def test_however_an_answer_ends_what_comes_behind_is_not_the_next_one(
    sender: Sender, first: bytes, tls: ssl.SSLContext | None
) -> None:
    with says_more(first, http(200, b"smuggled"), tls=tls) as server:
        sender.send(request_for(server.url()))

        assert status(sender.send(request_for(server.url(), number=2))) == 500
        assert (server.accepted, len(server.requests)) == (2, 2)


def test_what_comes_later_is_not_the_next_one(sender: Sender, tls: ssl.SSLContext | None) -> None:
    never = hostile.answers(http(200))  # answers meanwhile, on a connection of its own
    with says_more(http(200), http(200, b"smuggled"), tls=tls, pause=0.05) as server, never as other:
        sender.send(request_for(server.url()))
        clock = SystemClock()
        began = clock.monotonic()
        while clock.monotonic() - began < 0.2:
            sender.send(request_for(other.url()))

        assert status(sender.send(request_for(server.url(), number=2))) == 500
        assert (server.accepted, len(server.requests)) == (2, 2)


# --- connections that were kept


def test_a_kept_connection_that_is_dead_is_no_failure(sender: Sender, tls: ssl.SSLContext | None) -> None:
    with hostile.drops_kept_connections(tls=tls) as server:
        for number in range(3):
            assert status(sender.send(request_for(server.url(), number=number))) == 200

    assert (server.accepted, len([one for one in server.requests if one])) == (3, 5)


@pytest.mark.parametrize("beginning", [b"H", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent"])
def test_a_kept_connection_that_breaks_off_an_answer_is_a_failure(sender: Sender, beginning: bytes) -> None:
    """The request has been dealt with."""
    with hostile.breaks_off_the_second_answer(beginning) as server:
        assert status(sender.send(request_for(server.url()))) == 200
        assert isinstance(sender.send(request_for(server.url(), number=2)).outcome, InvalidAnswer)

    assert server.accepted == 1


def test_close_closes_a_connection_whose_host_has_failed_before(sender: Sender, tls: ssl.SSLContext | None) -> None:
    """The error refers to the pool."""

    def script(server: Server, peer: Peer) -> None:
        while server.accepted > 1 and peer.request():
            peer.send(http(200))

    gc.disable()  # so that nothing is closed by accident
    try:
        with Server(script, tls=tls) as server:
            failed = sender.send(request_for(server.url())).outcome
            assert status(sender.send(request_for(server.url()))) == 200

            sender.close()

            assert isinstance(failed, InvalidAnswer)
            for _ in range(2):
                server.ended(within=1.0)
    finally:
        gc.enable()
