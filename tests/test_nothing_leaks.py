"""A whole life at the level DEBUG: no secret, value of a header or key is in a log, an error, a repr or a signal."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.local import Install
from support.receiver import Receiver, Reply
from support.shop import put

from sqla_webhooks import EndpointError, Webhooks, WebhooksError, models, signals
from sqla_webhooks.signals import Signal

Sessions = sessionmaker[Session]
GIVEN = "whsec_" + "Z2l2ZW4t" * 4
VALUES = ("Bearer first-t0ken", "Bearer second-t0ken", "Bearer third-t0ken")
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def engine(patient_engine: Engine) -> Engine:
    return patient_engine


class Shown:
    """All that is logged, raised, told by signals and shown."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._said: list[str] = []

    def raised(self, call: Any, *kinds: type[Exception]) -> None:
        """The error of a call, with its causes, and the arguments of each."""
        with pytest.raises(kinds) as caught:
            call()
        error: BaseException | None = caught.value
        self._said += traceback.format_exception(caught.value)
        while error is not None:
            self._said.append(f"{error!r} {error} {error.args} {vars(error)}")
            error = error.__cause__ or error.__context__

    def told(self, _sender: object, **arguments: Any) -> None:
        self.add(arguments)

    def add(self, *what: Any) -> None:
        self._said += [f"{one!r} {one}" for one in what]

    def finds(self, *secrets: str) -> list[str]:
        everything = "\n".join([self._caplog.text, *map(_whole, self._caplog.records), *self._said])
        assert "Authorization" in everything
        return [one for one in secrets if one in everything]


def _whole(record: logging.LogRecord) -> str:
    return f"{record.__dict__}"


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Iterator[Shown]:
    shown = Shown(caplog)
    with ExitStack() as stack:
        for signal in vars(signals).values():
            if isinstance(signal, Signal):
                stack.enter_context(signal.connected_to(shown.told))
        yield shown


def live(webhooks: Webhooks, sessions: Sessions, receiver: Receiver, clock: MovedClock, shown: Shown) -> list[str]:
    """Create, rotate, deliver, fail, encrypt anew, update, all that can be refused, delete; the secrets there were."""
    endpoints = webhooks.endpoints
    first = endpoints.create(receiver.url(), events=["*"], headers={"Authorization": VALUES[0]})
    second = endpoints.rotate_secret(first.id)
    with sessions.begin() as session:
        third = endpoints.rotate_secret(first.id, secret=GIVEN, session=session)
        endpoints.update(first.id, headers={"Authorization": VALUES[1]}, session=session)
    put(sessions, "a")
    webhooks.drain()
    receiver.answer(500, Reply(410))
    put(sessions, "b", "c")
    webhooks.drain()
    endpoints.enable(first.id)
    if webhooks.settings.encryption_keys:
        endpoints.reencrypt()
    shown.raised(lambda: endpoints.rotate_secret(first.id, secret=GIVEN + "x"), EndpointError)
    shown.raised(lambda: endpoints.rotate_secret("ep_x", secret=GIVEN), WebhooksError)
    shown.raised(lambda: endpoints.update(first.id, headers={"Host": VALUES[1]}), EndpointError)
    shown.raised(lambda: endpoints.update(first.id, headers={"X": VALUES[1] + "\n"}), EndpointError)
    clock.advance(60)
    webhooks.drain()
    shown.add(first, second, third, endpoints.list(), endpoints.secrets(first.id), webhooks, webhooks.settings)
    shown.add(webhooks.deliveries.list(), webhooks.events.list(), webhooks.deliveries.attempts(1))
    endpoints.delete(first.id)
    return [first.secret, second.secret, third.secret]


def keys_of(name: str) -> list[str] | None:
    return {"plain": None, "encrypted": [NEW, OLD]}[name]


@pytest.mark.parametrize("how", ["plain", "encrypted"])
def test_nothing_secret_is_shown_in_a_whole_life(
    install: Install,
    sessions: Sessions,
    engine: Engine,
    receiver: Receiver,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
    shown: Shown,
    how: str,
) -> None:
    engine.echo = "debug"
    with caplog.at_level(logging.DEBUG):
        webhooks = install(sessions, deliver=False, clock=clock, encryption_keys=keys_of(how))
        secrets = live(webhooks, sessions, receiver, clock, shown)
    engine.echo = False
    assert [one.headers["authorization"] for one in receiver.received] == [VALUES[1]] * len(receiver.received)
    assert len(receiver.received) == 5
    for needed in ("INSERT INTO webhook_secret", "Row (", "***", "was disabled", "POST /hooks"):
        assert needed in caplog.text
    assert shown.finds(*secrets, *VALUES, OLD, NEW) == []


@pytest.mark.parametrize("how", ["plain", "encrypted"])
def test_nothing_secret_is_shown_when_the_database_refuses_or_a_key_is_missing(
    install: Install,
    sessions: Sessions,
    engine: Engine,
    receiver: Receiver,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
    shown: Shown,
    how: str,
) -> None:
    """The driver's error, and SQLAlchemy's around it, say what the statement was, and with what."""
    engine.echo = "debug"
    other = sessionmaker(engine)
    with caplog.at_level(logging.DEBUG):
        webhooks = install(sessions, deliver=False, clock=clock, encryption_keys=keys_of(how))
        endpoint = webhooks.endpoints.create(receiver.url(), events=["*"], headers={"Authorization": VALUES[2]})
        by_other_key = install(other, deliver=False, clock=clock, encryption_keys=[Fernet.generate_key()])
        put(other, "a")
        by_other_key.drain()
        by_other_key.endpoints.reencrypt()
        with engine.connect() as connection:
            lying_there = list(connection.execute(select(models.secret.c.value)).scalars())
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE webhook_secret RENAME TO webhook_elsewhere"))
        put(sessions, "b")
        headers = {"Authorization": VALUES[0]}
        for call in (
            lambda: webhooks.endpoints.create(receiver.url(), events=["*"], secret=GIVEN, headers=headers),
            lambda: webhooks.endpoints.rotate_secret(endpoint.id, secret=GIVEN),
            lambda: webhooks.endpoints.delete(endpoint.id),
            by_other_key.endpoints.reencrypt,
            webhooks.drain,
        ):
            shown.raised(call, DBAPIError)
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE webhook_elsewhere RENAME TO webhook_secret"))
    engine.echo = False
    if how == "encrypted":
        assert "cannot be signed" in caplog.text
    assert shown.finds(endpoint.secret, GIVEN, *VALUES, *(keys_of(how) or ()), *lying_there) == []
