"""The guide's code, run as it stands, each block beside the application that it supposes."""

from __future__ import annotations

import hmac
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.fernet import Fernet
from jsonschema import Draft202012Validator
from sqlalchemy import Engine, ForeignKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)
from support.events import event, post
from support.local import LOCAL, Install
from support.receiver import Receiver
from support.redis_server import redis_client
from tenacity import retry_if_exception_type, retry_if_result, stop_after_delay, wait_exponential

import sqla_webhooks
from sqla_webhooks import (
    ConfigurationError,
    DeliveryError,
    OpenFront,
    Operation,
    Replayed,
    Webhooks,
    enriching,
    enriching_for_endpoint,
    verify_batch,
)
from sqla_webhooks.delivery.dialects.known import Dialects
from sqla_webhooks.encoding import Encoding

GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "guide_customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


class Money(NamedTuple):
    amount: Decimal
    currency: str


class Order(Base):
    __tablename__ = "guide_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id))
    customer: Mapped[Customer] = relationship()
    lines: Mapped[list[Line]] = relationship()


class Line(Base):
    __tablename__ = "guide_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id))


class SeenRequest(Base):
    __tablename__ = "guide_seen"
    key: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[datetime]


@dataclass
class Application:
    """What the guide supposes, and what its blocks have added."""

    engine: Engine
    webhooks: Webhooks
    receiver: Receiver
    names: dict[str, Any] = field(default_factory=dict)

    def run(self, first_line: str) -> None:
        """Execute the block that begins so."""
        (block,) = [block for block in BLOCKS if block.startswith(first_line)]
        exec(block.replace("https://partner.example/hooks", self.receiver.url()), self.names)

    def order(self) -> None:
        with self.names["Session"].begin() as session:
            session.add(Order(customer=Customer(email="a@example.com"), lines=[Line()]))


@pytest.fixture
def application(install: Install, engine: Engine, receiver: Receiver) -> Iterator[Application]:
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False)
    application = Application(engine, webhooks, receiver)
    application.names |= {
        "Session": sessions,
        "webhooks": webhooks,
        "install": sqla_webhooks.install,
        "enricher": sqla_webhooks.enricher,
        "endpoint_enricher": sqla_webhooks.endpoint_enricher,
        "Order": Order,
        "joinedload": joinedload,
        "selectinload": selectinload,
    }
    before = {signal: set(signal.receivers) for signal in (enriching, enriching_for_endpoint)}
    yield application
    for signal, there in before.items():
        for key in signal.receivers.keys() - there:
            signal.disconnect(signal.receivers[key])


def test_every_block_is_run_here() -> None:
    run = re.findall(r"application\.run\((['\"])(.+)\1\)", Path(__file__).read_text(encoding="utf-8"))
    firsts = tuple(first for _, first in run)
    assert [block for block in BLOCKS if not block.startswith(firsts)] == []


def test_installing(application: Application) -> None:
    webhooks = application.webhooks
    application.run("webhooks = install(Session)")

    assert application.names["webhooks"] is webhooks


def test_async_sessions(application: Application) -> None:
    async_engine = create_async_engine(application.engine.url.set(drivername="sqlite+aiosqlite"))
    application.names["async_sessions"] = async_sessionmaker(async_engine)
    application.run("webhooks = install(async_sessions)")

    assert application.names["webhooks"].endpoints.list() == []
    application.names["webhooks"].uninstall()


def test_endpoints(application: Application) -> None:
    application.run("endpoint = webhooks.endpoints.create(")

    assert application.names["endpoint"].secret.startswith("whsec_")
    assert application.webhooks.endpoints.list() == []


def test_registering_by_a_key(application: Application) -> None:
    application.names["secret"] = "whsec_" + "A" * 40
    for _ in range(2):
        application.run('crm = webhooks.endpoints.register("crm", ')

    assert application.webhooks.endpoints.list() == [application.webhooks.endpoints.get(application.names["crm"].id)]


def test_trying_a_receiver(application: Application) -> None:
    application.names["endpoint"] = application.webhooks.endpoints.create(application.receiver.url(), events=["*"])
    application.run("delivery = webhooks.endpoints.test(endpoint.id)")
    application.webhooks.drain()

    assert application.receiver.ids == [application.names["delivery"].event_id]
    assert application.receiver.ids[0].startswith("evt_test_")


