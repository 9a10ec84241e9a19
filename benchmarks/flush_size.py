"""Flushes of 1 to 10,000 objects: what capture adds for each object must not grow with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from benchmarks import command
from benchmarks.command import Options
from benchmarks.databases import NewDatabase, databases
from benchmarks.figures import Times, middle, table, total
from benchmarks.phases import LIFE
from benchmarks.variants import Variant, subscribed
from benchmarks.workers import Workers, in_turns, workers

#: How many objects are written for each size of a flush.
OBJECTS = {1: 1000, 10: 5000, 100: 10_000, 1000: 10_000, 10_000: 10_000}
QUICK_OBJECTS = {1: 300, 10: 1000, 100: 2000, 1000: 4000}
ROUNDS, QUICK_ROUNDS = 5, 3

#: The unit: what SQLAlchemy alone needs for one object in a flush of this many.
UNIT = 100

#: For one object, of SQLAlchemy alone and with a subscription, by the size of the flush.
Costs: TypeAlias = dict[int, tuple[Times, Times]]


def run(options: Options) -> None:
    """Print a table for each kind of database."""
    print("\nThe size of a flush: what one object costs")
    print(f"(the unit is what it costs with SQLAlchemy alone in a flush of {UNIT})\n")
    objects = QUICK_OBJECTS if options.quick else OBJECTS
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    head = ["SQLAlchemy alone", "added by capture", "ratio"]
    for database in options.databases:
        with databases(database) as new_database:
            found = [_figures(_round(new_database, objects)) for _ in range(rounds)]
        rows = [
            [f"{size:,}", *(str(middle(column)) for column in zip(*(one[size] for one in found), strict=True))]
            for size in objects
        ]
        print(table([f"{database}, objects a flush", *head], rows), end="\n\n", flush=True)


def _round(new_database: NewDatabase, objects: Mapping[int, int]) -> Costs:
    mine = subscribed()
    with workers([Variant.PLAIN, mine], new_database) as started:
        before = started[mine].recorded()
        found = {size: _life(started, size, some) for size, some in objects.items()}
        recorded, expected = started[mine].recorded() - before, len(LIFE) * sum(objects.values())
    if recorded != expected:
        message = f"{recorded} changes were written down, not {expected}"
        raise RuntimeError(message)
    return {size: (times[Variant.PLAIN], times[mine]) for size, times in found.items()}


def _life(started: Workers, size: int, objects: int) -> dict[Variant, Times]:
    """What an object costs that is inserted, updated and deleted in flushes of *size*."""
    transactions = max(1, UNIT // size)
    phases = [
        in_turns(
            *(started, dict.fromkeys(started, phase)),
            steps=objects // (size * transactions),
            size=size,
            transactions=transactions,
        )
        for phase in LIFE
    ]
    return {variant: total(one[variant] for one in phases).by(objects) for variant in started}


def _figures(costs: Costs) -> dict[int, tuple[Times, Times, Times]]:
    unit, _ = costs[UNIT]
    return {
        size: (plain.over(unit), mine.over(unit).less(plain.over(unit)), mine.over(plain))
        for size, (plain, mine) in costs.items()
    }


def main() -> None:
    options = command.options(command.parser("benchmarks.flush_size", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
