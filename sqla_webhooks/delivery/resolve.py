"""
Names to addresses, in bounded time.

The C library's look-up has no deadline, and a name server of a stranger's may
take half a minute for each name. So it runs in a thread of its own, which is
left to itself when the time is over. No thread outlives its look-up: so a fork
finds none, and look-ups are rare, since connections are kept.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: A family of addresses, and one as its sockets take it.
Place: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]

#: Look-ups of one sender that nobody waits for any more, beyond which it begins none.
MOST = 16


@dataclass(slots=True, eq=False)
class _LookUp:
    """One that is under way: written by its thread until it is over, and then read by the sender's."""

    over: threading.Event = field(default_factory=threading.Event)
    found: list[Place] = field(default_factory=list)
    error: Exception | None = None

    def run(self, host: str, port: int) -> None:
        try:
            self.found = _places(host, port)
        except Exception as error:  # noqa: BLE001  # it is raised where it is waited for
            self.error = error
        finally:
            self.over.set()


class Resolver:
    """The look-ups of one sender. Used by its thread."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], _LookUp] = {}

    def look_up(self, host: str, port: int, *, within: float) -> list[Place]:
        """
        Where *host* is, each place once, in the order in which they are to be tried.

        Args:
            within: Seconds. Real ones: what is waited for is beyond any clock of ours.

        Raises:
            TimeoutError: It took longer.
            OSError: It has no address, or cannot be looked up.
        """
        try:
            return _places(host, port, flags=socket.AI_NUMERICHOST)  # an address, for which nobody has to be asked
        except (OSError, UnicodeError):
            pass
        one = self._begin(host, port)
        if not one.over.wait(within):
            message = f"the look-up of {host} took too long"
            raise TimeoutError(message)
        self._under_way.pop((host, port), None)
        if isinstance(one.error, UnicodeError):
            message = f"{host} cannot be a name"
            raise OSError(message) from one.error
        if one.error is not None:
            raise one.error
        return one.found

    def _begin(self, host: str, port: int) -> _LookUp:
        """The look-up of this name: that which is under way, if one is. What was found too late is old by now."""
        self._under_way = {name: one for name, one in self._under_way.items() if not one.over.is_set()}
        if (begun := self._under_way.get((host, port))) is not None:
            return begun
        if len(self._under_way) >= MOST:
            message = "too many names are being looked up: the name servers are slow"
            raise OSError(message)
        one = _LookUp()
        thread = threading.Thread(target=one.run, args=(host, port), name="sqla_webhooks look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more, or the interpreter is ending
            message = "no thread can be had to look it up"
            raise OSError(message) from error
        self._under_way[host, port] = one
        return one


def _places(host: str, port: int, *, flags: int = 0) -> list[Place]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((one[0], one[4]) for one in found))
