"""A proxy that fails: it is told of, in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support import hostile
from support.hostile import Peer, Server, http, request_for
from support.network import Send
from support.proxy import NAME, through

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.errors import ConnectFailed, DeliveryError, TimedOut

#: Seconds that a request may take, and its connection.
TIMEOUT, CONNECT_TIMEOUT = 1.0, 0.5
#: How much later a busy machine may notice.
LATE = 2.0


def says_slowly(beginning: bytes, *more: bytes) -> Server:
    """These after the beginning, over and over, a hundred a second."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(beginning)
        while True:
            for piece in more:
                peer.send(piece)
                peer.pause(0.01)

    return Server(script)


def says_without_end(beginning: bytes) -> Server:
    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(beginning)
        while True:
            peer.send(b"X: " + b"x" * 1000 + b"\r\n")

    return Server(script)


FAILING: dict[str, tuple[Callable[[], Server], type[DeliveryError], str]] = {
    "403": (lambda: hostile.says(http(403)), ConnectFailed, "403"),
    "407": (lambda: hostile.says(http(407, b"", "Proxy-Authenticate: Basic")), ConnectFailed, "407"),
    "502": (lambda: hostile.says(http(502)), ConnectFailed, "502"),
    "100": (lambda: hostile.says(http(100)), ConnectFailed, "100"),
    "closes": (hostile.closes_at_once, ConnectFailed, ""),
    "closes without an answer": (hostile.closes_without_an_answer, ConnectFailed, ""),
    "garbage": (hostile.talks_garbage, ConnectFailed, ""),
    "much garbage": (hostile.talks_much_garbage, ConnectFailed, ""),
    "stalls": (hostile.reads_but_says_nothing, TimedOut, "in time"),
    "endless headers": (lambda: says_without_end(b"HTTP/1.1 200 Yes\r\n"), ConnectFailed, "headers"),
    "endless headers of a refusal": (lambda: says_without_end(b"HTTP/1.1 403 No\r\n"), ConnectFailed, ""),
    "endless body of a refusal": (lambda: hostile.floods(403), ConnectFailed, "403"),
    "a status byte by byte": (lambda: says_slowly(b"HTTP/1.1 200 ", b"x"), TimedOut, "in time"),
    "headers byte by byte": (lambda: says_slowly(b"HTTP/1.1 200 Yes\r\n", b"X", b":", b"\r\n"), TimedOut, "in time"),
    "a tunnel that stalls": (lambda: says_slowly(b"HTTP/1.1 200 Yes\r\n\r\n", b""), TimedOut, "in time"),
}


@pytest.fixture
def patient() -> Iterator[Callable[[str, str], tuple[DeliveryError, float]]]:
    """Sends to a URL through a proxy; what came of it, and the seconds that it took."""
    made: list[Sender] = []

    def send(url: str, proxy: str) -> tuple[DeliveryError, float]:
        made.append(Sender(through(proxy), connect_timeout=CONNECT_TIMEOUT, timeout=TIMEOUT, clock=SystemClock()))
        start = SystemClock().monotonic()
        outcome = made[-1].send(request_for(url)).outcome
        assert isinstance(outcome, DeliveryError), repr(outcome)
        return outcome, SystemClock().monotonic() - start

    yield send
    for sender in made:
        sender.close()


Patient = Callable[[str, str], tuple[DeliveryError, float]]


@pytest.mark.parametrize("how", FAILING)
def test_a_proxy_that_does_not_connect_is_told_of(patient: Patient, how: str) -> None:
    make, kind, part = FAILING[how]
    with make() as proxy:
        error, seconds = patient(f"https://{NAME}/", proxy.url(""))

    assert type(error) is kind, repr(error)
    assert part in str(error)
    assert str(error).isprintable()
    assert how == "a tunnel that stalls" or "the egress proxy" in str(error)
    assert seconds < TIMEOUT + LATE


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("proxy", "said"), [("127.0.0.1:1", "refused"), ("nothing.invalid:4750", "not known")])
def test_a_proxy_that_is_not_there_is_told_of(patient: Patient, scheme: str, proxy: str, said: str) -> None:
    error, seconds = patient(f"{scheme}://{NAME}/", f"http://{proxy}")

    assert type(error) is ConnectFailed
    assert "through the egress proxy" in str(error)
    assert seconds < TIMEOUT + LATE


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_takes_no_connection_is_told_of(
    patient: Patient, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_self: object, _address: object) -> None:
        message = "timed out"
        raise TimeoutError(message)

    monkeypatch.setattr("socket.socket.connect", connect)

    error, _ = patient(f"{scheme}://{NAME}/", "http://127.0.0.1:4750")

    assert type(error) is TimedOut
    assert str(error) == "no connection through the egress proxy in time"


@pytest.mark.parametrize("status", [403, 407, 502])
def test_what_the_proxy_says_to_plain_http_is_an_answer(send: Send, status: int) -> None:
    """Nobody can tell it from the target's."""
    with hostile.answers(http(status, b"no")) as proxy:
        outcome = send(f"http://{NAME}/", through(proxy))

    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body) == (status, "no")
