"""
Where requests may go: endpoints are written by strangers.

The same policy is asked three times: for a clear error when an endpoint is
written (`check_url`); when a request is made (`check_target`), since the policy
may have changed by then; and, which is what the others cannot know, when a
socket is opened, about the very addresses that it may be opened to (`check`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqla_webhooks.allowed import Network
from sqla_webhooks.config import Settings
from sqla_webhooks.delivery import addresses, urls
from sqla_webhooks.delivery.addresses import Address
from sqla_webhooks.delivery.urls import Target
from sqla_webhooks.errors import Blocked, InvalidURL

logger = logging.getLogger(__name__)

#: Ports that are allowed below those that anybody may use.
_WEB = frozenset({80, 443})
_FIRST_OF_ANYBODY = 1024

#: Of services that speak no HTTP, or that nobody means to be called from outside: a request could do harm there.
_SERVICES = frozenset(
    {
        *(1080, 1433, 1521, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 4369, 5432, 5672, 5900, 5984),
        *(6000, 6379, 6443, 6667, 8500, 9042, 9092, 9200, 9300, 10250, 10255, 11211, 15672, 27017, 27018, 27019),
    }
)

_THIS_MACHINE = (addresses.read("127.0.0.1"), addresses.read("::1"))


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """
    Which URLs and addresses are allowed. The default: https, public addresses, and ports where the web is.

    A value: senders are made with one, and hold no connection that another one has allowed.

    Attributes:
        allow_hosts: Names that are trusted whatever they resolve to.
        allow_networks: Networks that are allowed though they are not public.
        deny_networks: Networks that are not, whatever else is said.
        ports: The only ones allowed; None for the default.
        proxy: Through which all goes; it is trusted, and resolves the names.
    """

    allow_http: bool = False
    allow_hosts: frozenset[str] = frozenset()
    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    ports: frozenset[int] | None = None
    proxy: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> EgressPolicy:
        return cls(
            allow_http=settings.allow_http,
            allow_hosts=settings.allow_hosts,
            allow_networks=settings.allow_networks,
            deny_networks=settings.deny_networks,
            ports=settings.egress_ports,
            proxy=settings.egress_proxy,
        )

    def check_url(self, url: str) -> str:
        """
        The URL, if an endpoint may have it. In the thread that writes the endpoint; nothing is resolved.

        Raises:
            InvalidURL: The message says which rule it breaks.
        """
        target = urls.parse(url)
        if wrong := self._wrong_with(target):
            raise InvalidURL("; ".join(filter(None, wrong)))
        if self._refuses(target.host):
            raise InvalidURL(self._refusal(target.host))
        return url

    def check_target(self, url: str) -> None:
        """
        Whether a request may be made to *url*. In a sender's thread.

        Raises:
            Blocked: It may not.
        """
        try:
            target = urls.parse(url)
        except InvalidURL as error:
            message = f"the URL cannot be used: {error}"
            raise Blocked(message) from error
        if wrong := self._wrong_with(target):
            message = f"the egress policy forbids it: {wrong[0]}"  # and no word of settings: tenants read it
            raise Blocked(message)
        if self.proxy is not None and self._refuses(target.host):
            raise _blocked(target.host)

    def check(self, host: str, found: Iterable[str]) -> None:
        """
        Whether a socket may be opened to any of the addresses that were *found* for *host*. In a sender's thread.

        Raises:
            Blocked: One of them is not allowed, which spoils the others. The message names none: tenants read it.
        """
        trusted = self.admits_host(host)
        for address in found:
            if not self._allows(addresses.read(address), trusted=trusted):
                logger.info("a connection to %s was blocked: it leads to %s", host, address)
                raise _blocked(host)

    def admits_host(self, host: str) -> bool:
        """Whether the name is trusted, whatever it resolves to."""
        return host.lower().rstrip(".") in self.allow_hosts

    def admits(self, address: str) -> bool:
        """Whether a socket may be opened to this IP address."""
        return self._allows(addresses.read(address), trusted=False)

    def _allows(self, address: Address, *, trusted: bool) -> bool:
        """
        Whether a socket may be opened to it.

        Args:
            trusted: Whether it was found for a name that is.
        """
        if self._is_denied(address):
            return False
        return trusted or self._admits(address)

    def _admits(self, address: Address) -> bool:
        if not all(map(self._admits, addresses.hidden(address))):
            return False
        return addresses.is_public(address) or _is_in(address, self.allow_networks)

    def _is_denied(self, address: Address) -> bool:
        return any(_is_in(one, self.deny_networks) for one in (address, *addresses.hidden(address)))

    def _refuses(self, host: str) -> bool:
        """Whether a host says itself that it may not be reached: an address, or a name that is known for it."""
        trusted = self.admits_host(host)
        try:
            return not self._allows(addresses.read(host), trusted=trusted)
        except ValueError:
            if urls.is_this_machine(host):
                return not any(self._allows(one, trusted=trusted) for one in _THIS_MACHINE)
            # Where networks are allowed, it is for the connection to see whether the name leads there.
            return not trusted and urls.leads_inside(host) and not self.allow_networks

    def _refusal(self, host: str) -> str:
        try:
            denied = self._is_denied(addresses.read(host))
        except ValueError:
            allowing = f'install(..., allow_hosts=["{host}"]), or its network in allow_networks'
        else:
            if denied:
                return f"{host} may not be reached: it is in one of the networks of install(..., deny_networks=[...])"
            allowing = f'install(..., allow_networks=["{host}"])'
        return f"{host} is not a public address; to send there, name it in {allowing}"

    def _wrong_with(self, target: Target) -> tuple[str, str] | None:
        """What of the scheme and the port is not allowed, and the setting that would allow it, if one does."""
        scheme, port = target.scheme, target.port
        if scheme != "https" and not (scheme == "http" and self.allow_http):
            hint = "install(..., allow_http=True) allows plain http" if scheme == "http" else ""
            return f"the URL must start with https://, not {scheme}://", hint
        if self.ports is not None:
            return None if port in self.ports else (f"port {port} is not among the ports that requests may go to", "")
        if port in _SERVICES or (port < _FIRST_OF_ANYBODY and port not in _WEB):
            hint = f"install(..., egress_ports=[443, {port}]) allows it, and no others than these"
            return f"port {port} is not one of the web's", hint
        return None


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _blocked(host: str) -> Blocked:
    return Blocked(f"the egress policy forbids {host}: it leads to an address that is not public")
