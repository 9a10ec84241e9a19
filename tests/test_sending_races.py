"""Between claim and record: whatever breaks there, what goes together, and what is made for each endpoint."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.faults import refusing
from support.heard import heard
from support.local import LOCAL, Install
from support.receiver import Received, Receiver, Reply
from support.shop import Product, shop_at

import sqla_webhooks
from sqla_webhooks import ConfigurationError, DeliveryState, Endpoint, EndpointError, Event, Webhooks, delivered
from sqla_webhooks.outbox.bundle import LARGEST, Due, bundles
from sqla_webhooks.outbox.claim import claim
from sqla_webhooks.outbox.database import Database as Door
from sqla_webhooks.outbox.turnstile import Share

Sessions = sessionmaker[Session]


def put(sessions: Sessions, *skus: str, stock: int = 0) -> None:
    """All in one transaction."""
    with sessions.begin() as session:
        for sku in skus:
            session.merge(Product(sku=sku, stock=stock))


def skus(request: Received) -> list[str]:
    body = json.loads(request.body)
    return [one["resource_id"] for one in (body if isinstance(body, list) else [body])]


def all_skus(receiver: Receiver) -> list[str]:
    return [sku for request in receiver.received for sku in skus(request)]


# --------------------------------------------------------------------------- what breaks


class Whims:
    """A `transform` that drops some rows, and fails for some at the first time."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def __call__(self, event: Event, _endpoint: Endpoint) -> Event | None:
        if event.resource_id.startswith("bad") and event.id not in self._failed:
            self._failed.add(event.id)
            raise ZeroDivisionError
        return None if event.resource_id.startswith("drop") else event


def relayed_though(directory: Path, receiver: Receiver, *, fails: int, times: int) -> bool:
    """
    Whether so many statements, from that on, were refused, while batches and single events were sent and dropped.
    """
    receiver.forget()
    clock, met = MovedClock(), itertools.count()
    with shop_at(f"sqlite:///{directory}/{fails}-{times}.db") as engine:
        sessions = sessionmaker(engine)
        with sqla_webhooks.install(sessions, deliver=False, clock=clock, transform=Whims(), **LOCAL) as webhooks:
            webhooks.endpoints.create(receiver.url("/batch"), ["*"], batch=3, payload="latest")
            webhooks.endpoints.create(receiver.url("/alone"), ["*"], dialect="github")
            put(sessions, "a", "b", "c", "d", "drop-1", "drop-2", "bad-1", "bad-2")
            put(sessions, "a", "drop-1", "bad-1", stock=1)
            with refusing(engine, "", times=times, when=lambda: next(met) >= fails) as refused:
                for _ in range(10 + times):
                    with suppress(OperationalError):
                        webhooks.drain()
                    clock.advance(3)
            states = Counter(one.state for one in webhooks.deliveries.list(limit=100))
    assert states == {DeliveryState.DELIVERED: 16, DeliveryState.CANCELLED: 6}
    return bool(refused)


@pytest.mark.parametrize(("times", "step"), [(1, 11), (6, 23)])
def test_whatever_statement_is_refused_nothing_is_lost_and_nothing_is_sent_twice(
    tmp_path: Path,
    receiver: Receiver,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    times: int,
    step: int,
) -> None:
    caplog.set_level(logging.CRITICAL)
    first = int(request.config.option.hypothesis_seed) % step  # others in each run
    for fails in itertools.count(first, step):
        if not relayed_though(tmp_path, receiver, fails=fails, times=times):
            break
        came = Counter((one.path, id_) for one in receiver.received for id_ in _ids(one))
        assert len(came) == 16, fails
        assert set(came.values()) == {1}, fails
    assert fails > 100


def _ids(request: Received) -> list[str]:
    if request.path == "/alone":
        return [request.headers["x-github-delivery"]]
    return [one["id"] for one in json.loads(request.body)]


