"""`make demo`: it ends by itself, and with status 0 only if every number agrees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.receiver import PATIENCE

ROOT = Path(__file__).parents[1]


def test_the_demo_agrees_with_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.shop"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "Committed = made public = delivered = verified" in done.stdout
    assert done.stdout.count("verified\n") >= 9
