"""
requests' adapter, whose sockets are opened under an `EgressPolicy`, and whose answers are final ones.

Every address that a host resolves to must be allowed, and the one connected to
is one that was checked. Opening a socket, reading and writing it are ours, so
that all of it is on the request's `Budget`; pools, names and certificates are
urllib3's own.
"""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, HTTPResponse
from typing import Any, ClassVar

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import urldefragauth
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError, ProxyError

from sqla_webhooks.delivery import tls
from sqla_webhooks.delivery.budget import Budget
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.resolve import Place, Resolver
from sqla_webhooks.delivery.wire import Metered, Wire, readable
from sqla_webhooks.errors import InvalidAnswer

#: Interim answers (1xx) that are read past.
MOST_INTERIM = 10

#: Addresses of a host that are tried: a stranger's name server may name a thousand, of other people's machines.
MOST_ADDRESSES = 8

#: Bytes that are written at a time.
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
    """

    def __init__(self, policy: EgressPolicy, *, budget: Budget, connections: int) -> None:
        self._policy = policy
        self._resolver = Resolver()
        self.budget = budget
        self.opened = 0
        self._pools = _guarded_pools(self)
        self._tls: ssl.SSLContext | None = None
        super().__init__(pool_connections=connections, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002  # the signature of requests
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """That of *proxy*, for each request."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def close(self) -> None:
        """Close the connections. Of urllib3, a pool does so when nobody refers to it any more, and past errors may."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # it is no dict, and refuses to be iterated over
                manager.pools[key].close()
        super().close()

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """The path as the endpoint has it: requests would make one slash of two at its beginning."""
        url = str(request.url)
        return urldefragauth(url) if proxies and url.startswith("http:") else request.path_url

    def build_response(self, request: PreparedRequest, raw: Any) -> Response:  # noqa: ARG002  # the signature of requests
        """Without cookies, which nobody keeps: requests would parse them, and warn of what a stranger has put there."""
        response = Response()
        response.status_code, response.headers, response.raw = raw.status, CaseInsensitiveDict(raw.headers), raw
        return response

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
        sys.audit("http.client.connect", connection, connection.host, connection.port)
        return opened

    def tls_context(self, connection: HTTPSConnection) -> ssl.SSLContext:
        """
        For *connection*, and all others: what is trusted takes ten times as long to read as a connection to be opened.

        Raises:
            TLSError: What is trusted cannot be read.
        """
        if self._tls is None:
            self._tls = tls.context(connection.ca_certs, connection.ca_cert_dir)
        return self._tls

    def _look_up(self, connection: HTTPConnection) -> Sequence[Place]:
        host, port = connection.host, connection.port
        try:
            return self._resolver.look_up(host, port, within=self.budget.seconds())
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, str(error)) from error
        except OSError as error:
            raise NameResolutionError(host, connection, socket.gaierror(str(error))) from error

    def _connect(self, connection: HTTPConnection, found: Sequence[Place]) -> socket.socket:
        """A socket to the first place that takes it; what time is left is shared by those not yet tried."""
        reason, too_late = "the name has no address", False
        places = found[:MOST_ADDRESSES]
        for tried, (family, address) in enumerate(places):
            within = self.budget.seconds() / (len(places) - tried)
            try:
                return self._open(family, address, within=within, options=connection.socket_options or ())
            except OSError as error:
                # And not the error: its traceback would keep this connection and its pool alive.
                reason, too_late = str(error), isinstance(error, TimeoutError)
        if too_late:
            raise ConnectTimeoutError(connection, reason)
        raise NewConnectionError(connection, reason) from OSError(reason)

    def _open(self, family: int, address: tuple[Any, ...], *, within: float, options: Sequence[Any]) -> Wire:
        opened = Wire(family, self.budget)
        try:
            for option in options:
                opened.setsockopt(*option)
            opened.settimeout(within)
            opened.connect(address)
        except BaseException:
            opened.close()
            raise
        return opened


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
        self._metered: Metered = metered
        super().__init__(metered, *arguments, **options)

    def begin(self) -> None:
        self._read_head()
        interim = 0
        while 100 <= self.status < 200:  # noqa: PLR2004  # the class itself
            interim += 1
            if self.status == HTTPStatus.SWITCHING_PROTOCOLS or interim > MOST_INTERIM:
                raise BadStatusLine(str(self.status))  # nobody asked for another protocol, or for news without end
            self.headers = self.msg = None  # type: ignore[assignment]  # or it would call the answer read
            self._read_head()
        self.adapter.budget.expect_body()

    def _read_head(self) -> None:
        super().begin()
        if self._metered.broken_off:
            message = "the connection broke: the answer's headers have no end"
            raise InvalidAnswer(message)
        self.headers = self.msg = readable(self.msg)


class GuardedConnection(HTTPConnection):
    """urllib3's own; only what touches the socket itself is ours."""

    #: Whose it is.
    adapter: ClassVar[GuardedAdapter]

    def _new_conn(self) -> socket.socket:
        return self.adapter.open_socket(self)

    def connect(self) -> None:
        super().connect()
        self.adapter.budget.end_connecting()

    def send(self, data: Any) -> None:
        """Piece by piece: TLS would have all of it in memory once more."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            super().send(view[start : start + _PIECE])


class GuardedTLSConnection(GuardedConnection, HTTPSConnection):
    """The same with TLS."""

    def connect(self) -> None:
        self.ssl_context = self.adapter.tls_context(self)
        self.ca_certs = self.ca_cert_dir = None  # urllib3 would read them again
        super().connect()

    def _tunnel(self) -> None:
        host = self._tunnel_host
        if host is not None and ":" in host and not host.startswith("["):
            self._tunnel_host = f"[{host}]"  # which urllib3 2.2 leaves out
        try:
            super()._tunnel()
        except (OSError, HTTPException, InvalidAnswer) as error:
            raise ProxyFailed(error) from error
        self._tunnel_host = host


def _guarded_pools(adapter: GuardedAdapter) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's own pools, of connections that are the adapter's."""

    class OwnResponse(FinalResponse):
        pass

    class Plain(GuardedConnection):
        response_class = OwnResponse

    class Secure(GuardedTLSConnection):
        response_class = OwnResponse

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = Secure

    OwnResponse.adapter = Plain.adapter = Secure.adapter = adapter
    return {"http": HTTPPool, "https": HTTPSPool}
