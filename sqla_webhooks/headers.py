"""
The headers of requests, those of an endpoint and those of a dialect: what they may be. Pure.

A header that frames the request, says where it comes from or goes to, or is one
of ours, is nobody's to set. Values are secrets: no error repeats one, and of a
name no more than can be one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqla_webhooks.errors import InvalidHeaders

#: Characters of a name and of a value; headers; bytes of them all, as they are on the wire.
LONGEST_NAME, LONGEST_VALUE, MOST, LARGEST = 100, 4096, 20, 8192

_NO_LETTER = re.compile(r"[^a-z0-9]")
# A token, by RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Printable ASCII, with spaces and tabs inside.
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
_CONTENT_TYPE = "content-type"
# urllib3 takes this value for a sign to leave the header out.
_SIGN = "@@@SKIP_HEADER@@@"

_FRAMING = (
    *("host", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "http2-settings", "expect"),
    *("content-*", "proxy", "proxy-*"),
)
_OURS = ("accept-encoding", "user-agent", "date")
# By which receivers tell whose the request is, and what it says.
_DIALECTS = ("webhook-*", "ce-*", "x-openfront-*", "x-github-*", "x-hub-signature*")
# By which servers and their frameworks are told, by what stands before them, whose request it is.
_ORIGIN = (
    *("via", "forwarded", "forwarded-for", "x-forwarded", "x-forwarded-*", "x-envoy-*", "x-host", "x-url-scheme"),
    *("client-ip", "true-client-ip", "fastly-client-ip", "cf-connecting-*", "x-client-ip", "x-cluster-client-ip"),
    *("x-real-ip", "x-remote-ip", "x-remote-addr", "x-originating-ip", "x-proxyuser-ip", "x-azure-clientip"),
)
_STATE = ("cookie", "cookie2")
# By which the metadata services of clouds know that a request is meant for them.
_METADATA = (
    *("metadata", "metadata-flavor", "x-metadata-token", "x-aws-ec2-metadata-*"),
    *("x-google-metadata-request", "x-ibm-metadata-*"),
)
# They make another request of this one, where a server heeds them.
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override", "x-original-*", "x-rewrite-url")
_DENIED = (*_FRAMING, *_OURS, *_DIALECTS, *_ORIGIN, *_STATE, *_METADATA, *_OVERRIDES)


@dataclass(frozen=True, slots=True)
class _Names:
    """A list of names, of which some are beginnings."""

    exact: frozenset[str]
    beginnings: tuple[str, ...]

    @classmethod
    def of(cls, listed: tuple[str, ...]) -> _Names:
        beginnings = tuple(one.removesuffix("*") for one in listed if one.endswith("*"))
        return cls(frozenset(one for one in listed if not one.endswith("*")), beginnings)

    def __contains__(self, name: str) -> bool:
        # A server that hands headers on as variables takes _ for -, and some take whatever is no letter for it.
        plain = _NO_LETTER.sub("-", name.lower())
        return plain in self.exact or plain.startswith(self.beginnings)


_NO_ENDPOINTS = _Names.of(_DENIED)
_NO_DIALECTS = _Names.of(_FRAMING)


def check(given: object) -> dict[str, str]:
    """
    The headers, if each may be one.

    Raises:
        InvalidHeaders: The message says which name and which rule.
    """
    if not isinstance(given, Mapping):
        message = f'headers is {type(given).__name__}: give a dict, as in headers={{"Authorization": "Bearer …"}}'
        raise InvalidHeaders(message)
    if len(given) > MOST:
        message = f"there are {len(given)} headers: an endpoint may have {MOST}"
        raise InvalidHeaders(message)
    checked = _checked(given, _NO_ENDPOINTS, but=())
    if (size := sum(len(f"{name}: {value}\r\n") for name, value in checked.items())) > LARGEST:
        message = f"the headers are {size} bytes: an endpoint may have {LARGEST} in all"
        raise InvalidHeaders(message)
    return checked


def check_dialect(given: object) -> dict[str, str]:
    """
    What a dialect says of one request, if it can be sent, and frames nothing.

    Raises:
        InvalidHeaders: The message says which name and which rule.
    """
    if not isinstance(given, Mapping):
        message = f"headers() returned {type(given).__name__}: return a dict of names and values"
        raise InvalidHeaders(message)
    checked = _checked(given, _NO_DIALECTS, but=(_CONTENT_TYPE,))
    if not any(name.lower() == _CONTENT_TYPE for name in checked):
        message = "headers() returned no Content-Type: say what the body is, as in 'application/json'"
        raise InvalidHeaders(message)
    return checked


def _checked(given: Mapping[Any, Any], denied: _Names, *, but: tuple[str, ...]) -> dict[str, str]:
    checked: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in given.items():
        _check_name(name)
        if name in denied and name.lower() not in but:
            message = (
                f"the header {name!r} cannot be set: its name belongs to the request itself, or to what stands between"
            )
            raise InvalidHeaders(message)
        if name.lower() in seen:
            message = f"the header {name!r} is there twice: upper and lower case are the same in names"
            raise InvalidHeaders(message)
        seen.add(name.lower())
        _check_value(name, value)
        checked[name] = value
    return checked


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        message = f"the name of a header is {type(name).__name__}: give a text, like 'Authorization'"
        raise InvalidHeaders(message)
    if not _TOKEN.fullmatch(name):
        # Who has put a whole line here has put the value here too.
        begins = _TOKEN.match(name)
        which = f"that begins with {begins[0][:LONGEST_NAME]!r}" if begins else f"of {len(name)} characters"
        message = f"the name of a header, {which}, has a character that no name has: letters, digits and - are safe"
        raise InvalidHeaders(message)
    if len(name) > LONGEST_NAME:
        message = f"the header {name[:LONGEST_NAME]!r}… has {len(name)} characters in its name: {LONGEST_NAME} may be"
        raise InvalidHeaders(message)


def _check_value(name: str, value: Any) -> None:
    problem = None
    if not isinstance(value, str):
        problem = f"is {type(value).__name__}: give a text"
    elif not value:
        problem = "is empty: leave the header out"
    elif len(value) > LONGEST_VALUE:
        problem = f"has {len(value)} characters: {LONGEST_VALUE} are allowed"
    elif not _VALUE.fullmatch(value) or value == _SIGN:
        problem = "may be printable ASCII only, with no space at its ends and no line break: encode it, as in base64"
    if problem is not None:
        message = f"the value of the header {name!r} {problem}"
        raise InvalidHeaders(message)


def written(headers: Mapping[str, str]) -> str:
    """As text, to be sealed."""
    return json.dumps(dict(headers))


def read(text: str) -> dict[str, str]:
    """
    What `written` made, checked again: somebody may have been at the table.

    Raises:
        InvalidHeaders: It is something else, or would be refused today.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        message = "the headers of the endpoint are no longer what was written: update(headers={...}) writes them anew"
        raise InvalidHeaders(message)
    return check(found)
