"""
A receiver as one writes it for Openfront: from its documents of what is on the wire, and nothing else.

It verifies the signature, looks whether headers and body say the same, and
keeps a replica of the items that it is told of.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from receivers.checks import by_any, check_json, lowered, parsed, require

#: Operation to how topics say it.
VERBS = {"create": "created", "update": "updated", "delete": "deleted"}

_KEYS = ["event", "timestamp", "listKey", "operation", "data"]
_KEYS_OF_UPDATE = [*_KEYS, "previousData", "changes"]
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class Openfront:
    """
    Accepts what Openfront would send.

    A delivery that comes again, by its id, is accepted, and done once.

    Args:
        secrets: Any text; any of them will do.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        #: The bodies that it accepted, in the order in which they came, none twice.
        self.events: list[dict[str, Any]] = []
        #: The items that there are, by list key and id, as it was told of them.
        self.replica: dict[tuple[str, Any], dict[str, Any]] = {}
        self._seen: set[str] = set()

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """As `Standard.receive`."""
        came = lowered(headers)
        by_any(self._secrets, lambda secret: _check_signature(secret, came, body))
        event = parsed(body)
        _check_body(event, body)
        _check_headers(came, event)
        if event["operation"] == "update":
            _check_changes(event)
        delivery = came["x-openfront-delivery-id"]
        if delivery not in self._seen:
            self._apply(event)
            self._seen.add(delivery)
            self.events.append(event)

    def _apply(self, event: dict[str, Any]) -> None:
        """Refuses what does not follow from what it was told before; of what it was told nothing, it takes anything."""
        list_key, operation, data = event["listKey"], event["operation"], event["data"]
        before = event["previousData"] if operation == "update" else data
        known = self.replica.get((list_key, before["id"]))
        if operation == "create":
            require(known is None, f"{list_key} {data['id']!r} is created, and is there already")
        elif known is not None:
            require(
                _agree(before, known), f"{list_key} {before['id']!r} was {known}, and is said to have been {before}"
            )
            del self.replica[list_key, before["id"]]
        if operation != "delete":
            self.replica[list_key, data["id"]] = data


def _check_signature(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    signature = headers.get("x-openfront-webhook-signature", "")
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    require(hmac.compare_digest(signature.encode(), expected.encode()), "the signature is missing, or another")


def _check_body(event: Any, body: bytes) -> None:
    require(isinstance(event, dict), "the body is no object")
    require(not re.search(rb"\s", _STRING.sub(b"", body)), "the body is no compact JSON")
    operation = event.get("operation")
    require(operation in VERBS, f"{operation!r} is no operation")
    keys = _KEYS_OF_UPDATE if operation == "update" else _KEYS
    require(list(event) == keys, f"the body's keys are {list(event)}, not {keys}")
    require(isinstance(event["listKey"], str) and event["listKey"] != "", "the list key is no text")
    require(_TIMESTAMP.fullmatch(str(event["timestamp"])), f"{event['timestamp']!r} is no time")
    for name in ("data", "previousData"):
        if name in event:
            item = event[name]
            require(isinstance(item, dict) and item.get("id") is not None, f"{name} is no item with an id")
    expected = f"{event['listKey'].lower()}.{operation}"
    require(event["event"] == expected, f"the event is {event['event']!r}, not {expected!r}")


def _check_headers(headers: Mapping[str, str], event: Mapping[str, Any]) -> None:
    check_json(headers)
    list_key, operation = event["listKey"], event["operation"]
    expected = {
        "x-openfront-topic": f"{list_key.lower()}.{VERBS[operation]}",
        "x-openfront-listkey": list_key,
        "x-openfront-operation": operation,
    }
    for name, value in expected.items():
        require(headers.get(name) == value, f"{name} is {headers.get(name)!r}, not {value!r}")
    require(headers.get("x-openfront-delivery-id"), "x-openfront-delivery-id is missing")


def _check_changes(event: Mapping[str, Any]) -> None:
    """What was, and what changed of it, give what is."""
    data, previous, changes = event["data"], event["previousData"], event["changes"]
    require(isinstance(changes, dict), "the changes are no object")
    for name, change in changes.items():
        said = isinstance(change, dict) and list(change) == ["from", "to"]
        require(said, f"the change of {name} is {change}, not from and to")
        require(name in previous and _same(previous[name], change["from"]), f"{name} was not {change['from']!r} before")
        require(name in data and _same(data[name], change["to"]), f"{name} is not {change['to']!r} now")
        require(not _same(change["from"], change["to"]), f"{name} is said to change, and stays {change['to']!r}")
    both = previous.keys() & data.keys() - changes.keys()
    unsaid = [name for name in both if not _same(previous[name], data[name])]
    require(not unsaid, f"it is not said that these change: {unsaid}")


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether they say the same where both say something: what enriches an item stands in `data` alone."""
    return all(_same(one[name], other[name]) for name in one.keys() & other.keys())


def _same(one: Any, other: Any) -> bool:
    """As JSON: for Python, true is 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
