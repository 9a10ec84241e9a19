"""
Which IP addresses are public. Pure.

A list of our own, by the IANA's registries of special-purpose addresses
(RFC 6890 and its updates): what the standard library calls global differs from
one patch release of Python to the next, and has metadata services in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carriers' own, and metadata services
            "127.0.0.0/8",  # this machine
            "168.63.129.16/32",  # Azure's own to each machine
            "169.254.0.0/16",  # link-local, and metadata services
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocols, and a metadata service
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
            "2001::/23",  # protocols: Teredo, ORCHID, benchmarks, AMT, AS112
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)

#: All that is given out for the internet (RFC 4291, section 2.4, and the IANA's registry of unicast addresses).
_UNICAST = ip_network("2000::/3")

_TEREDO, _6TO4 = ip_network("2001::/32"), ip_network("2002::/16")
#: RFC 6052, section 2.1, and RFC 8215.
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
#: The upper half of an interface's identifier (RFC 5214, section 6.1).
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_WORD = 0xFFFF_FFFF


def read(text: str) -> Address:
    """
    The address; of one that is mapped into IPv6, the IPv4 address that it is.

    Raises:
        ValueError: It is none.
    """
    address = ip_address(text.partition("%")[0])  # without its zone
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Whether anybody on the internet may have it."""
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    if address.version == 4:  # noqa: PLR2004  # as versions are counted
        return True
    return address in _UNICAST


def hidden(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address would be taken to: by NAT64, 6to4, Teredo or ISATAP."""
    if address.version == 4:  # noqa: PLR2004  # as versions are counted
        return
    number = int(address)
    if address in _TEREDO:
        yield IPv4Address(number >> 64 & _WORD)  # the server
        yield IPv4Address(~number & _WORD)  # the client, of which each bit is turned (RFC 4380, section 4)
    elif address in _6TO4:
        yield IPv4Address(number >> 80 & _WORD)
    elif any(address in network for network in _NAT64) or number >> 32 & _WORD in _ISATAP:
        yield IPv4Address(number & _WORD)