def test_what_was_claimed_when_somebody_interrupts_waits_for_no_lease(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    interrupted = False

    def transform(event: Event, _endpoint: Endpoint) -> Event:
        nonlocal interrupted
        if event.data["sku"] == "c" and not interrupted:
            interrupted = True
            raise KeyboardInterrupt
        return event

    webhooks = install(sessions, deliver=False, clock=clock, transform=transform)
    for batch in (0, 2):
        webhooks.endpoints.create(receiver.url(f"/{batch}"), ["*"], batch=batch)
    put(sessions, *"abcde")
    with pytest.raises(KeyboardInterrupt):
        webhooks.drain()
    now = clock.now()
    webhooks.drain()
    assert clock.now() == now
    assert Counter(all_skus(receiver)) == dict.fromkeys("abcde", 2)
    assert {one.attempts for one in webhooks.deliveries.list()} == {1}


@pytest.mark.parametrize("payload", ["latest", "full"])
def test_a_database_that_is_away_while_bodies_are_made_is_no_failure_of_the_events(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock, payload: Any
) -> None:
    def transform(event: Event, _endpoint: Endpoint) -> Event:
        with sessions() as session:
            session.get_one(Product, event.resource_id)
        return event

    own = None if payload == "latest" else transform  # what reads the row: we, or the application
    webhooks = install(sessions, deliver=False, clock=clock, transform=own)
    webhooks.endpoints.create(receiver.url(), ["*"], payload=payload, batch=10)
    put(sessions, "a", "b")
    away = False

    def fall(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        nonlocal away
        away = away or "FROM product" in statement

    with (
        heard(engine, "before_cursor_execute", fall),
        refusing(engine, "", when=lambda: away) as refused,
        pytest.raises(OperationalError),
    ):
        webhooks.drain()
    assert refused
    assert not receiver.received
    webhooks.drain()
    assert [skus(one) for one in receiver.received] == [["a", "b"]]
    assert {one.attempts for one in webhooks.deliveries.list()} == {1}


def test_what_was_sent_is_told_of_though_what_was_dropped_cannot_be_written(
    install: Install, sessions: Sessions, engine: Engine, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(
        sessions, deliver=False, clock=clock, transform=lambda event, _: None if event.data["sku"] == "b" else event
    )
    webhooks.endpoints.create(receiver.url(), ["*"])
    put(sessions, "a", "b")
    told: list[str] = []
    with delivered.connected_to(lambda _, **of: told.append(of["delivery"].event_id), sender=webhooks):
        # What was attempted is finished by a statement that counts it.
        with refusing(engine, "SET state=?, lane=?", times=1) as refused, pytest.raises(OperationalError):
            webhooks.drain()
        webhooks.drain()
    assert refused
    assert told == [receiver.received[0].id]
    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.CANCELLED, DeliveryState.DELIVERED]


# --------------------------------------------------------------------------- what a batch counts


@pytest.fixture
def batched(webhooks: Webhooks, receiver: Receiver) -> Endpoint:
    return webhooks.endpoints.create(receiver.url(), ["*"], batch=20)


@pytest.mark.parametrize(("status", "paused"), [(500, False), (400, False), (503, True), (429, True)])
def test_a_batch_that_fails_is_one_failure_of_its_endpoint(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, batched: Endpoint, status: int, *, paused: bool
) -> None:
    receiver.answer(status)
    put(sessions, *(f"{number:02}" for number in range(20)))
    webhooks.drain()
    health = webhooks.endpoints.get(batched.id).health
    assert (health.failures, health.pauses) == (1, int(paused))


def test_an_endpoint_that_has_taken_a_part_has_not_failed(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, batched: Endpoint
) -> None:
    def refuse(request: Received) -> None:
        named = [one["id"] for one in json.loads(request.body)][1:]
        receiver.answer(Reply(200, json.dumps({"failed": named}).encode()))

    receiver.on_request = refuse
    put(sessions, *(f"{number:02}" for number in range(20)))
    webhooks.drain()
    health = webhooks.endpoints.get(batched.id).health
    assert (health.failures, health.pauses) == (0, 0)
    assert health.last_success_at is not None


def test_after_an_outage_what_waits_goes_in_batches_again(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, batched: Endpoint, clock: MovedClock
) -> None:
    names = [f"{number:03}" for number in range(400)]
    put(sessions, *names)
    receiver.answer(*[503] * 12)
    for _ in range(60):
        webhooks.drain()
        clock.advance(20)
    sent = [len(skus(one)) for one in receiver.received]
    assert sent[:12] == [20] * 12
    # What was tried twelve times comes first, then what was never tried; and after one batch all is due.
    assert len(sent) == 12 + 20
    assert set(sent) == {20}
    assert sorted(all_skus(receiver)[12 * 20 :]) == names
    assert {one.state for one in webhooks.deliveries.list(limit=400)} == {DeliveryState.DELIVERED}


def test_what_goes_alone_since_its_batch_was_refused_goes_alone_for_good(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, batched: Endpoint, clock: MovedClock
) -> None:
    put(sessions, "a", "b", "c")
    receiver.answer(503, 500, 503, 503, 503)
    for _ in range(40):
        webhooks.drain()
        clock.advance(3600)
    assert [skus(one) for one in receiver.received[:2]] == [["a", "b", "c"]] * 2
    assert {len(skus(one)) for one in receiver.received[2:]} == {1}
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.DELIVERED}


def test_what_waits_in_batches_waits_no_more_once_its_endpoint_is_enabled(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, batched: Endpoint, clock: MovedClock
) -> None:
    put(sessions, "a", "b")
    receiver.answer(503, 503)
    webhooks.drain()
    clock.advance(30)
    webhooks.drain()
    clock.advance(1)
    webhooks.endpoints.disable(batched.id)
    webhooks.endpoints.enable(batched.id)
    webhooks.drain()
    assert [skus(one) for one in receiver.received] == [["a", "b"]] * 3


def test_a_rate_limit_counts_requests_however_large_the_events_are(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), ["*"], batch=100, rate_limit=1, dialect="cloudevents")

    @webhooks.enricher(Product)
    def _much(_product: Product, payload: dict[str, Any]) -> None:
        payload["much"] = "x" * 400_000

    names = [f"{number:02}" for number in range(9)]
    put(sessions, *names)
    for second in range(1, 6):
        webhooks.drain()
        assert len(receiver.received) == min(second, 5)
        clock.advance(1)
    assert [len(skus_of_cloud(one)) for one in receiver.received] == [2, 2, 2, 2, 1]
    assert all(len(one.body) <= 1024 * 1024 for one in receiver.received)


