"""What it costs to claim 100 deliveries behind a million that are finished, against behind a thousand; and to idle."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median

from sqlalchemy import Engine, event, func, insert, select, text, update

from benchmarks import command
from benchmarks.command import Options
from benchmarks.databases import NewDatabase
from benchmarks.delivery.receiver import receiver
from benchmarks.delivery.site import add, places, site
from benchmarks.figures import table
from sqla_webhooks import models
from sqla_webhooks.outbox.claim import claim
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lanes import lanes
from sqla_webhooks.outbox.turnstile import Share

DUE = 100
FEW, MANY, QUICK_MANY = 1000, 1_000_000, 50_000
TIMES = 100
IDLE = 20.0
_PAGE = 10_000


def run(options: Options) -> None:
    """Print what claiming costs, and what an idle relay does."""
    many = QUICK_MANY if options.quick else MANY
    print(f"\nClaiming {DUE} deliveries behind {FEW:,} and {many:,} that are finished, and a relay that idles\n")
    rows = [_measure(database, many) for database in options.databases]
    head = ["database", "few", "many", "ratio (at most 1.20)", "idle: of a core (0.5 %)", "statements a second (3)"]
    print(table(head, rows), end="\n\n")


def _measure(database: str, many: int) -> list[str]:
    with places(database) as new_database:
        few_url, many_url = _filled(new_database, FEW), _filled(new_database, many)
        with site(few_url, deliver=False) as (_, few), site(many_url, deliver=False) as (_, much):
            measured = {engine: _claimer(engine) for engine in (few.engine, much.engine)}
            times: dict[Engine, list[float]] = {engine: [] for engine in measured}
            for _ in range(TIMES):
                for engine, act in measured.items():
                    times[engine].append(act())
            one, other = (median(times[engine]) for engine in measured)
        core, statements = _idle(many_url)
    return [
        database,
        f"{one * 1000:.2f} ms",
        f"{other * 1000:.2f} ms",
        f"{other / one:.2f}",
        f"{core:.2%}",
        f"{statements:.1f}",
    ]


def _filled(new_database: NewDatabase, finished: int) -> str:
    """A database with so many finished deliveries, and then some that are due."""
    url = new_database()
    with receiver() as there, site(url, deliver=False) as (sessions, webhooks):
        webhooks.endpoints.create(there.url("/ok"), events=["item.*"])
        add(sessions, range(DUE))
        webhooks.drain()
        _copy(webhooks.engine, finished)
        add(sessions, range(DUE, 2 * DUE))
        webhooks.engine.dispose()
    with site(url, deliver=False) as (sessions, webhooks):
        webhooks.endpoints.disable(webhooks.endpoints.list()[0].id)
        webhooks.drain()  # makes events of the last, and sends nothing
        webhooks.endpoints.enable(webhooks.endpoints.list()[0].id)
        if webhooks.engine.dialect.name == "postgresql":
            with webhooks.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE"))
    return url


def _copy(engine: Engine, count: int) -> None:
    """More finished ones, as a relay would have left them."""
    at = datetime.now(UTC)
    finished = {"endpoint_id": 1, "state": "delivered", "attempts": 1, "created_at": at, "finished_at": at}
    one = {"type": "item.created", "resource": "item", "resource_id": "0", "operation": "create", "payload": b"{}"}
    one |= {"table_name": "item", "audience": "all"}
    for begin in range(0, count, _PAGE):
        numbers = range(1_000_000 + begin, 1_000_000 + min(count, begin + _PAGE))
        with engine.begin() as connection:
            events = [{**one, "id": n, "public_id": f"evt_{n}", "row_key": n, "occurred_at": at} for n in numbers]
            connection.execute(insert(models.event), events)
            connection.execute(insert(models.delivery), [{**finished, "id": n, "event_id": n} for n in numbers])
    if engine.dialect.name == "postgresql":  # its sequences know nothing of it
        with engine.begin() as connection:
            for table_ in (models.event, models.delivery):
                last = select(func.max(table_.c.id)).scalar_subquery()
                connection.execute(select(func.setval(f"{table_.name}_id_seq", last)))


def _claimer(engine: Engine) -> Callable[[], float]:
    """Claims once, says how long that took, and gives it all back."""
    database = Database(engine)

    def act() -> float:
        now = datetime.now(UTC) + timedelta(seconds=1)
        begin = time.monotonic()
        with database.read() as connection:
            (lane,) = lanes(connection)
        claims = claim(database, [Share(lane.endpoint, retry=lane.retry, limit=DUE)], now=now, lease=60)
        took = time.monotonic() - begin
        if len(claims) != DUE:
            message = f"{len(claims)} were claimed"
            raise RuntimeError(message)
        with engine.begin() as connection:
            mine = models.delivery.c.lease_token.is_not(None)
            connection.execute(update(models.delivery).where(mine).values(next_attempt_at=now, lease_token=None))
        return took

    return act


def _idle(url: str) -> tuple[float, float]:
    """Of a core, and statements a second, of a relay that has nothing to do."""
    with receiver() as there, site(url) as (_, webhooks):
        webhooks.endpoints.update(webhooks.endpoints.list()[0].id, url=there.url("/ok"))
        while webhooks.deliveries.list(state="pending", limit=1):
            time.sleep(0.1)
        time.sleep(1)
        statements = 0

        def count(*_: object) -> None:
            nonlocal statements
            statements += 1

        event.listen(webhooks.engine, "before_cursor_execute", count)
        begin = time.process_time()
        time.sleep(IDLE)
        core = (time.process_time() - begin) / IDLE
        event.remove(webhooks.engine, "before_cursor_execute", count)
    return core, statements / IDLE


def main() -> None:
    options = command.options(command.parser("benchmarks.delivery.claims", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
