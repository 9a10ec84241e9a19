"""An endpoint that is down for an hour, with 10,000 deliveries waiting: requests meanwhile, and the time after."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks import command
from benchmarks.command import Options
from benchmarks.delivery.receiver import Receiver, receiver
from benchmarks.delivery.site import add, change, out_of_order, places, site, version_of
from benchmarks.figures import table

ROWS = 200
VERSIONS, QUICK_VERSIONS = 50, 5
HOUR = 3600


class AheadClock:
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


def run(options: Options) -> None:
    """Print a line for each kind of database."""
    versions = QUICK_VERSIONS if options.quick else VERSIONS
    print(f"\nAn endpoint that is down for an hour, {ROWS * versions:,} deliveries waiting\n")
    rows = [_measure(database, versions) for database in options.databases]
    head = [
        "database",
        "requests in the hour (at most 60)",
        "all delivered after (at most 60 s)",
        "lost",
        "out of order",
    ]
    print(table(head, rows), end="\n\n")


def _measure(database: str, versions: int) -> list[str]:
    clock = AheadClock()
    port = _free_port()
    with places(database) as new_database, site(new_database(), deliver=False, clock=clock) as (sessions, webhooks):
        webhooks.endpoints.create(f"http://127.0.0.1:{port}/ok", events=["item.*"])
        add(sessions, range(ROWS))
        for _ in range(versions - 1):
            for number in range(ROWS):
                change(sessions, number)
        end = clock.monotonic() + HOUR
        requests = 0
        while clock.monotonic() < end:
            requests += webhooks.drain().attempts
            clock.ahead += 1
        with receiver(port) as there:
            seconds = _until_all_came(there, webhooks.start, clock, count=ROWS * versions)
            receipts = there.receipts()
    came = {version_of(one) for one in receipts if one.taken}
    lost = ROWS * versions - len(came)
    return [database, str(requests), f"{seconds:.0f} s", str(lost), str(out_of_order(receipts))]


def _until_all_came(there: Receiver, start: Callable[[], None], clock: AheadClock, *, count: int) -> float:
    begin = clock.monotonic()
    start()
    while there.count() < count and clock.monotonic() - begin < HOUR:
        time.sleep(0.1)
    return clock.monotonic() - begin


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def main() -> None:
    options = command.options(command.parser("benchmarks.delivery.outage", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
