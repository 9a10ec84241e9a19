"""Columns whose names say secret: nowhere in what is written down, sent, or said, unless somebody has named them."""

from __future__ import annotations

import json
import logging

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, sessionmaker
from support.local import Install
from support.receiver import Receiver
from support.shop import Customer

from sqla_webhooks import Webhooks, models

Sessions = sessionmaker[Session]

SECRETS = [f"swordfish {number}" for number in range(8)]


def live(sessions: Sessions) -> None:
    """A life of customers with secrets, by the session and by bulk statements."""
    with sessions.begin() as session:
        session.add(Customer(email="a@example.com", password_hash=SECRETS[0], api_key=SECRETS[1]))
        session.execute(insert(Customer), [{"email": "b@example.com", "password_hash": SECRETS[2]}])
    with sessions.begin() as session:
        customer = session.get_one(Customer, 1)
        customer.email, customer.password_hash, customer.api_key = "c@example.com", SECRETS[3], SECRETS[4]
        session.execute(update(Customer).where(Customer.id == 2).values(email="d@example.com", api_key=SECRETS[5]))
    with sessions.begin() as session:
        session.get_one(Customer, 1).password_hash = SECRETS[6]
        session.execute(update(Customer).values(api_key=SECRETS[7]))
    with sessions.begin() as session:
        session.delete(session.get_one(Customer, 1))


def test_secret_columns_are_in_no_outbox_row_no_event_no_request_and_no_log(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sqla_webhooks")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    live(sessions)
    with webhooks.engine.connect() as connection:
        outbox = connection.execute(select(models.outbox.c.changes)).scalars().all()
    webhooks.drain()

    bodies = [request.body for request in receiver.received]
    kept = [event.payload for event in webhooks.events.list()]
    assert len(outbox) >= 3
    assert len(bodies) == len(kept) == 5  # a change of secrets alone is no event
    for text in (*outbox, *bodies, *kept, caplog.text.encode()):
        assert b"swordfish" not in text
    for event in map(json.loads, bodies):
        assert list(event["data"]) == ["id", "email"]
        assert list(event.get("changes", {"email": ""})) == ["email"]


def test_describe_lists_what_is_left_out_and_why(webhooks: Webhooks) -> None:
    said = webhooks.describe()[Customer]

    assert {one.name: (one.sent, one.secret, one.why) for one in said.left_out} == {
        "password_hash": (False, True, "secret name"),
        "api_key": (False, True, "secret name"),
    }
    assert [one.name for one in said.sent] == ["id", "email"]
    assert str(said).count("its name says secret") + str(said).count("secret name") == 2


def test_one_that_is_named_is_sent_and_no_other(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions, deliver=False, include=[Customer.api_key])
    webhooks.endpoints.create(receiver.url(), events=["customer.updated"])
    live(sessions)
    webhooks.drain()

    first = receiver.events()[0]
    assert first["changes"]["api_key"] == {"from": SECRETS[1], "to": SECRETS[4]}
    assert all("password_hash" not in request.body.decode() for request in receiver.received)
    assert webhooks.describe()[Customer].left_out[0].name == "password_hash"
