"""`webhooks.endpoints`: what can be written, and what a change of it does to what waits."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.local import Install
from support.receiver import Receiver
from support.shop import Product

from sqla_webhooks import (
    ConfigurationError,
    DeliveryState,
    EndpointError,
    InvalidSubscription,
    InvalidURL,
    NotFound,
    Webhooks,
)

Sessions = sessionmaker[Session]
URL = "https://partner.example/hooks"


def add(sessions: Sessions, *skus: str) -> None:
    for sku in skus:
        with sessions.begin() as session:
            session.add(Product(sku=sku))


def test_create_makes_a_secret_that_is_read_once(webhooks: Webhooks, clock: MovedClock) -> None:
    created = webhooks.endpoints.create(URL, events=["order.*", "product.created", "order.*"], description="a partner")

    assert created.id.startswith("ep_")
    assert created.events == ("order.*", "product.created")
    assert (created.enabled, created.description, created.created_at) == (True, "a partner", clock.now())
    assert created.secret.startswith("whsec_")
    assert len(base64.b64decode(created.secret.removeprefix("whsec_"))) == 32
    assert created.secret not in repr(created)
    for shown in (webhooks.endpoints.get(created.id), *webhooks.endpoints.list()):
        assert not hasattr(shown, "secret")
        assert shown.id == created.id
        assert shown.created_at == clock.now()


def test_a_secret_may_be_given(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(b"x" * 24).decode()
    assert webhooks.endpoints.create(receiver.url(), events=["*"], secret=secret).secret == secret
    add(sessions, "a")
    webhooks.drain()

    assert receiver.received[0].is_signed(secret)


def test_a_secret_is_in_no_log_and_in_no_error_of_the_database(
    webhooks: Webhooks, sessions: Sessions, engine: Engine, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLAlchemy writes the parameters of statements into both, and the rows into the log."""
    with caplog.at_level(logging.DEBUG, "sqlalchemy"):
        engine.echo = "debug"
        endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
        with sessions.begin() as session:
            another = webhooks.endpoints.create(receiver.url(), events=["*"], session=session)
            session.add(Product(sku="a"))
        webhooks.drain()
        engine.echo = False
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE webhook_endpoint"))
    with pytest.raises(DBAPIError) as caught:
        webhooks.endpoints.create(receiver.url(), events=["*"], secret=endpoint.secret)

    assert len(receiver.received) == 2
    assert "INSERT INTO webhook_endpoint" in caplog.text
    assert endpoint.id in caplog.text
    for secret in (endpoint.secret, another.secret):
        assert secret not in caplog.text
        assert secret not in str(caught.value)
    assert receiver.received[0].is_signed(endpoint.secret) or receiver.received[0].is_signed(another.secret)


def test_a_bad_secret_is_refused_and_not_repeated(webhooks: Webhooks) -> None:
    with pytest.raises(EndpointError, match="24 to 64") as raised:
        webhooks.endpoints.create(URL, events=["*"], secret="whsec_c2hvcnQ=")
    assert "c2hvcnQ" not in str(raised.value)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([], "events is empty"),
        ("order.*", "not a list of patterns"),
        (["order"], "not a subscription pattern"),
        (["order.*.*"], "not a subscription pattern"),
        (["ord*"], "not a subscription pattern"),
        ([""], "not a subscription pattern"),
        ([None], "not a subscription pattern"),
        (["order.paid"], "no event of 'order' is called 'paid'"),
        (["orders.created"], "did you mean 'order.created'"),
        (["*.create"], "did you mean '.*.created'"),
    ],
)
def test_a_subscription_that_can_match_nothing_is_refused(webhooks: Webhooks, events: list[str], says: str) -> None:
    with pytest.raises(InvalidSubscription, match=says):
        webhooks.endpoints.create(URL, events=events)
    assert webhooks.endpoints.list() == []


def test_a_bad_url_is_refused(webhooks: Webhooks) -> None:
    with pytest.raises(InvalidURL, match="write https://"):
        webhooks.endpoints.create("partner.example/hooks", events=["*"])
    with pytest.raises(InvalidURL, match="not a public address"):
        webhooks.endpoints.create("https://10.0.0.1/", events=["*"])
    endpoint = webhooks.endpoints.create(URL, events=["*"])
    with pytest.raises(InvalidURL, match="user or password"):
        webhooks.endpoints.update(endpoint.id, url="https://user:word@partner.example/")
    assert webhooks.endpoints.get(endpoint.id).url == URL


def test_http_is_refused_unless_allowed(engine: Engine) -> None:
    from sqla_webhooks import install  # noqa: PLC0415  # the fixture's install() allows it

    with install(sessionmaker(engine), deliver=False) as webhooks, pytest.raises(InvalidURL, match="allow_http=True"):
        webhooks.endpoints.create("http://partner.example/", events=["*"])


