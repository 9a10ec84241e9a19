"""
Some customers. Exit status 0 only if the collector knows of everything that has happened, and of nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from examples.analytics.collector import Collector
from examples.analytics.shop import Base, CardDeclinedError, Storefront, send_webhooks
from examples.receiver import Receiver
from sqla_webhooks import Webhooks, verify_batch

#: What happens, written down by hand.
HAPPENED = [
    ("cart.completed", "ada", "r4"),
    ("cart.created", "ada", "r4"),
    ("customer.created", "ada", "r1"),
    ("search.performed", "ada", "r2"),
    ("search.performed", "ada", "r3"),
]


def main() -> int:
    collector = Collector()
    with TemporaryDirectory() as directory, Receiver(collector.take, verify=verify_batch) as receiver:
        engine = create_engine(f"sqlite:///{Path(directory) / 'shop.db'}")
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        try:
            with send_webhooks(sessions, url=receiver.url, secret=receiver.secret) as webhooks:
                visit(Storefront(sessions, webhooks))
                webhooks.drain()
                first = receiver.receipts[0]
                print(f"one request had {len(first.content)} events; the answer was {first.reply.content}")
                mend(collector, webhooks)
        finally:
            engine.dispose()
    return settle(collector)


def visit(shop: Storefront) -> None:
    shop.sign_up("ada", request_id="r1")
    shop.search("ada", "globe", request_id="r2")
    shop.search("ada", "a lamp to read by at night that does not wake anybody", request_id="r3")
    shop.buy(1, "ada", items=2, request_id="r4")
    try:
        shop.buy(1, "ada", items=500, request_id="r5", pays=False)
    except CardDeclinedError:
        print("the card was declined for 500 items: that was rolled back, and nobody is told of it")


def mend(collector: Collector, webhooks: Webhooks) -> None:
    """What was given up is kept, seen, and sent again."""
    (dead,) = webhooks.deliveries.list(state="dead")
    print(f"{dead.event_type} of r3 was given up after {dead.attempts} attempts: the collector has room for 40 letters")
    collector.longest_search = 200
    webhooks.deliveries.retry_all()
    webhooks.drain()
    print("it has more room now, and was sent it again")


def settle(collector: Collector) -> int:
    seen = collector.seen()
    for type_, actor, request in seen:
        print(f"   {type_:<17} {actor}  {request}")
    secret = "password_hash" in str(collector.records)
    agree = seen == HAPPENED and not secret
    print("the collector knows all that has happened" if agree else f"THE COLLECTOR SHOULD KNOW {HAPPENED}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
