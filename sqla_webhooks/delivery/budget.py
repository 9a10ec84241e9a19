"""
What one request may use up, of time and of bytes: the time until it must be over, and how much of an answer is read.

Both are counted where the socket is read and written. A server that sends a
byte now and then is as late at the deadline as one that sends none; what is
counted is what came over the wire, whatever it decodes to.
"""

from __future__ import annotations

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

    Attributes:
        answered: Whether anything of an answer has come, an interim one say.
    """

    def __init__(self, clock: Clock, *, connect_timeout: float, timeout: float) -> None:
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self.begin()

    def begin(self) -> None:
        """A request begins."""
        self._until = self._deadline = self._clock.monotonic() + self._timeout
        self.answered = False
        self.expect_head()

    def begin_connecting(self) -> None:
        """A connection is to be opened for it."""
        self._until = min(self._deadline, self._clock.monotonic() + self._connect_timeout)

    def end_connecting(self) -> None:
        """It is open."""
        self._until = self._deadline

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
        How long what is under way may still take: the connecting, or all of the request.

        Raises:
            TimeoutError: No longer.
        """
        seconds = self._until - self._clock.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def spend(self, count: int) -> None:
        """
        So many bytes of the answer have come.

        Raises:
            InvalidAnswer: Its head is too long.
            EnoughRead: Its body goes on; the rest is not wanted.
        """
        self.answered = self.answered or count > 0
        self._bytes -= count
        if self._bytes >= 0:
            return
        if self._in_body:
            raise EnoughRead
        message = f"the answer's headers have more than {HEAD_LIMIT} bytes"
        raise InvalidAnswer(message)
