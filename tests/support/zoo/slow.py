"""Receivers that say nothing, or little at a time: for longer than anybody should listen."""

from __future__ import annotations

import itertools

from support.hostile import Peer
from support.receiver import PATIENCE
from support.zoo.cage import LARGE, Beast, Deal

#: Seconds between two bytes: far less than any time for one read.
EVERY = 0.01

#: Seconds after which they give up.
LONG = 5.0

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def silent(peer: Peer) -> None:
    peer.await_hang_up()


def deaf(peer: Peer) -> None:
    peer.pause(PATIENCE)


def hard_of_hearing(peer: Peer) -> None:
    while peer.some(1):
        peer.pause(EVERY)


def drips(begin: bytes, *units: bytes, every: float = EVERY) -> Deal:
    """Says the beginning at once, and then these, again and again, a byte or what is to come as one at a time."""

    def deal(peer: Peer) -> None:
        peer.request()
        peer.send(begin)
        for unit in itertools.islice(itertools.cycle(units), int(LONG / every)):
            peer.send(unit)
            peer.pause(every)

    return deal


def says_half(begin: bytes) -> Deal:
    def deal(peer: Peer) -> None:
        peer.request()
        peer.send(begin)
        peer.await_hang_up()

    return deal


def _slow(name: str, deal: Deal) -> Beast:
    return Beast(name, deal, "timeout")


SLOW = [
    _slow("says nothing", silent),
    Beast("reads nothing", deaf, "timeout", payload=LARGE),
    Beast("reads a byte at a time", hard_of_hearing, "timeout", payload=LARGE),
    _slow("stops in the status line", says_half(b"HTTP/1.1 2")),
    _slow("stops in a header", says_half(OK + b"Content-Le")),
    _slow("stops before the body", says_half(OK + b"Content-Length: 9\r\n\r\n")),
    _slow("stops in the body", says_half(OK + b"Content-Length: 9\r\n\r\nhalf")),
    _slow("stops in a chunk's size", says_half(CHUNKED + b"1")),
    _slow("stops in a chunk", says_half(CHUNKED + b"9\r\nhalf")),
    _slow("stops in a trailer", says_half(CHUNKED + b"0\r\nTrail")),
    _slow("drips a status line", drips(b"HTTP/1.1 200 ", b"O")),
    _slow("drips a header", drips(OK + b"X: ", b"x")),
    _slow("drips headers", drips(OK, *(bytes([one]) for one in b"A: b\r\n"))),
    _slow("drips a body", drips(OK + b"Content-Length: 100000\r\n\r\n", b"x")),
    _slow("drips a body without an end", drips(OK + b"\r\n", b"x")),
    _slow("drips the size of a chunk", drips(CHUNKED, b"0")),
    _slow("drips the extension of a chunk", drips(CHUNKED + b"1;", b"x")),
    _slow("drips chunks", drips(CHUNKED, b"1", b"\r", b"\n", b"x", b"\r", b"\n")),
    _slow("drips a trailer", drips(CHUNKED + b"0\r\n", b"X")),
    _slow("drips trailers", drips(CHUNKED + b"0\r\n", *(bytes([one]) for one in b"A: b\r\n"))),
    _slow("drips 100", drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    _slow("drips 103", drips(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", every=0.1)),
]
