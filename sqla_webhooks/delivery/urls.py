"""
What the URL of an endpoint must be, whatever the policy says.

Parsed by urllib3, which will connect: two parsers may see two hosts in one URL.
What they do not all read alike is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from urllib3 import HTTPResponse
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from sqla_webhooks.errors import InvalidURL

if not hasattr(HTTPResponse, "read1"):
    # Here, since of our modules this is the first to import urllib3, and what others import may not be in an old one.
    # requests is content with 1.26, which an installation of ours leaves as it finds it.
    message = "sqla_webhooks needs urllib3 2.2 or newer: pip install --upgrade urllib3"
    raise ImportError(message)

#: Characters.
LONGEST_URL = 2048

#: What names may measure (RFC 1035, section 2.3.4), in characters.
_LONGEST_HOST, _LONGEST_LABEL = 253, 63

#: Names that lead to this machine or into this network, by RFC 6761, 6762 and 8375 or by habit.
_INSIDE = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa", "svc")

_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: As names are on the wire: letters of other scripts are encoded by then.
_LABEL = re.compile(r"[a-z0-9_-]+")
#: As it is written: urllib3 leaves an empty user out, and decodes what readers of names do not.
_AUTHORITY = re.compile(r"[^/?#]*://([^/?#]*)")


@dataclass(frozen=True, slots=True)
class Target:
    """
    What of a URL decides whether it may be requested.

    Attributes:
        host: A name or an address as they are compared: in small letters, without brackets and the dot of the root.
        port: That of the scheme, if the URL names none.
    """

    scheme: str
    host: str
    port: int


def parse(url: str) -> Target:
    """
    Where the URL leads.

    Raises:
        InvalidURL: It is no URL, or has something in it that an endpoint's must not have; the message says what.
    """
    if not isinstance(url, str) or not url:
        given = "empty" if isinstance(url, str) else f"of type {type(url).__name__}"
        message = f"the URL is {given}: give one like https://partner.example/hooks"
        raise InvalidURL(message)
    if len(url) > LONGEST_URL:
        message = f"the URL has {len(url)} characters; {LONGEST_URL} are allowed"
        raise InvalidURL(message)
    _check_text(url)
    parsed = _read(url, "its host, or its port, is none")
    host = (parsed.host or "").strip("[]").lower().removesuffix(".")
    _check(parsed, host)
    _read(parsed.path or "/", "its path begins with //, and what follows is no host")  # as urllib3 does
    scheme = parsed.scheme or ""
    return Target(scheme, host, parsed.port or (443 if scheme == "https" else 80))


def is_this_machine(host: str) -> bool:
    """Whether a name can mean nothing but the machine that asks (RFC 6761, section 6.3)."""
    return _is_under(host, "localhost")


def leads_inside(host: str) -> bool:
    """Whether a name says itself that it is not of the internet: by where it ends, or by having one part only."""
    return "." not in host or any(_is_under(host, name) for name in _INSIDE)


def _is_under(host: str, name: str) -> bool:
    return host == name or host.endswith(f".{name}")


def _read(url: str, wrong: str) -> Url:
    try:
        return parse_url(url)
    except LocationParseError:
        message = f"the URL cannot be read: {wrong}"
        raise InvalidURL(message) from None  # the cause repeats the URL


def _check_text(url: str) -> None:
    found = _AUTHORITY.match(url)
    authority = "" if found is None else found[1]
    _refuse(
        (any(map(_is_odd, url)), "has white space, a control character or a backslash"),
        ("://" not in url, "has no scheme: write https:// in front"),
        ("@" in authority, "has a user or password in it, which would end up in logs"),
        ("%" in authority, "cannot be read: its host has a %"),
    )


def _check(parsed: Url, host: str) -> None:
    _refuse(
        (not parsed.scheme, "has no scheme: write https:// in front"),
        (not host, "has no host"),
        (parsed.fragment is not None, "has a #fragment, which no server would see"),
        (parsed.port == 0, "has port 0"),
        (len(host) > _LONGEST_HOST, f"has a host of {len(host)} characters; {_LONGEST_HOST} are allowed"),
        (":" not in host and not all(map(_is_label, host.split("."))), "has a host that no name can be"),
        (_is_odd_number(host), "has a host that is a number: write an address as four of them, as in 198.51.100.7"),
    )


def _refuse(*rules: tuple[bool, str]) -> None:
    """By the first that is broken."""
    for broken, what in rules:
        if broken:
            message = f"the URL {what}"
            raise InvalidURL(message)


def _is_odd(character: str) -> bool:
    return character.isspace() or not character.isprintable() or character == "\\"


def _is_label(label: str) -> bool:
    return len(label) <= _LONGEST_LABEL and _LABEL.fullmatch(label) is not None


def _is_odd_number(host: str) -> bool:
    """Whether it is an address as only some programs read them: 127.1, 0x7f.0.0.1, 017700000001."""
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False
