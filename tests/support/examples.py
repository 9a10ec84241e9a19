"""`examples`, importable though the root of the repository is no place to import from: what is installed is tested."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_there = ROOT / "examples"
_spec = importlib.util.spec_from_file_location(
    "examples", _there / "__init__.py", submodule_search_locations=[str(_there)]
)
assert _spec is not None
sys.modules.setdefault("examples", importlib.util.module_from_spec(_spec))
