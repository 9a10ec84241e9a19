"""`kill -9` between commit and delivery loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.receiver import PATIENCE, Received, Receiver

#: Where the support is, and not the package's source: what is installed is tested.
HERE = Path(__file__).parent

#: The application: the same lines in every process, the install line among them.
APPLICATION = """
import sys, threading
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from support.shop import Base, Product
from sqla_webhooks import install

engine = create_engine(f"sqlite:///{sys.argv[1]}")
Base.metadata.create_all(engine)
Session = sessionmaker(engine)
webhooks = install(Session, allow_http=True, allow_networks=["127.0.0.0/8"], timeout=0.5, lease=1, batch_window=%s)

def say(text):
    print(text, flush=True)
"""

#: Commits and says so. Its batch window is so long that nothing is sent before it is killed.
COMMIT = (
    APPLICATION % "3600"
    + """
endpoint = webhooks.endpoints.create(sys.argv[2], events=["*"])
with Session.begin() as session:
    session.add_all([Product(sku="a"), Product(sku="b")])
say(endpoint.secret)
threading.Event().wait()
"""
)

#: Commits, sends, and is killed while it waits for the answer.
SEND = (
    APPLICATION % "0"
    + """
endpoint = webhooks.endpoints.create(sys.argv[2], events=["*"])
say(endpoint.secret)
with Session.begin() as session:
    session.add_all([Product(sku="a"), Product(sku="b")])
threading.Event().wait()
"""
)

#: The next process: nothing but the install line.
AGAIN = APPLICATION % "0.1" + "threading.Event().wait()\n"


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, killed in the end."""
    started = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait(PATIENCE)
        assert started.stdout is not None
        started.stdout.close()


def test_killed_between_commit_and_delivery(tmp_path: Path, receiver: Receiver) -> None:
    with process(COMMIT, tmp_path / "shop.db", receiver.url()) as first:
        assert first.stdout is not None
        secret = first.stdout.readline().strip()
        first.send_signal(signal.SIGKILL)
        assert first.wait(PATIENCE) == -signal.SIGKILL
    assert receiver.received == []

    with process(AGAIN, tmp_path / "shop.db"):
        requests = receiver.wait_for(2)

    assert sorted(one.verify(secret)["resource_id"] for one in requests) == ["a", "b"]
    assert len({one.id for one in requests}) == 2


def test_killed_between_request_and_record(tmp_path: Path, receiver: Receiver) -> None:
    """At least once: the same event comes again, under the same id, when the lease has ended."""
    running: list[subprocess.Popen[str]] = []

    def kill(_request: Received) -> None:
        while running:
            running.pop().send_signal(signal.SIGKILL)

    receiver.on_request = kill
    with process(SEND, tmp_path / "shop.db", receiver.url()) as first:
        running.append(first)
        assert first.stdout is not None
        secret = first.stdout.readline().strip()
        assert first.wait(PATIENCE) == -signal.SIGKILL
    before = {one.id for one in receiver.wait_for(1)}

    with process(AGAIN, tmp_path / "shop.db"):
        requests = receiver.wait_for(len(receiver.received) + 2)

    assert {one.verify(secret)["resource_id"] for one in requests} == {"a", "b"}
    assert len({one.id for one in requests}) == 2
    assert before <= {one.id for one in requests}


@pytest.mark.long
def test_killed_at_any_moment(tmp_path: Path, receiver: Receiver) -> None:
    """Fifty processes, each killed at another moment; in the end every committed row has come."""
    script = APPLICATION % "0.02" + (
        "if len(sys.argv) > 2: webhooks.endpoints.create(sys.argv[2], events=['*'])\n"
        "import itertools, os\n"
        "for number in itertools.count():\n"
        "    sku = f'{os.getpid()}-{number}'\n"
        "    with Session.begin() as session: session.add(Product(sku=sku))\n"
        "    say(sku)\n"
    )
    committed: set[str] = set()
    for number in range(50):
        arguments = [tmp_path / "shop.db", *([receiver.url()] if number == 0 else [])]
        with process(script, *arguments) as victim:
            assert victim.stdout is not None
            for _ in range(1 + number % 9):
                committed.add(victim.stdout.readline().strip())
            victim.send_signal(signal.SIGKILL)
            victim.wait(PATIENCE)
            committed |= {line.strip() for line in victim.stdout if line.endswith("\n")}
    with process(AGAIN, tmp_path / "shop.db"):
        while not committed <= {one.event["resource_id"] for one in receiver.received}:
            receiver.wait_for(len(receiver.received) + 1)
    ids = {one.event["resource_id"]: one.id for one in receiver.received}
    assert all(ids[one.event["resource_id"]] == one.id for one in receiver.received), "a row has two events"
