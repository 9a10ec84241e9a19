"""What happens to an endpoint while a delivery to it is under way, and who waits for whom; on every database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.heard import heard
from support.local import Install
from support.receiver import PATIENCE, Received, Receiver
from support.shop import Base, Product, put
from support.threads import aside
from tenacity import stop_after_attempt, stop_never, wait_fixed

from sqla_webhooks import DeliveryState, NewEndpoint, Webhooks
from sqla_webhooks.signals import Signal, endpoint_disabled, endpoint_failing, endpoint_recovered

pytestmark = pytest.mark.stress

Sessions = sessionmaker[Session]

#: Two transactions may write at once.
shared = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


def stock(sessions: Sessions, *numbers: int) -> None:
    """Commit each as the stock of the product "a"."""
    for number in numbers:
        with sessions.begin() as session:
            session.merge(Product(sku="a", stock=number))


def stocks(receiver: Receiver) -> list[int]:
    return [one["data"]["stock"] for one in receiver.events()]


def during(receiver: Receiver, act: Callable[[], object]) -> None:
    """Have *act* done in the middle of the next request, in a thread of its own; it must not wait for the request."""

    def on_request(_request: Received) -> None:
        receiver.on_request = None
        thread, came = aside(act)
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not isinstance(came[0], Exception), came

    receiver.on_request = on_request


# ------------------------------------------------------------------ an endpoint that is written mid-flight


def test_an_endpoint_that_is_moved_meanwhile_gets_the_retry_at_its_new_url(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500)
    during(receiver, lambda: webhooks.endpoints.update(endpoint.id, url=receiver.url("/moved")))
    stock(sessions, 1, 2)
    webhooks.drain()
    clock.advance(10)
    webhooks.drain()

    assert [one.path for one in receiver.received] == ["/hooks", "/moved", "/moved"]
    assert stocks(receiver) == [1, 1, 2]


@pytest.mark.parametrize("status", [200, 500])
def test_an_endpoint_that_is_disabled_meanwhile_gets_no_more_and_all_when_it_is_enabled(
    status: int, webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(status)
    during(receiver, lambda: webhooks.endpoints.disable(endpoint.id))
    stock(sessions, 1, 2, 3)
    webhooks.drain()
    clock.advance(10)
    webhooks.drain()
    assert stocks(receiver) == [1]
    recorded = webhooks.deliveries.attempts(webhooks.deliveries.list()[-1].id)
    assert [one.status for one in recorded] == [status], "the request that ran is let finish"

    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert stocks(receiver) == ([1, 2, 3] if status == 200 else [1, 1, 2, 3])
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.DELIVERED}


def test_an_endpoint_that_is_disabled_and_enabled_meanwhile_loses_nothing(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    def toggle() -> None:
        webhooks.endpoints.disable(endpoint.id)
        webhooks.endpoints.enable(endpoint.id)

    during(receiver, toggle)
    stock(sessions, 1, 2, 3)
    webhooks.drain()

    assert stocks(receiver) == [1, 2, 3]


@pytest.mark.parametrize("status", [200, 500])
def test_an_endpoint_that_is_deleted_meanwhile_gets_no_more(
    status: int, webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(status)
    during(receiver, lambda: webhooks.endpoints.delete(endpoint.id))
    stock(sessions, 1, 2, 3)
    webhooks.drain()
    clock.advance(10**6)
    webhooks.drain()

    assert stocks(receiver) == [1]
    states = [one.state for one in reversed(webhooks.deliveries.list())]
    first = DeliveryState.DELIVERED if status == 200 else DeliveryState.CANCELLED
    assert states == [first, DeliveryState.CANCELLED, DeliveryState.CANCELLED]


@contextmanager
def once_after(engine: Engine, fragment: str, *, act: Callable[[], object]) -> Iterator[None]:
    """Have *act* done when the transaction of a statement that contains *fragment* has ended, the first time."""
    left = [act]
    seen = threading.Event()

    def see(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if fragment in statement:
            seen.set()

    def do(*_: object) -> None:
        if seen.is_set() and left:
            left.pop()()

    with heard(engine, "after_cursor_execute", see), heard(engine, "checkin", do):
        yield
    assert not left


@pytest.mark.parametrize("ends", ["disable", "delete"])
def test_an_endpoint_that_ends_between_the_look_and_the_claim_gets_nothing(
    ends: str, webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine, sessions: Sessions, receiver: Receiver
) -> None:
    """What is claimed together with it goes on."""
    webhooks.endpoints.create(receiver.url("/other"), events=["*"])
    put(sessions, "a", "b")
    with once_after(engine, "AS waiting", act=lambda: getattr(webhooks.endpoints, ends)(endpoint.id)):
        webhooks.drain()
    assert [one.path for one in receiver.received] == ["/other", "/other"]

    if ends == "disable":
        webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert [one.path for one in receiver.received][2:] == ["/hooks", "/hooks"] * (ends == "disable")


# ------------------------------------------------------------------ leases


def test_a_lease_that_ends_while_the_request_runs_passes_on_and_its_first_holder_records_nothing(
    webhooks: Webhooks,
    endpoint: NewEndpoint,
    install: Install,
    engine: Engine,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
) -> None:
    other = install(sessionmaker(engine), deliver=False, clock=clock)

    def take_over() -> None:
        clock.suspend(61)
        assert other.drain().attempts == 2

    receiver.answer(200, 200, 500)  # to the other, twice, and then to the first
    during(receiver, take_over)
    stock(sessions, 1, 2)
    webhooks.drain()

    assert stocks(receiver) == [1, 2, 1]
    deliveries = webhooks.deliveries.list()
    assert [(one.state, one.attempts) for one in deliveries] == [(DeliveryState.DELIVERED, 1)] * 2
    assert [[a.status for a in webhooks.deliveries.attempts(one.id)] for one in deliveries] == [[200], [200]]
    assert webhooks.endpoints.get(endpoint.id).health.failures == 0


# ------------------------------------------------------------------ three relays that find out the same at once


@dataclass
class Three:
    """Three relays on one database, which wait for each other's locks as they would in earnest."""

    sessions: Sessions
    relays: list[Webhooks]

    def drain_at_once(self) -> None:
        """Each in a thread of its own, begun together; an error of one is this thread's."""
        together = threading.Barrier(len(self.relays))

        def drain(relay: Webhooks) -> None:
            together.wait(PATIENCE)
            relay.drain()

        started = [aside(partial(drain, relay)) for relay in self.relays]
        for thread, came in started:
            thread.join(PATIENCE)
            assert not thread.is_alive()
            if isinstance(came[0], Exception):
                raise came[0]


