"""Rows that are there already, told of as `order.read`: which of them, to whom, how far, and how fast."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, false, func, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, aliased, sessionmaker
from support.async_databases import application_at
from support.clock import MovedClock
from support.databases import Database
from support.faults import refusing
from support.keyed import KEYED, Base, Boat, Car, NoKey, Note, Refused, Saw, Ticket, Tool, Van, Vehicle
from support.local import Install
from support.receiver import Receiver
from support.shop import Animal, Customer, Dog, Order, Product, put
from support.statements import statements
from support.told import Told

from sqla_webhooks import ConfigurationError, NotFound, OutboxWriteError, Progress, Webhooks, models
from sqla_webhooks.deliveries import DeliveryState
from sqla_webhooks.throttle import GLANCE

Sessions = sessionmaker[Session]

SKUS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def quiet(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    """Nothing is told of before it is installed; keeps every event."""
    put(sessions, *SKUS)
    return install(sessions, deliver=False, clock=clock, capture="all")


@pytest.fixture
def told(quiet: Webhooks) -> Told:
    return Told(quiet)


def table(model: Any) -> Table:
    found = model.__table__
    assert isinstance(found, Table)
    return found


def read(*skus: str) -> list[str]:
    return [f"product.read {sku}" for sku in skus]


# --------------------------------------------------------------------------- which rows


def test_each_row_is_told_of_once_as_it_is_now_in_the_order_of_the_keys(quiet: Webhooks, told: Told) -> None:
    seen: list[Progress] = []
    assert quiet.backfill(Product, page=2, progress=seen.append) == Progress(5, 5)
    assert seen == [Progress(2, 5), Progress(4, 5), Progress(5, 5)]
    expected = [("product.read", sku, {"sku": sku, "name": "", "stock": 0, "details": None}) for sku in SKUS]
    assert told() == expected


def test_the_body_says_that_nothing_was_done(quiet: Webhooks, sessions: Sessions, clock: MovedClock) -> None:
    quiet.backfill(Product, where=Product.sku == "a")
    quiet.drain()
    [event] = quiet.events.list()
    assert event.operation == "read"
    assert event.timestamp == clock.now()
    assert b'"operation":"read"' in event.payload
    assert b"changes" not in event.payload


def test_a_table_without_rows_is_gone_through(quiet: Webhooks, told: Told) -> None:
    assert quiet.backfill(Order) == Progress(0, 0)
    assert told() == []


@pytest.mark.parametrize("name", KEYED)
def test_keys_of_every_type_lead_through_the_table_row_by_row(
    database: Database, install: Install, clock: MovedClock, name: str
) -> None:
    model, keys = KEYED[name]
    with database.engine() as engine:
        Base.metadata.create_all(engine, [model.__table__])
        sessions = sessionmaker(engine)
        names = list(model.__table__.columns.keys())
        with sessions.begin() as session:
            session.execute(insert(model), [dict(zip(names, key, strict=True)) for key in keys])
        with install(sessions, deliver=False, clock=clock, capture="all") as webhooks:
            # Each page is gone on with by what stands in the table.
            for _ in keys[1:]:
                with suppress(Broken):
                    webhooks.backfill(model, page=1, progress=breaking_off)
            assert webhooks.backfill(model, page=1) == Progress(len(keys), len(keys))
            told = [line[2] for line in Told(webhooks)()]
        with sessions() as session:
            ordered = session.scalars(select(model).order_by(*model.__mapper__.primary_key)).all()
            expected = [[getattr(row, part) for part in names] for row in ordered]
    came, expected = [as_text(one.values()) for one in told], [as_json(one) for one in expected]
    if name == "Enums":  # of which MariaDB has two orders
        came, expected = sorted(came), sorted(expected)
    assert came == expected


def as_text(values: Any) -> list[str]:
    return [str(one) for one in values]


def as_json(values: list[Any]) -> list[str]:
    """As the bodies have them, by a code that is not what is tested: the table of the guide, for these types."""
    return [_JSON.get(type(one).__name__, str)(one) for one in values]


_JSON: dict[str, Callable[[Any], str]] = {
    "datetime": lambda one: one.isoformat().replace("+00:00", "").removesuffix("Z") + "Z",
    "bytes": lambda one: {b"\xff": "/w==", b"a": "YQ=="}[one],
    "Letter": lambda one: str(one.value),
}


class Broken(Exception):
    """Out of a report."""


def breaking_off(_: Progress) -> None:
    raise Broken


def test_a_row_without_a_key_cannot_be_told_of(engine: Engine, install: Install, sessions: Sessions) -> None:
    Base.metadata.create_all(engine, [table(NoKey)])
    with engine.begin() as connection:
        connection.execute(insert(table(NoKey)), [{"number": n, "rest": i} for i, n in enumerate((None, 2, 1))])
    webhooks = install(sessions, deliver=False, capture="all")
    assert webhooks.backfill(NoKey, page=1) == Progress(2, 2)
    assert Told(webhooks).names() == ["no_key.read 1", "no_key.read 2"]


def test_keys_that_json_loses_are_refused_and_nothing_is_told(
    engine: Engine, install: Install, sessions: Sessions
) -> None:
    Base.metadata.create_all(engine, [table(Refused)])
    with sessions.begin() as session:
        session.add_all([Refused(id=Ticket(1)), Refused(id=Ticket(2))])
    webhooks = install(sessions, deliver=False, capture="all")
    with pytest.raises(ConfigurationError, match="the keys of 'refused' are of a type whose values cannot be had"):
        webhooks.backfill(Refused, page=1)
    assert Told(webhooks)() == []


def test_a_value_that_its_type_cannot_read_is_left_out(engine: Engine, install: Install, sessions: Sessions) -> None:
    Base.metadata.create_all(engine, [table(Note)])
    with sessions.begin() as session:
        session.add_all([Note(text="a"), Note(text="b")])
        session.flush()
        session.execute(text("UPDATE keyed_note SET text = '{' WHERE id = 1"))
    webhooks = install(sessions, deliver=False, capture="all")
    webhooks.backfill(Note)
    assert [line[2] for line in Told(webhooks)()] == [{"id": 1}, {"id": 2, "text": "b"}]


# --------------------------------------------------------------------------- conditions


def test_a_condition_says_which(quiet: Webhooks, told: Told, sessions: Sessions) -> None:
    with sessions.begin() as session:
        for sku in "bd":
            session.get_one(Product, sku).stock = 3
    told()
    assert quiet.backfill(Product, where=Product.stock > 2, page=1) == Progress(2, 2)
    assert told.names() == read("b", "d")
    assert quiet.backfill(Product, where=Product.sku.in_(["a", "c"]), name="two") == Progress(2, 2)
    assert told.names() == read("a", "c")
    assert quiet.backfill(Product, where=false(), name="none") == Progress(0, 0)
    assert told() == []


def test_a_row_that_a_joining_condition_finds_twice_is_told_of_once(
    quiet: Webhooks, told: Told, sessions: Sessions
) -> None:
    with sessions.begin() as session:
        for number in (1, 2, 3):
            session.add(Customer(id=number, email=f"{number}", orders=[Order(), Order()]))
    told()
    joined = Order.customer_id == Customer.id
    assert quiet.backfill(Customer, where=joined, page=1) == Progress(3, 3)
    assert told.names() == [f"customer.read {n}" for n in (1, 2, 3)]
    assert quiet.backfill(Order, where=Order.customer.has(Customer.email == "2")) == Progress(2, 2)
    assert told.names() == ["order.read 3", "order.read 4"]


def test_a_row_that_no_longer_fulfils_the_condition_when_it_is_read_is_not_told_of(
    quiet: Webhooks, told: Told, sessions: Sessions
) -> None:
    def change(so_far: Progress) -> None:
        with sessions.begin() as session:
            session.get_one(Product, "b").stock = 9

    assert quiet.backfill(Product, where=Product.stock == 0, page=1, progress=change) == Progress(4, 5)
    assert [one for one in told.names() if "read" in one] == read("a", "c", "d", "e")


# --------------------------------------------------------------------------- families


def test_rows_of_derived_classes_are_told_of_as_what_they_are(quiet: Webhooks, told: Told, sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add_all([Animal(name="x"), Dog(name="y"), Animal(name="z"), Dog(name="y", tricks=2)])
    told()
    assert quiet.backfill(Animal, page=1) == Progress(4, 4)
    assert told() == [
        ("animal.read", "1", {"id": 1, "kind": "animal", "name": "x"}),
        ("animal.read", "3", {"id": 3, "kind": "animal", "name": "z"}),
        ("dog.read", "2", {"id": 2, "kind": "dog", "name": "y", "tricks": 0}),
        ("dog.read", "4", {"id": 4, "kind": "dog", "name": "y", "tricks": 2}),
    ]
    assert quiet.backfill(Dog) == Progress(2, 2)
    assert told.names() == ["dog.read 2", "dog.read 4"]
    assert quiet.backfill(Animal, where=Animal.name == "y", page=1) == Progress(2, 2)
    assert told.names() == ["dog.read 2", "dog.read 4"]


def test_one_table_of_several_classes(engine: Engine, install: Install, sessions: Sessions) -> None:
    Base.metadata.create_all(engine, [table(Vehicle)])
    with sessions.begin() as session:
        session.add_all([Car(id=1), Van(id=2, load=9), Boat(id=3), Car(id=4)])
        session.execute(text("INSERT INTO keyed_vehicle (id, kind, wheels) VALUES (5, 'of a later version', 1)"))
    webhooks = install(sessions, deliver=False, capture="all")
    told = Told(webhooks)
    assert webhooks.backfill(Vehicle, page=1) == Progress(3, 3)
    assert told.names() == ["car.read 1", "car.read 4", "van.read 2"]
    assert webhooks.backfill(Car, page=1) == Progress(3, 3)
    assert told.names() == ["car.read 1", "car.read 4", "van.read 2"]
    with pytest.raises(ConfigurationError, match="Boat is not captured"):
        webhooks.backfill(Boat)


def test_tables_of_their_own(engine: Engine, install: Install, sessions: Sessions) -> None:
    Base.metadata.create_all(engine, [table(Tool), table(Saw)])
    with sessions.begin() as session:
        session.add_all([Tool(id=1), Saw(id=1), Saw(id=2)])
    webhooks = install(sessions, deliver=False, capture="all")
    assert webhooks.backfill(Tool, page=1) == Progress(3, 3)
    assert Told(webhooks).names() == ["tool.read 1", "saw.read 1", "saw.read 2"]


# --------------------------------------------------------------------------- to whom


def test_those_get_them_that_have_asked_for_what_is_read(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    for path, pattern in enumerate(["*", "product.*", "*.read", "product.read", "product.created", "order.*"]):
        webhooks.endpoints.create(receiver.url(f"/{path}"), events=[pattern])
    webhooks.backfill(Product)
    webhooks.drain()
    assert sorted(one.path for one in receiver.received) == ["/0", "/1", "/2", "/3"]
    assert set(receiver.types) == {"product.read"}


def test_who_asks_for_nothing_else_has_nothing_captured(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), events=["product.read", "*.read"])
    with statements(engine) as made:
        put(sessions, "a")
    assert not [one for one in made if "INSERT INTO webhook_outbox" in one]


def test_an_endpoint_that_is_named_gets_them_alone_and_need_not_have_asked(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, "a", "b")
    webhooks.endpoints.create(receiver.url("/other"), events=["*"])
    named = webhooks.endpoints.create(receiver.url("/named"), events=["order.*"])
    webhooks.backfill(Product, endpoint=named.id)
    webhooks.drain()
    assert [(one.path, one.event["resource_id"]) for one in receiver.received] == [("/named", "a"), ("/named", "b")]


def test_it_gets_no_more_than_it_may(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    put(sessions, "a")
    of_a_tenant = webhooks.endpoints.create(receiver.url(), events=["*"], tenant="acme")
    webhooks.backfill(Product, endpoint=of_a_tenant.id)
    webhooks.drain()
    assert receiver.received == []


def test_what_is_for_one_that_is_disabled_is_held(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    put(sessions, *SKUS)
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.endpoints.disable(endpoint.id)
    webhooks.backfill(Product, endpoint=endpoint.id, waiting=None)
    webhooks.drain()
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.HELD}
    webhooks.endpoints.enable(endpoint.id)
    webhooks.drain()
    assert [event["resource_id"] for event in receiver.events()] == SKUS


def test_there_must_be_such_an_endpoint_until_the_end(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, *SKUS)
    with pytest.raises(NotFound, match="ep_none"):
        webhooks.backfill(Product, endpoint="ep_none")
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])

    def delete(_: Progress) -> None:
        webhooks.endpoints.delete(endpoint.id)

    with pytest.raises(NotFound, match=endpoint.id):
        webhooks.backfill(Product, endpoint=endpoint.id, page=1, waiting=None, progress=delete)
    webhooks.drain()
    assert receiver.received == []


def test_enrichers_add_to_them(quiet: Webhooks, told: Told) -> None:
    @quiet.enricher(Product)
    def shout(product: Product, payload: dict[str, Any]) -> None:
        payload["loud"] = product.sku.upper()

    quiet.backfill(Product)
    assert [line[2]["loud"] for line in told()] == ["A", "B", "C", "D", "E"]


# --------------------------------------------------------------------------- broken off, and called again


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE webhook_backfill",
        "product.sku > ",
        "SELECT product.sku, product.sku",
        "INSERT INTO webhook_outbox",
        "UPDATE webhook_backfill SET place",
    ],
)
@pytest.mark.parametrize("pages", [0, 1, 2])
def test_broken_off_at_any_statement_it_goes_on(
    quiet: Webhooks, told: Told, engine: Engine, statement: str, pages: int
) -> None:
    if pages:
        with pytest.raises(Broken):
            quiet.backfill(Product, page=2, progress=after(pages))
    with refusing(engine, statement, times=1), pytest.raises((OperationalError, OutboxWriteError)):
        quiet.backfill(Product, page=2)
    assert quiet.backfill(Product, page=2) == Progress(5, 5)
    assert told.names() == read(*SKUS)


def after(pages: int) -> Callable[[Progress], None]:
    """Breaks off after so many."""
    counted = itertools.count(1)

    def report(_: Progress) -> None:
        if next(counted) == pages:
            raise Broken

    return report


def test_interrupted_between_pages_it_goes_on(quiet: Webhooks, told: Told) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            quiet.backfill(Product, page=2, progress=interrupt)
    assert quiet.backfill(Product, page=2) == Progress(5, 5)
    assert told.names() == read(*SKUS)


def test_finished_it_begins_anew(quiet: Webhooks, told: Told, sessions: Sessions) -> None:
    assert quiet.backfill(Product) == Progress(5, 5)
    put(sessions, "f")
    assert quiet.backfill(Product) == Progress(6, 6)
    assert [one for one in told.names() if "read" in one] == read(*SKUS, *SKUS, "f")


def test_rows_that_come_behind_the_position_are_told_of_by_their_own_events(
    quiet: Webhooks, told: Told, sessions: Sessions
) -> None:
    def add(so_far: Progress) -> None:
        if so_far.done == 2:
            put(sessions, "a1", "z")

    assert quiet.backfill(Product, page=2, progress=add) == Progress(6, 5)
    assert told.names() == [
        *read("a", "b"),
        "product.created a1",
        "product.created z",
        *read("c", "d", "e", "z"),
    ]


def test_one_of_other_rows_does_not_go_on_with_it(quiet: Webhooks, told: Told, receiver: Receiver) -> None:
    endpoint = quiet.endpoints.create(receiver.url(), events=["order.*"])
    with suppress(Broken):
        quiet.backfill(Product, name="mine", page=2, where=Product.sku < "e", progress=breaking_off)
    for other in (
        {"model": Order},
        {"model": Product},
        {"model": Product, "where": Product.sku < "d"},
        {"model": Product, "where": Product.sku < "e", "endpoint": endpoint.id},
    ):
        with pytest.raises(ConfigurationError, match="'mine' was begun for other rows or another endpoint"):
            quiet.backfill(name="mine", **other)
    assert quiet.backfill(Product, where=Product.sku < "d", name="another") == Progress(3, 3)
    assert quiet.backfill(Product, name="mine", where=Product.sku < "e") == Progress(4, 4)
    assert told.names() == read("a", "b", "a", "b", "c", "c", "d")


def test_backfills_for_two_endpoints_are_two(quiet: Webhooks, receiver: Receiver) -> None:
    first, second = (quiet.endpoints.create(receiver.url(f"/{n}"), events=["order.*"]) for n in (1, 2))
    with suppress(Broken):
        quiet.backfill(Product, endpoint=first.id, page=2, waiting=None, progress=breaking_off)
    quiet.backfill(Product, endpoint=second.id, waiting=None)
    quiet.backfill(Product, endpoint=first.id, waiting=None)
    quiet.drain()
    came = sorted((one.path, one.event["resource_id"]) for one in receiver.received)
    assert came == [*(("/1", sku) for sku in SKUS), *(("/2", sku) for sku in SKUS)]


def test_two_callers_share_the_work(quiet: Webhooks, told: Told) -> None:
    shares: list[Progress] = []

    def call_too(so_far: Progress) -> None:
        if not shares:
            shares.append(quiet.backfill(Product, page=1, progress=shares.append))

    assert quiet.backfill(Product, page=2, progress=call_too) == Progress(5, 5)
    assert len(shares) == 4
    assert told.names() == read(*SKUS)


def test_a_class_that_is_gone_is_missed(quiet: Webhooks, sessions: Sessions, engine: Engine) -> None:
    with suppress(Broken):
        quiet.backfill(Product, page=2, progress=breaking_off)
    with engine.begin() as connection:
        connection.execute(models.backfill.update().values(place='["offer", "product", ["b"]]'))
    with pytest.raises(ConfigurationError, match="has come to rows of 'offer' in 'product'"):
        quiet.backfill(Product)


# --------------------------------------------------------------------------- behind live traffic


class Relaying(MovedClock):
    """Who waits behind live traffic has the time used by somebody."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] | None = None
        self.waits = 0

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self.meanwhile is not None and seconds == GLANCE:
            self.waits += 1
            assert self.waits < 5000, "it waits for ever"
            self.meanwhile()
        return super().wait(event, seconds)


