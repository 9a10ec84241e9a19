"""One POST over real sockets, and every way in which it can go wrong."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import hostile
from support.certificates import self_signed
from support.clock import START, MovedClock
from support.hostile import FRAMINGS, LOOPBACK, Server, http, request_for
from support.receiver import Receiver, Reply

from sqla_webhooks._clock import Clock, SystemClock
from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.delivery.adapter import MOST_INTERIM
from sqla_webhooks.delivery.budget import READ_LIMIT
from sqla_webhooks.delivery.request import USER_AGENT, Request
from sqla_webhooks.delivery.send import KEPT, Sender
from sqla_webhooks.errors import Blocked, ConnectFailed, DeliveryError, InvalidAnswer, TimedOut, TLSFailed

#: Seconds that a test waits for a peer that will never answer.
SOON = 0.2

MakeSender = Callable[..., Sender]


@pytest.fixture
def make_sender() -> Iterator[MakeSender]:
    made: list[Sender] = []

    def make(*, timeout: float = 15.0, clock: Clock | None = None) -> Sender:
        sender = Sender(LOOPBACK, connect_timeout=timeout, timeout=timeout, clock=clock or SystemClock())
        made.append(sender)
        return sender

    yield make
    for sender in made:
        sender.close()


@pytest.fixture
def sender(make_sender: MakeSender) -> Sender:
    return make_sender()


def answer(result: Result) -> Answer:
    assert isinstance(result.outcome, Answer), repr(result.outcome)
    return result.outcome


def failure(result: Result) -> DeliveryError:
    """Why it failed, having checked that people can read it and databases take it."""
    error = result.outcome
    assert isinstance(error, DeliveryError), repr(error)
    detail = str(error)
    assert detail
    assert detail == detail.strip()
    # The repr of an exception or an object is not a sentence.
    assert not any(sign in detail for sign in ("Error(", "('", "object at 0x", "Pool(", "Guarded")), detail
    return error


def unused_url() -> str:
    """On a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/hooks"


# --- what is sent


def test_the_wire_carries_the_stored_bytes_and_these_headers_only(sender: Sender) -> None:
    payload = '{"data":{"name":"Zoë","price":1.0}}\r\n\r\n '.encode()
    with hostile.answers(http(200)) as server:
        request = request_for(server.url("/hooks?tenant=7"), payload)
        answer(sender.send(request))

    (wire,) = server.requests
    head, _, body = wire.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    assert first == "POST /hooks?tenant=7 HTTP/1.1"
    assert body == payload
    assert dict(line.split(": ", 1) for line in lines) == {
        "Host": f"127.0.0.1:{server.port}",
        "Content-Type": "application/json",
        "Content-Length": str(len(payload)),
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(START.timestamp())),
        "webhook-signature": request.headers["webhook-signature"],
    }


def test_a_cookie_is_not_replayed(sender: Sender) -> None:
    with hostile.sets_cookie() as server:
        assert "Set-Cookie" in answer(sender.send(request_for(server.url()))).headers
        answer(sender.send(request_for(server.url())))

    assert len(server.requests) == 2
    assert not any(b"cookie" in request.lower() for request in server.requests)


def test_the_credentials_of_a_netrc_are_not_sent(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))

    answer(sender.send(request_for(receiver.url())))

    (request,) = receiver.received
    assert "authorization" not in request.headers