def skus_of_cloud(request: Received) -> list[str]:
    return [one["subject"] for one in json.loads(request.body)]


def test_a_try_after_a_pause_that_was_dropped_lets_another_begin(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(
        sessions, deliver=False, clock=clock, transform=lambda event, _: None if event.data["stock"] else event
    )
    webhooks.endpoints.create(receiver.url(), ["*"])
    receiver.answer(503)
    put(sessions, "a")
    webhooks.drain()
    put(sessions, *(f"b{number}" for number in range(5)), stock=1)
    put(sessions, "c")
    webhooks.drain()
    clock.advance(6)
    webhooks.drain()
    assert sorted(all_skus(receiver)) == ["a", "a", "c"]
    assert len(webhooks.deliveries.list(state="cancelled")) == 5


@given(
    each=st.integers(2, 6),
    limit=st.integers(1, 4),
    sizes=st.lists(st.sampled_from([1, 10, LARGEST // 3, LARGEST // 2, LARGEST, 2 * LARGEST]), max_size=20),
)
def test_as_much_of_what_is_due_goes_as_the_requests_can_have(each: int, limit: int, sizes: list[int]) -> None:
    shares = [Share(1, retry=False, limit=limit, batch=each), Share(2, retry=False, limit=limit)]
    due = [Due(number, share.lane, size) for share in shares for number, size in enumerate(sizes, 100 * share.endpoint)]
    made = bundles(due, shares)
    together = [some for some in made if some[0].lane == shares[0].lane]
    alone = [some for some in made if some[0].lane == shares[1].lane]
    assert alone == [[one] for one in due[len(sizes) :][:limit]]
    assert len(together) <= limit
    taken = [one for some in together for one in some]
    assert taken == due[: len(taken)]
    for some in together:
        assert 1 <= len(some) <= each
        assert len(some) == 1 or sum(one.size for one in some) <= LARGEST
    for some, following in pairwise(together):
        assert len(some) == each or sum(one.size for one in some) + following[0].size > LARGEST
    assert len(together) == limit or len(taken) == len(sizes)


@pytest.mark.parametrize(("was", "has"), [(3, 0), (0, 3), (3, 2)])
def test_what_was_to_be_taken_for_other_batches_than_the_endpoint_wants_is_left(
    sessions: Sessions, engine: Engine, webhooks: Webhooks, receiver: Receiver, clock: MovedClock, was: int, has: int
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), ["*"], batch=has)
    webhooks.endpoints.disable(endpoint.id)
    put(sessions, "a", "b", "c")
    webhooks.drain()
    webhooks.endpoints.enable(endpoint.id)
    door = Door(engine)
    claims = {
        batch: claim(door, [Share(1, retry=False, limit=5, batch=batch)], now=clock.now(), lease=60)
        for batch in (was, has)
    }
    assert not claims[was]
    assert len(claims[has]) == 3


# --------------------------------------------------------------------------- dialects of others


class Odd:
    """A dialect that is as it is told to be."""

    name = "odd"
    batches = True

    def __init__(self, **said: Any) -> None:
        self._said = said

    def _say(self, what: str, instead: Any) -> Any:
        said = self._said.get(what, instead)
        if isinstance(said, BaseException):
            raise said
        return said

    def check_secret(self, secret: str) -> Any:
        return self._say("check_secret", secret)

    def body(self, event: Event, *, dumps: Any) -> Any:
        return self._say("body", dumps(event.data))

    def headers(self, _post: Any) -> Any:
        return self._say("headers", {"Content-Type": "application/json"})


@pytest.mark.parametrize("batch", [0, 5])
@pytest.mark.parametrize(
    "said",
    [
        {"body": "text"},
        {"body": None},
        {"body": SystemExit()},
        {"headers": SystemExit()},
        {"headers": None},
        {"headers": {"Content-Type": "a/b\r\nX: y"}},
        {"headers": {"Content-Type": "a/b", "X-Y\n": "z"}},
        {"headers": {"Content-Type": "a/b", "Transfer-Encoding": "chunked"}},
        {"check_secret": ValueError("the-secret")},
        {"check_secret": None},
    ],
    ids=str,
)
def test_a_dialect_that_fails_does_so_alone(
    install: Install,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
    said: dict[str, Any],
    batch: int,
) -> None:
    good = install(sessions, deliver=False, clock=clock, dialects=[Odd()])
    good.endpoints.create(receiver.url("/odd"), ["*"], dialect="odd", batch=batch, secret="the-secret")
    good.endpoints.create(receiver.url("/plain"), ["*"])
    good.uninstall()
    odd = install(sessions, deliver=False, clock=clock, dialects=[Odd(**said)])
    put(sessions, "a", "b")
    odd.drain()
    assert [one.path for one in receiver.received] == ["/plain"] * 2
    waiting = odd.deliveries.list(state="pending")
    assert [one.attempts for one in waiting] == [1, 1]
    assert "the-secret" not in caplog.text
    odd.uninstall()
    clock.advance(86400)
    install(sessions, deliver=False, clock=clock, dialects=[Odd()]).drain()
    assert all(one.state is DeliveryState.DELIVERED for one in good.deliveries.list())


def test_a_body_may_be_larger_than_what_is_stored(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, dialects=[Odd(body=b"[" + b"1," * 400_000 + b"1]")])
    webhooks.endpoints.create(receiver.url(), ["*"], dialect="odd", batch=5, secret="any")
    put(sessions, *"abcde")
    assert webhooks.drain().attempts == 1


# --------------------------------------------------------------------------- rows that are looked for again


@pytest.mark.parametrize("written", ["public-a", "b", None])
def test_the_latest_is_not_looked_for_by_a_key_that_an_enricher_has_written(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, written: str | None
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], payload="latest")

    @webhooks.enricher(Product)
    def _public(_product: Product, payload: dict[str, Any]) -> None:
        del payload["sku"]
        if written is not None:
            payload["sku"] = written

    put(sessions, "a", stock=1)
    put(sessions, "b", stock=2)
    webhooks.drain()
    for one in receiver.events():
        assert "gone" not in one
        assert one["data"]["stock"] == {"a": 1, "b": 2}[one["resource_id"]]


def test_enrichers_of_endpoints_get_no_other_row_than_the_events(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, domain_events={"product.sold": Product})
    webhooks.endpoints.create(receiver.url(), ["*"], ordering=False)

    @webhooks.endpoint_enricher(Product)
    def _seen(product: Product, payload: dict[str, Any], _endpoint: Endpoint) -> None:
        payload["of"] = product.sku

    put(sessions, "z")
    with sessions.begin() as session:
        sold = Product(sku="a")
        session.add(sold)
        session.flush()
        webhooks.emit(session, "product.sold", sold, data={"sku": "z"})
        webhooks.emit(session, "product.sold", sold, data={"price": 1})
    webhooks.drain()
    assert {(one["type"], one["resource_id"]): one["data"].get("of") for one in receiver.events()} == {
        ("product.created", "a"): "a",
        ("product.created", "z"): "z",
        ("product.sold", "a"): None,
    }
    assert len(receiver.received) == 4
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


# --------------------------------------------------------------------------- endpoints that are written


def test_who_has_no_keys_is_told_so_and_not_to_rotate(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    knowing = install(sessions, deliver=False, encryption_keys=[Fernet.generate_key()])
    said: dict[str, Any] = {"url": receiver.url(), "events": ["*"]}
    knowing.endpoints.register("crm", **said)
    knowing.uninstall()
    other = install(sessions, deliver=False)
    with pytest.raises(ConfigurationError, match="encryption_keys") as told:
        other.endpoints.register("crm", **said)
    assert "rotate" not in str(told.value)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_dialect_is_held_against_secrets_that_came_after_the_transaction_began(
    database: Database, install: Install, receiver: Receiver
) -> None:
    with database.engine() as engine:
        webhooks = install(sessionmaker(engine), deliver=False)
        endpoint = webhooks.endpoints.create(receiver.url(), ["*"], dialect="github")
        with sessionmaker(engine)() as session:
            session.connection().exec_driver_sql("SELECT * FROM webhook_secret").all()  # whose snapshot begins
            webhooks.endpoints.rotate_secret(endpoint.id, secret="no secret of the standard")
            with pytest.raises(EndpointError, match="a secret that will not do"):
                webhooks.endpoints.update(endpoint.id, dialect="standard", session=session)