@pytest.fixture
def relaying() -> Relaying:
    return Relaying()


@pytest.fixture
def slow(install: Install, sessions: Sessions, relaying: Relaying, receiver: Receiver) -> Webhooks:
    """With rows, and an endpoint; deliveries are made while somebody waits, and at no other time."""
    put(sessions, *SKUS)
    webhooks = install(sessions, deliver=False, clock=relaying)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    relaying.advance(10)
    return webhooks


def test_no_more_waits_for_the_endpoint_than_may(slow: Webhooks, relaying: Relaying, engine: Engine) -> None:
    waiting: list[int] = []

    def relay() -> None:
        waiting.append(unsent(engine))
        slow.drain()

    relaying.meanwhile = relay
    assert slow.backfill(Product, page=1, waiting=1) == Progress(5, 5)
    assert waiting == [2, 2]  # and the last one is on its way
    relaying.meanwhile = None
    relaying.waits = 0
    relaying.meanwhile = relay
    slow.backfill(Product, page=1, waiting=None, name="at once")
    assert relaying.waits == 0


def unsent(engine: Engine) -> int:
    with engine.connect() as connection:
        outbox = connection.execute(select(func.count()).select_from(models.outbox)).scalar_one()
        lanes = select(func.count()).where(models.delivery.c.lane.is_not(None))
        return int(outbox + connection.execute(lanes).scalar_one())


