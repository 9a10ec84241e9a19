"""A sales channel: it offers what it is told that the shop has."""

from __future__ import annotations

from typing import Any

from examples.receiver import Reply


class Channel:
    """To be told the same twice changes nothing, so it need not remember which events it has seen."""

    def __init__(self) -> None:
        #: By its own names.
        self.offers: dict[str, int] = {}
        #: What it has been told about products.
        self.known: set[str] = set()

    def take(self, event: dict[str, Any]) -> Reply:
        self.known |= event["data"].keys()
        item = event["data"]["item"]
        self.offers[item] = event["data"].get("stock", 0)  # without a number: it has run out
        return Reply()
