"""Inserts, updates and deletes in transactions of 100."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Sequence
from typing import TypeAlias

from benchmarks import command
from benchmarks.command import Options
from benchmarks.databases import NewDatabase, databases
from benchmarks.figures import Times, middle, table, total
from benchmarks.phases import LIFE
from benchmarks.variants import CONTINUUM, RECORDING, Variant, prepare
from benchmarks.workers import in_turns, workers

OBJECTS, QUICK_OBJECTS = 5000, 2000
SIZE = 100
ROUNDS, QUICK_ROUNDS, CONTINUUM_ROUNDS = 9, 3, 3

#: The most that all three phases together may cost.
TARGETS = {
    "sqlite": {Variant.NOBODY: 1.03, Variant.ORJSON: 1.15, Variant.JSON: 1.30},
    "postgresql": {Variant.NOBODY: 1.03, Variant.ORJSON: 1.20, Variant.JSON: 1.35},
}

#: What each phase costs, and all together.
Ratios: TypeAlias = list[Times]


def run(options: Options, variants: Sequence[Variant] = tuple(Variant)) -> None:
    """
    Print a table for each kind of database.

    Continuum takes its turns with a plain worker of its own. A turn that waited
    for it would last so long that each flush of ours had to look anew whether
    anybody has subscribed, which is remembered for a second.
    """
    print("\nThe write path\n")
    here = [one for one in variants if one is not Variant.PLAIN and one.available]
    ours = [Variant.PLAIN, *(one for one in here if one not in CONTINUUM)]
    theirs = [Variant.PLAIN, *(one for one in here if one in CONTINUUM and not options.quick)]
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    for database in options.databases:
        with databases(database) as new_database:
            found = _measure(ours, new_database, rounds=rounds, quick=options.quick)
            if len(theirs) > 1:
                found |= _measure(theirs, new_database, rounds=min(rounds, CONTINUUM_ROUNDS), quick=options.quick)
        targets = {variant: f"{most:.2f}" for variant, most in TARGETS[database].items()}
        rows = [[one.label, *map(str, figures), targets.get(one, "")] for one, figures in found.items()]
        print(table([database, *LIFE, "all three", "at most"], rows), end="\n\n", flush=True)


def _measure(
    variants: Sequence[Variant], new_database: NewDatabase, *, rounds: int, quick: bool
) -> dict[Variant, Ratios]:
    """The medians of some rounds."""
    objects = QUICK_OBJECTS if quick else OBJECTS
    found = [_round(variants, new_database, objects) for _ in range(rounds)]
    return {
        variant: [middle(column) for column in zip(*(one[variant] for one in found), strict=True)]
        for variant in variants
    }


def _round(variants: Sequence[Variant], new_database: NewDatabase, objects: int) -> dict[Variant, Ratios]:
    """Each variant's times over those of the plain one, in new processes and on new databases."""
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


def profile(variant: Variant, database: str, *, lines: int = 40) -> None:
    """Print where a variant's time goes, in this process."""
    prepare(variant)
    from benchmarks.workload import Workload

    with databases(database) as new_database:
        workload, profiler = Workload(variant, new_database()), cProfile.Profile()
        workload.warm_up()
        for phase in LIFE:
            workload.begin(phase)
            with profiler:
                for _ in range(OBJECTS // SIZE):
                    workload.step(phase, size=SIZE)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(lines)


def main() -> None:
    parser = command.parser("benchmarks.write_path", __doc__)
    parser.add_argument("--variant", type=Variant, action="append", help=f"only these, and plain: {', '.join(Variant)}")
    parser.add_argument("--profile", type=Variant, metavar="VARIANT", help="print where its time goes instead")
    parsed = parser.parse_args()
    options = command.options(parsed)
    if parsed.profile:
        for database in options.databases:
            profile(parsed.profile, database)
    else:
        print(command.about())
        run(options, parsed.variant or tuple(Variant))


if __name__ == "__main__":
    main()
