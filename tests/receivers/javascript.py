"""
The receiver in Node, `node/receiver.mjs`: verifies each dialect with the packages that JavaScript has for it.

Its packages are installed when they are first asked for. Node, or a registry,
that is not there is a failure in CI, and a skip elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import pytest

from receivers.report import Report

_HERE = Path(__file__).parent / "node"

#: What npm says where its registry cannot be reached. Packages that are not those of the lock file are another matter.
_OUT_OF_REACH = ("EAI_AGAIN", "ENOTFOUND", "ECONNREFUSED", "ECONNRESET", "ENETUNREACH", "EHOSTUNREACH", "ETIMEDOUT")

#: Seconds for an answer that should be there at once.
_PATIENCE = 20.0


class NodeReceiver:
    """A running one. Made by `node_receiver()`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="node")
        self._reader.start()
        self._port = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"

    def wait_until_started(self) -> None:
        self._port = self._line()["port"]

    def report(self) -> Report:
        """Of the next request; waits for it."""
        line = self._line()
        return Report(**{field.name: line[field.name] for field in fields(Report)})

    def end(self) -> None:
        self._process.kill()  # it has nothing to lose
        self._reader.join()

    def _line(self) -> dict[str, Any]:
        line = self._lines.get(timeout=_PATIENCE)
        assert line is not None, "the receiver has ended: what it had to say stands in stderr"
        return dict(json.loads(line))

    def _read(self) -> None:
        """In a thread of its own, since a pipe cannot be read with a timeout."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


@contextmanager
def node_receiver(secrets: Mapping[str, Sequence[str]]) -> Iterator[NodeReceiver]:
    """
    A receiver in a process of its own, for as long as the block lasts.

    Args:
        secrets: Path to the secrets of which any will do. A path is `/standard`, `/cloudevents`,
            `/cloudevents-binary`, `/github` or `/openfront`, and anything behind it, as in `/standard/new`.
    """
    node = _installed()
    environment = {**os.environ, "RECEIVER_SECRETS": json.dumps({path: list(given) for path, given in secrets.items()})}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [node, "receiver.mjs"], cwd=_HERE, env=environment, stdin=pipe, stdout=pipe, text=True, encoding="utf-8"
    ) as process:
        receiver = NodeReceiver(process)
        try:
            receiver.wait_until_started()
            yield receiver
        finally:
            receiver.end()


def _installed() -> str:
    """Where Node is, once its packages are those of the lock file: one process installs them, and the others wait."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _do_without("node and npm are not there: install Node 20 or newer, from https://nodejs.org")
    wanted, packages = (_HERE / "package-lock.json").read_text(), _HERE / "node_modules"
    mark = packages / ".installed"  # written last, so that what was interrupted is done again
    with (_HERE / "node_modules.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != wanted:
            _install(npm)
            mark.write_text(wanted)
    return node


def _install(npm: str) -> None:
    done = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=_HERE,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if any(code in done.stderr for code in _OUT_OF_REACH):
        _do_without(f"npm's registry is out of reach: run `npm ci` in {_HERE} where it is not ({done.stderr})")
    assert done.returncode == 0, done.stderr


def _do_without(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
