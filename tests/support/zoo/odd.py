"""Receivers that say what is no HTTP, or HTTP that nobody expects."""

from __future__ import annotations

from support.hostile import Peer, http
from support.zoo.broken import closes
from support.zoo.broken import says as hangs_up
from support.zoo.cage import Beast, Deal
from support.zoo.endless import goes_on, headers, says
from support.zoo.slow import CHUNKED, OK

_BODY = b"Content-Length: 2\r\n\r\nok"

#: Content types and cookies that some parsers take seconds to read, in as many bytes as a head may have.
_SLOW_TO_READ = [
    b'Content-Type: multipart/x; "' + b";" * 60_000,
    b"Content-Type: multipart/x; " + b";" * 60_000,
    b'Content-Type: multipart/x; "' + b'\\";' * 20_000,
    b'Content-Type: multipart/x; "' + (b";" * 8000 + b"\r\n ") * 7,
    b"Content-Type: multipart/x; " + b"".join(b"a*%d=b;" % number for number in range(6000)),
    b"Content-Type: message/rfc822\r\r" * 2000,
    b"Set-Cookie: " + b"a;" * 30_000,
    b"Set-Cookie2: " + b"a=" * 30_000,
    b"X: " + b"a:\r" * 20_000,
]


def _says(name: str, whole: bytes, outcome: str | int = "invalid_answer", *, kept: bool = False) -> Beast:
    deal = says(whole, then=goes_on if kept else Peer.await_hang_up)
    return Beast(name, deal, outcome, kept=kept, over_tls=False)


def speaks_first(said: bytes) -> Deal:
    def deal(peer: Peer) -> None:
        peer.send(said)
        peer.await_hang_up()

    return deal


_NOT_HTTP = [
    _says("text", b"hello\r\n"),
    _says("HTML", b"<html><body>200 OK</body></html>\n"),
    _says("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _says("frames of HTTP/2", b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64\r\n"),
    _says("bytes", bytes(range(256)) * 4),
    _says("NUL", bytes(60_000) + b"\r\n"),
    _says("escapes", b"\x1b[31mHTTP \x07\x9b2J\xc2\x85 evil\x08\r\n"),
    _says("a record of TLS", b"\x15\3\1\0\2\2\x28\r\n"),
    Beast("SSH, unasked", speaks_first(b"SSH-2.0-OpenSSH_9.9\r\n"), "invalid_answer", over_tls=False),
    Beast("mail, unasked", speaks_first(b"220 mail.example ESMTP\r\n"), "invalid_answer", over_tls=False),
]