def test_update_changes_what_is_given(webhooks: Webhooks, clock: MovedClock) -> None:
    endpoint = webhooks.endpoints.create(URL, events=["*"], description="before")
    clock.advance(60)

    updated = webhooks.endpoints.update(endpoint.id, events=["order.*"])

    assert (updated.url, updated.events, updated.description) == (URL, ("order.*",), "before")
    assert (updated.created_at, updated.updated_at) == (endpoint.created_at, clock.now())
    assert webhooks.endpoints.update(endpoint.id, description="after").events == ("order.*",)
    assert webhooks.endpoints.list() == [webhooks.endpoints.get(endpoint.id)]


def test_an_unknown_id_is_not_found(webhooks: Webhooks) -> None:
    endpoints = webhooks.endpoints
    for call in (endpoints.get, endpoints.update, endpoints.disable, endpoints.enable, endpoints.delete):
        with pytest.raises(NotFound, match="no endpoint has the id 'ep_x'"):
            call("ep_x")
    with pytest.raises(NotFound, match="no event"):
        webhooks.events.get("evt_x")
    with pytest.raises(NotFound, match="no delivery"):
        webhooks.deliveries.get(1)
    with pytest.raises(NotFound, match="no delivery"):
        webhooks.deliveries.attempts(1)


def test_an_endpoint_in_place_of_its_id_is_told_from_one(webhooks: Webhooks) -> None:
    given: Any = webhooks.endpoints.create(URL, events=["*"])
    for call in (
        lambda: webhooks.endpoints.get(given),
        lambda: webhooks.endpoints.update(given, events=["*"]),
        lambda: webhooks.endpoints.disable(given),
        lambda: webhooks.endpoints.enable(given),
        lambda: webhooks.endpoints.delete(given),
    ):
        with pytest.raises(ConfigurationError, match=r"write endpoint\.id") as caught:
            call()
        assert given.secret not in str(caught.value)
    number: Any = 7
    with pytest.raises(ConfigurationError, match=r"not by int 7$"):
        webhooks.endpoints.get(number)


def test_what_cannot_be_looked_for_is_refused(webhooks: Webhooks) -> None:
    given: Any = webhooks.endpoints.create(URL, events=["*"])
    state: Any = "deadd"
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: webhooks.deliveries.list(endpoint=given), "endpoint is NewEndpoint: give a text like 'ep_…'"),
        (lambda: webhooks.deliveries.list(event=given), "event is NewEndpoint"),
        (lambda: webhooks.deliveries.list(state=state), "the states are pending, delivered, dead"),
        (lambda: webhooks.deliveries.list(limit=0), "limit is 0"),
        (lambda: webhooks.deliveries.get(given), "write delivery.id"),
        (lambda: webhooks.deliveries.attempts(given), "write delivery.id"),
        (lambda: webhooks.events.list(limit=-1), "limit is -1"),
        (lambda: webhooks.events.get(given), "named by its id, a text like 'evt_…', not by NewEndpoint"),
    ]
    for call, says in calls:
        with pytest.raises(ConfigurationError, match=says):
            call()


def test_a_new_url_counts_for_what_waits_already(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    endpoint = webhooks.endpoints.create(receiver.url("/old"), events=["*"])
    add(sessions, "a")
    webhooks.endpoints.update(endpoint.id, url=receiver.url("/new"))
    webhooks.drain()

    assert [one.path for one in receiver.received] == ["/new"]


def test_each_endpoint_gets_what_it_asked_for(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    patterns = {
        "/all": "*",
        "/product": "product.*",
        "/created": "*.created",
        "/one": "product.deleted",
        "/no": "order.*",
    }
    endpoints = {
        path: webhooks.endpoints.create(receiver.url(path), events=[pattern]) for path, pattern in patterns.items()
    }
    add(sessions, "a")
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))
    webhooks.drain()

    got = {path: [one.type for one in receiver.received if one.path == path] for path in patterns}
    assert got == {
        "/all": ["product.created", "product.deleted"],
        "/product": ["product.created", "product.deleted"],
        "/created": ["product.created"],
        "/one": ["product.deleted"],
        "/no": [],
    }
    assert all(one.is_signed(endpoints[one.path].secret) for one in receiver.received)
    assert len(set(receiver.ids)) == 2  # one event, one id, to whomever it goes


