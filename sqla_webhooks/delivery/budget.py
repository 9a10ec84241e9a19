"""
What one request may use up, of time and of bytes: the time until it must be over, and how much of an answer is read.

Both are counted where the socket is read and written. A server that sends a
byte now and then is as late at the deadline as one that sends none; what is
counted is what came over the wire, whatever it decodes to.
"""

from __future__ import annotations

import io
import socket
from typing import Any

from sqla_webhooks._clock import Clock
from sqla_webhooks.errors import InvalidAnswer

#: Bytes of an answer before its body: the interim ones, the status, the headers.
HEAD_LIMIT = 64 * 1024
#: Bytes of a body that are read, with what frames them. One that ends before leaves its connection fit for reuse.
READ_LIMIT = 64 * 1024


class EnoughRead(Exception):
    """As much of a body has come as is read of one."""


class Budget:
    """
    The budget of one request after the other. One for each sender; used by its thread.

    Args:
        connect_timeout: Seconds until a connection is open: its name looked up, TLS agreed.
        timeout: Seconds for all of a request.
    """

    def __init__(self, clock: Clock, *, connect_timeout: float, timeout: float) -> None:
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self.begin()

    def begin(self) -> None:
        """A request begins."""
        self._deadline = self._clock.monotonic() + self._timeout
        self._connect_deadline = self._deadline
        self.expect_head()

    def begin_connecting(self) -> None:
        """A connection is to be opened for it."""
        self._connect_deadline = min(self._deadline, self._clock.monotonic() + self._connect_timeout)

    def expect_head(self) -> None:
        """What comes next is the head of an answer."""
        self._bytes = HEAD_LIMIT
        self._in_body = False

    def expect_body(self) -> None:
        """The head is read, and what comes next is its body."""
        self._bytes = READ_LIMIT
        self._in_body = True

    def seconds(self) -> float:
        """
        How long the request may still take.

        Raises:
            TimeoutError: No longer.
        """
        return _positive(self._deadline - self._clock.monotonic())

    def seconds_to_connect(self) -> float:
        """
        How long its connection may still take.

        Raises:
            TimeoutError: No longer.
        """
        return _positive(self._connect_deadline - self._clock.monotonic())

    def spend(self, count: int) -> None:
        """
        So many bytes of the answer have come.

        Raises:
            InvalidAnswer: Its head is too long.
            EnoughRead: Its body goes on; the rest is not wanted.
        """
        self._bytes -= count
        if self._bytes >= 0:
            return
        if self._in_body:
            raise EnoughRead
        message = f"the answer's headers have more than {HEAD_LIMIT} bytes"
        raise InvalidAnswer(message)


class Metered:
    """A socket to read an answer from, as http.client does it: every read is on the budget."""

    def __init__(self, connection: socket.socket, budget: Budget) -> None:
        self._connection = connection
        self._budget = budget

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002  # http.client's; it reads
        raw = self._connection.makefile("rb", buffering=0)
        return io.BufferedReader(_Reader(raw, self._connection, self._budget))


class _Reader(io.RawIOBase):
    def __init__(self, raw: Any, connection: socket.socket, budget: Budget) -> None:
        super().__init__()
        self._raw = raw
        self._connection = connection
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(self._budget.seconds())
        count: int | None = self._raw.readinto(buffer)
        self._budget.spend(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise TimeoutError
    return seconds
