"""Answers that nobody would think of: whatever comes back is an answer, or none, and a line for people."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import hostile
from support.hostile import LOOPBACK, Peer, Server, http, request_for

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery.send import SENTENCE, Sender
from sqla_webhooks.errors import DeliveryError, InvalidAnswer

#: What answers are made of, and what breaks them.
_WORDS = [
    *(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 ",
        b"HTTP/1.0 500 No\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 E\r\n",
    ),
    *(
        b"Content-Length: ",
        b"Content-Length: 2\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: ",
        b"gzip",
    ),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Set-Cookie: a=b; expires=", b"Set-Cookie2: "),
    *(b"Content-Type: multipart/x; boundary=x\r\n", b"Content-Type: message/rfc822\r\n", b'; boundary="', b"--x"),
    *(
        b"Retry-After: ",
        b"Date: ",
        b"Location: http://[::1\r\n",
        b"Content-Encoding: br\r\n",
        b"X: y\r\n",
        b"From x\r\n",
    ),
    *(b"2", b"0", b"-1", b"FFFFFFFFFFFFFFFF", b"204", b"304", b"1e9", b";", b",", b":", b" ", b"\t", b"%", b'"', b"\\"),
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\n\n",
        b"\0",
        b"\x1b[2J",
        b"\x85",
        b"\xff\xfe",
        "²٢".encode(),
        b"ok",
        b"0\r\n\r\n",
    ),
]

_ANSWERS = st.lists(st.sampled_from(_WORDS) | st.binary(max_size=8), max_size=25).map(b"".join)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender(LOOPBACK, connect_timeout=10.0, timeout=10.0, clock=SystemClock())
    yield sender
    sender.close()


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["any", "a status"])
def test_whatever_a_stranger_says_is_an_answer_or_none(
    beginning: bytes, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[bytes] = []

    def script(_server: Server, peer: Peer) -> None:
        peer.request()
        if said:
            peer.send(said.pop())
        else:
            peer.send(http(200, b"healthy"))
            peer.await_hang_up()

    @settings(deadline=None, max_examples=300)
    @given(_ANSWERS)
    def check(rest: bytes) -> None:
        said.append(beginning + rest)
        first = sender.send(request_for(server.url())).outcome
        assert not said
        second = sender.send(request_for(server.url())).outcome
        sender.close()

        if isinstance(first, DeliveryError):
            assert isinstance(first, InvalidAnswer), repr(first)
            assert str(first).isprintable()
        else:
            assert 100 < first.status < 1000
            assert all("\r" not in value and "\n" not in value for value in first.headers.values())
        assert isinstance(second, Answer), repr(second)
        assert second.body == "healthy"

    with Server(script) as server:
        check()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "said",
    [
        b"\x1b[31mred\x1b[0m\r\n",
        b"\x9b2J\r\n",
        b"a\x08\x7f\x85b\r\n",
        "\N{RIGHT-TO-LEFT OVERRIDE}txt.exe\r\n".encode(),
        b"HTTP/1.1 2\x1b[2J00\r\n",
        b"HTTP/\x1b]0;title\x07 200\r\n",
        b"x" * 60_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: \x1b[2J\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x1b[2J\r\n",
    ],
    ids=ascii,
)
def test_what_is_recorded_of_a_stranger_s_words_is_a_line_that_no_terminal_obeys(sender: Sender, said: bytes) -> None:
    with hostile.says(said) as server:
        error = sender.send(request_for(server.url())).outcome

    assert isinstance(error, InvalidAnswer)
    assert str(error).isprintable()
    assert len(str(error)) < SENTENCE + 100


def test_a_continued_header_is_one_line_to_whoever_reads_it(sender: Sender) -> None:
    said = b"HTTP/1.1 200 OK\r\nRetry-After: 1\r\n 2\r\nX: a\rb\x00c\r\nContent-Length: 0\r\n\r\n"
    with hostile.answers(said) as server:
        got = sender.send(request_for(server.url())).outcome

    assert isinstance(got, Answer)
    assert got.headers == {"Retry-After": "1  2", "X": "a b c", "Content-Length": "0"}


def test_a_header_may_have_as_many_bytes_as_others_allow(sender: Sender) -> None:
    with hostile.answers(http(200, b"", "X: " + "x" * 8000)) as server:
        assert isinstance(sender.send(request_for(server.url())).outcome, Answer)