def test_what_is_published_and_not_sent_yet_counts(
    slow: Webhooks, relaying: Relaying, receiver: Receiver, install: Install, sessions: Sessions
) -> None:
    endpoint = slow.endpoints.list()[0]
    slow.endpoints.disable(endpoint.id)
    put(sessions, "y", "z")
    slow.drain()  # held, so far
    slow.endpoints.enable(endpoint.id)
    relaying.advance(10)
    relaying.meanwhile = slow.drain
    slow.backfill(Product, page=1, waiting=1)
    assert [event["type"] for event in receiver.events()][:2] == ["product.created"] * 2
    assert relaying.waits == 4


def test_the_backlog_of_others_comes_first(
    slow: Webhooks, relaying: Relaying, sessions: Sessions, install: Install, engine: Engine
) -> None:
    with sessions.begin() as session:
        for number in range(101):  # as many outbox rows as a turn takes, and one
            session.add(Customer(email=f"{number}"))
            session.flush()
    relaying.meanwhile = slow.drain
    slow.backfill(Product)
    assert relaying.waits == 1


def test_one_that_is_disabled_is_not_waited_for(
    slow: Webhooks, relaying: Relaying, engine: Engine, receiver: Receiver
) -> None:
    slow.endpoints.disable(slow.endpoints.list()[0].id)
    relaying.meanwhile = slow.drain
    slow.backfill(Product, page=1, waiting=0)
    assert receiver.received == []
    assert unsent(engine) == 5


