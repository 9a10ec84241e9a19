"""The receiver's process, as the demo holds it; and how long anything may take."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.shop.receiver import Receipt

#: Where `examples` can be imported from, wherever the demo is started.
ROOT = Path(__file__).parents[2]


class DemoError(Exception):
    """Something did not come as it should; the message says what."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time by which all must be done."""

    #: As `time.perf_counter_ns()` counts.
    at: int

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.perf_counter_ns() + int(seconds * 1e9))

    def left(self) -> float:
        """Seconds, 0 when it is past."""
        return max(0.0, (self.at - time.perf_counter_ns()) / 1e9)


class ReceiverProcess:
    """A running `examples.shop.receiver`. Made by `receiver()`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def url(self, timeout: float) -> str:
        """Where it listens. Called once: the first line that it writes says it."""
        line = self._line(timeout)
        if line is None:
            message = f"the receiver did not start within {timeout:.0f} s"
            raise DemoError(message)
        return f"http://127.0.0.1:{line['port']}/hooks"

    def trust(self, secret: str) -> None:
        """Hand over the endpoint's secret, as one would in a partner's settings."""
        assert self._process.stdin is not None  # noqa: S101  # Popen was told PIPE; mypy cannot know
        print(secret, file=self._process.stdin, flush=True)

    def next(self, timeout: float) -> Receipt | None:
        """The next request that it got, or None if none comes within *timeout* seconds."""
        line = self._line(timeout)
        return None if line is None else Receipt(**line)

    def end(self) -> None:
        """Kill it: it has nothing to lose."""
        self._process.kill()
        self._reader.join()

    def _line(self, timeout: float) -> dict[str, Any] | None:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            return None
        if line is None:
            message = f"the receiver's process has ended, with status {self._process.wait()}"
            raise DemoError(message)
        return dict(json.loads(line))

    def _read(self) -> None:
        """In a thread of its own, since a pipe cannot be read with a timeout."""
        assert self._process.stdout is not None  # noqa: S101  # Popen was told PIPE; mypy cannot know
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


@contextmanager
def receiver(*, refuse: str) -> Iterator[ReceiverProcess]:
    """A receiver in a process of its own, for as long as the block lasts."""
    command = [sys.executable, "-m", "examples.shop.receiver", "--refuse", refuse]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, encoding="utf-8") as process:  # noqa: S603  # our own module, by our own interpreter
        running = ReceiverProcess(process)
        try:
            yield running
        finally:
            running.end()
