"""One process of the application, from its start to its fall or its end."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker
from tenacity import stop_never, wait_fixed

import sqla_webhooks
from sqla_webhooks import Webhooks
from support.crash.clock import ShiftedClock
from support.crash.models import Item
from support.crash.steps import Fall
from support.crash.work import Writer
from support.databases import Database
from support.local import LOCAL

#: Seconds that a process may take to deliver what is left.
LONGEST = 120.0

#: Outbox rows in one turn: so few, while it is written, that there is a backlog, for which a relay takes the lead.
SMALL_BATCH, BATCH = 3, 100


@dataclass(frozen=True)
class Life:
    """
    What a process does.

    Attributes:
        clock: The file of the clock that all processes share.
        log: Where its errors go.
        seed: Of what its threads write.
        writers: How many threads write.
        transactions: How many each of them makes; then the process delivers what is left, and ends.
        fall: Where it falls; None if nowhere.
        last: Whether it stays until every delivery was taken; else only while something is due.
    """

    database: Database
    clock: Path
    log: Path
    seed: str
    writers: int
    transactions: float
    fall: Fall | None
    last: bool


def settings(clock: ShiftedClock, *, batch_size: int = BATCH) -> dict[str, Any]:
    """
    What every process is installed with.

    Leases outlast every life: what is sent again was in the hands of a process
    that died. A failure is tried again at once, for ever.
    """
    return {
        **LOCAL,
        "clock": clock,
        "batch_window": 0.005,
        "batch_size": batch_size,
        "poll_interval": 0.05,
        "concurrency": 8,
        "timeout": 2.0,
        "wait": wait_fixed(0.01),
        "stop": stop_never,
    }


def live(life: Life, leash: Connection) -> None:
    """
    The main function of the process.

    Args:
        leash: Gets a message with the first commit. When the test's end of it is closed, this process ends too.
    """
    threading.excepthook = _fail
    os.dup2(os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    threading.Thread(target=_hold_on_to, args=(leash,), daemon=True).start()
    try:
        _live(life, _once(lambda: leash.send_bytes(b".")))
    except BaseException:
        traceback.print_exc()
        raise


def _fail(failed: threading.ExceptHookArgs) -> None:
    """A thread of the application that dies is a fault, and ends the process."""
    traceback.print_exception(failed.exc_value)
    os._exit(1)


def _hold_on_to(leash: Connection) -> None:
    with suppress(EOFError, OSError):
        leash.recv_bytes()
    os._exit(1)


def _live(life: Life, wrote: Callable[[], None]) -> None:
    with life.database.engine() as engine:
        if life.fall is not None:
            life.fall.arm(engine)
        sessions = sessionmaker(engine)
        batch_size = BATCH if life.last else SMALL_BATCH
        webhooks = sqla_webhooks.install(sessions, **settings(ShiftedClock(life.clock), batch_size=batch_size))
        webhooks.enricher(Item)(_as_read)
        writers = _write(sessions, life, wrote)
        for writer in writers:
            writer.thread.join()
        assert _deliver(webhooks, all_of_it=life.last), "the time was not enough"
        assert webhooks.uninstall(), "the relay's thread did not end"


def _write(sessions: sessionmaker[Session], life: Life, wrote: Callable[[], None]) -> list[Writer]:
    seeds = [f"{life.seed}/{number}" for number in range(life.writers)]
    writers = [Writer(sessions, seed, most=life.transactions, wrote=wrote) for seed in seeds]
    for writer in writers:
        writer.thread.start()
    return writers


def _deliver(webhooks: Webhooks, *, all_of_it: bool) -> bool:
    """What is due; or all that is there, until it was taken. Whether it was done in time."""
    clock = webhooks.settings.clock
    deadline = clock.monotonic() + LONGEST
    while webhooks.drain(deadline - clock.monotonic()).complete:
        if not all_of_it or not webhooks.deliveries.list(state="pending", limit=1):
            return True
    return False


def _as_read(item: Item, payload: dict[str, Any]) -> None:
    """An enricher: it sees the row as it is by then."""
    payload["read"] = item.version


def _once(act: Callable[[], None]) -> Callable[[], None]:
    acts = [act]

    def call() -> None:
        while acts:
            acts.pop()()

    return call