def test_secrets(application: Application) -> None:
    endpoint = application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.names["endpoint"] = endpoint
    application.run("rotated = webhooks.endpoints.rotate_secret(endpoint.id)")

    assert application.names["rotated"].secret != endpoint.secret
    assert len(application.webhooks.endpoints.secrets(endpoint.id)) == 1


def test_encryption(application: Application) -> None:
    new_key, old_key = Fernet.generate_key(), Fernet.generate_key()
    sessions = sessionmaker(application.engine)
    application.names |= {"Session": sessions, "new_key": new_key, "old_key": old_key}
    application.run("install(Session, encryption_keys=[new_key, old_key])")

    with sqla_webhooks.install(sessions) as webhooks:
        assert webhooks.settings.encryption_keys == (new_key.decode(), old_key.decode())


def test_headers_of_an_endpoint(application: Application) -> None:
    endpoint = application.webhooks.endpoints.create(application.receiver.url(), events=["customer.*"])
    url = application.receiver.url("/other")
    application.names |= {"endpoint": endpoint, "url": url, "token": "t", "key": "k"}
    application.run("webhooks.endpoints.create(url, ")
    application.order()
    application.webhooks.drain()

    headers = {one.path: one.headers for one in application.receiver.received}
    assert headers["/other"]["authorization"] == "Bearer t"
    assert headers["/hooks"]["x-api-key"] == "k"


def test_what_an_endpoint_gets(application: Application) -> None:
    application.run("analytics = webhooks.endpoints.create(")
    application.order()
    with application.names["Session"].begin() as session:
        session.get_one(Customer, 1).email = "b@example.com"
    application.webhooks.drain()
    requests, secret = application.receiver.received, application.names["analytics"].secret
    together, later = (verify_batch(one.body, one.headers, secret) for one in requests)

    assert {one["type"] for one in together} == {"customer.created", "order.created", "line.created"}
    emails = [one["data"]["email"] for one in (*together, *later) if one["resource"] == "customer"]
    assert emails == ["b@example.com"] * 2


def test_an_enricher_for_an_endpoint(application: Application) -> None:
    application.run("@endpoint_enricher(Order, options=[joinedload(Order.customer)])")
    application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.order()
    application.webhooks.drain()

    assert application.receiver.events()[0]["data"]["email"] == "a@example.com"


def test_transform(application: Application) -> None:
    def install(factory: Any, **options: Any) -> Webhooks:
        return sqla_webhooks.install(factory, deliver=False, **LOCAL, **options)

    sessions = sessionmaker(application.engine)
    application.names |= {"Session": sessions, "install": install, "replace": replace}
    application.run("def shape(event, endpoint):")
    with application.names["webhooks"] as webhooks:
        webhooks.endpoints.create(application.receiver.url("/all"), events=["customer.*"])
        webhooks.endpoints.register("crm", url=application.receiver.url("/crm"), events=["customer.*"])
        for change in (lambda session: session.add(Customer(email="a@example.com")), _delete_customer):
            with sessions.begin() as session:
                change(session)
        webhooks.drain()
        dropped = webhooks.deliveries.list(state="cancelled")
    got = [(one.path, one.type) for one in application.receiver.received]

    assert sorted(got) == [("/all", "customer.created"), ("/all", "customer.deleted"), ("/crm", "customer.created")]
    assert [one.event_type for one in dropped] == ["customer.deleted"]
    assert {one["data"]["shop"] for one in application.receiver.events()} == {"eu"}


def _delete_customer(session: Session) -> None:
    session.delete(session.get_one(Customer, 1))


def test_dialects(application: Application) -> None:
    sessions = sessionmaker(application.engine)
    application.names |= {name: getattr(sqla_webhooks, name) for name in ("ConfigurationError", "OpenFront")}
    application.names |= {"Session": sessions, "hmac": hmac}
    application.run("class Chat:")

    with sqla_webhooks.install(sessions) as webhooks:
        known = Dialects.of(webhooks.settings.dialects)
    chat = known.get("chat")
    with pytest.raises(ConfigurationError, match="too short"):
        chat.check_secret("short")
    made = post(chat, event(), secrets=(chat.check_secret("x" * 16),))
    assert made.body == b'{"text":"order 7: order.created"}'
    assert chat.headers(made) == {
        "Content-Type": "application/json",
        "X-Chat-Signature": hmac.digest(b"x" * 16, made.body, "sha256").hex(),
    }
    assert known.get("openfront") == OpenFront(list_keys={"order": "PurchaseOrder"})