@pytest.fixture
def three(install: Install, database: Database, engine: Engine, clock: MovedClock) -> Iterator[Three]:
    options: dict[str, Any] = {"deliver": False, "clock": clock, "wait": wait_fixed(60), "stop": stop_never}
    with replace(database, connect_args={}).engine() as patient:
        factories = [sessionmaker(patient) for _ in range(3)]
        yield Three(factories[0], [install(one, disable_after=3600.0, **options) for one in factories])


@pytest.fixture
def observer(three: Three) -> Iterator[Receiver]:
    """Gets what is told of endpoints themselves."""
    with Receiver() as observer:
        three.relays[0].endpoints.create(observer.url(), events=["endpoint.disabled"])
        yield observer


@pytest.fixture
def six_retries(three: Three, receiver: Receiver, clock: MovedClock) -> NewEndpoint:
    """What is due to an endpoint that has done nothing but fail: two for each of the relays, which take no more."""
    endpoint = three.relays[0].endpoints.create(receiver.url(), events=["product.*"])
    receiver.answer(*[500] * 6)
    put(three.sessions, *"abcdef")
    three.relays[0].drain()
    assert len(receiver.received) == 6
    clock.advance(61)
    return endpoint


@contextmanager
def counted(*signals: Signal) -> Iterator[Counter[str]]:
    """How often each was sent, by whomever."""
    counts: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., None]:
        return lambda _sender, **_: counts.update([name])

    with ExitStack() as stack:
        for signal in signals:
            stack.enter_context(signal.connected_to(counting(signal.name)))
        yield counts


def meet(receiver: Receiver) -> None:
    """Answer none of three requests before all are under way."""
    together = threading.Barrier(3)

    def on_request(_request: Received) -> None:
        together.wait(PATIENCE)

    receiver.on_request = on_request


