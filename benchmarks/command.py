"""What the programs have in common: their options, and what they say of where they run."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks.databases import NAMES


@dataclass(frozen=True, slots=True)
class Options:
    databases: Sequence[str]
    #: Less of everything: to see whether a change is worth a whole run.
    quick: bool
    #: How often all is done; None leaves it to the program.
    rounds: int | None


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of the options that all have; `options` reads them."""
    made = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    made.add_argument("--database", choices=NAMES, action="append", help="only this one")
    made.add_argument("--quick", action="store_true", help="less of everything, and no Continuum")
    made.add_argument("--rounds", type=int, help="how often all is done")
    return made


def options(parsed: argparse.Namespace) -> Options:
    return Options(parsed.database or NAMES, parsed.quick, parsed.rounds)


def about() -> str:
    """The versions, in a line; and how busy the machine is, for a busy one spoils what the clock says."""
    found = [f"{os.cpu_count()} cores", f"load {os.getloadavg()[0]:.1f}", f"CPython {platform.python_version()}"]
    for package in ("SQLAlchemy", "psycopg", "orjson", "SQLAlchemy-Continuum"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
