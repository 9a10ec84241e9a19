"""
The demo: a shop commits, a receiver in another process verifies, and everything is counted.

Exit status 0 only if everybody's numbers agree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker

import sqla_webhooks
from examples.shop.account import Account, Ink
from examples.shop.models import Base
from examples.shop.outgoing import send_webhooks
from examples.shop.process import Deadline, DemoError, ReceiverProcess, receiver
from examples.shop.scenario import REFUSED_ONCE, STEPS
from examples.shop.stage import Recorded, Stage
from examples.shop.tally import Books, tally
from sqla_webhooks import Endpoint, Webhooks, delivered

#: Seconds for everything; it takes about four.
PATIENCE = 30.0


def main() -> int:
    account = Account(sys.stdout, Ink.of(sys.stdout))
    try:
        books = run(account)
    except DemoError as error:
        account.failed(error)
        return 1
    counts = tally(books)
    account.result(counts)
    return 0 if all(count.agrees for count in counts) else 1


def run(account: Account) -> Books:
    """Set everything up, play the scenario, and leave nothing behind."""
    deadline, recorded = Deadline.after(PATIENCE), Recorded()
    with database() as engine, receiver(refuse=REFUSED_ONCE) as partner:
        sessions = sessionmaker(engine)
        with send_webhooks(sessions) as webhooks, delivered.connected_to(recorded, sender=webhooks):
            endpoint = webhooks.endpoints.create(partner.url(deadline.left()), events=["*"])
            partner.trust(endpoint.secret)
            introduce(account, engine, partner=partner, webhooks=webhooks, endpoint=endpoint)
            stage = Stage(sessions, webhooks, partner, recorded, account, deadline)
            played = [stage.play(number, step) for number, step in enumerate(STEPS, start=1)]
            return stage.close_books(played)


def introduce(
    account: Account, engine: Engine, *, partner: ReceiverProcess, webhooks: Webhooks, endpoint: Endpoint
) -> None:
    """Say who takes part."""
    window = f"{webhooks.settings.batch_window * 1000:.0f}"
    account.opening(
        f"sqla_webhooks {sqla_webhooks.__version__}, SQLAlchemy {sqlalchemy.__version__}",
        [
            ("database", f"{engine.url}, removed at the end"),
            ("receiver", f"process {partner.pid}, verifies each signature with the package standardwebhooks"),
            ("endpoint", f"{endpoint.url}, subscribed to {', '.join(endpoint.events)}"),
            ("ms", f"from the call of commit() to the arrival there; up to {window} of them gather a batch"),
        ],
    )


@contextmanager
def database() -> Iterator[Engine]:
    """A SQLite file with the shop's tables, in a directory that goes with it."""
    with TemporaryDirectory(prefix="sqla_webhooks-") as directory:
        engine = create_engine(f"sqlite:///{Path(directory) / 'shop.db'}")
        try:
            Base.metadata.create_all(engine)
            yield engine
        finally:
            engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
