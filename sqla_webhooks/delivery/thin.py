"""Events without what is in their rows, for where the whole would be too much. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from sqla_webhooks.events import Event


def thinned(event: Event, key: Collection[str]) -> Event:
    """*event* with the attributes of its *key* alone, and what they were before; it says that it is not whole."""
    changes = _only(key, event.changes or {})  # or nobody could tell which row has another key now
    return replace(event, data=_only(key, event.data), changes=changes or None, links=None, truncated=True)


def _only(names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
