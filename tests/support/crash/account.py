"""What was received, held against the ledger: nothing lost, invented, out of order, or repeated without a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from support.receiver import Received

#: A delivery as a receiver knows it: the path of the endpoint, and the event's id.
Key: TypeAlias = tuple[str, str]
#: One change of a row: its operation and its mark.
Change: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Arrival:
    """A request, and how it was answered."""

    request: Received
    status: int

    @property
    def key(self) -> Key:
        return self.request.path, self.request.id

    @property
    def row(self) -> int:
        return int(self.request.event["resource_id"])

    @property
    def change(self) -> Change:
        event = self.request.event
        return event["operation"], event["data"]["mark"]


@dataclass(frozen=True)
class Death:
    """
    A process died.

    Attributes:
        place: How many requests had come by then.
        unrecorded: The deliveries whose answers, if there were any, were in no database.
    """

    place: int
    unrecorded: frozenset[Key]


@dataclass(frozen=True)
class Account:
    """
    All that came in one ordeal.

    Attributes:
        ledger: What was committed, by row, in order.
        arrivals: What was received, in order.
    """

    ledger: Mapping[int, Sequence[Change]]
    arrivals: Sequence[Arrival]
    deaths: Sequence[Death]
    paths: Sequence[str] = field(default=())

    @property
    def repeats(self) -> int:
        return len(self.arrivals) - len({one.key for one in self.arrivals})

    def check(self) -> None:
        """
        Raises:
            AssertionError: Something is amiss; it says what.
        """
        for path in self.paths:
            rows = {
                row: [one for one in self.arrivals if (one.request.path, one.row) == (path, row)] for row in self._rows
            }
            for row, came in rows.items():
                self._check_row(row, came)
        self._check_repeats()
        self._check_enriched()

    @property
    def _rows(self) -> set[int]:
        return {*self.ledger, *(one.row for one in self.arrivals)}

    def _check_row(self, row: int, came: Sequence[Arrival]) -> None:
        """What came of one row: each event until it was taken, and then never again."""
        runs = [list(run) for _, run in groupby(came, lambda one: one.key)]
        ids = [run[0].request.id for run in runs]
        assert len(ids) == len(set(ids)), f"row {row}: an event came again after a later one: {ids}"
        assert all(run[-1].status == 200 for run in runs), f"row {row}: an event was given up"
        changes, committed = [run[0].change for run in runs], list(self.ledger.get(row, ()))
        assert changes == committed, f"row {row}: {_difference(changes, committed)}"

    def _check_repeats(self) -> None:
        """Each was answered by a failure, or was in the hands of a process that died in between."""
        last: dict[Key, int] = {}
        for place, arrival in enumerate(self.arrivals):
            before, last[arrival.key] = last.get(arrival.key), place
            if before is None or self.arrivals[before].status != 200:
                continue
            explained = any(before < death.place <= place and arrival.key in death.unrecorded for death in self.deaths)
            assert explained, f"request {place} repeats {before} without a reason: {arrival.key}"

    def _check_enriched(self) -> None:
        """An enricher sees no row older than the event."""
        for one in self.arrivals:
            data = one.request.event["data"]
            assert data.get("read", data["version"]) >= data["version"], one.request.event


def _difference(came: Sequence[Change], committed: Sequence[Change]) -> str:
    """The first place where they differ, and how much is missing or too much."""
    place = next((at for at, pair in enumerate(zip(came, committed, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(came), len(committed)) if place is None else place
    lost, invented = (sorted(one)[:5] for one in (set(committed) - set(came), set(came) - set(committed)))
    return f"at {at}: came {came[at : at + 3]}, committed {committed[at : at + 3]}; lost {lost}, invented {invented}"
