"""Which addresses are public: by the table, by a reference that is written otherwise, and by the standard library."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import inside

from sqla_webhooks.delivery import addresses
from sqla_webhooks.delivery.addresses import Address
from sqla_webhooks.delivery.egress import EgressPolicy

checked = settings(deadline=None, max_examples=500)

POLICY = EgressPolicy()


@pytest.mark.parametrize("address", inside.ADDRESSES)
def test_an_address_that_is_not_public_is_not_admitted(address: str) -> None:
    assert not POLICY.admits(address)


@pytest.mark.parametrize("address", inside.NEIGHBOURS)
def test_an_address_beside_a_range_is_admitted(address: str) -> None:
    assert POLICY.admits(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "2606:4700::5efe:8.8.8.8"]
)
def test_a_public_address_is_admitted(address: str) -> None:
    assert POLICY.admits(address)


@pytest.mark.parametrize("zone", ["lo", "eth0", "1"])
def test_a_zone_does_not_change_what_an_address_is(zone: str) -> None:
    assert addresses.read(f"fe80::1%{zone}") == IPv6Address("fe80::1")


@pytest.mark.parametrize("text", ["", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "localhost", "[::1]", "%lo"])
def test_what_is_no_address_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        addresses.read(text)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("64:ff9b::a9fe:a9fe", ["169.254.169.254"]),
        ("64:ff9b:1::7f00:1", ["127.0.0.1"]),
        ("2002:a00:1::1", ["10.0.0.1"]),
        # RFC 4380, section 4: the server as it is, the client with every bit turned.
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", ["65.54.227.120", "192.0.2.45"]),
        ("2606:4700::5efe:a00:1", ["10.0.0.1"]),
        ("2606:4700::200:5efe:a00:1", ["10.0.0.1"]),
        ("2606:4700::1111", []),
        ("::ffff:10.0.0.1", []),
        ("10.0.0.1", []),
    ],
)
def test_what_is_hidden_in_an_address(address: str, found: list[str]) -> None:
    assert list(map(str, addresses.hidden(ipaddress.ip_address(address)))) == found


# --- a reference, by the IANA's registries of special-purpose addresses, in octets and groups


def is_public_four(number: int) -> bool:
    first, second, third, fourth = number.to_bytes(4, "big")
    return not (
        first in {0, 10, 127}
        or first >= 224
        or (first == 100 and 64 <= second <= 127)
        or (first == 172 and 16 <= second <= 31)
        or (first == 198 and second in {18, 19})
        or (first, second) in {(169, 254), (192, 168)}
        or (first, second, third) in {(192, 0, 0), (192, 0, 2), (192, 31, 196), (192, 52, 193), (192, 88, 99)}
        or (first, second, third) in {(192, 175, 48), (198, 51, 100), (203, 0, 113)}
        or (first, second, third, fourth) == (168, 63, 129, 16)
    )


def is_public_six(number: int) -> bool:
    groups = [number >> shift & 0xFFFF for shift in range(112, -1, -16)]
    if groups[:5] == [0] * 5 and groups[5] == 0xFFFF:
        return is_public_four(number & 0xFFFF_FFFF)
    in_use = 0x2000 <= groups[0] <= 0x3FFF
    protocols = groups[0] == 0x2001 and groups[1] < 0x200
    documentation = groups[:2] == [0x2001, 0xDB8] or (groups[0] == 0x3FFF and groups[1] < 0x1000)
    relayed = groups[0] == 0x2002 or groups[:3] == [0x2620, 0x4F, 0x8000]
    # ISATAP, whose IPv4 address is behind 0000:5efe or 0200:5efe.
    inside = groups[5] == 0x5EFE and groups[4] in {0, 0x200} and not is_public_four(number & 0xFFFF_FFFF)
    return in_use and not (protocols or documentation or relayed or inside)


def near(numbers: list[int], bits: int) -> st.SearchStrategy[int]:
    """Any number of so many bits, and often one of these, or one or two beside it."""
    beside = st.builds(int.__add__, st.sampled_from(numbers), st.integers(-2, 2))
    return st.integers(0, 2**bits - 1) | beside.map(lambda number: number % 2**bits)


_EDGES = [ipaddress.ip_address(one) for one in (*inside.ADDRESSES, *inside.NEIGHBOURS)]
_FOUR = [int(one) for one in _EDGES if isinstance(one, IPv4Address)]
_SIX = [int(one) for one in _EDGES if isinstance(one, IPv6Address)]

fours = near(_FOUR, 32)
#: Beside those of the edges: any in use, and any that may have an IPv4 address in it.
sixes = (
    near(_SIX, 128)
    | st.integers(0x2000 << 112, (0x4000 << 112) - 1)
    | st.builds(lambda four: 0xFFFF << 32 | four, fours)
    | st.builds(
        lambda above, mark, four: above << 64 | mark << 32 | four,
        st.integers(0x2000 << 48, (0x4000 << 48) - 1),
        st.sampled_from([0x5EFE, 0x0200_5EFE, 0x0100_5EFE]),
        fours,
    )
)


@checked
@given(fours)
def test_of_ipv4_the_reference_says_the_same(number: int) -> None:
    assert POLICY.admits(str(IPv4Address(number))) == is_public_four(number)


@checked
@given(sixes)
def test_of_ipv6_the_reference_says_the_same(number: int) -> None:
    assert POLICY.admits(str(IPv6Address(number))) == is_public_six(number)


@checked
@given(fours.map(IPv4Address) | sixes.map(IPv6Address))
@example(IPv4Address("192.0.0.170"))
@example(IPv6Address("100::1"))
def test_what_the_standard_library_does_not_call_global_is_not_admitted(address: Address) -> None:
    """And not the other way round: it calls metadata services, AS112 and unassigned addresses global."""
    read = addresses.read(str(address))  # of the mapped, some versions call none global

    if not read.is_global or read.is_multicast:
        assert not POLICY.admits(str(address))


@checked
@given(fours.map(IPv4Address) | sixes.map(IPv6Address))
def test_an_address_is_the_same_in_every_spelling(address: Address) -> None:
    admitted = POLICY.admits(str(address))

    assert POLICY.admits(address.exploded) == admitted
    assert POLICY.admits(address.exploded.upper()) == admitted
    if isinstance(address, IPv4Address):
        assert POLICY.admits(f"::ffff:{address}") == admitted
        assert not POLICY.admits(f"::{address}")
        assert not POLICY.admits(f"64:ff9b::{address}")
