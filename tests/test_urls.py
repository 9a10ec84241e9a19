"""What the URL of an endpoint must be when it is written; nothing is resolved, and nothing connected to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from support import inside
from support.network import STRICT, allowing

from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.urls import LONGEST_URL
from sqla_webhooks.errors import Blocked, EndpointError, InvalidURL


@pytest.mark.parametrize(
    "url",
    [
        "https://partner.example/hooks",
        "https://partner.example",
        "https://partner.example:8443/hooks?tenant=7&at=%2F@",
        "HTTPS://Partner.Example/",
        "https://bücher.example/é",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:443/",
        pytest.param("https://partner.example/" + "x" * (LONGEST_URL - 24), id="longest"),
    ],
)
def test_a_public_https_url_is_allowed_and_comes_back_as_it_was(url: str) -> None:
    assert EgressPolicy().check_url(url) == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (None, "of type NoneType: give one like https://"),
        (b"https://me:hunter2@partner.example/", "of type bytes: give one like https://"),
        (7, "of type int: give one like https://"),
        ("", "empty: give one like https://"),
        ("https://partner.example/" + "x" * (LONGEST_URL - 23), "2049 characters; 2048 are allowed"),
        ("https://partner.example/a b", "white space"),
        (" https://partner.example/", "white space"),
        ("https://partner.example/\n", "white space"),
        ("https://partner.example/\u00a0", "white space"),
        ("https://partner.example/\0", "control character"),
        ("https://partner.example/\r\nX-Header: 1", "control character"),
        ("https://partner\u200b.example/", "control character"),
        ("https://partner.example/\ud800", "control character"),
        ("https://127.0.0.1\\@partner.example/", "backslash"),
        ("partner.example/hooks", "has no scheme"),
        ("//partner.example/hooks", "has no scheme"),
        ("https://", "has no host"),
        ("https:///hooks", "has no host"),
        ("https:partner.example", "has no scheme: write https://"),
        ("javascript:alert(1)", "has no scheme: write https://"),
        ("https://me@partner.example/", "user or password"),
        ("https://me:secret@partner.example/", "user or password"),
        ("https://127.0.0.1:80@partner.example/", "user or password"),
        ("https://partner.example/#", "#fragment"),
        ("https://127.0.0.1#@partner.example/", "#fragment"),
        ("https://partner.example:0/", "port 0"),
        ("https://partner.example:65536/", "cannot be read"),
        ("https://partner.example:port/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://127.0.0.1%00.partner.example/", "cannot be read"),
        ("https://①②⑦.⓪.⓪.①/", "cannot be read"),
        ("https://ⓛocalhost/", "cannot be read"),
        ("ftp://partner.example/", "must start with https://, not ftp://"),
        ("gopher://partner.example/", "must start with https://, not gopher://"),
        ("http+unix://partner.example/", "must start with https://, not http+unix://"),
        ("http://partner.example/", "must start with https://, not http://; install(..., allow_http=True)"),
    ],
    ids=lambda value: ascii(value)[:50],
)
def test_a_url_that_breaks_a_rule_is_refused_and_told_which(url: Any, complaint: str) -> None:
    with pytest.raises(InvalidURL) as refusal:
        EgressPolicy().check_url(url)

    assert complaint in str(refusal.value)
    assert isinstance(refusal.value, EndpointError)


def test_the_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(InvalidURL) as refusal:
        EgressPolicy().check_url("https://me:hunter2@partner.example/")

    assert "hunter2" not in str(refusal.value)


def test_allow_http_allows_http_and_nothing_else() -> None:
    assert STRICT.check_url("http://partner.example/") == "http://partner.example/"
    with pytest.raises(InvalidURL, match=r"not ftp://$"):
        STRICT.check_url("ftp://partner.example/")


# --- where a URL leads


def ids(values: Iterable[str]) -> list[str]:
    return [ascii(value)[1:-1] for value in values]


@pytest.mark.parametrize("url", inside.URLS, ids=ids(inside.URLS))
def test_a_url_that_leads_inside_is_refused_when_written(url: str) -> None:
    with pytest.raises(InvalidURL):
        STRICT.check_url(url)
    with pytest.raises(InvalidURL):
        EgressPolicy().check_url(url.replace("http://", "https://"))


@pytest.mark.parametrize("host", [*inside.LITERALS, *inside.NAMES])
def test_the_refusal_says_that_an_address_is_not_public(host: str) -> None:
    with pytest.raises(InvalidURL, match="is not a public address"):
        STRICT.check_url(f"http://{host}/")


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost.", "LOCALHOST.", "hooks.localhost"])
def test_localhost_is_this_machine_whatever_other_network_is_allowed(host: str) -> None:
    for networks, options in (
        (["10.0.0.0/8"], {}),
        (["127.0.0.0/8", "::1"], {"deny_networks": ["127.0.0.0/8", "::1"]}),
    ):
        with pytest.raises(InvalidURL, match="is not a public address"):
            allowing(*networks, **options).check_url(f"http://{host}/")
    for network in ("127.0.0.0/8", "::1"):
        assert allowing(network).check_url(f"http://{host}/")


@pytest.mark.parametrize("host", [inside.written(one) for one in inside.NEIGHBOURS])
def test_an_address_beside_those_that_are_not_public_is_allowed(host: str) -> None:
    assert STRICT.check_url(f"http://{host}/")


@pytest.mark.parametrize("host", inside.PUBLIC_NAMES)
def test_a_name_that_says_nothing_is_for_the_connection_to_refuse(host: str) -> None:
    assert STRICT.check_url(f"http://{host}/")


@pytest.mark.parametrize("port", inside.PORTS)
def test_a_port_of_another_service_is_refused_when_written_and_when_requested(port: int) -> None:
    url = allowing(egress_ports=[port]).check_url(f"http://partner.example:{port}/")

    with pytest.raises(InvalidURL, match=f"port {port} is not one of the web's"):
        STRICT.check_url(url)
    with pytest.raises(Blocked, match=f"port {port} is not one of the web's"):
        STRICT.check_target(url)


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 8000, 8080, 8443, 9443, 49152, 65535])
def test_a_port_of_the_web_is_allowed(port: int) -> None:
    url = STRICT.check_url(f"http://partner.example:{port}/")

    STRICT.check_target(url)


def test_no_other_port_is_allowed_than_those_that_are_named() -> None:
    policy = allowing(egress_ports=[443, 6379])

    assert policy.check_url("https://partner.example/")
    assert policy.check_url("http://partner.example:6379/")
    for url in ("http://partner.example/", "https://partner.example:8443/"):
        with pytest.raises(InvalidURL, match="not among the ports"):
            policy.check_url(url)
        with pytest.raises(Blocked, match="not among the ports"):
            policy.check_target(url)


@pytest.mark.parametrize("host", ["localhost", "wiki.intranet"])
def test_the_refusal_of_a_name_says_what_would_allow_it(host: str) -> None:
    with pytest.raises(InvalidURL, match=rf'allow_hosts=\["{host}"\]'):
        STRICT.check_url(f"http://{host}/")

    assert allowing(allow_hosts=[host]).check_url(f"http://{host}/")


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
def test_the_refusal_of_an_address_says_what_would_allow_it(host: str) -> None:
    with pytest.raises(InvalidURL, match=rf'allow_networks=\["{host}"\]'):
        STRICT.check_url(f"http://{inside.written(host)}/")

    assert allowing(host).check_url(f"http://{inside.written(host)}/")


# --- what is denied


@pytest.mark.parametrize("host", ["10.1.2.3", "[::ffff:10.1.2.3]", "[64:ff9b::10.1.2.3]", "[2002:a01:203::]"])
def test_what_is_denied_is_refused_whatever_else_is_allowed(host: str) -> None:
    networks = ["10.0.0.0/8", "64:ff9b::/96", "2002::/16"]
    hosts = ["10.1.2.3", "::ffff:a01:203", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::"]
    for options in ({"allow_hosts": hosts}, {"allow_hosts": ()}):
        assert allowing(*networks, **options).check_url(f"http://{host}/")

        with pytest.raises(InvalidURL, match=r"may not be reached: .* deny_networks"):
            allowing(*networks, deny_networks=["10.1.0.0/16"], **options).check_url(f"http://{host}/")


def test_a_public_address_can_be_denied() -> None:
    policy = allowing(deny_networks=["8.8.8.0/24", "2606:4700::/32"])

    for host in ("8.8.8.8", "[::ffff:8.8.8.8]", "[2606:4700::1111]"):
        with pytest.raises(InvalidURL):
            policy.check_url(f"http://{host}/")
    assert policy.check_url("http://8.8.9.8/")


# --- what is allowed


@pytest.mark.parametrize("url", [*inside.TRICKS, *inside.SCHEMES])
def test_no_network_that_is_allowed_makes_a_trick_a_url(url: str) -> None:
    with pytest.raises(InvalidURL):
        allowing("0.0.0.0/0", "::/0", allow_hosts=["partner.example", "127.0.0.1"]).check_url(url)


def test_nat64_that_is_allowed_admits_what_is_public_behind_it() -> None:
    policy = allowing("64:ff9b::/96")

    assert policy.check_url("http://[64:ff9b::8.8.8.8]/")
    for host in ("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::168.63.129.16"):
        with pytest.raises(InvalidURL):
            policy.check_url(f"http://[{host}]/")
    assert allowing("64:ff9b::/96", "10.0.0.0/8").check_url("http://[64:ff9b::10.0.0.1]/")
