"""Receivers that spoil TLS: their certificates, the handshake, or what comes after it."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqla_webhooks._clock import SystemClock
from support import certificates
from support.certificates import LOCAL_NAMES
from support.hostile import Peer, http
from support.zoo.cage import Deal
from support.zoo.slow import EVERY, LONG


@dataclass(frozen=True)
class Certificates:
    """
    Each with its key, in one file.

    Attributes:
        good: One that the client trusts.
        misnamed: One that it trusts, of another host.
        expired: One that it has trusted.
        strange: One that it does not trust.
        trusted: All that it trusts.
    """

    good: Path
    misnamed: Path
    expired: Path
    strange: Path
    trusted: Path

    @classmethod
    def made_in(cls, folder: Path) -> Certificates:
        good = certificates.self_signed(folder / "good", names=LOCAL_NAMES)
        misnamed = certificates.self_signed(folder / "misnamed", names="DNS:partner.example")
        expired = certificates.expired(folder / "expired", names=LOCAL_NAMES)
        strange = certificates.self_signed(folder / "strange", names=LOCAL_NAMES)
        trusted = folder / "trusted"
        trusted.write_text("".join(path.read_text() for path in (good, misnamed, expired)))
        return cls(good, misnamed, expired, strange, trusted)


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class ByHand:
    """TLS on a peer's plain connection, whose records can be sent as nobody else would send them."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self._peer = peer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    def shake_hands(self, *, send: Callable[[bytes], None] | None = None) -> None:
        """Sends by *send* what is to be sent."""
        done = False
        while not done:
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                done = True
            (send or self._peer.send)(self._out.read())
            if not done:
                self._hear()

    def request(self) -> None:
        """Read the first bytes of one."""
        while True:
            with suppress(ssl.SSLWantReadError):
                self._tls.read(65536)
                return
            self._hear()

    def record(self, data: bytes) -> bytes:
        """What is sent for *data*."""
        self._tls.write(data)
        return self._out.read()

    def close_notify(self) -> bytes:
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self._out.read()

    def _hear(self) -> None:
        heard = self._peer.some()
        if not heard:
            raise ConnectionError
        self._in.write(heard)


def drip(peer: Peer) -> Callable[[bytes], None]:
    """Sends a byte at a time."""

    def send(data: bytes) -> None:
        for byte in data:
            peer.send(bytes([byte]))
            peer.pause(EVERY)

    return send


Make = Callable[[Certificates], Deal]


def _shakes_hands(context: Callable[[Certificates], ssl.SSLContext]) -> Make:
    def make(of: Certificates) -> Deal:
        made = context(of)

        def deal(peer: Peer) -> None:
            tls = ByHand(peer, made)
            tls.shake_hands()
            tls.request()
            peer.send(tls.record(http(200, b"", "Connection: close")))
            peer.await_hang_up()  # what is closed with words unread is reset, and the answer is lost

        return deal

    return make


def _replies(said: bytes, *, then: Callable[[Peer], None] = Peer.await_hang_up) -> Make:
    """To the client's first words of TLS."""

    def deal(peer: Peer) -> None:
        peer.some()
        peer.send(said)
        then(peer)

    return lambda _: deal


def _answers(answer: Callable[[Peer, ByHand], None]) -> Make:
    """What comes after a handshake and a request of which nobody could complain."""

    def make(of: Certificates) -> Deal:
        context = server_context(of.good)

        def deal(peer: Peer) -> None:
            tls = ByHand(peer, context)
            tls.shake_hands()
            tls.request()
            answer(peer, tls)
            peer.await_hang_up()

        return deal

    return make


def _drips_the_handshake(of: Certificates) -> Deal:
    context = server_context(of.good)
    return lambda peer: ByHand(peer, context).shake_hands(send=drip(peer))


def _old(of: Certificates) -> ssl.SSLContext:
    context = server_context(of.good)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what this is about
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _with_a_huge_chain(of: Certificates) -> ssl.SSLContext:
    chain = of.good.with_name("huge chain")
    chain.write_text(of.good.read_text() + of.strange.read_text() * 500)
    return server_context(chain)


def _with_many_tickets(of: Certificates) -> ssl.SSLContext:
    context = server_context(of.good)
    context.num_tickets = 1000
    return context


def _floods_the_handshake(record: bytes) -> Make:
    """With records of messages to which a client says nothing, and that it may read faster than they come."""
    records = record * 20_000

    def deal(peer: Peer) -> None:
        clock = SystemClock()
        peer.some()
        began = clock.monotonic()
        while clock.monotonic() < began + LONG:
            peer.send(records)

    return lambda _: deal


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"

#: What each does, and what is to come of a request to it.
SECURE: dict[str, tuple[Make, str | int]] = {
    "certificate of a stranger": (_shakes_hands(lambda of: server_context(of.strange)), "tls"),
    "certificate of another host": (_shakes_hands(lambda of: server_context(of.misnamed)), "tls"),
    "certificate of another time": (_shakes_hands(lambda of: server_context(of.expired)), "tls"),
    "TLS 1.1": (_shakes_hands(_old), "tls"),
    "huge chain": (_shakes_hands(_with_a_huge_chain), "tls"),
    "a thousand tickets": (_shakes_hands(_with_many_tickets), 200),
    "no TLS": (_replies(http(400)), "tls"),
    "SSH": (_replies(b"SSH-2.0-OpenSSH_9.9\r\n"), "tls"),
    "an alert": (_replies(b"\x15\3\3\0\2\2\x28"), "tls"),
    "warnings without end": (_replies(b"\x15\3\3\0\2\1\x5a" * 10_000), "tls"),
    "records of nothing": (_replies(b"\x16\3\3\0\0" * 10_000), "tls"),
    "a record that is too long": (_replies(b"\x16\3\3\xff\xff" + b"\0" * 0xFFFF), "tls"),
    "handshake without end": (_floods_the_handshake(b"\x16\3\3\0\4" + b"\0" * 4), "timeout"),
    "handshake of large records without end": (_floods_the_handshake(b"\x16\3\3\4\0" + b"\0" * 1024), "timeout"),
    "stalls in the handshake": (_replies(b""), "timeout"),
    "stalls in a record of the handshake": (_replies(b"\x16\3\3\x40\0\2"), "timeout"),
    "drips the handshake": (_drips_the_handshake, "timeout"),
    "closes in the handshake": (_replies(b"", then=lambda _: None), "tls"),
    "resets in the handshake": (_replies(b"", then=Peer.reset), "invalid_answer"),
    "drips a record": (_answers(lambda peer, tls: drip(peer)(tls.record(http(200, b"x" * 1000)))), "timeout"),
    "stalls in a record": (_answers(lambda peer, tls: peer.send(tls.record(http(200))[:-1])), "timeout"),
    "plain answer": (_answers(lambda peer, _: peer.send(http(200))), "tls"),
    "record that was changed": (_answers(lambda peer, tls: peer.send(tls.record(http(200))[:-1] + b"x")), "tls"),
    "plain body": (_answers(lambda peer, tls: peer.send(tls.record(_HEAD) + b"plainbody")), "tls"),
    "ends TLS in the body": (
        _answers(lambda peer, tls: peer.send(tls.record(_HEAD + b"half") + tls.close_notify())),
        "invalid_answer",
    ),
    "ends TLS before the answer": (_answers(lambda peer, tls: peer.send(tls.close_notify())), "invalid_answer"),
    "does not end TLS": (_answers(lambda peer, tls: peer.send(tls.record(http(200, b"", "Connection: close")))), 200),
}
