"""Name servers: what they answer, and how long they take, is the test's to say."""

from __future__ import annotations

import socket
import threading
from typing import Any

from support.receiver import PATIENCE


class Names:
    """In the place of `socket.getaddrinfo`, which it asks about whatever it does not know."""

    def __init__(self) -> None:
        self._getaddrinfo = socket.getaddrinfo
        #: By name.
        self.addresses: dict[str, list[str]] = {}
        #: Names whose look-ups do not end before `answer()`.
        self.stuck: set[str] = set()
        #: The look-ups of names that it knows.
        self.asked: list[str] = []
        self._answered = threading.Event()

    def know(self, *names: str, stuck: bool = False, addresses: tuple[str, ...] = ("127.0.0.1",)) -> None:
        for name in names:
            self.addresses[name] = list(addresses)
        if stuck:
            self.stuck |= set(names)

    def answer(self) -> None:
        """Let all look-ups end."""
        self.stuck.clear()
        self._answered.set()

    def __call__(self, host: str, port: int, *arguments: Any, **options: Any) -> list[Any]:
        if host not in self.addresses or options.get("flags"):
            return self._getaddrinfo(host, port, *arguments, **options)
        self.asked.append(host)
        if host in self.stuck:
            assert self._answered.wait(PATIENCE)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self.addresses[host]
        ]
