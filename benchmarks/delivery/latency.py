"""From commit to receipt in a system that is idle otherwise, against the batch window and against a bare POST."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import requests

from benchmarks import command
from benchmarks.command import Options
from benchmarks.databases import NewDatabase
from benchmarks.delivery.receiver import Receiver, percentile, receiver
from benchmarks.delivery.site import TEXT, add, places, site, version_of
from benchmarks.figures import table

EVENTS, QUICK_EVENTS = 200, 40
WINDOW = 0.1


def run(options: Options) -> None:
    """Print two lines for each kind of database."""
    events = QUICK_EVENTS if options.quick else EVENTS
    print("\nCommit to receipt, one event at a time\n")
    rows = []
    for database in options.databases:
        with places(database) as new_database, receiver() as there:
            seconds = _seconds(new_database, there, events, window=WINDOW)
            half, most = percentile(seconds, 0.5), percentile(seconds, 0.99)
            over = f"{half / WINDOW:.2f} windows"
            rows.append([f"{database}, window {WINDOW:g} s, p50", f"{half * 1000:.1f} ms", over, "1.25"])
            rows.append([f"{database}, p99", f"{most * 1000:.1f} ms", f"{most / WINDOW:.2f} windows", "2.00"])
            anew, kept = _bare(there, events)
            half = percentile(_seconds(new_database, there, events, window=0), 0.5)
            over = f"{half / anew:.1f} requests.post()"
            rows.append([f"{database}, window 0, p50", f"{half * 1000:.1f} ms", over, "10.0"])
            rows.append(["", "", f"{half / kept:.1f} Session.post()", ""])
    print(table(["", "time", "ratio", "at most"], rows), end="\n\n")


def _seconds(new_database: NewDatabase, there: Receiver, events: int, *, window: float) -> list[float]:
    committed: dict[int, float] = {}
    before = there.count()
    with site(new_database(), batch_window=window) as (sessions, webhooks):
        webhooks.endpoints.create(there.url("/ok"), events=["item.*"])
        for number in range(events):
            time.sleep(window + 0.05 + 0.001 * (number % 50))  # at no fixed distance from the relay's polls
            add(sessions, [number])
            committed[number] = time.monotonic()
        while there.count() < before + events:
            time.sleep(0.05)
    return [one.at - committed[version_of(one)[0]] for one in there.receipts()[before:]]


def _bare(there: Receiver, events: int) -> tuple[float, float]:
    """The medians of POSTs of the same size, each on a new connection, and on one that is kept: from call to return."""
    with requests.Session() as session:
        return _posts(requests.post, there, events), _posts(session.post, there, events)


def _posts(post: Callable[..., object], there: Receiver, events: int) -> float:
    times = []
    for _ in range(events):
        begin = time.monotonic()
        post(there.url("/ok"), data=TEXT)
        times.append(time.monotonic() - begin)
    return median(times)


def main() -> None:
    options = command.options(command.parser("benchmarks.delivery.latency", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
