"""
Whatever a URL is: those who read it see one thing, or it is refused.

urllib3 reads it when it is written and again when it is sent, requests by the
standard library in between; what counts in the end is what is on the wire.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import idna
import pytest
import requests
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from support import hostile
from support.hostile import Server, http
from support.network import Senders, allowing
from urllib3.util import parse_url

from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery import urls
from sqla_webhooks.errors import InvalidURL

checked = settings(deadline=None, max_examples=400)

#: Everything that is a URL at all.
LAX = allowing("0.0.0.0/0", "::/0", egress_ports=frozenset(range(1, 65536)))

#: In every user and password here.
SECRET = "hunter2"


# --- URLs, of parts that are mostly in order


def mostly(usual: st.SearchStrategy[str], *odd: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda number: st.one_of(*odd) if number == 0 else usual)


def one_of(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


schemes = mostly(
    one_of("http", "https", "HTTP", "hTTps"), one_of("ftp", "file", "http+unix", "httpx", "", "x.y", "1http")
)
slashes = mostly(st.just("://"), one_of("//", ":/", ":", ":///", ":\\\\", ":/\\", "://@", ":// "))
users = mostly(
    st.just(""),
    one_of(
        "@",
        f"me:{SECRET}@",
        f"{SECRET}@",
        f":{SECRET}@",
        f"127.0.0.1:80:{SECRET}@",
        f"me:{SECRET}@x@",
        f"[::1]:{SECRET}@",
    ),
)
labels = mostly(
    st.text("abcxyz019-_", min_size=1, max_size=8) | one_of("bücher", "日本", "xn--bcher-kva", "xn--a", "ß", "a" * 63),
    one_of(
        "",
        "a" * 64,
        "*",
        "%41",
        "%2e",
        "%00",
        "%2f",
        "①②",
        "ⓛ",
        "ｅｘ",
        "℀",
        "\u0130",
        "0x7f",
        "127",
        "007",
        "a\u00adb",
    ),
    st.characters().map(lambda character: f"a{character}b"),
    st.text(max_size=4),
)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
addresses = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
long_addresses = st.integers(0, 2**128 - 1).map(IPv6Address) | one_of("::ffff:8.8.8.8", "::").map(IPv6Address)
bracketed = long_addresses.flatmap(lambda one: one_of(str(one), one.exploded, str(one).upper())).map("[{}]".format)
hosts = st.one_of(
    names,
    joined(names, one_of(".example", ".example.", ".7", ".0x7", ".")),
    addresses,
    bracketed,
    joined(addresses | names, one_of("..", ".", "%00.partner.example", "%2epartner.example", "\t", "\\")),
    st.builds(lambda host, zone: f"[{host}{zone}]", long_addresses, one_of("%lo", "%25lo", "%", ".1", "]", ":1")),
    one_of("[]", "[", "]", "::1", "[v1.x]", "[8.8.8.8]", "[partner.example]", "partner.example]", "[::1].example"),
)
ports = mostly(
    st.integers(1, 65535).map(":{}".format) | one_of("", ":80", ":443", ":", ":00080"),
    one_of(":0", ":65536", ":99999999999", ":-1", ":+80", ":8_0", ":8 0", ":８０", ":80:80", ":port", ":80.0"),
)
_PIECES = (
    "/",
    "//",
    ".",
    "..",
    ":",
    ";",
    "=",
    "&",
    "@",
    "%41",
    "%2e",
    "%2F",
    "%",
    "%zz",
    "%ff",
    "~",
    "é",
    "日",
    "+",
    ",",
    "a:b",
    "[",
    "<",
    '"',
    "{",
    "|",
)
paths = mostly(
    st.lists(one_of("a", "b7", "-", "_") | one_of(*_PIECES), max_size=8).map("".join).map("/{}".format)
    | one_of("", "/"),
    st.text(max_size=6),
    one_of("//a:b/", "/.//a:b/", "//x@y:z/", "/%2e%2e//a:b", "\\a", "/a b"),
)
queries = mostly(st.just("") | joined(st.just("?"), paths), st.just("?") | st.text(max_size=6).map("?{}".format))
fragments = mostly(st.just(""), one_of("#", "#x", "#@partner.example/"))
any_url = joined(schemes, slashes, users, hosts, ports, paths, queries, fragments)


# --- readers


@dataclass(frozen=True)
class Seen:
    scheme: str
    host: str
    port: int


def seen(scheme: str | None, host: str | None, port: int | None) -> Seen:
    """As one may be compared with another."""
    assert scheme
    assert host
    scheme = scheme.lower()
    return Seen(scheme, _host(host.strip("[]")), {"http": 80, "https": 443}[scheme] if port is None else port)


def _host(host: str) -> str:
    with suppress(ValueError):
        return str(ip_address(host.removesuffix(".")))
    encoded = [
        idna.encode(label.lower()).decode() if not label.isascii() else label.lower() for label in host.split(".")
    ]
    return ".".join(encoded).removesuffix(".")


def by_urllib3(url: str) -> Seen:
    parsed = parse_url(url)
    return seen(parsed.scheme, parsed.host, parsed.port)


def by_the_standard_library(url: str) -> Seen:
    parsed = urlsplit(url)
    return seen(parsed.scheme, parsed.hostname, parsed.port)


def by_requests(url: str) -> Seen:
    return by_the_standard_library(str(requests.Request("POST", url).prepare().url))


def by_a_careless_reader(url: str) -> Seen:
    """What a regular expression of somebody's would find."""
    scheme, _, rest = url.partition("://")
    authority = rest.replace("?", "/").partition("/")[0]
    host, colon, port = authority.rpartition(":")
    if not colon or "]" in port:
        host, port = authority, ""
    return seen(scheme, host, int(port) if port else None)