def test_disabled_holds_what_waits_and_what_comes_and_enabled_sends_it_in_order(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    add(sessions, "waits")
    assert not webhooks.endpoints.disable(endpoint.id).enabled
    add(sessions, "comes")
    for stock in (1, 2):
        with sessions.begin() as session:
            session.get_one(Product, "comes").stock = stock
    webhooks.drain()
    assert receiver.received == []
    assert {one.state for one in webhooks.deliveries.list()} == {DeliveryState.HELD}
    assert len(webhooks.deliveries.list(state="held")) == 4

    assert webhooks.endpoints.enable(endpoint.id).enabled
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events()] == ["waits", "comes", "comes", "comes"]
    assert [one["data"]["stock"] for one in receiver.events()] == [0, 0, 1, 2]


def test_deleted_cancels_what_waits_and_forgets_the_secret(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.answer(500)
    add(sessions, "a")
    webhooks.drain()
    webhooks.endpoints.delete(endpoint.id)
    add(sessions, "b")
    webhooks.drain()

    assert len(receiver.received) == 1
    assert [one.state for one in webhooks.deliveries.list()] == [DeliveryState.CANCELLED]
    assert webhooks.endpoints.list() == []
    with pytest.raises(NotFound, match="deleted"):
        webhooks.endpoints.enable(endpoint.id)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM webhook_secret")).scalar() == 0


def test_with_a_session_it_is_part_of_its_transaction(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions() as session:
        webhooks.endpoints.create(receiver.url(), events=["*"], session=session)
        session.rollback()
    assert webhooks.endpoints.list() == []

    with sessions.begin() as session:
        endpoint = webhooks.endpoints.create(receiver.url(), events=["order.*"], session=session)
        webhooks.endpoints.update(endpoint.id, events=["product.*"], session=session)
        session.add(Product(sku="a"))
    webhooks.drain()
    assert [one.id for one in webhooks.endpoints.list()] == [endpoint.id]
    assert receiver.types == ["product.created"]

    with sessions.begin() as session:
        webhooks.endpoints.disable(endpoint.id, session=session)
        webhooks.endpoints.enable(endpoint.id, session=session)
        webhooks.endpoints.delete(endpoint.id, session=session)
    assert webhooks.endpoints.list() == []


def test_what_is_no_session_is_refused(webhooks: Webhooks, engine: Engine) -> None:
    given: Any = engine
    with pytest.raises(ConfigurationError, match="session is Engine"):
        webhooks.endpoints.create(URL, events=["*"], session=given)
    nothing: Any = None
    with pytest.raises(ConfigurationError, match="description is None"):
        webhooks.endpoints.create(URL, events=["*"], description=nothing)


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ("\0", "NUL or a lone surrogate"),
        ("\ud800", "NUL or a lone surrogate"),
        ("é" * 10_001, "10,001 characters: 10,000 are allowed"),
    ],
)
def test_a_description_that_some_database_cannot_take_is_refused(
    webhooks: Webhooks, description: str, says: str
) -> None:
    endpoint = webhooks.endpoints.create(URL, events=["*"], description="before")
    with pytest.raises(EndpointError, match=says) as caught:
        webhooks.endpoints.create(URL, events=["*"], description=description)
    assert len(str(caught.value)) < 100
    with pytest.raises(EndpointError, match=says):
        webhooks.endpoints.update(endpoint.id, description=description)
    assert [one.description for one in webhooks.endpoints.list()] == ["before"]


def test_the_longest_description_is_kept_on_every_database(database: Database, install: Install) -> None:
    longest = "\U0001f600" * 10_000
    with database.patient.engine() as engine:
        webhooks = install(sessionmaker(engine), deliver=False)
        endpoint = webhooks.endpoints.create(URL, events=["*"], description=longest)
        assert webhooks.endpoints.get(endpoint.id).description == longest


def test_a_session_of_another_database_is_refused(webhooks: Webhooks) -> None:
    other = create_engine("sqlite://")
    with Session(other) as session, pytest.raises(ConfigurationError, match="give a session of the factory"):
        webhooks.endpoints.create(URL, events=["*"], session=session)
    other.dispose()


@pytest.mark.parametrize("id_", ["ep_\0", "\ud800", "ep_" + "x" * 5000])
def test_whatever_text_is_asked_for_there_is_no_such_endpoint(install: Install, database: Database, id_: str) -> None:
    """As a stranger may write it into a path, on any database."""
    with database.patient.engine() as engine:
        webhooks = install(sessionmaker(engine), deliver=False)
        for call in (webhooks.endpoints.get, webhooks.endpoints.delete, webhooks.endpoints.rotate_secret):
            with pytest.raises(NotFound):
                call(id_)
        with pytest.raises(NotFound):
            webhooks.events.get(id_)
        for number in (-1, 2**63, 10**30):
            with pytest.raises(NotFound):
                webhooks.deliveries.get(number)
