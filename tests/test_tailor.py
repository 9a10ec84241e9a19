"""What one endpoint gets of an event that others get too: less of it, the row as it is now, another shape, nothing."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.receiver import Receiver
from support.shop import Customer, Order, Product
from support.statements import statements
from tenacity import stop_after_attempt

from sqla_webhooks import DeliveryState, Endpoint, Event, NewEndpoint, Webhooks, endpoint_enricher, enricher_failed
from sqla_webhooks.signals import enriching_for_endpoint

Sessions = sessionmaker[Session]


class Base(DeclarativeBase):
    """Rows that count their versions."""


class Ticket(Base):
    __tablename__ = "ticket_of_versions"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(50))
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # declarative's own form


def put(sessions: Sessions, sku: str, stock: int = 0) -> None:
    with sessions.begin() as session:
        session.merge(Product(sku=sku, stock=stock))


def paths(receiver: Receiver) -> dict[str, list[dict[str, Any]]]:
    """The events by the path of the endpoint that got them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in receiver.received:
        found.setdefault(one.path, []).append(one.event)
    return found


# --------------------------------------------------------------------------- thin


def test_a_thin_endpoint_gets_the_key_and_the_version(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    Base.metadata.create_all(webhooks.engine)
    webhooks.endpoints.create(receiver.url("/thin"), ["*"], payload="thin")
    webhooks.endpoints.create(receiver.url("/full"), ["*"])
    with sessions.begin() as session:
        session.add(Ticket(id=1, title="secret"))
    with sessions.begin() as session:
        session.get_one(Ticket, 1).title = "more"
    webhooks.drain()
    created, updated = paths(receiver)["/thin"]
    assert created["data"] == {"id": 1, "version": 1}
    assert updated["data"] == {"id": 1, "version": 2}
    assert "truncated" not in updated
    full = paths(receiver)["/full"][1]
    assert full["data"] == {"id": 1, "title": "more", "version": 2}
    assert {key: updated[key] for key in ("id", "type", "timestamp", "resource_id")} == {
        key: full[key] for key in ("id", "type", "timestamp", "resource_id")
    }
    assert "title" not in json.dumps(updated)


def test_a_thin_endpoint_is_told_which_row_has_another_key_now(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"], payload="thin")
    put(sessions, "a", 1)
    with sessions.begin() as session:
        session.get_one(Product, "a").sku = "b"
    webhooks.drain()
    assert receiver.received[1].event["changes"] == {"sku": {"from": "a", "to": "b"}}


# --------------------------------------------------------------------------- latest


def test_the_latest_is_the_row_as_it_is_when_it_is_sent(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks.endpoints.create(receiver.url("/latest"), ["*"], payload="latest")
    receiver.answer(500)
    put(sessions, "a", 1)
    webhooks.drain()
    put(sessions, "a", 2)
    clock.advance(6)
    webhooks.drain()
    first, again, update = paths(receiver)["/latest"]
    assert [one["data"]["stock"] for one in (first, again, update)] == [1, 2, 2]
    assert first["id"] == again["id"]
    assert update["changes"] == {"stock": {"from": 1, "to": 2}}
    assert b'"stock":1' in webhooks.events.get(first["id"]).payload


def test_of_a_row_that_is_gone_the_key_is_sent_and_that_it_is_gone(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url("/latest"), ["*"], payload="latest")
    put(sessions, "a", 7)
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))
    webhooks.drain()
    created, deleted = receiver.events()
    assert created["data"] == {"sku": "a"}
    assert created["gone"] is True
    assert deleted["data"]["stock"] == 7
    assert "gone" not in deleted


def test_the_latest_has_what_enrichers_add_to_it_as_it_is_now(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url("/latest"), ["*"], payload="latest")

    @webhooks.enricher(Product)
    def _twice(product: Product, payload: dict[str, Any]) -> None:
        payload["twice"] = 2 * product.stock

    put(sessions, "a", 1)
    webhooks.drain()
    put(sessions, "a", 5)
    webhooks.drain()
    assert [one["data"]["twice"] for one in receiver.events()] == [2, 10]


def test_the_latest_of_many_rows_is_read_in_one_query_a_class(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    for path in ("/1", "/2"):
        webhooks.endpoints.create(receiver.url(path), ["*"], payload="latest", batch=20)
    with sessions.begin() as session:
        session.add_all([Product(sku=f"{number}") for number in range(20)])
    with statements(webhooks.engine) as executed:
        webhooks.drain()
    reads = [one for one in executed if "FROM product" in one]
    assert [len(json.loads(one.body)) for one in receiver.received] == [20, 20]
    assert len(reads) == 1


# --------------------------------------------------------------------------- enrichers that know the endpoint


def test_an_enricher_that_knows_the_endpoint_shapes_what_each_gets(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    one = webhooks.endpoints.create(receiver.url("/one"), ["*"], description="first")
    webhooks.endpoints.create(receiver.url("/two"), ["*"], description="second")

    @webhooks.endpoint_enricher(Product)
    def _named(product: Product, payload: dict[str, Any], endpoint: Endpoint) -> None:
        payload["for"] = endpoint.description
        if endpoint.id == one.id:
            del payload["stock"]

    put(sessions, "a", 3)
    webhooks.drain()
    got = paths(receiver)
    assert got["/one"][0]["data"]["for"] == "first"
    assert "stock" not in got["/one"][0]["data"]
    assert got["/two"][0]["data"] | {"for": "second"} == got["/two"][0]["data"]
    assert got["/two"][0]["data"]["stock"] == 3
    assert b'"for"' not in webhooks.events.list()[0].payload


def test_the_modules_run_before_those_of_the_installation_and_one_that_fails_leaves_no_trace(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks.endpoints.create(receiver.url(), ["*"])
    order: list[str] = []
    failed: list[Any] = []

    def first(_product: Product, payload: dict[str, Any], _endpoint: Endpoint) -> None:
        order.append("module")
        payload["spoilt"] = True
        raise ZeroDivisionError

    endpoint_enricher(Product)(first)
    (registered,) = enriching_for_endpoint.receivers_in_order(Product)
    try:

        @webhooks.endpoint_enricher(Product)
        def _second(_product: Product, payload: dict[str, Any], _endpoint: Endpoint) -> None:
            order.append("own")
            payload["added"] = 1

        with enricher_failed.connected_to(lambda _, **told: failed.append(told["error"])):
            put(sessions, "a")
            webhooks.drain()
    finally:
        enriching_for_endpoint.disconnect(registered, sender=Product)
    assert order == ["module", "own"]
    assert [type(one) for one in failed] == [ZeroDivisionError]
    (only,) = receiver.events()
    assert only["data"]["added"] == 1
    assert "spoilt" not in only["data"]


# --------------------------------------------------------------------------- transform


def test_transform_shapes_what_is_sent_and_not_what_is_stored(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    def transform(event: Event, endpoint: Endpoint) -> Event:
        return replace(event, id="other", data={"sku": event.data["sku"], "at": endpoint.url.rpartition("/")[2]})

    webhooks = install(sessions, deliver=False, clock=clock, transform=transform)
    secret = webhooks.endpoints.create(receiver.url("/one"), ["*"]).secret
    put(sessions, "a", 3)
    webhooks.drain()
    (only,) = receiver.received
    assert only.event["data"] == {"sku": "a", "at": "one"}
    assert only.is_signed(secret)
    (stored,) = webhooks.events.list()
    assert only.event["id"] == only.id == stored.id
    assert b'"stock":3' in stored.payload


def test_what_transform_drops_is_cancelled_and_holds_nothing_up(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(
        sessions, deliver=False, clock=clock, transform=lambda event, _: event if event.data["stock"] % 2 else None
    )
    webhooks.endpoints.create(receiver.url(), ["*"])
    for stock in range(5):
        put(sessions, "a", stock)
    drained = webhooks.drain()
    assert [one["data"]["stock"] for one in receiver.events()] == [1, 3]
    states = [one.state for one in reversed(webhooks.deliveries.list())]
    assert states == [
        DeliveryState.CANCELLED,
        DeliveryState.DELIVERED,
        DeliveryState.CANCELLED,
        DeliveryState.DELIVERED,
        DeliveryState.CANCELLED,
    ]
    assert [one.attempts for one in webhooks.deliveries.list(state="cancelled")] == [0, 0, 0]
    assert (drained.attempts, drained.complete) == (2, True)


@pytest.mark.parametrize("wrong", [ZeroDivisionError(), SystemExit(), {"data": 1}, "text"])
def test_where_transform_fails_the_attempt_has_failed_and_is_made_again(
    install: Install,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
    wrong: Any,
) -> None:
    spoilt = True

    def transform(event: Event, _endpoint: Endpoint) -> Any:
        if not spoilt or event.data["sku"] != "bad":
            return event
        if isinstance(wrong, BaseException):
            raise wrong
        return wrong

    webhooks = install(sessions, deliver=False, clock=clock, transform=transform)
    webhooks.endpoints.create(receiver.url(), ["*"])
    with sessions.begin() as session:
        session.add_all([Product(sku="bad", stock=1), Product(sku="good")])
    with caplog.at_level(logging.ERROR, "sqla_webhooks"):
        webhooks.drain()
    assert [one["data"]["sku"] for one in receiver.events()] == ["good"]
    (waiting,) = webhooks.deliveries.list(state="pending")
    (attempt,) = webhooks.deliveries.attempts(waiting.id)
    assert attempt.reason == "rendering"
    assert "ZeroDivision" not in attempt.detail
    assert waiting.event_id in caplog.text
    assert waiting.next_attempt_at is not None
    spoilt = False
    clock.advance(6)
    webhooks.drain()
    assert [one["data"]["sku"] for one in receiver.events()] == ["good", "bad"]


def test_transform_sees_what_the_endpoint_would_get(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    def transform(event: Event, endpoint: Endpoint) -> Event:
        seen.append((endpoint.payload, event.data))
        return event

    webhooks = install(sessions, deliver=False, clock=clock, transform=transform)
    for payload in ("full", "thin"):
        webhooks.endpoints.create(receiver.url(f"/{payload}"), ["*"], payload=payload, dialect="openfront")
    put(sessions, "a", 3)
    webhooks.drain()
    assert dict(seen)["thin"] == {"sku": "a"}
    assert dict(seen)["full"]["stock"] == 3


# --------------------------------------------------------------------------- what all have in common


@pytest.fixture
def all_kinds(webhooks: Webhooks, receiver: Receiver) -> dict[str, NewEndpoint]:
    return {
        f"/{dialect}-{payload}": webhooks.endpoints.create(
            receiver.url(f"/{dialect}-{payload}"), ["order.*"], dialect=dialect, payload=payload
        )
        for dialect in ("standard", "openfront", "github", "cloudevents", "cloudevents-binary")
        for payload in ("full", "thin", "latest")
    }


@pytest.mark.usefixtures("all_kinds")
def test_an_event_is_stored_once_and_delivered_to_each_in_its_way(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        session.add(Order(customer=Customer(email="a@example.com")))
    webhooks.drain()
    assert len(receiver.received) == 15
    assert len(webhooks.events.list(type="order.created")) == 1
    assert len({one.body for one in receiver.received}) > 5
    assert all(one.state is DeliveryState.DELIVERED for one in webhooks.deliveries.list())


@pytest.mark.usefixtures("all_kinds")
def test_an_attempt_is_made_with_the_same_body_again(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(*[500] * 15)
    with sessions.begin() as session:
        session.add(Order(customer=Customer(email="a@example.com")))
    webhooks.drain()
    clock.advance(3600)
    webhooks.drain()
    assert len(receiver.received) == 30
    bodies: dict[str, set[bytes]] = {}
    for one in receiver.received:
        bodies.setdefault(one.path, set()).add(one.body)
    assert {path: len(some) for path, some in bodies.items()} == dict.fromkeys(bodies, 1)


def test_a_dialect_that_this_process_does_not_know_is_waited_for(
    install: Install,
    sessions: Sessions,
    receiver: Receiver,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Own:
        name = "own"
        batches = False

        def check_secret(self, secret: str) -> str:
            return secret

        def body(self, event: Event, *, dumps: Any) -> bytes:
            return b"own " + bytes(dumps(event.data))

        def headers(self, _post: Any) -> dict[str, str]:
            return {"Content-Type": "text/plain"}

    knowing = install(sessions, deliver=False, clock=clock, dialects=[Own()])
    own = knowing.endpoints.create(receiver.url("/own"), ["*"], dialect="own", secret="anything")
    put(sessions, "a", 1)
    knowing.uninstall()
    other = install(sessions, deliver=False, clock=clock)
    other.endpoints.create(receiver.url("/others"), ["*"])
    put(sessions, "b", 1)
    with caplog.at_level(logging.ERROR):
        other.drain()
        other.drain()
    (said,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert said == (
        "no dialect is called 'own' here: what goes to its endpoints waits for a process that has it in "
        "install(dialects=[...])"
    )
    assert {one.path for one in receiver.received} == {"/others"}
    waiting = other.deliveries.list(state="pending")
    assert [(one.attempts, other.deliveries.attempts(one.id)) for one in waiting] == [(0, []), (0, [])]
    assert other.endpoints.get(own.id).health.failures == 0
    other.uninstall()
    install(sessions, deliver=False, clock=clock, dialects=[Own()]).drain()
    bodies = [one.body for one in receiver.received if one.path == "/own"]
    assert len(bodies) == 2
    assert all(body.startswith(b"own {") for body in bodies)


@pytest.mark.parametrize("payload", ["thin", "latest"])
def test_what_is_about_no_row_is_sent_whole(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, payload: Any
) -> None:
    webhooks = install(
        sessions, deliver=False, clock=clock, domain_events={"backup.failed": None}, stop=stop_after_attempt(1)
    )
    webhooks.endpoints.create(receiver.url("/few"), ["backup.*", "delivery.dead"], payload=payload)
    webhooks.endpoints.create(receiver.url("/dead"), ["product.*"])
    receiver.answer(500)
    put(sessions, "a")
    webhooks.drain()
    with sessions.begin() as session:
        webhooks.emit(session, "backup.failed", data={"size": 3})
    webhooks.drain()
    dead, emitted = paths(receiver)["/few"]
    assert dead["data"]["attempts"] == 1
    assert emitted["data"] == {"size": 3}


def test_the_latest_of_what_was_too_large_is_whole_again(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, payload_limit=1024)
    for payload in ("full", "latest"):
        webhooks.endpoints.create(receiver.url(f"/{payload}"), ["*"], payload=payload)
    with sessions.begin() as session:
        session.add(Product(sku="a", name="x" * 50, details={"text": "y" * 2000}))
    with sessions.begin() as session:
        session.get_one(Product, "a").details = {"text": "y"}
    webhooks.drain()
    full, latest = paths(receiver)["/full"][0], paths(receiver)["/latest"][0]
    assert full["truncated"] is True
    assert latest["data"]["details"] == {"text": "y"}
    assert "truncated" not in latest