_STATUS = [
    _says("HTTP/0.9", b"HTTP/0.9 200 OK\r\n" + _BODY, 200),
    _says("HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + _BODY, 200),
    _says("HTTP/9.9", b"HTTP/9.9 200 OK\r\n" + _BODY),
    _says("HTTP/x", b"HTTP/x 200 OK\r\n" + _BODY),
    _says("ICY", b"ICY 200 OK\r\n" + _BODY),
    *(
        _says(f"status {status}", b"HTTP/1.1 %b Said\r\n" % status.encode() + _BODY)
        for status in ("", "0", "-1", "1", "99", "1000", "200abc", "2.0", "0x200", "two", "9" * 5000, "²00")
    ),
    *(
        _says(f"status {status}", b"HTTP/1.1 %d Said\r\n" % status + _BODY, status, kept=True)
        for status in (200, 299, 400, 599, 600, 999)
    ),
    _says("status 101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
    _says("status 199", b"HTTP/1.1 199 Said\r\n\r\n", "timeout"),
    _says("status 204 with a body", b"HTTP/1.1 204 No Content\r\n" + _BODY, 204),
    _says("status 205 with a body", b"HTTP/1.1 205 Reset Content\r\n" + _BODY, 205, kept=True),
    _says("status 304 with a body", b"HTTP/1.1 304 Not Modified\r\n" + _BODY, 304),
    _says("no reason", b"HTTP/1.1 200\r\n" + _BODY, 200, kept=True),
]

_HEADERS = [
    _says("no colon", OK + b"Nothing\r\n" + _BODY),
    _says("no name", OK + b": nothing\r\n" + _BODY),
    _says("a space before the colon", OK + b"Content-Length : 2\r\n" + _BODY),
    _says("a name of other letters", OK + "Naïve: 1\r\n".encode() + _BODY),
    _says("a continued line first", OK + b" X: 1\r\n" + _BODY),
    _says("a mail's line", OK + b"X: 1\r\nFrom me\r\n" + _BODY),
    _says("a mail's line last", OK + b"Content-Length: 2\r\nFrom me\r\n\r\nok"),
    _says("a continued line", OK + b"X: 1\r\n 2\r\n" + _BODY, 200, kept=True),
    _says("a NUL", OK + b"X: 1\x002\r\n" + _BODY, 200, kept=True),
    _says("a CR", OK + b"X: 1\rContent-Length: 5\r\n" + _BODY, 200, kept=True),
    _says("an escape", OK + b"X: \x1b[2J\r\n" + _BODY, 200, kept=True),
    _says("LF only", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, kept=True),
    _says("no headers", OK + b"\r\n", "timeout"),
    _says("a boundary", OK + b"Content-Type: multipart/x; boundary=x\r\n" + _BODY, 200, kept=True),
    _says("no boundary", OK + b"Content-Type: multipart/x\r\n" + _BODY, 200, kept=True),
    _says("a mail in it", OK + b"Content-Type: message/rfc822\r\n" + _BODY, 200, kept=True),
    _says("odd charset", OK + b"Content-Type: text/plain; charset*=''%00\r\n" + _BODY, 200, kept=True),
    _says("a cookie", http(200, b"ok", "Set-Cookie: session=stolen; Path=/"), 200, kept=True),
    _says("a cookie that nobody can count", http(200, b"ok", f"Set-Cookie: a=b; max-age={'1' * 4000}"), 200, kept=True),
    _says("a time that nobody can count", http(503, b"ok", f"Retry-After: {'9' * 5000}"), 503, kept=True),
    *(_says(f"slow to read {number}", headers([line])) for number, line in enumerate(_SLOW_TO_READ)),
]

_LENGTHS = [
    _says("the same length twice", OK + b"Content-Length: 2\r\n" + _BODY, 200, kept=True),
    _says("another length", OK + b"Content-Length: 3\r\n" + _BODY),
    _says("two lengths in one", OK + b"Content-Length: 2, 3\r\n\r\nok"),
    _says("a length and chunks", CHUNKED[:-2] + b"Content-Length: 100\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, kept=True),
    _says("a length beyond all numbers", OK + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\nok", "timeout"),
    _says("a length below zero", OK + b"Content-Length: -1\r\n\r\nok", "timeout"),
    *(
        # Which is none: the body ends with the connection.
        Beast(
            f"a length of {length}", hangs_up(OK + b"Content-Length: %b\r\n\r\nok" % length.encode(), then=closes), 200
        )
        for length in ("-1", "9" * 5000, "٢", "²", "two", "0x2", "2.0")
    ),
    *(
        _says(f"a chunk of {size}", CHUNKED + f"{size}\r\nok\r\n0\r\n\r\n".encode())
        for size in ("two", "", "٢", "²", "2 2", ",")
    ),
    *(
        _says(f"a chunk of {size}", CHUNKED + f"{size}\r\nok\r\n0\r\n\r\n".encode(), "timeout")
        for size in ("-1", "-5", "F" * 4000)
    ),
    _says(
        "chunks that are compressed", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "timeout"
    ),
    *(
        _says(f"{encoding} that is none", http(200, b"\xff\0garbage", f"Content-Encoding: {encoding}"), 200, kept=True)
        for encoding in ("gzip", "br", "zstd", "deflate", "gzip, gzip, gzip", "unheard-of")
    ),
]

ODD = [*_NOT_HTTP, *_STATUS, *_HEADERS, *_LENGTHS]
