"""A captured UPDATE of 10,000 rows, against loading, changing and flushing them with SQLAlchemy alone."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import command
from benchmarks.command import Options
from benchmarks.databases import NewDatabase, databases
from benchmarks.figures import Times, middle, table, total
from benchmarks.phases import Phase
from benchmarks.variants import Variant, subscribed
from benchmarks.workers import in_turns, workers

OBJECTS, QUICK_OBJECTS = 10_000, 2000
ROUNDS, QUICK_ROUNDS = 5, 3
#: How often a round updates all rows.
TIMES = 3
#: The rows are inserted in transactions of this many.
FILLING = 1000

#: The most that the captured statement may cost.
TARGET = "1.00"


@dataclass(frozen=True, slots=True)
class _Round:
    #: Over what loading, changing and flushing takes.
    alone: Times
    captured: Times
    #: How many changes were written down.
    recorded: int


def run(options: Options) -> None:
    """Print a table for each kind of database; and say so, if the changes were not captured at all."""
    objects = QUICK_OBJECTS if options.quick else OBJECTS
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    print(f"\nAn UPDATE of {objects:,} rows\n")
    for database in options.databases:
        with databases(database) as new_database:
            found = [_round(new_database, objects) for _ in range(rounds)]
        rows = [
            ["SQLAlchemy alone: loaded, changed, flushed", str(Times(1, 1)), ""],
            ["SQLAlchemy alone: one UPDATE", str(middle([one.alone for one in found])), ""],
            ["subscribed: one UPDATE", str(middle([one.captured for one in found])), TARGET],
        ]
        print(table([database, "ratio", "at most"], rows), end="\n\n")
        if missed := [one.recorded for one in found if one.recorded != TIMES * objects]:
            print(f"NOT CAPTURED: {missed[0]:,} changes were written down, not {TIMES * objects:,}", end="\n\n")


def _round(new_database: NewDatabase, objects: int) -> _Round:
    """The control makes the same statement as the plug-in, and has nothing installed."""
    mine = subscribed()
    phases = {Variant.PLAIN: Phase.UPDATE, Variant.CONTROL: Phase.BULK, mine: Phase.BULK}
    with workers(phases, new_database) as started:
        in_turns(started, dict.fromkeys(started, Phase.INSERT), steps=objects // FILLING, size=FILLING)
        before = started[mine].recorded()
        times = [in_turns(started, phases, steps=1, size=objects) for _ in range(TIMES)]
        recorded = started[mine].recorded() - before
    base, alone, captured = (total(one[variant] for one in times) for variant in phases)
    return _Round(alone.over(base), captured.over(base), recorded)


def main() -> None:
    options = command.options(command.parser("benchmarks.bulk_update", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
