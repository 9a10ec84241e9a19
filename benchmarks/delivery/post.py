"""One request of a sender, with all that guards it, beside what requests makes by itself: one receiver, in turns."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import requests

from benchmarks import command
from benchmarks.command import Options
from benchmarks.delivery.receiver import Receiver, receiver
from benchmarks.figures import Times, middle, table
from sqla_webhooks import Settings
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Claim
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.request import Request
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.destination import Destination

REQUESTS, QUICK_REQUESTS = 500, 100
ROUNDS, QUICK_ROUNDS = 7, 3
BODY = b"x" * 1000


def run(options: Options) -> None:
    """Print a table; the databases have no part in it."""
    count = QUICK_REQUESTS if options.quick else REQUESTS
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    print("\nOne request of 1,000 bytes, by the clock (and of CPU)\n")
    policy = EgressPolicy.of(Settings.of({"allow_http": True, "allow_networks": ["127.0.0.1"]}))
    sender = Sender(policy, connect_timeout=5.0, timeout=15.0, clock=SystemClock())
    with receiver() as there, requests.Session() as session:
        ways: dict[str, Callable[[], object]] = {
            "the sender": partial(sender.send, _request(there)),
            "requests.Session.post()": partial(session.post, there.url("/ok"), data=BODY),
            "requests.post()": partial(requests.post, there.url("/ok"), data=BODY),
        }
        taken: dict[str, list[Times]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                taken[name].append(_time(way, count))
    sender.close()
    ours = middle(taken["the sender"])
    rows = [
        [name, f"{middle(times).wall * 1e6:.0f} µs", f"{middle(times).over(ours)}"] for name, times in taken.items()
    ]
    print(table(["", "each", "to the sender"], rows), end="\n\n")


def _time(way: Callable[[], object], count: int) -> Times:
    way()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        way()
    return Times(time.perf_counter() - wall, time.process_time() - cpu).by(count)


def _request(there: Receiver) -> Request:
    now = datetime.now(UTC)
    claim = Claim(
        delivery_id=1,
        token="",
        until=now,
        attempt=1,
        first_attempt_at=None,
        created_at=now,
        keys=(),
        event_id="evt_1",
        event_type="item.created",
        payload=BODY,
        destination=Destination(endpoint=1, endpoint_id="ep_1", url=there.url("/ok"), secrets=(), headers=None),
    )
    return Request(claim, {"Content-Type": "application/json", "Accept-Encoding": "identity"}, BODY)


def main() -> None:
    options = command.options(command.parser("benchmarks.delivery.post", __doc__).parse_args())
    print(command.about())
    run(options)


if __name__ == "__main__":
    main()