def test_one_that_is_paused_is_not_waited_for(
    slow: Webhooks, relaying: Relaying, engine: Engine, receiver: Receiver
) -> None:
    with engine.begin() as connection:
        now = relaying.now()
        pause = {"pauses": 1, "paused_at": now, "paused_until": now + timedelta(hours=1)}
        connection.execute(models.health.update().values(failures=9, **pause))
    relaying.meanwhile = slow.drain
    slow.backfill(Product, page=1, waiting=0)
    assert receiver.received == []
    assert unsent(engine) == 5


def test_who_waits_for_nobody_is_told_so_once(
    slow: Webhooks, relaying: Relaying, caplog: pytest.LogCaptureFixture
) -> None:
    began = relaying.monotonic()

    def relay_late() -> None:
        if relaying.monotonic() - began > 300:
            slow.drain()

    relaying.meanwhile = relay_late
    with caplog.at_level(logging.WARNING):
        slow.backfill(Product, page=2, waiting=1)
    assert [one.getMessage() for one in caplog.records] == [
        "a backfill waits for what it has made to be delivered, and nothing has been for a minute: is a relay running?"
    ]


def test_in_memory_nobody_can_relay_meanwhile_and_nothing_is_waited_for(
    in_memory: Sessions, install: Install, clock: MovedClock, receiver: Receiver
) -> None:
    put(in_memory, *SKUS)
    webhooks = install(in_memory, deliver=False, clock=clock)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    assert webhooks.backfill(Product, page=1, waiting=0) == Progress(5, 5)
    webhooks.drain()
    assert len(receiver.received) == 5


