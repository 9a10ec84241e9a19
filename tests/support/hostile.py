"""Servers on loopback that do what no webhook receiver should; and deliveries to send to them."""

from __future__ import annotations

import gzip
import queue
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from types import TracebackType
from typing import Self

from sqla_webhooks.deliveries import Claim
from sqla_webhooks.delivery.credentials import Credentials
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.parcel import Parcel, Piece
from sqla_webhooks.delivery.request import Request, request
from sqla_webhooks.destination import Destination, Secret
from support.clock import START
from support.receiver import PATIENCE

SECRET = "whsec_" + "c2VjcmV0" * 4

#: What signs them.
CREDENTIALS = Credentials((Secret(SECRET, None),))

#: What lets a sender reach the servers here.
LOOPBACK = EgressPolicy(allow_http=True, allow_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))

#: More bytes than the buffers between two sockets hold: who sends them notices that nobody reads.
FLOOD = 64 * 1024 * 1024

_PIECE = b"x" * (64 * 1024)


def stored(claim: Claim) -> Parcel:
    """A delivery that is sent as it was stored."""
    return Parcel.of(Piece(claim, claim.payload))


def claim_for(url: str, payload: bytes = b"{}", *, number: int = 1) -> Claim:
    """A claim that no database knows."""
    return Claim(
        delivery_id=number,
        token="token",
        until=datetime.max.replace(tzinfo=UTC),
        attempt=1,
        first_attempt_at=None,
        created_at=START - timedelta(seconds=10),
        keys=(),
        event_id=f"evt_{number}",
        event_type="order.created",
        payload=payload,
        destination=Destination(1, "ep_1", url, (Secret(SECRET, None),), None),
    )


def request_for(url: str, payload: bytes = b"{}", *, number: int = 1) -> Request:
    return request(stored(claim_for(url, payload, number=number)), CREDENTIALS, dialect=Standard(), now=START)


