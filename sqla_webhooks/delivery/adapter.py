"""
requests' adapter, whose sockets are opened under an `EgressPolicy`, and whose answers are final ones.

Every address that a host resolves to must be allowed, and the one connected to
is one that was checked. Only the opening of the socket and the reading of the
status are ours; pools, TLS and all else are urllib3's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.client import BadStatusLine, HTTPResponse
from typing import Any, ClassVar

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.errors import Blocked

#: Interim answers (1xx) that are read past.
MOST_INTERIM = 10

#: Seconds: a socket's timeout of 0 would mean that it never waits.
_A_MOMENT = 0.001


class GuardedAdapter(HTTPAdapter):
    """
    requests' adapter. One for each sender thread; sends one request at a time.

    Attributes:
        opened: How often a socket was to be opened. A request that leaves it as
            it was has used a kept connection.
        answered: Whether the server has begun to answer the request, with an
            interim answer say.
        seconds_left: Asked how long the request may still take.
    """

    def __init__(self, policy: EgressPolicy, *, connections: int) -> None:
        self._policy = policy
        self.opened = 0
        self.answered = False
        self.seconds_left: Callable[[], float] = lambda: float("inf")
        super().__init__(pool_connections=connections, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002  # the signature of requests
        self.poolmanager = PoolManager(connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self)

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:  # noqa: ARG002  # the signature of requests
        """The path as the endpoint has it: requests would make one slash of two at its beginning."""
        return request.path_url

    def new_socket(self, connection: HTTPConnection) -> socket.socket:
        """A socket for *connection*, to an address that the policy allows."""
        self.opened += 1
        return _guarded_socket(connection, self._policy)


class FinalResponse(HTTPResponse):
    """
    The final answer to a request, past the interim ones (RFC 9110, section 15.2).

    http.client knows 100 alone. It takes any other 1xx for the answer, and the
    answer itself for that to the next request on the connection.
    """

    #: Whose request it answers.
    adapter: ClassVar[GuardedAdapter]

    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(connection, *arguments, **options)
        self._socket = connection

    def begin(self) -> None:
        super().begin()
        self.adapter.answered = True
        interim = 0
        while 100 <= self.status < 200:  # noqa: PLR2004  # the class itself
            interim += 1
            if self.status == HTTPStatus.SWITCHING_PROTOCOLS or interim > MOST_INTERIM:
                raise BadStatusLine(str(self.status))  # nobody asked for another protocol, or for news without end
            self._socket.settimeout(max(_A_MOMENT, self.adapter.seconds_left()))
            self.headers = self.msg = None  # type: ignore[assignment]  # or it would call the answer read
            super().begin()


def _guarded_pools(adapter: GuardedAdapter) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's own pools and connections; only the opening of the socket, and the reading of a status, is ours."""

    class OwnResponse(FinalResponse):
        pass

    OwnResponse.adapter = adapter

    class GuardedHTTP(HTTPConnection):
        response_class = OwnResponse

        def _new_conn(self) -> socket.socket:
            return adapter.new_socket(self)

    class GuardedHTTPS(HTTPSConnection):
        response_class = OwnResponse

        def _new_conn(self) -> socket.socket:
            return adapter.new_socket(self)

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = GuardedHTTP

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = GuardedHTTPS

    return {"http": HTTPPool, "https": HTTPSPool}


def _guarded_socket(connection: HTTPConnection, policy: EgressPolicy) -> socket.socket:
    """
    A socket to an address that *policy* allows.

    Raises:
        Blocked: An address of the host is not allowed. The message names none:
            tenants read it.
    """
    host, port = connection.host, connection.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if not policy.admits_host(host) and not all(policy.admits(address) for address in addresses):
        message = f"the egress policy forbids {host}: it leads to an address that is not public"
        raise Blocked(message)
    return _connect(connection, addresses)


def _connect(connection: HTTPConnection, addresses: Sequence[str]) -> socket.socket:
    """A socket to the first of *addresses* that takes it."""
    reason = "the name has no address"
    for address in addresses:
        try:
            return create_connection(
                (address, connection.port), connection.timeout, connection.source_address, connection.socket_options
            )
        except TimeoutError as error:
            message = f"no connection to {connection.host} in time"
            raise ConnectTimeoutError(connection, message) from error
        except OSError as error:
            reason = str(error)  # and not the error: its traceback would keep this connection and its pool alive
    raise NewConnectionError(connection, reason) from OSError(reason)