@pytest.mark.parametrize(("capture", "seconds"), [("subscribed", 1.1), ("all", 0)])
def test_it_begins_when_every_process_knows_of_the_endpoints(
    install: Install, sessions: Sessions, clock: MovedClock, receiver: Receiver, capture: str, seconds: float
) -> None:
    put(sessions, "a", "b")
    webhooks = install(sessions, deliver=False, clock=clock, capture=capture)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    began, seen = clock.now(), []

    def break_off(_: Progress) -> None:
        seen.append(clock.now() - began)
        raise Broken

    with pytest.raises(Broken):
        webhooks.backfill(Product, page=1, waiting=None, progress=break_off)
    with pytest.raises(Broken):
        webhooks.backfill(Product, page=1, waiting=None, progress=break_off)
    assert seen == [timedelta(seconds=seconds)] * 2  # what is gone on with has begun


def test_the_relay_is_woken_for_each_page(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    put(sessions, *SKUS)
    webhooks = install(sessions, batch_window=0, poll_interval=3600)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.backfill(Product, page=1, waiting=None, progress=lambda so_far: receiver.wait_for(so_far.done))
    assert [one.event["resource_id"] for one in receiver.received] == SKUS


# --------------------------------------------------------------------------- async


@pytest.mark.parametrize("inside", [False, True])
def test_where_the_driver_is_async(tmp_path: Path, install: Install, receiver: Receiver, *, inside: bool) -> None:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        application.put(*(Product(sku=sku) for sku in SKUS))
        webhooks = install(application.sessions, deliver=False, capture="all")

        async def main() -> Progress:
            await asyncio.sleep(0)
            return webhooks.backfill(Product, page=2, waiting=None)

        came = application.run(main) if inside else webhooks.backfill(Product, page=2, waiting=None)
        assert came == Progress(5, 5)
        assert Told(webhooks).names() == read(*SKUS)


# --------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "Product"}, "'Product' is no mapped class: give a class such as Order"),
        ({"model": None}, "None is no mapped class"),
        ({"model": Sessions}, "is no mapped class"),
        ({"model": Product.__table__}, "is no mapped class"),
        ({"model": aliased(Product)}, "is no mapped class"),
        ({"where": "sku = 'a'"}, "where is \"sku = 'a'\": give a condition in SQL, such as Order.status == 'paid'"),
        ({"where": Product.sku is None}, "where is False: give a condition in SQL"),
        ({"where": 5}, "where is 5: give"),
        ({"where": Product}, "give a condition in SQL"),
        ({"page": 0}, "page is 0: give how many rows one transaction may read, from 1 to 1000"),
        ({"page": 1001}, "page is 1001"),
        ({"page": True}, "page is True"),
        ({"page": "9"}, "page is '9'"),
        ({"waiting": -1}, "waiting is -1: give how many deliveries may wait, or None"),
        ({"waiting": 1.5}, "waiting is 1.5"),
        ({"waiting": False}, "waiting is False"),
        ({"name": ""}, "name is '': give a text of up to 255 characters"),
        ({"name": "x" * 256}, "give a text of up to 255 characters"),
        ({"name": 5}, "name is 5"),
        ({"name": "a\0"}, "no database takes such text"),
        ({"endpoint": 5}, "an endpoint is named by its id"),
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused_and_explained(quiet: Webhooks, told: Told, arguments: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        quiet.backfill(**{"model": Product, **arguments})
    assert said in str(caught.value)
    assert told() == []


def test_an_endpoint_itself_is_no_id(quiet: Webhooks, receiver: Receiver) -> None:
    endpoint: Any = quiet.endpoints.create(receiver.url(), events=["*"])
    with pytest.raises(ConfigurationError, match=r"write endpoint\.id"):
        quiet.backfill(Product, endpoint=endpoint)


def test_a_class_that_is_left_out_is_refused(install: Install, sessions: Sessions) -> None:
    webhooks = install(sessions, deliver=False, exclude=[Product])
    with pytest.raises(ConfigurationError, match="Product is not captured, so nothing is sent of it: exclude"):
        webhooks.backfill(Product)


def test_after_uninstall_it_is_refused(install: Install, sessions: Sessions) -> None:
    webhooks = install(sessions, deliver=False)
    webhooks.uninstall()
    with pytest.raises(ConfigurationError, match="was uninstalled"):
        webhooks.backfill(Product)


def test_what_the_database_refuses_comes_out(quiet: Webhooks) -> None:
    with pytest.raises(OperationalError):
        quiet.backfill(Product, where=text("no_such_column = 1"))  # type: ignore[arg-type]  # which is taken as well