@contextmanager
def met_over_health(engine: Engine) -> Iterator[None]:
    """The first three transactions that look at the health do so at once; on SQLite there cannot be so many."""
    together = threading.Barrier(3)
    to_come = [together] * 3

    def wait(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("SELECT webhook_health.endpoint_id") and "JOIN" not in statement and to_come:
            to_come.pop().wait(PATIENCE)

    if engine.dialect.name == "sqlite":
        yield
        return
    with heard(engine, "before_cursor_execute", wait):
        yield
    assert not to_come


def test_an_endpoint_that_three_relays_find_gone_at_once_is_disabled_once(
    three: Three, six_retries: NewEndpoint, observer: Receiver, receiver: Receiver
) -> None:
    receiver.answer(*[410] * 6)
    meet(receiver)
    with counted(endpoint_disabled) as counts:
        three.drain_at_once()
        three.drain_at_once()

    assert counts == {"endpoint_disabled": 1}
    assert len(receiver.received) == 12
    assert [(one["type"], one["data"]["reason"]) for one in observer.events()] == [("endpoint.disabled", "gone")]
    assert three.relays[0].endpoints.get(six_retries.id).disabled_because == "gone"


def test_an_endpoint_that_three_relays_give_up_at_once_is_disabled_once(
    three: Three, six_retries: NewEndpoint, observer: Receiver, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(*[500] * 6)
    meet(receiver)
    clock.advance(3600)
    with counted(endpoint_disabled, endpoint_failing) as counts:
        with met_over_health(three.relays[0].engine):
            three.drain_at_once()
        three.drain_at_once()

    assert counts == {"endpoint_disabled": 1, "endpoint_failing": 1}
    assert [(one["type"], one["data"]["reason"]) for one in observer.events()] == [("endpoint.disabled", "failing")]


@pytest.mark.usefixtures("six_retries")
def test_three_relays_warn_three_times_of_an_endpoint_that_fails_for_an_hour(
    three: Three, observer: Receiver, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(*[500] * 1000)
    warned = []
    with counted(endpoint_failing, endpoint_disabled, endpoint_recovered) as counts:
        for _ in range(20):
            three.drain_at_once()
            warned.append(counts["endpoint_failing"])
            clock.advance(200)

    assert counts == {"endpoint_failing": 3, "endpoint_disabled": 1}
    assert sorted(set(warned)) == [0, 1, 2, 3], "one after the other"
    assert observer.types == ["endpoint.disabled"]


# ------------------------------------------------------------------ the application holds an endpoint's row


@pytest.fixture
def impatient(database: Database, engine: Engine) -> Iterator[Sessions]:
    """
    Sessions that do not wait for a lock.

    For MariaDB that is to say a second: told to wait for no time, it fails of rows that it is to skip too.
    """
    waits = (
        {"init_command": "SET innodb_lock_wait_timeout = 1"} if database.name == "mariadb" else database.connect_args
    )
    with replace(database, connect_args=waits).engine() as impatient:
        yield sessionmaker(impatient)


def write_all(webhooks: Webhooks, endpoint: NewEndpoint, session: Session) -> None:
    """All that an application can write in its own transaction, which stays open; in the end nothing has changed."""
    webhooks.endpoints.create("http://127.0.0.1:1024/", events=["product.*"], session=session)
    webhooks.endpoints.update(endpoint.id, events=["product.*"], rate_limit=999, session=session)
    webhooks.endpoints.disable(endpoint.id, session=session)
    webhooks.endpoints.enable(endpoint.id, session=session)
    webhooks.endpoints.delete(endpoint.id, session=session)


@shared
def test_a_transaction_that_has_written_an_endpoint_holds_up_no_relay(
    install: Install, impatient: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """
    Whatever comes: claims, results of each kind, dead letters that are told of, endpoints that are to be disabled.

    A relay that had to wait for a lock would fail.
    """
    webhooks = install(impatient, deliver=False, clock=clock, stop=stop_after_attempt(2), wait=wait_fixed(60))
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.*"], rate_limit=1000)
    webhooks.endpoints.create(receiver.url("/observer"), events=["delivery.dead", "endpoint.disabled"])
    put(impatient, "before")
    with impatient() as session:
        session.add(Product(sku="open"))
        write_all(webhooks, endpoint, session)
        session.flush()
        receiver.answer(200, 500, 503)
        put(impatient, "b", "c")
        stock(impatient, 1, 2, 3)
        drain_for(webhooks, clock, minutes=10)
        assert [one.path for one in receiver.received] == ["/hooks"] * (6 + 2)
        receiver.answer(500, 410)
        put(impatient, "d")
        drain_for(webhooks, clock, minutes=3)
        assert [one.path for one in receiver.received][8:] == ["/hooks", "/hooks", "/observer"]
        assert webhooks.endpoints.get(endpoint.id).enabled
        session.rollback()
    webhooks.drain()
    assert not webhooks.endpoints.get(endpoint.id).enabled
    assert receiver.types[-2:] == ["delivery.dead", "endpoint.disabled"]


def drain_for(webhooks: Webhooks, clock: MovedClock, *, minutes: int) -> None:
    for _ in range(minutes):
        assert webhooks.drain().complete
        clock.advance(61)


@shared
@pytest.mark.parametrize("status", [410, 500])
def test_an_endpoint_that_is_to_be_disabled_while_the_application_writes_it_is_disabled_afterwards(
    status: int, install: Install, impatient: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    options: dict[str, Any] = {"disable_after": 3600.0, "wait": wait_fixed(60), "stop": stop_never}
    webhooks = install(impatient, deliver=False, clock=clock, **options)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["product.*"])
    receiver.answer(*[status] * 100)
    put(impatient, "a")
    with counted(endpoint_disabled) as counts:
        with impatient() as session:
            webhooks.endpoints.update(endpoint.id, description="open", session=session)
            webhooks.drain()
            clock.advance(3700)
            webhooks.drain()
            assert webhooks.endpoints.get(endpoint.id).enabled
            session.commit()
        assert counts == {}
        webhooks.drain()

    assert counts == {"endpoint_disabled": 1}
    assert not webhooks.endpoints.get(endpoint.id).enabled
