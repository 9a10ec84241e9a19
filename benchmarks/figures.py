"""Times, ratios and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: by the clock, and of the process's own CPU."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Times) -> Times:
        return Times(self.wall + other.wall, self.cpu + other.cpu)

    def less(self, other: Times) -> Times:
        return Times(self.wall - other.wall, self.cpu - other.cpu)

    def by(self, number: int) -> Times:
        """The share of one of *number*."""
        return Times(self.wall / number, self.cpu / number)

    def over(self, other: Times) -> Times:
        """The ratio to another."""
        return Times(self.wall / other.wall, self.cpu / other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:.2f} ({self.cpu:.2f})"


def total(times: Iterable[Times]) -> Times:
    return sum(times, Times())


def middle(times: Sequence[Times]) -> Times:
    """The median of each."""
    return Times(median(one.wall for one in times), median(one.cpu for one in times))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells as Markdown, each column as wide as it must be; all but the first to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in (head, rule, *lines[1:])
    )
