"""The README's code, run as it stands."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support.local import Install
from support.receiver import PATIENCE, Receiver
from support.shop import Customer, Order

from sqla_webhooks import enriching

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    """The Python of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_first_screen_ends_in_a_verified_delivery(tmp_path: Path) -> None:
    script = blocks("README.md")[0]
    assert len([line for line in script.splitlines() if line.strip()]) < 20

    port = str(free_port())  # that of the text may be somebody's
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script.replace("8000", port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        assert re.match(r"verified: \{'type': 'order.created', .*'data': \{'id': [12]\}\}\n$", done.stdout)


def test_what_an_application_writes(install: Install, sessions: sessionmaker[Session], receiver: Receiver) -> None:
    """As it stands, but for a receiver on this machine in the partner's place."""
    install(sessions)
    application, once = blocks("README.md")[1:]
    namespace: dict[str, Any] = {"Session": sessions, "Order": Order}
    before = set(enriching.receivers)
    printed = io.StringIO()
    try:
        exec(application, namespace)  # it is what the README tells people to write
        with redirect_stdout(printed):
            exec(once.replace("https://partner.example/hooks", receiver.url()), namespace)
        with sessions.begin() as session:
            session.add(Order(customer=Customer(email="a@example.com")))
        (request,) = receiver.wait_for(1)
    finally:
        for key in enriching.receivers.keys() - before:
            enriching.disconnect(enriching.receivers[key])

    event = request.verify(printed.getvalue().strip())
    assert event["data"]["customer"] == {"id": 1, "email": "a@example.com"}


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md", "docs/architecture.md"])
def test_what_is_linked_is_there(name: str) -> None:
    document = ROOT / name
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target