def http(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Peer:
    """A connection, as the server has it."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        connection.settimeout(PATIENCE)
        self._connection = connection
        self._stopping = stopping
        #: Whether the client hung up before the script was through.
        self.cut_off = False

    def request(self) -> bytes:
        """The next request as it is on the wire; nothing if the client has hung up."""
        taken = bytearray()
        while b"\r\n\r\n" not in taken:
            if not (piece := self._connection.recv(65536)):
                return b""
            taken += piece
        head, _, body = taken.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        missing = int(lengths[0].partition(b":")[2]) - len(body) if lengths else 0
        while missing > 0 and (piece := self._connection.recv(65536)):
            taken += piece
            missing -= len(piece)
        return bytes(taken)

    def some(self, most: int = 65536) -> bytes:
        """What is there, once something is."""
        return self._connection.recv(most)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def flood(self) -> None:
        for _ in range(FLOOD // len(_PIECE)):
            self.send(_PIECE)

    def pause(self, seconds: float) -> None:
        """Until the server is to stop, *seconds* at most."""
        self._stopping.wait(seconds)

    def await_hang_up(self) -> None:
        while self._connection.recv(65536):
            pass

    def reset(self) -> None:
        """Close with RST in place of FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


Script = Callable[["Server", Peer], None]


class Server:
    """
    Runs its script on each connection, one after another. A context manager.

    Args:
        script: What to do with a connection, which is closed after it.
        tls: Makes it an https server.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        #: Connections so far.
        self.accepted = 0
        #: Requests so far, as they were on the wire.
        self.requests: list[bytes] = []
        self._ended: queue.SimpleQueue[Peer] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._current: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._bell, self._rung = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="hostile server")

    def url(self, path: str = "/hooks", *, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def ended(self, *, within: float = PATIENCE) -> Peer:
        """The next connection that has come to its end, once it has."""
        return self._ended.get(timeout=within)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._bell.send(b"!")
        with self._lock, suppress(OSError):
            if self._current is not None:
                self._current.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self._listener, self._bell, self._rung):
            one.close()

    def _serve(self) -> None:
        while True:
            select.select([self._listener, self._rung], [], [])
            if self._stopping.is_set():
                return
            self._converse(self._listener.accept()[0])

    def _converse(self, connection: socket.socket) -> None:
        self.accepted += 1
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._current = connection
            if self._stopping.is_set():
                connection.shutdown(socket.SHUT_RDWR)
        peer = Peer(connection, self._stopping)
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            self._script(self, peer)
        except TimeoutError:
            pass  # the client has neither read nor hung up: it was not cut off
        except OSError:
            peer.cut_off = True
        finally:
            with self._lock:
                self._current = None
                connection.close()
            self._ended.put(peer)


def answers(*raw: bytes, tls: ssl.SSLContext | None = None) -> Server:
    """Sends these to the requests of a connection in turn, the last one for ever."""

    def script(server: Server, peer: Peer) -> None:
        left = list(raw)
        while request := peer.request():
            server.requests.append(request)
            peer.send(left.pop(0) if len(left) > 1 else left[0])

    return Server(script, tls=tls)


def says(raw: bytes) -> Server:
    """Sends this to a request, and closes."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(raw)

    return Server(script)


def closes_at_once() -> Server:
    return Server(lambda _server, _peer: None)


def closes_without_an_answer() -> Server:
    return says(b"")


def drops_kept_connections(*, tls: ssl.SSLContext | None = None) -> Server:
    """Answers the first request of each connection, and hangs up on the second."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(http(200))
        server.requests.append(peer.request())
        peer.reset()

    return Server(script, tls=tls)


def answers_in_between(interim: bytes, then: bytes) -> Server:
    """Sends an interim answer and, a little later, the answer itself; to later requests 500."""

    def script(server: Server, peer: Peer) -> None:
        while request := peer.request():
            server.requests.append(request)
            if len(server.requests) == 1:
                peer.send(interim)
                peer.pause(0.05)  # long enough for a client that takes this for the answer to go on
            peer.send(then if len(server.requests) == 1 else http(500))

    return Server(script)


def sends_news_without_end(interim: bytes, *, every: float) -> Server:
    """An interim answer, and another, and never the answer."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        for _ in range(100):
            peer.send(interim)
            peer.pause(every)

    return Server(script)


def breaks_off_the_second_answer(beginning: bytes) -> Server:
    """Answers the first request of a connection; sends the beginning of an answer to the second, and hangs up."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(http(200))
        server.requests.append(peer.request())
        peer.send(beginning)
        peer.pause(0.05)
        peer.reset()

    return Server(script)


def talks_garbage() -> Server:
    return says(b"SSH-2.0-OpenSSH\0_9.9\r\n")


def talks_much_garbage() -> Server:
    """In a single line, near the longest that http.client takes for a status."""
    return says(b"\0" * 65_000 + b"\r\n")


def closes_mid_body() -> Server:
    return says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")


def resets_mid_body() -> Server:
    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        peer.reset()

    return Server(script)


def speaks_no_tls() -> Server:
    """Answers the first bytes that come, whatever they are, with HTTP."""

    def script(_server: Server, peer: Peer) -> None:
        peer.some()
        peer.send(http(400))
        peer.await_hang_up()

    return Server(script)


def reads_but_says_nothing() -> Server:
    return Server(lambda _server, peer: peer.await_hang_up())


def does_not_read() -> Server:
    def script(_server: Server, peer: Peer) -> None:
        peer.pause(PATIENCE)

    return Server(script)


def stalls_after_headers() -> Server:
    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        peer.await_hang_up()

    return Server(script)


#: How `trickles` says where its body ends, to the bytes around each of the body's.
FRAMINGS = {
    "Content-Length: 100": (b"", b"", b""),
    "Transfer-Encoding: chunked": (b"1\r\n", b"\r\n", b"0\r\n\r\n"),
    "Connection: close": (b"", b"", b""),
}


def trickles(framing: str, *, then: Callable[[], object]) -> Server:
    """Sends half of a body of 100 bytes, a hundred a second, calls *then*, and sends the rest likewise."""
    before, after, last = FRAMINGS[framing]

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        for number in range(100):
            if number == 50:
                then()
            peer.send(before + b"x" + after)
            peer.pause(0.01)
        peer.send(last)

    return Server(script)


def floods(status: int = 200, *headers: str) -> Server:
    """Answers with a body that has no use for anybody."""

    def script(server: Server, peer: Peer) -> None:
        server.requests.append(peer.request())
        peer.send("\r\n".join([f"HTTP/1.1 {status} Said", f"Content-Length: {FLOOD}", *headers, "", ""]).encode())
        peer.flood()

    return Server(script)


def redirects(status: int, to: str) -> Server:
    return floods(status, f"Location: {to}")


def sets_cookie() -> Server:
    return answers(http(200, b"ok", "Set-Cookie: session=stolen; Path=/"))


def gzips(text: bytes) -> Server:
    return answers(http(200, gzip.compress(text), "Content-Encoding: gzip"))
