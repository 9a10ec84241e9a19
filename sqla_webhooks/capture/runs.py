"""What capture has found, written down in runs of one layout, in order: what an outbox row holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from sqlalchemy import JSON

from sqla_webhooks.capture.plan import Look, Plan
from sqla_webhooks.events import Change, Links
from sqla_webhooks.outbox import sheet
from sqla_webhooks.resources import Shape

#: Changes, written down, and the shape of their rows.
Found: TypeAlias = tuple[Shape, sheet.Run]


class Runs:
    """What has been written down so far."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self._last: sheet.Layout | None = None
        self._run: list[sheet.Packed] = []

    def put(
        self,
        plan: Plan,
        packed: sheet.Packed,
        values: tuple[Any, ...],
        linked: Links | None = None,
        look: Look | None = None,
    ) -> None:
        """
        Write a change down, with little more than its values.

        Args:
            packed: Its letter, and of an update the old values.
            values: Those of the plan's attributes, in their order.
            look: What the plan has seen of them, if it has looked.
        """
        if plan.shape.json:
            values = tuple(None if value is JSON.NULL else value for value in values)
        if linked or not (plan.has_plain_key(values) if look is None else look.plain_key):
            identity = sheet.parts([values[place] for place in plan.key_places])
            packed[0] = packed[0].upper()
            packed.insert(1, {"identity": identity, **({"links": linked} if linked else {})})
        packed += values
        if plan.layout is not self._last:
            self._last, self._run = plan.layout, []
            self.found.append((plan.shape, (plan.layout, self._run)))
        self._run.append(packed)

    def put_change(self, shape: Shape, change: Change) -> None:
        """Write down one that says more, or less, than a row's values."""
        self.close()
        self.found.append((shape, sheet.run_of(replace(change, hidden=shape.hidden))))

    def close(self) -> None:
        """Let what comes next begin a run of its own."""
        self._last = None
