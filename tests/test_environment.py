"""What the environment of the process, and what servers have said before, do to a request: next to nothing."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support import certificates, hostile
from support.hostile import Server, http
from support.local import Install
from support.network import Send, allowing
from support.receiver import Receiver
from support.shop import put

from sqla_webhooks import DeliveryState
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.errors import TLSFailed

HERE = allowing("127.0.0.0/8", "::1")

ROOT = Path(__file__).parent.parent

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.self_signed(tmp_path_factory.mktemp("tls"), names=certificates.LOCAL_NAMES)


@pytest.fixture
def secure(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with hostile.answers(http(200, b"hello"), tls=context) as server:
        yield server


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ours the only certificate that requests trusts."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a password for everybody."""
    file = tmp_path / ".netrc"
    file.write_text("default login me password hunter2\n")
    file.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(file))


# --- the environment


def test_an_installation_heeds_nothing_of_the_environment(
    install: Install,
    sessions: sessionmaker[Session],
    secure: Server,
    receiver: Receiver,
    trusted: None,
    netrc: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, receiver.url(""))
    for name in BUNDLES:
        monkeypatch.setenv(name, "/nowhere")
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(secure.url(), events=["*"])
    put(sessions, "a")
    webhooks.drain()

    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.DELIVERED]
    (request,) = secure.requests
    assert b"authorization" not in request.lower()
    assert receiver.received == []


@pytest.mark.parametrize("name", BUNDLES)
def test_no_certificate_of_the_environment_is_trusted(
    send: Send, secure: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(certificate if name != "SSL_CERT_DIR" else certificate.parent))

    assert isinstance(send(secure.url(), HERE), TLSFailed)
    assert secure.requests == []


def test_the_keys_of_tls_are_written_where_the_environment_says(
    send: Send, secure: Server, trusted: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Python's own contexts: so that whoever runs the process can read what it sends."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    assert isinstance(send(secure.url(), HERE), Answer)

    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


# --- what servers have said


@pytest.mark.parametrize("challenge", ["Basic realm=x", "Digest realm=x, nonce=y", "Negotiate", "Bearer"])
def test_a_challenge_is_not_answered(send: Send, netrc: None, challenge: str) -> None:
    with hostile.answers(http(401, b"", f"WWW-Authenticate: {challenge}")) as server:
        for _ in range(2):
            outcome = send(server.url(), HERE)
            assert isinstance(outcome, Answer)
            assert outcome.status == 401

    assert len(server.requests) == 2
    assert not any(b"authorization" in request.lower() for request in server.requests)


@pytest.mark.parametrize("status", [200, 302, 401])
def test_a_cookie_is_sent_to_nobody(send: Send, status: int) -> None:
    cookies = (
        "Set-Cookie: session=stolen; Path=/",
        "Set-Cookie: other=stolen; Domain=127.0.0.1",
        "Location: /elsewhere",
    )
    with hostile.answers(http(status, b"", *cookies)) as server:
        for path in ("/hooks", "/elsewhere", "/hooks"):
            assert isinstance(send(server.url(path), HERE), Answer)

    assert len(server.requests) == 3
    assert not any(b"cookie" in request.lower() for request in server.requests)


# --- the libraries below


def test_a_urllib3_that_is_too_old_is_named_by_the_import() -> None:
    """Of which the names are missing that came with 2.0 and 2.2: requests is content with it."""
    missing = "urllib3.HTTPResponse.read1, urllib3.BaseHTTPResponse.read1, urllib3.exceptions.NameResolutionError"
    old = f"import urllib3.exceptions; del {missing}"
    done = subprocess.run(
        [sys.executable, "-c", f"{old}; import sqla_webhooks"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    said = done.stderr.splitlines()[-1]
    assert said == "ImportError: sqla_webhooks needs urllib3 2.2 or newer: pip install --upgrade urllib3"