def test_the_proxies_of_the_environment_are_not_used(
    make_sender: MakeSender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with hostile.answers(http(502)) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
            monkeypatch.setenv(name.lower(), proxy.url(""))

        assert answer(make_sender().send(request_for(receiver.url()))).status == 200

    assert proxy.accepted == 0
    assert len(receiver.received) == 1


# --- what comes back


def test_an_answer_has_its_status_headers_and_the_beginning_of_its_body(sender: Sender, receiver: Receiver) -> None:
    receiver.answer(Reply(201, "tak, přijato".encode(), {"X-Trace": "abc"}))

    got = answer(sender.send(request_for(receiver.url())))

    assert (got.status, got.ok, got.body) == (201, True, "tak, přijato")
    assert got.headers["X-Trace"] == "abc"


def test_the_result_says_whose_it_is_when_it_began_and_how_long_it_took(
    make_sender: MakeSender, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.on_request = lambda _: clock.advance(2.5)
    request = request_for(receiver.url())

    result = make_sender(clock=clock).send(request)

    assert answer(result).ok
    assert (result.claim, result.started_at, result.duration) == (request.claim, START, 2.5)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_is_not_followed(sender: Sender, receiver: Receiver, status: int) -> None:
    with hostile.redirects(status, receiver.url("/elsewhere")) as server:
        got = answer(sender.send(request_for(server.url())))
        assert server.ended().cut_off

    assert (got.status, got.ok) == (status, False)
    assert got.headers["Location"] == receiver.url("/elsewhere")
    assert receiver.received == []
    assert server.accepted == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 413, 429, 500, 502, 503, 504, 599])
def test_an_error_status_is_an_answer_to_one_request(sender: Sender, status: int) -> None:
    with hostile.answers(http(status, b"no", "Retry-After: 0")) as server:
        got = answer(sender.send(request_for(server.url())))

    assert (got.status, got.ok, got.body) == (status, False, "no")
    assert len(server.requests) == 1


def test_an_answer_without_a_body_is_one(sender: Sender) -> None:
    with hostile.answers(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        got = answer(sender.send(request_for(server.url())))

    assert (got.status, got.ok, got.body) == (204, True, "")


def test_a_body_is_kept_up_to_a_number_of_characters(sender: Sender) -> None:
    with hostile.answers(http(200, ("é" * KEPT + "more").encode())) as server:
        assert answer(sender.send(request_for(server.url()))).body == "é" * KEPT


def test_a_body_that_fits_is_kept_whole(sender: Sender) -> None:
    with hostile.answers(http(200, b"k" * KEPT)) as server:
        assert answer(sender.send(request_for(server.url()))).body == "k" * KEPT


def test_a_body_of_any_bytes_is_kept_as_text_that_every_database_takes(sender: Sender) -> None:
    with hostile.answers(http(200, b"a\0b\xff\xfe\xed\xa0\x80c")) as server:
        body = answer(sender.send(request_for(server.url()))).body

    assert (body[0], body[-1]) == ("a", "c")
    assert set(body[1:-1]) == {"b", "\N{REPLACEMENT CHARACTER}"}


def test_a_compressed_body_is_not_decompressed(sender: Sender) -> None:
    with hostile.gzips(b"A" * 20_000_000) as server:
        got = answer(sender.send(request_for(server.url())))

    assert got.headers["Content-Encoding"] == "gzip"
    assert got.body.startswith("\x1f")
    assert "A" * 10 not in got.body


def test_an_oversized_body_is_read_to_the_limit_only(sender: Sender) -> None:
    with hostile.floods() as server:
        got = answer(sender.send(request_for(server.url())))
        assert server.ended().cut_off

    assert got.ok
    assert got.body == "x" * KEPT


# --- connections


@pytest.mark.parametrize(
    "raw",
    [
        http(200, b"ok"),
        http(500),
        http(200, b"k" * (READ_LIMIT - 1)),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["some body", "no body", "long body", "204", "chunked"],
)
def test_the_next_request_takes_the_same_connection(sender: Sender, raw: bytes) -> None:
    with hostile.answers(raw) as server:
        for _ in range(3):
            answer(sender.send(request_for(server.url())))

        assert (server.accepted, len(server.requests)) == (1, 3)


def test_after_an_oversized_body_the_next_request_takes_a_new_connection(sender: Sender) -> None:
    with hostile.answers(http(200, b"k" * (2 * READ_LIMIT)), http(200)) as server:
        for _ in range(2):
            answer(sender.send(request_for(server.url())))

        assert (server.accepted, len(server.requests)) == (2, 2)


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used(sender: Sender) -> None:
    with hostile.says(http(200)) as server:
        for _ in range(3):
            answer(sender.send(request_for(server.url())))
            server.ended()

    assert (server.accepted, len(server.requests)) == (3, 3)


def test_a_kept_connection_that_turns_out_to_be_dead_is_no_failure(sender: Sender) -> None:
    with hostile.drops_kept_connections() as server:
        for number in range(3):
            result = sender.send(request_for(server.url(), number=number))
            assert answer(result).status == 200

    # The second and the third were sent on a dead connection first.
    assert (server.accepted, len([one for one in server.requests if one])) == (3, 5)


def test_a_new_connection_that_turns_out_to_be_dead_is_a_failure(sender: Sender) -> None:
    with hostile.closes_without_an_answer() as server:
        assert isinstance(failure(sender.send(request_for(server.url()))), InvalidAnswer)

    assert (server.accepted, len(server.requests)) == (1, 1)


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "interim", [INTERIM, b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + INTERIM * 3]
)
def test_an_interim_answer_is_not_the_answer_and_not_that_to_the_next_request(sender: Sender, interim: bytes) -> None:
    with hostile.answers_in_between(interim, http(200, b"ok")) as server:
        first = answer(sender.send(request_for(server.url())))
        second = answer(sender.send(request_for(server.url(), number=2)))

    assert (first.status, first.body, second.status) == (200, "ok", 500)
    assert (server.accepted, len(server.requests)) == (1, 2)


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", INTERIM * (MOST_INTERIM + 1)]
)
def test_an_interim_answer_that_nobody_can_want_is_an_invalid_answer(sender: Sender, interim: bytes) -> None:
    with hostile.says(interim + http(200)) as server:
        assert isinstance(failure(sender.send(request_for(server.url()))), InvalidAnswer)


