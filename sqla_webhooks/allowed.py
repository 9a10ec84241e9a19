"""
What is allowed of requests, as `install()` is told it: networks, hosts, ports, a proxy. Pure.

Each function brings what may be given in several forms into one, and raises
`ConfigurationError` for what is none; the message begins with the setting's *name*.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from sqla_webhooks.errors import ConfigurationError

Network: TypeAlias = IPv4Network | IPv6Network

_HIGHEST_PORT = 65535
_MAPPED = IPv6Network("::ffff:0:0/96")


def networks(given: Collection[Any], name: str) -> tuple[Network, ...]:
    """Networks, of which one address is one too."""
    return tuple(_network(one, name) for one in given)


def _network(given: object, name: str) -> Network:
    try:
        network = ip_network(str(given))
    except ValueError as error:
        message = f"{name} has {given!r}, which is no network: {error}. Write it like '10.0.0.0/8'"
        raise ConfigurationError(message) from error
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        # As addresses are compared: one that is mapped into IPv6 is the IPv4 address that it is.
        return ip_network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - _MAPPED.prefixlen))
    return network


def hosts(given: Collection[Any], name: str) -> frozenset[str]:
    """Names of hosts, as they are compared."""
    for one in given:
        if not isinstance(one, str) or not one:
            message = f"{name} has {one!r}: give names of hosts, like 'hooks.internal'"
            raise ConfigurationError(message)
        if not one.isascii():
            message = f"{name} has {one!r}: write it as it is on the wire, like 'xn--bcher-kva.example'"
            raise ConfigurationError(message)
        if not _HOST.fullmatch(one) and not _is_address(one):
            message = f"{name} has {one!r}: write the whole name of one host, without scheme, port and wildcard"
            raise ConfigurationError(message)
    return frozenset(one.lower().rstrip(".") for one in given)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_HOST = re.compile(r"[A-Za-z0-9_.-]+")


def ports(given: Collection[Any], name: str) -> frozenset[int]:
    """Numbers of ports; one at least."""
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= _HIGHEST_PORT:
            message = f"{name} has {one!r}: give numbers from 1 to {_HIGHEST_PORT}, like 443"
            raise ConfigurationError(message)
    if not given:
        message = f"{name} is empty, so no request could go anywhere: name some, like [443], or leave it out"
        raise ConfigurationError(message)
    return frozenset(given)


def proxy(given: object, name: str) -> str:
    """The URL of a proxy, which no message repeats: there may be a password in it."""
    try:
        url = urlsplit(given if isinstance(given, str) else "")
        fits = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        fits = False
    if not fits or url.path.strip("/") or url.query or url.fragment:
        message = f"{name} is no URL of a proxy: give one like 'http://proxy.internal:4750'"
        raise ConfigurationError(message)
    if url.scheme == "https":
        # TLS within TLS is read beyond the request's deadline.
        message = f"{name} begins with https://: speak http to the proxy; a request to https is encrypted to its end"
        raise ConfigurationError(message)
    return str(given)
