"""Certificates for servers on this machine, made by the openssl command."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-subj", "/CN=localhost")

#: Its names and those of this machine's address.
LOCAL_NAMES = "DNS:localhost,IP:127.0.0.1"

_PAST = """
[ca]
default_ca = authority
[authority]
database = {folder}/database
rand_serial = yes
new_certs_dir = {folder}
default_md = sha256
policy = anybody
copy_extensions = copy
[anybody]
commonName = supplied
"""


def self_signed(folder: Path, *, names: str = "DNS:localhost") -> Path:
    """A certificate with its key, in one file."""
    folder.mkdir(exist_ok=True)
    key, certificate = folder / "key", folder / "certificate"
    _openssl("req", "-x509", "-days", "2", *_KEY, "-addext", f"subjectAltName={names}", *_into(key, certificate))
    return _both(folder)


def expired(folder: Path, *, names: str) -> Path:
    """One that was good for a day in 2020."""
    folder.mkdir(exist_ok=True)
    key, request, certificate = folder / "key", folder / "request", folder / "certificate"
    _openssl("req", "-new", *_KEY, "-addext", f"subjectAltName={names}", *_into(key, request))
    (folder / "database").touch()
    (folder / "configuration").write_text(_PAST.format(folder=folder))
    when = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
    of = ("-config", folder / "configuration", "-selfsign", "-keyfile", key, "-in", request, "-out", certificate)
    _openssl("ca", "-batch", "-notext", *when, *of)
    return _both(folder)


def _into(key: Path, out: Path) -> tuple[str | Path, ...]:
    return "-keyout", key, "-out", out


def _both(folder: Path) -> Path:
    both = folder / "both.pem"
    both.write_text((folder / "certificate").read_text() + (folder / "key").read_text())
    return both


def _openssl(*arguments: str | Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        message = "no openssl command to make a certificate with: apt-get install openssl"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    subprocess.run([openssl, *arguments], check=True, capture_output=True)