def test_as_many_interim_answers_as_may_be_are_read_past(sender: Sender) -> None:
    with hostile.says(INTERIM * MOST_INTERIM + http(200)) as server:
        assert answer(sender.send(request_for(server.url()))).status == 200


def test_interim_answers_do_not_prolong_the_request(make_sender: MakeSender) -> None:
    """Each of them comes within the time for one read."""
    sender = make_sender(timeout=SOON)
    with hostile.sends_news_without_end(INTERIM, every=SOON / 2) as server:
        result = sender.send(request_for(server.url()))

    assert isinstance(failure(result), TimedOut)
    assert result.duration < SOON + 2


def test_a_kept_connection_that_breaks_off_an_answer_is_a_failure(sender: Sender) -> None:
    with hostile.breaks_off_the_second_answer(INTERIM) as server:
        answer(sender.send(request_for(server.url())))
        assert isinstance(failure(sender.send(request_for(server.url(), number=2))), InvalidAnswer)

    assert server.accepted == 1


def test_a_path_of_two_slashes_keeps_both(sender: Sender) -> None:
    with hostile.answers(http(200)) as server:
        answer(sender.send(request_for(server.url("//twice//slash?q=1"))))

    assert server.requests[0].startswith(b"POST //twice//slash?q=1 HTTP/1.1\r\n")


def test_after_a_failure_the_next_request_takes_a_new_connection(make_sender: MakeSender) -> None:
    sender = make_sender(timeout=SOON)
    with hostile.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as server:
        for _ in range(2):
            failure(sender.send(request_for(server.url())))

        assert server.accepted == 2


def test_close_closes_the_connections(sender: Sender) -> None:
    with hostile.answers(http(200)) as server:
        answer(sender.send(request_for(server.url())))

        sender.close()

        assert not server.ended().cut_off


# --- failures


def test_nobody_listening_is_connect_failed(sender: Sender) -> None:
    error = failure(sender.send(request_for(unused_url())))

    assert isinstance(error, ConnectFailed)
    assert "refused" in str(error)


def test_a_name_that_does_not_resolve_is_connect_failed(sender: Sender) -> None:
    assert isinstance(failure(sender.send(request_for("http://nothing.invalid/hooks"))), ConnectFailed)


def test_a_name_that_cannot_be_one_is_blocked(sender: Sender) -> None:
    assert isinstance(failure(sender.send(request_for(f"http://{'a' * 64}.invalid/hooks"))), Blocked)


