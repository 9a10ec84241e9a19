"""
A collector of events, which takes them a hundred at a time.

What it cannot store it names in its answer, and keeps the rest: one bad record
spoils no batch. What it has named comes again, alone.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from examples.receiver import Reply


class Collector:
    """Stores by the event's id, so that what comes twice is there once."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        #: Characters that its column takes.
        self.longest_search = 40

    def take(self, events: list[dict[str, Any]]) -> Reply:
        """Each is a CloudEvent: `type`, `id`, `source`, `time`; in `data` the row, and who has changed it."""
        failed = [event["id"] for event in events if not self._store(event)]
        return Reply(HTTPStatus.OK, {"failed": failed}) if failed else Reply()

    def _store(self, event: dict[str, Any]) -> bool:
        if len(event["data"]["data"].get("words", "")) > self.longest_search:
            return False
        self.records[event["id"]] = event
        return True

    def seen(self) -> list[tuple[str, str, str]]:
        """Which event, of whom, in which request."""
        told = [(record["type"], record["data"]["context"]) for record in self.records.values()]
        return sorted((type_, context["actor"], context["request_id"]) for type_, context in told)
