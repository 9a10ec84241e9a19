"""
An application that installs when it is imported, and notes what it finds in each of its processes.

Its environment says where its database is (DATABASE), whether it delivers
(DELIVER), and to which file it writes (REPORT): a line for each commit.
"""

from __future__ import annotations

import json
import os
import threading
import warnings
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.orm import configure_mappers, sessionmaker

from sqla_webhooks import install
from support.local import LOCAL
from support.shop import Product

# Of fork() beside threads, which is what we do here.
warnings.filterwarnings("ignore", message=".*use of fork.*", category=DeprecationWarning)

engine = create_engine(os.environ["DATABASE"])
Session = sessionmaker(engine)

#: Which process has had which connection, by the number that the server gives it.
_connections: set[tuple[int, int]] = set()


@event.listens_for(engine, "checkout")
def _note(connection: Any, _entry: object, _proxy: object) -> None:
    if engine.dialect.name == "postgresql":
        _connections.add((os.getpid(), connection.info.backend_pid))
    elif engine.dialect.name == "mysql":
        _connections.add((os.getpid(), connection.thread_id()))


webhooks = install(Session, deliver=os.environ["DELIVER"] == "yes", batch_window=0, poll_interval=0.5, **LOCAL)


@webhooks.enricher(Product)
def _say_who_relays(_product: Product, payload: dict[str, Any]) -> None:
    payload["relayed_by"] = os.getpid()


def put(sku: str) -> int:
    """Commit a product that says which process did, and report; the process's number."""
    found = [thread.name for thread in threading.enumerate()]
    with Session.begin() as session:
        session.add(Product(sku=sku, name=str(os.getpid())))
    report = {
        "sku": sku,
        "process": os.getpid(),
        "threads_found": found,
        "threads": [thread.name for thread in threading.enumerate()],
        "connections": sorted(_connections),
    }
    with Path(os.environ["REPORT"]).open("a") as file:
        file.write(json.dumps(report) + "\n")
    return os.getpid()


# Before anybody forks: SQLAlchemy does this under a lock, at the first use.
configure_mappers()
if webhooks.settings.deliver:  # else no thread of ours uses the pool, and whoever forks sees to it, as without us
    with engine.connect():
        pass