def test_what_is_not_http_is_told_from_a_broken_connection(sender: Sender) -> None:
    with hostile.says(b"hello\r\n") as server:
        assert str(failure(sender.send(request_for(server.url())))) == "what came back is not HTTP: hello"
    with hostile.closes_without_an_answer() as server:
        assert str(failure(sender.send(request_for(server.url())))).startswith("the connection broke: ")


@pytest.mark.parametrize(
    "misbehaviour",
    [
        hostile.closes_at_once,
        hostile.closes_without_an_answer,
        hostile.closes_mid_body,
        hostile.resets_mid_body,
        hostile.talks_garbage,
        hostile.talks_much_garbage,
    ],
)
def test_a_broken_connection_and_what_is_not_http_is_an_invalid_answer(
    sender: Sender, misbehaviour: Callable[[], Server]
) -> None:
    with misbehaviour() as server:
        error = failure(sender.send(request_for(server.url())))

    assert isinstance(error, InvalidAnswer)
    assert "\0" not in str(error)
    assert len(str(error)) <= KEPT


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbody\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nbody\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
    ],
    ids=["status", "headers", "header", "chunk", "negative chunk", "lengths"],
)
def test_http_that_is_malformed_is_an_invalid_answer(sender: Sender, raw: bytes) -> None:
    with hostile.says(raw) as server:
        error = failure(sender.send(request_for(server.url())))

    assert isinstance(error, InvalidAnswer)
    assert len(str(error)) <= KEPT


@pytest.mark.parametrize("misbehaviour", [hostile.reads_but_says_nothing, hostile.stalls_after_headers])
def test_no_answer_in_time_is_timed_out(make_sender: MakeSender, misbehaviour: Callable[[], Server]) -> None:
    with misbehaviour() as server:
        error = failure(make_sender(timeout=SOON).send(request_for(server.url())))
        assert not server.ended().cut_off

    assert isinstance(error, TimedOut)


