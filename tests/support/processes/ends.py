"""
The application commits, and ends when its input does.

    python -m support.processes.ends WAY

WAY is one of `WAYS`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from support.processes import application

#: More than a relay has in flight at a time.
COMMITS = 40


def fail() -> None:
    message = "the application fails"
    raise RuntimeError(message)


def interrupt() -> None:
    raise KeyboardInterrupt


WAYS: dict[str, Callable[[], None]] = {
    "return": lambda: None,
    "exit": lambda: sys.exit(0),
    "error": fail,
    "interrupt": interrupt,
}

if __name__ == "__main__":
    for number in range(COMMITS):
        application.put(str(number))
    sys.stdin.read()
    WAYS[sys.argv[1]]()
