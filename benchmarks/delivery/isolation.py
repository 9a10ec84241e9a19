"""Nine endpoints that answer, and one that never does: commit to receipt of the nine, against nine without it."""

from __future__ import annotations

import time
from statistics import median

from benchmarks import command
from benchmarks.command import Options
from benchmarks.databases import NewDatabase
from benchmarks.delivery.receiver import percentile, receiver
from benchmarks.delivery.site import add, places, site, version_of
from benchmarks.figures import table

HEALTHY = 9
EVENTS, QUICK_EVENTS = 600, 120
ROUNDS = 3
#: Seconds between commits: one run outlasts the timeout of a request.
EVERY = 0.05

TARGET = "1.20"


def run(options: Options) -> None:
    """Print a line for each kind of database."""
    events = QUICK_EVENTS if options.quick else EVENTS
    print(f"\n{HEALTHY} endpoints that answer and one that never does, {events} events each\n")
    rows = []
    for database in options.databases:
        with places(database) as new_database:
            pairs = [
                (_run(new_database, events, hanging=False), _run(new_database, events, hanging=True))
                for _ in range(options.rounds or ROUNDS)
            ]
        for part in (0.5, 0.99):
            alone, beside = (median(percentile(one[place], part) for one in pairs) for place in (0, 1))
            limit = TARGET if part > 0.5 else ""  # noqa: PLR2004  # the median
            name = f"{database}, p{part * 100:.0f}"
            rows.append([name, f"{alone * 1000:.0f} ms", f"{beside * 1000:.0f} ms", f"{beside / alone:.2f}", limit])
    print(table(["commit to receipt", "alone", "beside it", "ratio", "at most"], rows), end="\n\n")


def _run(new_database: NewDatabase, events: int, *, hanging: bool) -> list[float]:
    """Seconds from each commit to each receipt of the nine."""
    committed: dict[int, float] = {}
    with receiver() as there, site(new_database()) as (sessions, webhooks):
        for number in range(HEALTHY):
            webhooks.endpoints.create(there.url(f"/ok{number}"), events=["item.*"])
        if hanging:
            webhooks.endpoints.create(there.url("/hang"), events=["item.*"])
        for number in range(events):
            add(sessions, [number])
            committed[number] = time.monotonic()
            time.sleep(EVERY)
        while len(receipts := [one for one in there.receipts() if one.taken]) < HEALTHY * events:
            time.sleep(0.2)
    return [one.at - committed[version_of(one)[0]] for one in receipts]


def main() -> None:
    options = command.options(command.parser("benchmarks.delivery.isolation", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
