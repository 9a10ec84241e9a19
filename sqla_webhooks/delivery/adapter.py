"""
requests' adapter, whose sockets are opened under an `EgressPolicy`, and whose answers are final ones.

Every address that a host resolves to must be allowed, and the one connected to
is one that was checked. Opening a socket, reading and writing it are ours, so
that all of it is on the request's `Budget`; pools, TLS, names and certificates
are urllib3's own.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, HTTPResponse
from typing import Any, ClassVar

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.utils import urldefragauth
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ProxyError

from sqla_webhooks.delivery.budget import Budget, Metered
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.resolve import Place, Resolver
from sqla_webhooks.errors import InvalidAnswer

#: Interim answers (1xx) that are read past.
MOST_INTERIM = 10

#: Addresses of a host that are tried: a stranger's name server may name a thousand, of other people's machines.
MOST_ADDRESSES = 8

#: Bytes that are written at a time, after each of which the budget is asked.
_PIECE = 16 * 1024


class ProxyFailed(ProxyError):
    """
    There is no connection through the egress proxy.

    urllib3's own is also what becomes of a connection through it that breaks later.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__("no connection through the egress proxy", error)


class GuardedAdapter(HTTPAdapter):
    """
    requests' adapter. One for each sender thread; sends one request at a time.

    Attributes:
        budget: Of the request that is under way.
        opened: How often a socket was to be opened. A request that leaves it as
            it was has used a kept connection.
        answered: Whether the server has begun to answer the request, with an
            interim answer say.
    """

    def __init__(self, policy: EgressPolicy, *, budget: Budget, connections: int) -> None:
        self._policy = policy
        self._resolver = Resolver()
        self.budget = budget
        self.opened = 0
        self.answered = False
        super().__init__(pool_connections=connections, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002  # the signature of requests
        super().init_poolmanager(connections, maxsize, block, **options)
        self._guard(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        self._guard(manager)
        return manager

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """The path as the endpoint has it: requests would make one slash of two at its beginning."""
        url = str(request.url)
        return urldefragauth(url) if proxies and url.startswith("http:") else request.path_url

    def open_socket(self, connection: HTTPConnection) -> socket.socket:
        """
        A socket for *connection*, to an address that the policy allows, or to its proxy.

        Raises:
            Blocked: An address of the host is not allowed.
            ProxyFailed: It is not to be had from the proxy.
        """
        self.opened += 1
        self.budget.begin_connecting()
        if connection.proxy is None:
            found = self._look_up(connection)
            self._policy.check(connection.host, [str(address[0]) for _, address in found])
            opened = self._connect(connection, found)
        else:
            try:
                opened = self._connect(connection, self._look_up(connection))
            except (HTTPError, OSError) as error:
                raise ProxyFailed(error) from error
        opened.settimeout(self.budget.seconds_to_connect())  # for TLS
        sys.audit("http.client.connect", connection, connection.host, connection.port)
        return opened

    def _guard(self, manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = _guarded_pools(self)

    def _look_up(self, connection: HTTPConnection) -> Sequence[Place]:
        host, port = connection.host, connection.port
        try:
            return self._resolver.look_up(host, port, within=self.budget.seconds_to_connect())
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, str(error)) from error
        except OSError as error:
            raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error

    def _connect(self, connection: HTTPConnection, found: Sequence[Place]) -> socket.socket:
        """A socket to the first place that takes it; what time is left is shared by those not yet tried."""
        reason, too_late = "the name has no address", False
        places = found[:MOST_ADDRESSES]
        for tried, (family, address) in enumerate(places):
            within = self.budget.seconds_to_connect() / (len(places) - tried)
            try:
                return _open(family, address, within=within, options=connection.socket_options or ())
            except OSError as error:
                # And not the error: its traceback would keep this connection and its pool alive.
                reason, too_late = str(error), isinstance(error, TimeoutError)
        if too_late:
            raise ConnectTimeoutError(connection, reason)
        raise NewConnectionError(connection, reason) from OSError(reason)


class FinalResponse(HTTPResponse):
    """
    The final answer to a request, past the interim ones (RFC 9110, section 15.2).

    http.client knows 100 alone. It takes any other 1xx for the answer, and the
    answer itself for that to the next request on the connection.
    """

    #: Whose request it answers.
    adapter: ClassVar[GuardedAdapter]

    def __init__(self, connection: socket.socket, *arguments: Any, **options: Any) -> None:
        self.adapter.budget.expect_head()
        metered: Any = Metered(connection, self.adapter.budget)
        super().__init__(metered, *arguments, **options)

    def begin(self) -> None:
        super().begin()
        self.adapter.answered = True
        interim = 0
        while 100 <= self.status < 200:  # noqa: PLR2004  # the class itself
            interim += 1
            if self.status == HTTPStatus.SWITCHING_PROTOCOLS or interim > MOST_INTERIM:
                raise BadStatusLine(str(self.status))  # nobody asked for another protocol, or for news without end
            self.headers = self.msg = None  # type: ignore[assignment]  # or it would call the answer read
            super().begin()
        self.adapter.budget.expect_body()


def _guarded_pools(adapter: GuardedAdapter) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's own pools and connections; only what touches the socket itself is ours."""

    class OwnResponse(FinalResponse):
        pass

    OwnResponse.adapter = adapter

    class GuardedHTTP(HTTPConnection):
        response_class = OwnResponse

        def _new_conn(self) -> socket.socket:
            return adapter.open_socket(self)

        def send(self, data: Any) -> None:
            for piece in _pieces(self, data, adapter.budget):
                super().send(piece)

    class GuardedHTTPS(HTTPSConnection):
        response_class = OwnResponse

        def _new_conn(self) -> socket.socket:
            return adapter.open_socket(self)

        def send(self, data: Any) -> None:
            for piece in _pieces(self, data, adapter.budget):
                super().send(piece)

        def _tunnel(self) -> None:
            host = self._tunnel_host
            if host is not None and ":" in host and not host.startswith("["):
                self._tunnel_host = f"[{host}]"  # which urllib3 2.2 leaves out
            try:
                super()._tunnel()
            except (OSError, HTTPException, InvalidAnswer) as error:
                raise ProxyFailed(error) from error
            self._tunnel_host = host

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = GuardedHTTP

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = GuardedHTTPS

    return {"http": HTTPPool, "https": HTTPSPool}


def _pieces(connection: HTTPConnection, data: bytes, budget: Budget) -> Iterator[memoryview]:
    """
    What is to be written, piece by piece, with as much time for each as is left.

    In one piece, TLS would take the time anew for each of its records.
    """
    if connection.sock is None:
        connection.connect()
    view = memoryview(data)
    for start in range(0, len(view), _PIECE):
        connection.sock.settimeout(budget.seconds())
        yield view[start : start + _PIECE]


def _open(
    family: socket.AddressFamily, address: tuple[Any, ...], *, within: float, options: Sequence[Any]
) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            opened.setsockopt(*option)
        opened.settimeout(within)
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened
