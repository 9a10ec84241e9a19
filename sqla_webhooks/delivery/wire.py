"""
What an answer is read from: a socket on the request's `Budget`, and lines that the parsers can bear.

http.client parses headers as those of an e-mail, which may have lines that end
with a CR, and parameters that take seconds to read, if a stranger means them to.
"""

from __future__ import annotations

import io
import socket
from contextlib import suppress
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    InvalidHeaderDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from http.client import HTTPMessage
from typing import Any

from sqla_webhooks.delivery.budget import Budget
from sqla_webhooks.delivery.tls import Secured
from sqla_webhooks.errors import InvalidAnswer

#: Bytes of a line of an answer: its status, a header with the lines that continue it. What others allow too.
LINE_LIMIT = 8 * 1024

#: As RFC 9112 (section 2.2) and 9110 (section 5.5) have it, where they are no end of a line.
_AS_SPACES = bytes.maketrans(b"\r\0", b"  ")

#: What is wrong with headers; other defects are those of a body, of which the parser has seen nothing.
_WRONG = (
    FirstHeaderLineIsContinuationDefect,
    InvalidHeaderDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)


class Wire(socket.socket):
    """A socket that is read and written on the budget of the request that is under way."""

    def __init__(self, family: int, budget: Budget) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._budget = budget

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.settimeout(self._budget.seconds())
        return super().recv(size, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self.settimeout(self._budget.seconds())
        return super().recv_into(buffer, nbytes, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        if not data:
            return  # as TLS sends before each read; it fails where the answer of who has hung up can still be read
        self.settimeout(self._budget.seconds())
        super().sendall(data, flags)


class Metered:
    """A socket to read an answer from, as http.client does it: every read is on the budget."""

    def __init__(self, connection: socket.socket | Secured, budget: Budget) -> None:
        self._connection = connection
        self._budget = budget

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # http.client's; it reads
        self._lines = _Lines(_Reader(self._connection, self._budget))
        return self._lines

    @property
    def broken_off(self) -> bool:
        """Whether the last line that was asked for had no end."""
        return self._lines.broken_off


class _Reader(io.RawIOBase):
    def __init__(self, connection: socket.socket | Secured, budget: Budget) -> None:
        super().__init__()
        self._raw: Any = connection.makefile("rb", buffering=0)
        self._connection = connection
        self._budget = budget
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._ended:
            return None
        count: int | None = self._raw.readinto(buffer)
        self._budget.spend(count or 0)
        return count

    def end(self) -> None:
        """The answer is over: nothing more is read."""
        self._ended = True

    def abandon(self) -> None:
        """See that no other request is made on the connection: to whoever keeps it, it looks closed by its server."""
        with suppress(OSError):  # it is closed
            self._connection.shutdown(socket.SHUT_RDWR)

    def holds(self) -> bool:
        """Whether there are bytes that no look at the socket shows."""
        return isinstance(self._connection, Secured) and self._connection.holds()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    def __init__(self, reader: _Reader) -> None:
        super().__init__(reader)
        self._reader = reader
        self._length = 0
        self.broken_off = False

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002  # http.client's, which is larger
        """
        The next line, without what would make two of it.

        Raises:
            InvalidAnswer: It is too long.
        """
        line = super().readline(LINE_LIMIT + 1)
        continued = line.startswith((b" ", b"\t"))
        self._length = len(line) + (self._length if continued else 0)
        if self._length > LINE_LIMIT:
            message = f"the answer has a line of more than {LINE_LIMIT} bytes"
            raise InvalidAnswer(message)
        self.broken_off = not line.endswith(b"\n")
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        return text.translate(_AS_SPACES) + line[len(text) :]

    def close(self) -> None:
        """What has come behind the answer must not be taken for that to the next request."""
        if not self.closed:
            self._reader.end()
            if self.peek(1) or self._reader.holds():
                self._reader.abandon()
        super().close()


def readable(parsed: HTTPMessage) -> HTTPMessage:
    """
    The headers that were parsed, each in one line; and nothing else, of which urllib3 would complain in the logs.

    Raises:
        InvalidAnswer: There are lines among them that are no headers: those behind are lost, and how long the body is.
            Or they say of two lengths that it has them.
    """
    left = parsed.get_payload()
    if any(isinstance(defect, _WRONG) for defect in parsed.defects) or (isinstance(left, str) and left):
        message = "the answer's headers cannot be read: a line of them is none"
        raise InvalidAnswer(message)
    lengths = {length.strip() for value in parsed.get_all("Content-Length", []) for length in value.split(",")}
    if len(lengths) > 1:
        message = "the answer's headers cannot be read: they give its body two lengths"
        raise InvalidAnswer(message)
    headers = HTTPMessage()
    for name, value in parsed.items():
        # A length beside chunks means nothing (RFC 9112, section 6.3).
        if name.lower() != "content-length" or "Transfer-Encoding" not in parsed:
            headers[name] = " ".join(value.splitlines())
    return headers
