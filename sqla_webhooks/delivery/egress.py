"""
Where requests may go: endpoints are written by strangers.

Two checks. `EgressPolicy.check_url` when an endpoint is written, for a clear
error; and the address itself, in the connection, when a socket is opened: the
name may resolve to something else by then. There every address that the name
resolves to must be allowed, and the one connected to is one that was checked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import BadStatusLine, HTTPResponse
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError
from urllib3.util import Url, parse_url
from urllib3.util.connection import create_connection

from sqla_webhooks.config import Network, Settings
from sqla_webhooks.errors import Blocked, InvalidURL

LONGEST_URL = 2048

#: Interim answers (1xx) that are read past.
MOST_INTERIM = 10


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Which URLs and addresses are allowed. The default: https, and public addresses only."""

    allow_http: bool = False
    allow_hosts: frozenset[str] = frozenset()
    allow_networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> EgressPolicy:
        return cls(settings.allow_http, settings.allow_hosts, settings.allow_networks)

    def check_url(self, url: str) -> str:
        """
        The URL, if an endpoint may have it.

        Parsed by the parser that will connect, so that both see one host.

        Raises:
            InvalidURL: The message says which rule it breaks.
        """
        parsed = _parse(url)
        if parsed.scheme != "https" and not (parsed.scheme == "http" and self.allow_http):
            hint = "; install(..., allow_http=True) allows plain http" if parsed.scheme == "http" else ""
            message = f"the URL must start with https://, not {parsed.scheme}://{hint}"
            raise InvalidURL(message)
        host = (parsed.host or "").strip("[]")
        if not self.admits_host(host) and not self._admits_literal(host):
            network = "127.0.0.0/8" if host.lower().rstrip(".") == "localhost" else host
            message = (
                f'{host} is not a public address; to send there, name it in install(..., allow_networks=["{network}"]) '
                "or allow_hosts"
            )
            raise InvalidURL(message)
        return url

    def admits_host(self, host: str) -> bool:
        """Whether the name is trusted, whatever it resolves to."""
        return host.lower().rstrip(".") in self.allow_hosts

    def admits(self, address: str) -> bool:
        """Whether a socket may be opened to this IP address."""
        ip = ip_address(address.partition("%")[0])
        if any(ip in network for network in self.allow_networks if network.version == ip.version):
            return True
        return _public(ip)

    def _admits_literal(self, host: str) -> bool:
        """Whether a host that is an address (or says it is this machine) may be; other names may."""
        if host.lower().rstrip(".") == "localhost":
            return self.admits("127.0.0.1") or self.admits("::1")
        try:
            return self.admits(host)
        except ValueError:
            return True


# Global to the standard library until 3.13, and somebody's metadata service.
_IETF = ip_network("192.0.0.0/24")


def _public(ip: IPv4Address | IPv6Address) -> bool:
    embedded = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if embedded is not None:
        return _public(embedded)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _IETF


def _parse(url: str) -> Url:
    if not isinstance(url, str) or not url:
        message = f"the URL is {url!r}: give one like https://partner.example/hooks"
        raise InvalidURL(message)
    if len(url) > LONGEST_URL:
        message = f"the URL has {len(url)} characters; {LONGEST_URL} are allowed"
        raise InvalidURL(message)
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        message = "the URL has white space, a control character or a backslash"
        raise InvalidURL(message)
    if "://" not in url:
        message = "the URL has no scheme: write https:// in front"
        raise InvalidURL(message)
    try:
        parsed = parse_url(url)
    except LocationParseError as error:
        message = f"{url!r} cannot be read as a URL"
        raise InvalidURL(message) from error
    for wrong, what in (
        (not parsed.scheme, "has no scheme: write https:// in front"),
        (not parsed.host, "has no host"),
        (parsed.auth is not None, "has a user or password in it, which would end up in logs"),
        (parsed.fragment is not None, "has a #fragment, which no server would see"),
        (parsed.port == 0, "has port 0"),
        ("%" in (parsed.host or "") and not (parsed.host or "").startswith("["), "cannot be read: its host has a %"),
    ):
        if wrong:
            message = f"the URL {what}"
            raise InvalidURL(message)
    return parsed


class GuardedAdapter(HTTPAdapter):
    """requests' adapter, whose sockets are opened under an `EgressPolicy`. One for each sender thread."""

    def __init__(self, policy: EgressPolicy, *, connections: int) -> None:
        self._policy = policy
        #: How often a socket was to be opened; a request that leaves it as it was has used a kept connection.
        self.opened = 0
        super().__init__(pool_connections=connections, pool_maxsize=1)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:  # noqa: FBT001, FBT002  # the signature of requests
        self.poolmanager = PoolManager(connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = _guarded_pools(self._open)

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:  # noqa: ARG002  # the signature of requests
        """The path as the endpoint has it: requests would make one slash of two at its beginning."""
        return request.path_url

    def _open(self, connection: HTTPConnection) -> socket.socket:
        self.opened += 1
        return _open(connection, self._policy)


class FinalResponse(HTTPResponse):
    """
    The final answer to a request, past the interim ones (RFC 9110, section 15.2).

    http.client knows 100 alone. It takes any other 1xx for the answer, and the
    answer itself for that to the next request on the connection.
    """

    def begin(self) -> None:
        super().begin()
        for _ in range(MOST_INTERIM):
            if not 100 <= self.status < 200:  # noqa: PLR2004  # the class itself
                return
            if self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                break  # nobody has asked for another protocol
            self.headers = self.msg = None  # type: ignore[assignment]  # or it would call the answer read
            super().begin()
        raise BadStatusLine(str(self.status))


def _guarded_pools(new_connection: Callable[[HTTPConnection], socket.socket]) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's own pools and connections; only the opening of the socket, and the reading of a status, is ours."""

    class GuardedHTTP(HTTPConnection):
        response_class = FinalResponse

        def _new_conn(self) -> socket.socket:
            return new_connection(self)

    class GuardedHTTPS(HTTPSConnection):
        response_class = FinalResponse

        def _new_conn(self) -> socket.socket:
            return new_connection(self)

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = GuardedHTTP

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = GuardedHTTPS

    return {"http": HTTPPool, "https": HTTPSPool}


def _open(connection: HTTPConnection, policy: EgressPolicy) -> socket.socket:
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
