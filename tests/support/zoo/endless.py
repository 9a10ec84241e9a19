"""Receivers that say more than anybody wants to hear: more than memory would hold, if it were kept."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable

from support.hostile import Peer, http
from support.zoo.cage import Beast, Deal
from support.zoo.slow import CHUNKED, OK

#: Bytes that are offered.
MUCH = 300 * 1024 * 1024

_PIECE = b"x" * (64 * 1024)
_CHUNK = b"10000\r\n" + _PIECE + b"\r\n"

#: How a body says where it ends, to what it is made of.
BODIES = {f"Content-Length: {MUCH}": _PIECE, "Transfer-Encoding: chunked": _CHUNK, "Connection: close": _PIECE}


def floods(begin: bytes, piece: bytes) -> Deal:
    """Says the beginning, and the piece again and again, up to `MUCH`."""
    at_a_time = piece * max(1, len(_PIECE) // len(piece))

    def deal(peer: Peer) -> None:
        peer.request()
        peer.send(begin)
        for _ in range(MUCH // len(at_a_time)):
            peer.send(at_a_time)
        peer.await_hang_up()

    return deal


def says(whole: bytes, *, then: Callable[[Peer], None] = Peer.await_hang_up) -> Deal:
    def deal(peer: Peer) -> None:
        peer.request()
        peer.send(whole)
        then(peer)

    return deal


def goes_on(_peer: Peer) -> None:
    """For the next request."""


def big(status: int, framing: str, *headers: str) -> Deal:
    head = "\r\n".join([f"HTTP/1.1 {status} Said", framing, *headers, "", ""])
    return floods(head.encode(), BODIES[framing])


def headers(lines: Iterable[bytes]) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: 0\r\n\r\n"


_TO_HEAD = [
    Beast("status line without end", floods(b"HTTP/1.1 200 ", b"O"), "invalid_answer"),
    Beast("line without end", floods(b"", b"x"), "invalid_answer"),
    Beast("empty lines", floods(b"", b"\r\n"), "invalid_answer"),
    Beast("100 without end", floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "invalid_answer"),
    Beast("100 with headers without end", floods(b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n"), "invalid_answer"),
    Beast("103 without end", floods(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), "invalid_answer"),
    Beast("headers without end", floods(OK, b"A: b\r\n"), "invalid_answer"),
    Beast("header without end", floods(OK + b"X: ", b"x"), "invalid_answer"),
    Beast("name of a header without end", floods(OK, b"x"), "invalid_answer"),
    Beast("header of a megabyte", says(headers([b"X: " + b"x" * 1024 * 1024])), "invalid_answer"),
    Beast("99 headers of 64 KiB", says(headers([b"X: " + b"x" * 65_000] * 99)), "invalid_answer"),
    Beast("90 headers of 1 KiB", says(headers([b"X: " + b"x" * 1024] * 90)), "invalid_answer"),
    Beast("header that is continued without end", floods(OK + b"X: x\r\n", b" x\r\n"), "invalid_answer"),
    Beast("header in 100,000 lines", says(headers([b"X: x" + b"\r\n x" * 100_000])), "invalid_answer"),
]

_TO_BODY = [
    *(Beast(f"300 MiB with {status}, {one}", big(status, one), status) for one in BODIES for status in (200, 500)),
    *(
        Beast(f"300 MiB with {status} to {to}", big(status, f"Content-Length: {MUCH}", f"Location: {to}"), status)
        for status, to in (
            (301, "http://169.254.169.254/latest/meta-data/"),
            (302, "/hooks"),
            (303, "file:///etc/passwd"),
            (307, "http://127.0.0.1:1/"),
            (308, "//localhost/"),
        )
    ),
    Beast("chunks of one byte", floods(CHUNKED, b"1\r\nx\r\n"), 200),
    Beast("extension of a chunk without end", floods(CHUNKED + b"1;", b"x"), "invalid_answer"),
    Beast("extensions of chunks", floods(CHUNKED, b"1;" + b"x" * 4000 + b"\r\nx\r\n"), 200),
    Beast("size of a chunk without end", floods(CHUNKED, b"0"), "invalid_answer"),
    Beast("huge chunk", floods(CHUNKED + b"F" * 30 + b"\r\n", _PIECE), 200),
    Beast("trailer without end", floods(CHUNKED + b"2\r\nok\r\n0\r\nX: ", b"x"), "invalid_answer"),
    Beast("trailers without end", floods(CHUNKED + b"2\r\nok\r\n0\r\n", b"A: b\r\n"), 200),
    Beast(
        "gzip bomb",
        says(http(200, gzip.compress(bytes(20_000_000)), "Content-Encoding: gzip"), then=goes_on),
        200,
        kept=True,
    ),
    Beast(
        "gzip bomb in chunks",
        floods(OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", _CHUNK),
        200,
    ),
]

ENDLESS = [*_TO_HEAD, *_TO_BODY]
