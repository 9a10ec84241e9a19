"""
TLS by bytes that it is given, not by a socket of its own.

OpenSSL reads a socket until it has what it was asked for, and passes over
messages that mean nothing: who sends nothing else, a few megabytes a second,
would have the thread for ever. So the socket is read by us, on the budget.
"""

from __future__ import annotations

import socket
import ssl
import weakref
from typing import Any

from urllib3.exceptions import SSLError as TLSError
from urllib3.util.ssltransport import SSLTransport


class Secured(SSLTransport):
    """What urllib3 has for TLS inside of TLS, whose socket need not be the system's."""

    def holds(self) -> bool:
        """Whether it has more than was asked for: bytes that no look at the socket shows."""
        return self.sslobj.pending() > 0 or self.incoming.pending > 0

    def shutdown(self, how: int) -> None:
        """That of the socket, without a word of TLS."""
        self.socket.shutdown(how)


def context(certificates: str | None, folder: str | None) -> ssl.SSLContext:
    """
    Python's own, for one that urllib3 makes may be another library's; only what becomes of the socket is ours.

    Args:
        certificates: The file of those that are trusted.
        folder: Where they lie, if not in one file.

    Raises:
        TLSError: They cannot be read.
    """
    try:
        made = ssl.create_default_context(cafile=certificates, capath=folder)
    except OSError as error:
        raise TLSError(error) from error
    made.hostname_checks_common_name = False
    itself = weakref.proxy(made)  # or it would keep itself alive, with all the certificates that it trusts

    def wrap_socket(sock: socket.socket, *, server_hostname: str | None = None, **_: Any) -> Secured:
        return Secured(sock, itself, server_hostname)

    made.wrap_socket = wrap_socket  # type: ignore[method-assign, assignment]  # of this one
    return made