def test_a_server_that_does_not_read_the_request_is_timed_out(make_sender: MakeSender) -> None:
    with hostile.does_not_read() as server:
        error = failure(make_sender(timeout=SOON).send(request_for(server.url(), b" " * (hostile.FLOOD // 2))))

    assert isinstance(error, TimedOut)


def test_a_connection_that_does_not_come_about_in_time_is_timed_out(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(_self: socket.socket, _address: object) -> None:
        message = "timed out"
        raise TimeoutError(message)

    monkeypatch.setattr(socket.socket, "connect", connect)

    assert isinstance(failure(sender.send(request_for(unused_url()))), TimedOut)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_trickled_body_is_cut_off_at_the_deadline(make_sender: MakeSender, clock: MovedClock, framing: str) -> None:
    sender = make_sender(timeout=15.0, clock=clock)
    with hostile.trickles(framing, then=lambda: clock.advance(15.1)) as server:
        error = failure(sender.send(request_for(server.url())))
        assert server.ended().cut_off

    assert isinstance(error, TimedOut)


def test_a_trickled_body_that_ends_before_the_deadline_is_an_answer(make_sender: MakeSender, clock: MovedClock) -> None:
    sender = make_sender(timeout=15.0, clock=clock)
    with hostile.trickles("Content-Length: 100", then=lambda: clock.advance(14.9)) as server:
        assert answer(sender.send(request_for(server.url()))).body == "x" * 100


def test_what_nobody_foresaw_is_a_delivery_error_and_logged(
    sender: Sender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        message = "the resolver is mad"
        raise RuntimeError(message)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    error = failure(sender.send(request_for(unused_url())))

    assert type(error) is DeliveryError
    assert str(error) == "RuntimeError: the resolver is mad"
    assert isinstance(error.__cause__, RuntimeError)
    (record,) = caplog.records
    assert record.exc_info is not None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://",
        "http:///hooks",
        "//127.0.0.1/hooks",
        "http://[::1",
        "http://exa mple/",
        "http://exa\0mple/",
        "http://\ud800/",
        "http://.invalid/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
    ],
    ids=ascii,
)
def test_a_url_that_is_none_fails_and_never_raises(sender: Sender, url: str) -> None:
    failure(sender.send(request_for(url)))


def test_a_header_that_cannot_be_sent_fails_and_never_raises(sender: Sender, receiver: Receiver) -> None:
    request = request_for(receiver.url())

    failure(sender.send(Request(request.claim, {**request.headers, "X-Bad": "a\r\nb"}, request.body)))

    assert receiver.received == []


def test_an_interrupt_passes_through_and_leaves_no_connection(make_sender: MakeSender) -> None:
    class Interrupted(SystemClock):
        interrupts = 1

        def monotonic(self) -> float:
            if server.requests and self.interrupts:
                self.interrupts = 0
                raise KeyboardInterrupt
            return super().monotonic()

    with hostile.stalls_after_headers() as server:
        sender = make_sender(clock=Interrupted())
        with pytest.raises(KeyboardInterrupt):
            sender.send(request_for(server.url()))
        server.ended()


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost`, with its key, in one file."""
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_to_a_plain_server_is_tls_failed(sender: Sender) -> None:
    with hostile.speaks_no_tls() as server:
        error = failure(sender.send(request_for(server.url().replace("http://", "https://"))))

    assert isinstance(error, TLSFailed)
    assert server.accepted == 1


def test_a_certificate_that_nobody_vouches_for_is_tls_failed(
    sender: Sender, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(certificate))
    with hostile.answers(http(200), tls=tls) as server:
        error = failure(sender.send(request_for(server.url(host="localhost"))))

    assert isinstance(error, TLSFailed)
    assert "certificate" in str(error)
    assert server.requests == []


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ours the only certificate that requests trusts."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))


def test_https_with_a_certificate_that_is_trusted_is_answered(
    sender: Sender, tls: ssl.SSLContext, trusted: None
) -> None:
    with hostile.answers(http(200, b"hello"), tls=tls) as server:
        for _ in range(2):
            assert answer(sender.send(request_for(server.url(host="localhost")))).body == "hello"

    assert server.accepted == 1


def test_what_is_trusted_is_read_once_for_all_connections(
    sender: Sender, tls: ssl.SSLContext, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes ten times as long as to open a connection, and a megabyte of memory."""
    bundle = tmp_path / "bundle"
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(bundle))
    with hostile.answers(http(200, b"", "Connection: close"), tls=tls) as server:
        bundle.write_text("no certificate")
        untold = failure(sender.send(request_for(server.url(host="localhost"))))
        bundle.write_bytes(certificate.read_bytes())
        assert answer(sender.send(request_for(server.url(host="localhost")))).ok
        bundle.write_text("no certificate")
        assert answer(sender.send(request_for(server.url(host="localhost")))).ok

    assert isinstance(untold, TLSFailed)


def test_a_certificate_for_another_host_is_tls_failed(sender: Sender, tls: ssl.SSLContext, trusted: None) -> None:
    with hostile.answers(http(200), tls=tls) as server:
        error = failure(sender.send(request_for(server.url(host="127.0.0.1"))))

    assert isinstance(error, TLSFailed)
    assert server.requests == []


def test_it_makes_no_difference_who_else_does_the_tls_of_urllib3(
    sender: Sender, tls: ssl.SSLContext, trusted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `urllib3.contrib.pyopenssl.inject_into_urllib3()`, which other libraries call."""
    monkeypatch.setattr("urllib3.util.ssl_.SSLContext", object)
    monkeypatch.setattr("urllib3.util.ssl_.IS_PYOPENSSL", True)
    with hostile.answers(http(200), tls=tls) as server:
        assert isinstance(failure(sender.send(request_for(server.url(host="127.0.0.1")))), TLSFailed)
        assert answer(sender.send(request_for(server.url(host="localhost")))).ok

    assert len([one for one in server.requests if one]) == 1


def test_a_tls_handshake_that_stalls_is_timed_out(make_sender: MakeSender) -> None:
    with hostile.reads_but_says_nothing() as server:
        url = server.url().replace("http://", "https://")
        error = failure(make_sender(timeout=SOON).send(request_for(url)))

    assert isinstance(error, TimedOut)
