"""Receivers that hang up, with a FIN or with a RST, at any moment of a request and its answer."""

from __future__ import annotations

from collections.abc import Callable

from support.hostile import Peer
from support.zoo.cage import LARGE, Beast, Deal
from support.zoo.slow import CHUNKED, OK

#: What was said when it hung up, and whether that was a whole answer to somebody who believes in a FIN.
_SAID = {
    "before the answer": (b"", False),
    "in the status line": (b"HTTP/1.1 2", False),
    "after the status line": (OK, False),
    "in a header": (OK + b"Content-Le", False),
    "after an interim answer": (b"HTTP/1.1 103 Early Hints\r\n\r\n", False),
    "before the body": (OK + b"Content-Length: 9\r\n\r\n", False),
    "in the body": (OK + b"Content-Length: 9\r\n\r\nhalf", False),
    "in a body without an end": (OK + b"\r\nhalf", True),
    "in a chunk's size": (CHUNKED + b"1", False),
    "in a chunk": (CHUNKED + b"9\r\nhalf", False),
    "behind a chunk": (CHUNKED + b"4\r\nhalf", False),
    "between chunks": (CHUNKED + b"4\r\nhalf\r\n", False),
    "in a trailer": (CHUNKED + b"4\r\nhalf\r\n0\r\nTrail", True),
}


def closes(_peer: Peer) -> None:
    """And so it is done."""


def resets(peer: Peer) -> None:
    peer.reset()


def says(said: bytes, *, then: Callable[[Peer], None]) -> Deal:
    def deal(peer: Peer) -> None:
        peer.request()
        peer.send(said)
        if said and then is resets:
            peer.pause(0.05)  # a RST that comes with it would take it back
        then(peer)

    return deal


def in_the_request(*, then: Callable[[Peer], None], after: int = 65536) -> Deal:
    def deal(peer: Peer) -> None:
        peer.some(after)
        then(peer)

    return deal


BROKEN = [
    Beast("closes at once", closes, "invalid_answer"),
    Beast("resets at the first byte", in_the_request(then=resets, after=1), "invalid_answer"),
    Beast("closes in the request", in_the_request(then=closes), "invalid_answer", payload=LARGE),
    Beast("resets in the request", in_the_request(then=resets), "invalid_answer", payload=LARGE),
    *(
        Beast(f"closes {when}", says(said, then=closes), 200 if whole else "invalid_answer")
        for when, (said, whole) in _SAID.items()
    ),
    *(Beast(f"resets {when}", says(said, then=resets), "invalid_answer") for when, (said, _) in _SAID.items()),
]
