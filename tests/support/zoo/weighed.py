"""A process that sends to each URL that it is given, and says how much more memory it has had for it. A script."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.delivery.send import Sender
from support.hostile import LOOPBACK, request_for


def peak() -> int:
    """Bytes, at the worst moment so far: of this process alone, which getrusage() does not know from its parent."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def main(healthy: str, *hostile: str) -> None:
    sender = Sender(LOOPBACK, connect_timeout=10.0, timeout=10.0, clock=SystemClock())
    for _ in range(3):
        sender.send(request_for(healthy))
    before = peak()
    outcomes = [repr(sender.send(request_for(url)).outcome)[:20] for url in hostile]
    print(json.dumps({"grown": peak() - before, "outcomes": outcomes}))  # noqa: T201  # to the test


if __name__ == "__main__":
    main(*sys.argv[1:])
