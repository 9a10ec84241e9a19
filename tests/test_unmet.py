"""What an endpoint asks for that can never come, as the log says it when the endpoint is written."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session, sessionmaker
from support import mapping
from support.clock import MovedClock
from support.local import Install
from support.receiver import Receiver
from support.shop import Order, Status, Ticket

from sqla_webhooks import Webhooks

Sessions = sessionmaker[Session]

URL = "https://a.example/"


@pytest.fixture
def webhooks(install: Install, in_memory: Sessions) -> Webhooks:
    return install(in_memory, deliver=False, include=[Order, Ticket], domain_events={"ticket.sealed": None})


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [one.getMessage() for one in caplog.records if one.name == "sqla_webhooks.unmet"]
    assert {one.levelno for one in caplog.records if one.name == "sqla_webhooks.unmet"} <= {logging.WARNING}
    caplog.clear()
    return found


NO_STATUS = "which is never sent: those are 'pending', 'paid'"

ORDERS, BOTH = ["order.*"], ["order.updated", "ticket.created"]


@pytest.mark.parametrize(
    ("events", "filter", "told"),
    [
        (ORDERS, {"data.total": 1, "data.status": "anything", "changes.note.to": None}, []),
        (ORDERS, {"data.totl": 1}, ["filter[\"data.totl\"]: no event of order has 'totl'; did you mean 'total'?"]),
        (ORDERS, {"changes.zzz": {"$exists": True}}, ["filter[\"changes.zzz\"]: no event of order has 'zzz'"]),
        (
            ORDERS,
            {"$or": [{"data.total": 1}, {"$not": {"data.x.y": 1}}]},
            ['filter["$or"][1]["$not"]["data.x.y"]: no event of order has \'x\''],
        ),
        # What is no attribute of a row.
        (ORDERS, {"data": {"$exists": True}, "context.actor": 1, "links.tags.added": 1, "operation": "x"}, []),
        # One of several resources is enough.
        (BOTH, {"data.total": 1}, []),
        (BOTH, {"data.zzz": 1}, ["filter[\"data.zzz\"]: no event of order, ticket has 'zzz'"]),
        # The values of a column that is no enum for all of them may be any.
        (BOTH, {"data.status": "PAID"}, []),
        (["ticket.created"], {"data.status": {"$in": ["paid", None]}, "changes.status.from": {"$ne": "pending"}}, []),
        (["ticket.created"], {"data.status": "PAID"}, [f"filter[\"data.status\"] compares with 'PAID', {NO_STATUS}"]),
        (
            ["ticket.created"],
            {"changes.status.to": {"$not": {"$in": ["paid", "gone", 1]}}},
            [f'filter["changes.status.to"] compares with {one}, {NO_STATUS}' for one in ("'gone'", "1")],
        ),
        (["ticket.created"], {"data.status": {"$gt": "b"}, "changes.status": {"$eq": {"to": "x"}}}, []),
        # Nobody knows what may be in these.
        (["ticket.*"], {"data.zzz": 1}, []),
        (["ticket.sealed"], {"data.zzz": 1}, []),
        (["endpoint.disabled"], {"data.zzz": 1}, []),
    ],
)
def test_what_no_event_has_is_told_of(
    webhooks: Webhooks, caplog: pytest.LogCaptureFixture, events: list[str], filter: dict[str, Any], told: list[str]
) -> None:
    created = webhooks.endpoints.create(URL, events, filter=filter)
    assert said(caplog) == told
    webhooks.endpoints.update(created.id, description="the same")
    assert said(caplog) == []
    webhooks.endpoints.update(created.id, filter=filter)
    assert said(caplog) == told
    webhooks.endpoints.update(created.id, events=events)
    assert said(caplog) == told
    webhooks.endpoints.register("crm", url=URL, events=events, filter=filter)
    webhooks.endpoints.register("crm", url=URL, events=events, filter=filter)
    assert said(caplog) == told * 2


def test_what_an_enricher_may_add_is_not(webhooks: Webhooks, caplog: pytest.LogCaptureFixture) -> None:
    @webhooks.enricher(Order)
    def customer(_order: Order, data: dict[str, Any]) -> None:
        data["customer_name"] = "Ann"

    webhooks.endpoints.create(URL, ORDERS, filter={"data.customer_name": "Ann"})
    assert said(caplog) == []
    webhooks.endpoints.create(URL, ["ticket.created"], filter={"data.customer_name": "Ann"})
    assert said(caplog) == ["filter[\"data.customer_name\"]: no event of ticket has 'customer_name'"]


def test_what_an_encoder_makes_of_an_enum_is_not_known(
    install: Install, in_memory: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = install(in_memory, deliver=False, include=[Ticket], encoders={Status: lambda status: status.name})
    webhooks.endpoints.create(URL, ["ticket.*"], filter={"data.status": "PAID"})
    assert said(caplog) == []


def test_what_is_told_of_does_not_come_and_what_is_not_may(
    install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = install(sessions, deliver=False, clock=clock, include=[Ticket])
    told = {}
    for number, (path, status) in enumerate(
        (path, status) for path in ("status", "state") for status in ("paid", "PAID")
    ):
        webhooks.endpoints.create(receiver.url(f"/{number}"), ["ticket.*"], filter={f"data.{path}": status})
        told[f"/{number}"] = bool(said(caplog))
    with sessions.begin() as session:
        session.add_all([Ticket(id=UUID(int=n), status=status) for n, status in enumerate(Status)])
    webhooks.drain()
    assert {one.path for one in receiver.received} == {path for path, is_told in told.items() if not is_told} == {"/0"}


def test_what_is_captured_and_not_sent_is_told_of(
    install: Install, in_memory: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    with mapping.base() as base:
        person = mapping.person(base, {"tenant": "first", "exclude": ["first"]})
        webhooks = install(in_memory, deliver=False, include=[person])
        webhooks.endpoints.create(URL, ["person.*"], filter={"data.first": "a", "data.id": 1})
        assert said(caplog) == ["filter[\"data.first\"]: no event of person has 'first'"]