def test_enrichers(application: Application) -> None:
    application.run("@enricher(Order, options=[selectinload(Order.lines), joinedload(Order.customer)])")
    application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.order()
    application.webhooks.drain()

    assert application.receiver.events()[0]["data"]["customer"] == {"id": 1, "email": "a@example.com"}


def test_tenants(application: Application) -> None:
    class Here(DeclarativeBase):
        pass

    def install(factory: Any, **options: Any) -> Webhooks:
        return sqla_webhooks.install(factory, deliver=False, **LOCAL, **options)

    names = {"Base": Here, "Session": sessionmaker(application.engine), "install": install, "__name__": __name__}
    application.names |= names | {"Mapped": Mapped, "mapped_column": mapped_column}
    try:
        application.run("class Invoice(Base):")
        Here.metadata.create_all(application.engine)
        application.run('webhooks.endpoints.create("https://partner.example/hooks", events=["order.*"], tenant="acme")')
        with application.names["webhooks"] as webhooks:
            webhooks.endpoints.update(webhooks.endpoints.list()[0].id, events=["*"])
            invoice, country = application.names["Invoice"], application.names["Country"]
            with application.names["Session"].begin() as session:
                session.add_all([invoice(account_id="acme"), invoice(account_id="other"), country(code="x")])
            webhooks.drain()
    finally:
        Here.registry.dispose()

    assert [one["data"] for one in application.receiver.events()] == [{"id": 1, "account_id": "acme"}]


def test_domain_events(application: Application) -> None:
    application.order()
    application.names["Session"] = sessionmaker(application.engine)
    application.run("webhooks = install(Session, domain_events={")
    with application.names["webhooks"] as webhooks:
        application.run("from sqla_webhooks import changed")
        events = ["order.shipped", "backup.*", "order.sold", "*.lost"]
        assert webhooks.endpoints.create("https://a.example", events=events).events == tuple(events)


def test_by_hand(application: Application) -> None:
    application.order()
    with application.names["Session"]() as session:
        application.names["order"] = session.get(Order, 1)
    application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.run('webhooks.trigger("order.updated", order)')
    application.webhooks.drain()

    assert application.receiver.events()[0]["changes"] == {}


def test_context(application: Application) -> None:
    application.order()
    application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.run("with webhooks.context(")
    application.webhooks.drain()

    assert application.webhooks.events.list()[0].context == {"actor": "user 7", "request_id": "4bf92f"}


def test_what_is_captured(application: Application) -> None:
    class Here(DeclarativeBase):
        pass

    class AuditLog(Here):
        __tablename__ = "guide_audit"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Client(Here):
        __tablename__ = "guide_client"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes: Mapped[str]

    names = {"Base": Here, "AuditLog": AuditLog, "Customer": Client, "Session": sessionmaker(application.engine)}
    application.names |= names | {"Mapped": Mapped, "mapped_column": mapped_column, "column_property": column_property}
    application.names["__name__"] = __name__  # where SQLAlchemy looks for what annotations name
    try:
        application.run("class Order(Base):")
        with sqla_webhooks.install(application.names["Session"]) as webhooks:
            said = webhooks.describe()
    finally:
        Here.registry.dispose()

    order = said[application.names["Order"]]
    assert (order.name, order.operations) == ("order", (Operation.CREATE, Operation.UPDATE))
    assert sorted(one.name for one in order.sent) == ["api_key", "id", "label", "title"]
    assert said[AuditLog].why_not == "exclude"
    assert said[Client].operations == (Operation.CREATE, Operation.UPDATE)
    assert [one.name for one in said[Client].sent] == ["id"]


def test_encoders(application: Application) -> None:
    application.names |= {"Session": sessionmaker(application.engine), "Money": Money, "Decimal": Decimal}
    application.run("webhooks = install(Session, encoders={")
    with application.names["webhooks"] as webhooks:
        encoding = Encoding(webhooks.settings.encoders)
        assert encoding.dumps([Money(Decimal("1.50"), "EUR")]) == b'[{"amount":1.5,"currency":"EUR"}]'


def test_the_catalogue(application: Application) -> None:
    application.run("catalogue = webhooks.catalogue()")
    application.webhooks.endpoints.create(application.receiver.url(), events=["order.created"])
    application.order()
    application.webhooks.drain()
    (request,) = application.receiver.received
    document = application.names["document"]

    assert Draft202012Validator(application.names["catalogue"]["order.created"].schema).is_valid(request.event)
    assert (document["info"], "order.created" in document["webhooks"]) == ({"title": "Shop", "version": "2"}, True)


