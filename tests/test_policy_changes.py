"""A policy that becomes stricter, a URL that changes, a connection that is kept; what is told of what is blocked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support import hostile
from support.hostile import Server, http
from support.local import Install
from support.network import Connects, Found, Resolver
from support.receiver import Receiver
from support.shop import put
from support.threads import until

from sqla_webhooks import DeliveryState, InvalidURL, Webhooks, models, signals

Sessions = sessionmaker[Session]

#: Of this machine, by the resolver.
NAME = "receiver.partner.example"

#: What was allowed, and what is later.
STRICTER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a network less": ({}, {"allow_networks": []}),
    "another network": ({}, {"allow_networks": ["127.0.0.2/32"]}),
    "a network denied": ({}, {"deny_networks": ["127.0.0.1"]}),
    "a host less": ({"allow_networks": [], "allow_hosts": [NAME]}, {"allow_networks": []}),
    "a host denied": ({"allow_hosts": [NAME]}, {"allow_hosts": [NAME], "deny_networks": ["127.0.0.0/8"]}),
    "no http": ({}, {"allow_http": False}),
    "other ports": ({}, {"egress_ports": [80, 443]}),
}


@pytest.fixture
def server(resolver: Resolver) -> Iterator[Server]:
    """Keeps its connections."""
    resolver.lead(NAME, to="127.0.0.1")
    with hostile.answers(http(200)) as server:
        yield server


def states(webhooks: Webhooks) -> list[str]:
    """Of the deliveries, from the first to the last."""
    return [one.state.value for one in reversed(webhooks.deliveries.list())]


def has(webhooks: Webhooks, *expected: str) -> bool:
    return states(webhooks) == [*expected]


@pytest.mark.parametrize("change", STRICTER)
def test_nothing_goes_on_an_old_connection_when_the_policy_is_stricter(
    install: Install, sessions: Sessions, server: Server, connects: Connects, change: str
) -> None:
    before, after = STRICTER[change]
    first = install(sessions, deliver=False, **before)
    first.endpoints.create(server.url(host=NAME), events=["*"])
    put(sessions, "a", "b")
    first.drain()
    put(sessions, "c")
    first.uninstall()

    second = install(sessions, deliver=False, **after)
    put(sessions, "d")
    second.drain()

    assert states(second) == ["delivered", "delivered", "dead", "dead"]
    assert (server.accepted, len(server.requests)) == (1, 2)
    assert connects.places == [("127.0.0.1", server.port)]
    for delivery in second.deliveries.list(state=DeliveryState.DEAD):
        (attempt,) = second.deliveries.attempts(delivery.id)
        assert (attempt.reason, attempt.status) == ("blocked", None)


@pytest.mark.parametrize("change", STRICTER)
def test_nothing_goes_on_an_old_connection_of_another_thread(
    install: Install, sessions: Sessions, server: Server, change: str
) -> None:
    before, after = STRICTER[change]
    first = install(sessions, batch_window=0, **before)
    first.endpoints.create(server.url(host=NAME), events=["*"])
    put(sessions, "a")
    until(partial(has, first, "delivered"))
    assert first.uninstall()

    second = install(sessions, batch_window=0, **after)
    put(sessions, "b")
    until(partial(has, second, "delivered", "dead"))

    assert (server.accepted, len(server.requests)) == (1, 1)


def test_what_was_blocked_is_sent_when_it_is_allowed_again_and_retried(
    install: Install, sessions: Sessions, server: Server
) -> None:
    lax = install(sessions, deliver=False)
    lax.endpoints.create(server.url(host=NAME), events=["*"])
    lax.uninstall()
    strict = install(sessions, deliver=False, allow_networks=[])
    put(sessions, "a")
    strict.drain()
    assert states(strict) == ["dead"]
    strict.uninstall()

    lax = install(sessions, deliver=False)
    lax.deliveries.retry(lax.deliveries.list()[0].id)
    lax.drain()

    assert states(lax) == ["delivered"]


# --- a URL that changes


def test_a_new_url_gets_nothing_on_the_connection_of_the_old_one(
    install: Install, sessions: Sessions, server: Server, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False)
    endpoint = webhooks.endpoints.create(server.url(host=NAME), events=["*"])
    put(sessions, "a")
    webhooks.drain()

    put(sessions, "b")
    webhooks.endpoints.update(endpoint.id, url=receiver.url())
    put(sessions, "c")
    webhooks.drain()

    assert len(server.requests) == 1
    assert [event["resource_id"] for event in receiver.events()] == ["b", "c"]


def test_an_endpoint_keeps_its_url_when_the_new_one_is_refused(
    install: Install, sessions: Sessions, server: Server
) -> None:
    webhooks = install(sessions, deliver=False)
    endpoint = webhooks.endpoints.create(server.url(host=NAME), events=["*"])
    for url in ("http://10.0.0.1/", "http://me:hunter2@partner.example/", "ftp://partner.example/", ""):
        with pytest.raises(InvalidURL):
            webhooks.endpoints.update(endpoint.id, url=url)

    put(sessions, "a")
    webhooks.drain()

    assert states(webhooks) == ["delivered"]


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://me:hunter2@10.0.0.1/", "file:///etc/passwd", "", "\0"])
def test_a_url_that_somebody_has_written_into_the_table_is_blocked(
    install: Install, engine: Engine, sessions: Sessions, server: Server, connects: Connects, url: str
) -> None:
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(server.url(host=NAME), events=["*"])
    with engine.begin() as connection:
        connection.execute(models.endpoint.update().values(url=url))
    put(sessions, "a")
    webhooks.drain()

    (delivery,) = webhooks.deliveries.list()
    (attempt,) = webhooks.deliveries.attempts(delivery.id)
    assert (delivery.state, attempt.reason) == (DeliveryState.DEAD, "blocked")
    assert "hunter2" not in attempt.detail
    assert connects.places == []


# --- what is told

INNER: list[list[Found]] = [["10.99.77.55"], ["8.8.8.8", "10.99.77.55"], ["fd00:77::55"], ["64:ff9b::10.99.77.55"]]


@pytest.mark.parametrize("answer", INNER, ids=str)
def test_nobody_is_told_the_address_inside_but_the_operator(
    install: Install,
    sessions: Sessions,
    resolver: Resolver,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    answer: list[Found],
) -> None:
    """Tenants read attempts, and the events of the webhooks themselves; they may not map the network by them."""
    caplog.set_level(logging.DEBUG)
    resolver.answers[NAME] = [answer]
    webhooks = install(sessions, deliver=False)
    webhooks.endpoints.create(f"http://{NAME}/", events=["product.*"])
    webhooks.endpoints.create(receiver.url(), events=["delivery.dead"])
    heard: list[Any] = []

    def hear(sender: object, **arguments: Any) -> None:
        heard.append(arguments)

    with signals.dead.connected_to(hear, webhooks):
        put(sessions, "a")
        webhooks.drain()

    (delivery,) = webhooks.deliveries.list(state=DeliveryState.DEAD)
    attempts = webhooks.deliveries.attempts(delivery.id)
    assert len(attempts) == len(heard) == len(receiver.received) == 1
    loud = [one.getMessage() for one in caplog.records if one.levelno > logging.INFO]
    assert any(NAME in one for one in loud)
    told = [attempts, heard, receiver.received, delivery, loud, webhooks.endpoints.list(), webhooks.events.list()]
    for part in ("10.99.77", "99.77.55", "fd00:", "77::55", "64:ff9b", "8.8.8.8"):
        assert part not in repr(told)
    quiet = [one.getMessage() for one in caplog.records if one.levelno == logging.INFO]
    assert any(str(answer[-1]) in one for one in quiet)


def test_what_is_denied_is_told_as_nothing_else(
    install: Install, sessions: Sessions, resolver: Resolver, receiver: Receiver
) -> None:
    """Whoever reads it learns of no list."""
    details = set()
    for address, denied in (("10.0.0.1", []), ("8.8.8.8", ["8.8.8.8"]), ("127.0.0.1", ["127.0.0.0/8"])):
        resolver.lead(NAME, to=address)
        with install(sessions, deliver=False, deny_networks=denied) as webhooks:
            webhooks.endpoints.create(f"http://{NAME}/", events=["*"])
            put(sessions, f"a {address}")
            webhooks.drain()
            for delivery in webhooks.deliveries.list():
                details |= {one.detail for one in webhooks.deliveries.attempts(delivery.id)}

    assert details == {f"the egress policy forbids {NAME}: it leads to an address that is not public"}
