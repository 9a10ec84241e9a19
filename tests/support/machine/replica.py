"""What a receiver makes of the events: strictly, so that one that is invented, lost or misplaced fails."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from support.receiver import Received

#: Resource and id to the values.
Rows: TypeAlias = dict[tuple[str, str], dict[str, Any]]


class Replica:
    """
    A copy of the tables, built from nothing but events.

    Args:
        keys: Resource to the attributes of its key.
        partial: Resources whose `deleted` events need not know all of the row.
    """

    def __init__(self, keys: Mapping[str, Sequence[str]], *, partial: Collection[str] = ()) -> None:
        self.rows: Rows = {}
        self.links: dict[tuple[str, str, str], set[str]] = {}
        self._keys = keys
        self._partial = partial
        self._seen: set[str] = set()

    def hear(self, requests: Iterable[Received], *, once: bool) -> None:
        """
        Apply what has arrived, in its order.

        Args:
            once: Whether each row may be told of but once, or else twice if another has taken the key that it gave up.
        """
        told: set[tuple[str, str]] = set()
        for request in requests:
            event = request.event
            assert request.id not in self._seen, "one event came twice"
            self._seen.add(request.id)
            self.apply(event)
            row = event["resource"], event["resource_id"]
            if once and event.get("changes", {}).keys().isdisjoint(self._keys[event["resource"]]):
                assert row not in told, "two events of one row and one transaction"
                told.add(row)

    def apply(self, event: dict[str, Any]) -> None:
        resource, number = event["resource"], event["resource_id"]
        assert number == resource_id([event["data"][name] for name in self._keys[resource]])
        match event["operation"]:
            case "create":
                assert (resource, number) not in self.rows, "created, and was there"
                self.rows[resource, number] = event["data"]
            case "update":
                self._update(resource, number, event)
            case "delete":
                row = self.rows.pop((resource, number))
                known = {name: row[name] for name in event["data"]} if resource in self._partial else row
                assert known == event["data"], "deleted as it was not"
        for name, link in event.get("links", {}).items():
            self._link((resource, number, name), link, deleted=event["operation"] == "delete")

    def _update(self, resource: str, number: str, event: dict[str, Any]) -> None:
        data, changes = event["data"], event["changes"]
        old = resource_id([changes.get(name, {}).get("from", data[name]) for name in self._keys[resource]])
        before = self.rows.pop((resource, old))
        really = {
            name: {"from": before[name], "to": data[name]} for name in data if not _same(before[name], data[name])
        }
        assert data.keys() == before.keys()
        assert really or event.get("links"), "updated without a change"
        said = {name: {"from": before[name], **change} for name, change in changes.items()}
        assert said == really, f"changed otherwise than it says: {said}, really {really}"
        assert (resource, number) not in self.rows, "moved to where another is"
        self.rows[resource, number] = data

    def _link(self, place: tuple[str, str, str], link: dict[str, list[str]], *, deleted: bool) -> None:
        there = self.links.setdefault(place, set())
        assert there.isdisjoint(link["added"]), "linked, and was linked"
        assert there >= set(link["removed"]), "unlinked, and was not linked"
        there |= set(link["added"])
        there -= set(link["removed"])
        assert not (deleted and there), "deleted, and still linked"
        if not there:
            del self.links[place]


def resource_id(key: Sequence[Any]) -> str:
    """A key as text, as the guide says."""
    return ",".join(part if isinstance(part, str) else json.dumps(part) for part in key)


def name_of(cls: type) -> str:
    """A class as a resource, as the guide says."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()


def _same(old: Any, new: Any) -> bool:
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