def accepted(url: Any) -> bool:
    """Whether it is; a refusal is one sentence, and tells no secret."""
    try:
        given_back = LAX.check_url(url)
    except InvalidURL as error:
        refusal = error
    else:
        assert given_back == url
        return True
    assert str(refusal).isprintable()
    assert SECRET not in str(refusal)
    assert refusal.__cause__ is None
    return False


@checked
@given(any_url)
@example("https://*.partner.example/")
@example("https://partner.example../")
@example("https://@partner.example/")
@example("https://[2606:4700::1111%25lo]/")
@example("https://%6cocalhost/")
@example("https://a|b/")
def test_whoever_reads_a_url_that_is_accepted_sees_the_same(url: str) -> None:
    if not accepted(url):
        event("refused")
        return
    event("accepted")

    target = urls.parse(url)
    ours = seen(target.scheme, target.host, target.port)
    assert by_urllib3(url) == ours
    assert by_the_standard_library(url) == ours
    assert by_requests(url) == ours
    assert by_a_careless_reader(url) == ours


@checked
@given(st.text() | st.text("htps:/@[]?#%.0123456789x\\ \t") | st.text(max_size=8).map("http://{}".format))
def test_any_text_is_accepted_or_refused(url: str) -> None:
    if accepted(url):
        assert by_urllib3(url) == by_the_standard_library(url) == by_requests(url)


@given(st.none() | st.integers() | st.binary() | st.lists(st.text()) | st.just(f"http://me:{SECRET}@x/".encode()))
def test_what_is_no_text_is_refused(url: Any) -> None:
    assert not accepted(url)


# --- the wire


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """To which every name, every address and every port leads."""
    with hostile.answers(http(200)) as server, pytest.MonkeyPatch.context() as patch:
        place = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", server.port))
        patch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [place])
        yield server


def on_the_wire(request: bytes) -> tuple[str, list[str]]:
    """The path, and every `Host`."""
    first, *headers = request.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    method, path, version = first.split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    return path, [value for name, _, value in (header.partition(": ") for header in headers) if name.lower() == "host"]


plain_url = joined(st.just("http://"), hosts, ports, paths, queries)


@settings(checked, max_examples=200)
@given(url=plain_url)
@example(url="http://partner.example//twice//slash?q=1")
@example(url="http://partner.example/a/../b/./c")
@example(url="http://bücher.example/é?é")
@example(url="http://[2606:4700::1111]/")
def test_what_is_sent_says_the_host_and_the_path_of_the_url(server: Server, url: str) -> None:
    if not accepted(url):
        return
    senders = Senders()
    before = len(server.requests)
    try:
        outcome = senders.send(url, LAX)
    finally:
        senders.close()

    assert isinstance(outcome, Answer), repr(outcome)
    (request,) = server.requests[before:]
    path, hosts = on_the_wire(request)
    (host,) = hosts
    assert by_the_standard_library(f"http://{host}/") == by_the_standard_library(url)
    assert _decoded(path) == _target(urlsplit(url))


def _target(url: SplitResult) -> str:
    """Without dots in the path (RFC 3986, section 5.2.4)."""
    path = _decoded(str(parse_url(f"http://x{url.path}").path or "/"))
    return f"{path}?{_decoded(url.query)}" if url.query else path


def _decoded(part: str) -> str:
    """A part with a % that encodes nothing has none that encodes anything; urllib3 writes the others' digits large."""
    if _ENCODED.sub("", part).count("%"):
        return _ENCODED.sub(lambda found: found[0].upper(), part)
    return unquote(part, errors="surrogateescape")


_ENCODED = re.compile("%[0-9a-fA-F]{2}")
