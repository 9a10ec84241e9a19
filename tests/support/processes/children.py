"""
The application forks children itself, while its thread commits and its relay is at work.

    python -m support.processes.children WAY

WAY is one of `WAYS`. Each child commits, and ends when all that waits is sent.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from sqlalchemy import func, select

from sqla_webhooks import models
from support.processes import application
from support.receiver import PATIENCE
from support.shop import Product

CHILDREN, EACH = 4, 3

#: What the parent commits meanwhile, and seconds between; the children are forked in between.
OWN, PACE = 40, 0.01


def work(number: int) -> None:
    """What a child does. One that hangs says where, and fails."""
    faulthandler.dump_traceback_later(PATIENCE / 2, exit=True)
    commit_some(number)
    wait_until_sent()
    faulthandler.cancel_dump_traceback_later()


def commit_some(number: int) -> None:
    for one in range(EACH):
        application.put(f"child {number}, {one}")


def wait_until_sent() -> None:
    """All that is ever committed: a process that ended with a request in flight would have it made again."""
    while not _sent():
        threading.Event().wait(0.05)  # of other processes nothing tells us


def _sent() -> bool:
    with application.engine.connect() as connection:
        committed = connection.scalar(select(func.count()).select_from(Product))
        if committed != OWN + CHILDREN * EACH or connection.scalar(select(func.count()).select_from(models.outbox)):
            return False
    return not application.webhooks.deliveries.list(state="pending", limit=1)


def fork_and_leave(number: int) -> int:
    """A child that ends at once, as servers let theirs."""
    if child := os.fork():
        return child
    work(number)
    os._exit(0)


def fork_and_exit(number: int) -> int:
    """A child that ends as a script does: its `atexit` functions run."""
    if child := os.fork():
        return child
    work(number)
    sys.exit(0)


def by_hand(fork: Callable[[int], int]) -> None:
    for child in [fork(number) for number in range(CHILDREN)]:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def processes() -> None:
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=work, args=(number,)) for number in range(CHILDREN)]
    for process in started:
        process.start()
    for process in started:
        process.join(PATIENCE)
        assert process.exitcode == 0


def pool() -> None:
    with multiprocessing.get_context("fork").Pool(2) as workers:
        workers.map(commit_some, range(CHILDREN), chunksize=1)
        wait_until_sent()


WAYS: dict[str, Callable[[], None]] = {
    "os.fork, _exit": lambda: by_hand(fork_and_leave),
    "os.fork, exit": lambda: by_hand(fork_and_exit),
    "Process": processes,
    "Pool": pool,
}


if application.engine.dialect.name == "sqlite":
    # SQLite knows of locks by process: one that is held at a fork is held in the child for ever. So whoever forks may
    # have no transaction open, with us or without; ours is seen to by the library.
    _lock = threading.Lock()
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
    _writing: AbstractContextManager[object] = _lock
else:
    _writing = nullcontext()


def commit() -> None:
    done = threading.Event()
    for number in range(OWN):
        with _writing:
            application.put(f"parent, {number}")
        done.wait(PACE)


def main() -> None:
    committing = threading.Thread(target=commit)
    committing.start()
    WAYS[sys.argv[1]]()
    committing.join()
    wait_until_sent()


if __name__ == "__main__":
    main()
