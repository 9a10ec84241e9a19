"""
Where requests may go: endpoints are written by strangers.

Two checks. `EgressPolicy.check_url` when an endpoint is written, for a clear
error; and the address itself, in the connection, when a socket is opened (see
`adapter`): the name may resolve to something else by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from sqla_webhooks.config import Network, Settings
from sqla_webhooks.errors import InvalidURL

LONGEST_URL = 2048


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
