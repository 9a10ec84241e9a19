"""The worker beside web processes that do not send: nothing but the application, until its input ends."""

from __future__ import annotations

import sys

from support.processes import application

if __name__ == "__main__":
    sys.stdin.read()
    assert application.webhooks.stop()
