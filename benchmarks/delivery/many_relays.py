"""Three relay processes, 20,000 events of 200 rows, a receiver that fails every fifth request: lost, out of order?"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session, sessionmaker
from tenacity import wait_fixed

from benchmarks import command
from benchmarks.command import Options
from benchmarks.delivery.receiver import receiver
from benchmarks.delivery.site import add, change, out_of_order, places, site, version_of
from benchmarks.figures import table

RELAYS, ROWS, WRITERS = 3, 200, 4
VERSIONS, QUICK_VERSIONS = 100, 10
#: Seconds between attempts.
WAIT = 0.2
#: Seconds after which a run is given up.
PATIENCE = 600


def run(options: Options) -> None:
    """Print a line for each kind of database."""
    versions = QUICK_VERSIONS if options.quick else VERSIONS
    print(f"\n{RELAYS} relay processes, {ROWS * versions:,} events of {ROWS} rows, every fifth request fails\n")
    rows = [_measure(database, versions) for database in options.databases]
    print(table(["database", "lost", "out of order", "twice", "attempts", "events a second"], rows), end="\n\n")


def _measure(database: str, versions: int) -> list[str]:
    with places(database) as new_database, receiver() as there:
        url = new_database()
        with site(url, deliver=False) as (sessions, webhooks):
            webhooks.endpoints.create(there.url("/flaky"), events=["item.*"])
            begin = time.monotonic()
            with _relays(url):
                add(sessions, range(ROWS))
                _write(sessions, versions - 1)
                while webhooks.deliveries.list(state="pending", limit=1) or _captured(sessions):
                    if time.monotonic() - begin > PATIENCE:
                        break
                    time.sleep(0.2)
            took = time.monotonic() - begin
        receipts = there.receipts()
    committed = {(row, version) for row in range(ROWS) for version in range(1, versions + 1)}
    taken = [version_of(one) for one in receipts if one.taken]
    return [
        database,
        str(len(committed - set(taken))),
        str(out_of_order(receipts)),
        str(len(taken) - len(set(taken))),
        f"{len(receipts):,}",
        f"{len(committed) / took:,.0f}",
    ]


def _captured(sessions: sessionmaker[Session]) -> bool:
    """Whether the outbox has rows."""
    with sessions() as session:
        return session.connection().exec_driver_sql("SELECT count(*) FROM webhook_outbox").scalar() != 0


def _write(sessions: sessionmaker[Session], times: int) -> None:
    """Change each row so often, from several threads, each with rows of its own."""

    def work(writer: int) -> None:
        for _ in range(times):
            for number in range(writer, ROWS, WRITERS):
                change(sessions, number)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def _relays(url: str) -> Iterator[None]:
    running = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.delivery.many_relays", "--relay", url])
        for _ in range(RELAYS)
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _relay(url: str) -> None:
    with site(url, wait=wait_fixed(WAIT)):
        threading.Event().wait()


def main() -> None:
    parser = command.parser("benchmarks.delivery.many_relays", __doc__)
    parser.add_argument("--relay", help="be a relay of this database")
    parsed = parser.parse_args()
    if parsed.relay:
        _relay(parsed.relay)
    print(command.about())
    run(command.options(parsed))


if __name__ == "__main__":
    main()