def test_strategies(application: Application) -> None:
    application.names |= {
        "Session": sessionmaker(application.engine),
        "wait_exponential": wait_exponential,
        "stop_after_delay": stop_after_delay,
        "retry_if_exception_type": retry_if_exception_type,
        "retry_if_result": retry_if_result,
        "DeliveryError": DeliveryError,
    }
    application.run("install(Session, wait=wait_exponential(min=1, max=3600), stop=stop_after_delay(86400),")
    with sqla_webhooks.install(application.names["Session"]) as webhooks:
        assert webhooks.settings.retries.next_delay(3, 60, outcome=DeliveryError()) == 4
        assert webhooks.settings.retries.next_delay(3, 86400, outcome=DeliveryError()) is None


def test_what_happened(application: Application) -> None:
    application.names["endpoint"] = application.webhooks.endpoints.create(
        application.receiver.url(), events=["order.*"]
    )
    application.order()
    application.run("drained = webhooks.drain(timeout=30)")
    (application.names["delivery"],) = application.webhooks.deliveries.list()
    application.run('webhooks.events.list(type="order.created", limit=20)')

    assert application.names["drained"].complete


def test_sending_again(application: Application) -> None:
    endpoint = application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.receiver.answer(500)
    application.order()
    application.webhooks.drain()
    (delivery,) = application.webhooks.deliveries.list()
    (event,) = application.webhooks.events.list()
    yesterday = event.timestamp - timedelta(days=1)
    application.names |= {"endpoint": endpoint, "delivery": delivery, "last": delivery, "event": event}
    application.names["yesterday"] = yesterday
    application.run('webhooks.deliveries.list(state="dead", since=yesterday, before=last.id)')
    application.webhooks.drain()

    assert application.receiver.ids == [event.id] * 2
    assert application.webhooks.deliveries.get(delivery.id).state == "delivered"


def test_backfill(application: Application) -> None:
    application.order()
    receiver = application.receiver
    application.webhooks.endpoints.create(receiver.url("/asked"), events=["order.read"])
    application.names["endpoint"] = application.webhooks.endpoints.create(receiver.url("/alone"), events=["customer.*"])
    application.run("webhooks.backfill(Order)  ")
    application.webhooks.drain()

    assert [(one.path, one.type) for one in receiver.received] == [("/asked", "order.read"), ("/alone", "order.read")]


def test_receivers(application: Application) -> None:
    endpoint = application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.order()
    application.webhooks.drain()
    (request,) = application.receiver.received
    application.names |= {"request_body": request.body, "request_headers": request.headers, "secret": endpoint.secret}
    application.run("from sqla_webhooks import SignatureError, verify")

    assert application.names["event"] == request.event


def test_replay_guards(application: Application) -> None:
    endpoint = application.webhooks.endpoints.create(application.receiver.url(), events=["order.*"])
    application.order()
    application.webhooks.drain()
    (request,) = application.receiver.received
    given = {"request_body": request.body, "request_headers": request.headers, "secret": endpoint.secret}
    with redis_client() as redis:
        application.names |= {**given, "verify": sqla_webhooks.verify, "redis": redis, "math": math}
        application.run("def is_new(key, seconds):")
        assert application.names["event"] == request.event
        with pytest.raises(Replayed):
            application.run("def is_new(key, seconds):")


def test_replay_guards_in_a_table(application: Application) -> None:
    application.names |= {"datetime": datetime, "timedelta": timedelta, "UTC": UTC}
    application.names |= {"IntegrityError": IntegrityError, "SeenRequest": SeenRequest}
    application.run("def is_new_here(key, seconds):")

    assert [application.names["is_new_here"](key, 601) for key in "aba"] == [True, True, False]


def test_a_moved_clock(application: Application, install: Install) -> None:
    application.names |= {"datetime": datetime, "timedelta": timedelta, "UTC": UTC, "threading": threading}
    application.run("class MovedClock:")
    clock = application.names["MovedClock"]()
    sessions = sessionmaker(application.engine)
    webhooks = install(sessions, clock=clock, deliver=False)
    endpoint = webhooks.endpoints.create(application.receiver.url(), events=["*"])
    application.receiver.answer(500)
    with sessions.begin() as session:
        session.add(Customer(email="a@example.com"))
    webhooks.drain()
    clock.time += timedelta(seconds=6)
    webhooks.drain()

    assert [request.is_signed(endpoint.secret) for request in application.receiver.received] == [True, True]
