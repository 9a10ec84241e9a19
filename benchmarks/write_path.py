"""Inserts, updates and deletes in transactions of 100."""

from __future__ import annotations

import argparse
import cProfile
import pstats
from collections.abc import Sequence

from benchmarks.databases import NAMES, NewDatabase, databases
from benchmarks.figures import Times, middle, table, total
from benchmarks.phases import LIFE
from benchmarks.variants import CONTINUUM, RECORDING, Variant, prepare
from benchmarks.workers import in_turns, workers

OBJECTS, SIZE, ROUNDS = 5000, 100, 5
QUICK_OBJECTS, QUICK_ROUNDS = 2000, 3

#: The most that all three phases together may cost.
TARGETS = {
    "sqlite": {Variant.NOBODY: 1.03, Variant.ORJSON: 1.15, Variant.JSON: 1.30},
    "postgresql": {Variant.NOBODY: 1.03, Variant.ORJSON: 1.20, Variant.JSON: 1.35},
}


def measure(database: str, variants: Sequence[Variant], *, objects: int = OBJECTS, rounds: int = ROUNDS) -> str:
    """The table of one kind of database."""
    with databases(database) as new_database:
        ratios = [_round(variants, new_database, objects) for _ in range(rounds)]
    head = ["", *LIFE, "all three", "target"]
    rows = [
        [
            variant.label,
            *(str(middle([ratio[variant][column] for ratio in ratios])) for column in range(len(LIFE) + 1)),
            f"{target:.2f}" if (target := TARGETS[database].get(variant)) else "",
        ]
        for variant in variants
    ]
    return table(head, rows)


#: The ratios of each phase, and of all together.
Ratios = dict[Variant, list[Times]]


def _round(variants: Sequence[Variant], new_database: NewDatabase, objects: int) -> Ratios:
    """
    One round, with processes and databases of its own.

    Continuum takes its turns with another plain worker. A turn that waited for
    it would last so long that each flush of ours had to look anew whether
    anybody has subscribed, which is remembered for a second.
    """
    ours = [one for one in variants if one not in CONTINUUM]
    theirs = [one for one in variants if one in CONTINUUM]
    ratios = _ratios(ours, new_database, objects)
    return {**_ratios([Variant.PLAIN, *theirs], new_database, objects), **ratios} if theirs else ratios


def _ratios(variants: Sequence[Variant], new_database: NewDatabase, objects: int) -> Ratios:
    """Each variant's times over those of the plain one, with which they take turns."""
    with workers(variants, new_database) as started:
        before = {variant: worker.recorded() for variant, worker in started.items()}
        phases = [in_turns(started, dict.fromkeys(started, phase), steps=objects // SIZE, size=SIZE) for phase in LIFE]
        for variant, worker in started.items():
            _check(variant, worker.recorded() - before[variant], objects)
    times = {variant: [*(one[variant] for one in phases), total(one[variant] for one in phases)] for variant in started}
    plain = times[Variant.PLAIN]
    return {variant: [one.over(base) for one, base in zip(mine, plain, strict=True)] for variant, mine in times.items()}


def _check(variant: Variant, recorded: int, objects: int) -> None:
    expected = len(LIFE) * objects if variant in RECORDING else 0
    if recorded != expected:
        message = f"{variant.label}: {recorded} changes were written down, not {expected}"
        raise RuntimeError(message)


def profile(variant: Variant, database: str, *, objects: int = OBJECTS, lines: int = 40) -> None:
    """Print where a variant's time goes, in this process."""
    prepare(variant)
    from benchmarks.workload import Workload

    with databases(database) as new_database:
        workload, profiler = Workload(variant, new_database()), cProfile.Profile()
        workload.warm_up()
        for phase in LIFE:
            workload.begin(phase)
            with profiler:
                for _ in range(objects // SIZE):
                    workload.step(phase, size=SIZE)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.write_path", description=__doc__)
    parser.add_argument("--database", choices=NAMES, action="append", help="only this one")
    parser.add_argument("--variant", type=Variant, action="append", help=f"only these, and plain: {', '.join(Variant)}")
    parser.add_argument("--quick", action="store_true", help="less of everything, and no Continuum")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--profile", type=Variant, metavar="VARIANT", help="print where its time goes instead")
    options = parser.parse_args()
    for database in options.database or NAMES:
        print(f"\n{database}\n")
        objects = QUICK_OBJECTS if options.quick else OBJECTS
        if options.profile:
            profile(options.profile, database, objects=objects)
        else:
            rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
            print(measure(database, chosen(options.variant, quick=options.quick), objects=objects, rounds=rounds))


def chosen(named: Sequence[Variant] | None, *, quick: bool) -> list[Variant]:
    """The variants to run: those that were named, or all that can be; and always what they are compared with."""
    named = named or [one for one in Variant if not (quick and one in CONTINUUM)]
    return [one for one in Variant if one is Variant.PLAIN or (one in named and one.available)]


if __name__ == "__main__":
    main()
