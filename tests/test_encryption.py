"""Secrets and headers that are encrypted in the database, and what happens when a key is missing."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet, MultiFernet
from sqlalchemy import Engine, inspect, select, update
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.heard import heard
from support.local import Install
from support.receiver import Receiver
from support.shop import put
from support.statements import statements

from sqla_webhooks import (
    ConfigurationError,
    NewEndpoint,
    Reencrypted,
    SigningFailed,
    Webhooks,
    dead,
    failed,
    models,
)
from sqla_webhooks.outbox import pages
from sqla_webhooks.vault import PREFIX, Vault

Sessions = sessionmaker[Session]
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
TOKEN = "Bearer t0ken-of-the-partner"
URL = "https://partner.example/hooks"

#: What customers may read; why it is, the log says.
FAILED = "the request could not be signed: what its secret or its headers are cannot be read now"

#: Makes an installation with these keys, beside others, as another process would.
By = Callable[..., Webhooks]


@pytest.fixture
def engine(patient_engine: Engine) -> Engine:
    return patient_engine


@pytest.fixture
def by(install: Install, engine: Engine, clock: MovedClock) -> By:
    def make(*keys: str) -> Webhooks:
        return install(sessionmaker(engine), deliver=False, clock=clock, capture="all", encryption_keys=keys or None)

    return make


@pytest.fixture
def sessions(install: Install, engine: Engine, clock: MovedClock) -> Sessions:
    """The application's; who delivers has others."""
    sessions = sessionmaker(engine)
    install(sessions, deliver=False, clock=clock, capture="all")
    return sessions


def create(webhooks: Webhooks, receiver: Receiver, path: str = "/hooks") -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(path), events=["*"], headers={"Authorization": TOKEN})


def stored(engine: Engine) -> list[str]:
    """All secrets and headers, as they lie there."""
    with engine.connect() as connection:
        headers = select(models.endpoint.c.headers).where(models.endpoint.c.headers.is_not(None))
        secrets = select(models.secret.c.value).order_by(models.secret.c.id)
        return [*connection.execute(secrets).scalars(), *connection.execute(headers).scalars()]


def write_over(engine: Engine, column: Any, value: str, *where: Any) -> None:
    with engine.begin() as connection:
        connection.execute(update(column.table).values({column: value}).where(*where))


def said(caplog: pytest.LogCaptureFixture, module: str) -> list[logging.LogRecord]:
    """Of other modules, install() may say something of the classes of other tests."""
    return [one for one in caplog.records if one.name == f"sqla_webhooks.{module}"]


def states(webhooks: Webhooks) -> list[str]:
    return [one.state.value for one in webhooks.deliveries.list()]


# --- with the keys


def test_what_is_written_is_encrypted_and_sent_as_it_was_given(
    by: By, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    webhooks = by(NEW, OLD)
    endpoint = create(webhooks, receiver)
    rotated = webhooks.endpoints.rotate_secret(endpoint.id)
    webhooks.endpoints.update(endpoint.id, headers={"Authorization": TOKEN + "2"})
    assert len(stored(engine)) == 3
    assert all(Vault([NEW]).is_current(one) for one in stored(engine))
    put(sessions, "a")
    webhooks.drain()
    (request,) = receiver.received
    assert request.is_signed(rotated.secret, endpoint.secret)
    assert request.headers["authorization"] == TOKEN + "2"


def test_without_keys_it_lies_there_as_it_is_and_the_log_says_so(
    by: By, receiver: Receiver, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    says = "secrets of endpoints stand in the database as they are: encryption_keys=[...] encrypts them"
    with caplog.at_level(logging.INFO, "sqla_webhooks"):
        by(NEW)
        assert says not in caplog.text
        plain = by()
    assert says in caplog.text
    endpoint = create(plain, receiver)
    assert stored(engine) == [endpoint.secret, '{"Authorization": "' + TOKEN + '"}']


def test_what_was_written_before_there_were_keys_stays_readable(by: By, sessions: Sessions, receiver: Receiver) -> None:
    endpoint = create(by(), receiver)
    rotated = by(NEW).endpoints.rotate_secret(endpoint.id)
    put(sessions, "a")
    by(NEW).drain()
    assert receiver.received[0].is_signed(rotated.secret, endpoint.secret)
    assert receiver.received[0].headers["authorization"] == TOKEN


def test_names_of_headers_are_shown_to_whoever_has_no_key(by: By, receiver: Receiver) -> None:
    endpoint = create(by(NEW), receiver)
    assert by().endpoints.get(endpoint.id).header_names == ("Authorization",)


def test_a_secret_that_is_valid_already_is_known_whatever_seals_it(
    by: By, sessions: Sessions, receiver: Receiver, engine: Engine
) -> None:
    endpoint = create(by(OLD), receiver)
    by(NEW, OLD).endpoints.rotate_secret(endpoint.id, secret=endpoint.secret)
    assert len(stored(engine)) == 2
    put(sessions, "a")
    by(NEW, OLD).drain()
    assert receiver.received[0].is_signed(endpoint.secret)


def test_what_deliveries_of_one_claim_need_is_read_and_opened_once(
    install: Install, receiver: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, batch_window=0, encryption_keys=[NEW])
    for path in ("/one", "/other"):
        webhooks.endpoints.rotate_secret(create(webhooks, receiver, path).id)
    put(sessions, *"abcdefgh")
    receiver.wait_for(16)  # by now, they are given many at a time
    assert webhooks.stop()
    put(sessions, *"vwxyz")
    opened: list[bytes] = []
    decrypt = MultiFernet.decrypt

    def count(cipher: MultiFernet, token: bytes) -> bytes:
        opened.append(token)
        return decrypt(cipher, token)

    monkeypatch.setattr(MultiFernet, "decrypt", count)
    with statements(engine) as made:
        webhooks.start()
        receiver.wait_for(26)
        assert webhooks.stop()
    claims = [one for one in made if "webhook_secret" in one and "JOIN" in one]
    assert 1 <= len(claims) <= 3
    # Two secrets and the headers of each of two endpoints.
    assert len(set(opened)) == 6
    assert len(opened) <= 6 * len(claims)


# --- the setting


@pytest.mark.parametrize("bad", ["secret", "", NEW, [NEW, "s3cret-key"], {NEW}, [], ()])
def test_what_are_no_keys_is_refused_by_install_and_leaves_nothing(install: Install, engine: Engine, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"encryption_keys.*Fernet\.generate_key\(\)") as caught:
        install(sessionmaker(engine), encryption_keys=bad)
    assert NEW not in str(caught.value)
    assert "s3cret-key" not in str(caught.value)
    assert not inspect(engine).has_table("webhook_secret")


def test_without_the_package_install_says_how_to_get_it_and_leaves_nothing(
    install: Install, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r'pip install "sqla_webhooks\[crypto\]"'):
        install(sessionmaker(engine), encryption_keys=[NEW])
    assert not inspect(engine).has_table("webhook_secret")
    install(sessionmaker(engine), deliver=False).endpoints.create(URL, events=["*"])


def test_no_repr_and_no_error_shows_a_key(install: Install, engine: Engine) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False, encryption_keys=[NEW.encode(), OLD])
    assert webhooks.settings.encryption_keys == (NEW, OLD)
    assert install(sessions, deliver=False, encryption_keys=(NEW, OLD)) is webhooks
    with pytest.raises(ConfigurationError, match=r"other settings, encryption_keys=\(not shown\): call") as caught:
        install(sessions, deliver=False, encryption_keys=[OLD, NEW])
    shown = f"{caught.value} {webhooks.settings!r} {webhooks!r} {vars(webhooks)!r}"
    assert NEW not in shown
    assert OLD not in shown


# --- other keys


def test_all_is_encrypted_anew_by_the_first_key(
    by: By, sessions: Sessions, receiver: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SIZE", 2)
    secrets = [create(by(), receiver, "/plain").secret]
    secrets += [create(by(OLD), receiver, f"/old{number}").secret for number in range(3)]
    secrets += [create(by(NEW), receiver, "/new").secret]
    webhooks = by(NEW, OLD)
    webhooks.endpoints.create(receiver.url("/bare"), events=["product.*"])
    already = [one for one in stored(engine) if Vault([NEW]).is_current(one)]
    assert webhooks.endpoints.reencrypt() == Reencrypted(8)
    assert webhooks.endpoints.reencrypt() == Reencrypted(0)
    assert all(Vault([NEW]).is_current(one) for one in stored(engine))
    assert set(already) <= set(stored(engine))

    put(sessions, "a")
    by(NEW).drain()
    signed = {one.path: one for one in receiver.received if any(map(one.is_signed, secrets))}
    assert signed.keys() == {"/plain", "/old0", "/old1", "/old2", "/new"}
    assert all(one.headers["authorization"] == TOKEN for one in signed.values())


def test_beside_secrets_that_are_encrypted_none_is_written_that_is_not(
    by: By, receiver: Receiver, engine: Engine
) -> None:
    endpoint = create(by(OLD), receiver)
    without = by()
    calls: list[Callable[[], object]] = [
        lambda: create(without, receiver),
        lambda: without.endpoints.rotate_secret(endpoint.id),
        lambda: without.endpoints.update(endpoint.id, headers={"Authorization": TOKEN}),
    ]
    before = stored(engine)
    for call in calls:
        with pytest.raises(ConfigurationError, match="give it those of the other processes"):
            call()
    assert stored(engine) == before

    without.endpoints.update(endpoint.id, description="the warehouse", headers={})
    without.endpoints.disable(endpoint.id)
    without.endpoints.delete(endpoint.id)
    assert create(without, receiver).secret in stored(engine)


def test_to_encrypt_anew_needs_a_key(by: By) -> None:
    with pytest.raises(ConfigurationError, match="give install\\(\\) encryption_keys"):
        by().endpoints.reencrypt()


def test_what_no_key_opens_is_left_and_said_and_stops_nothing(
    by: By, receiver: Receiver, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    create(by(), receiver)
    create(by(), receiver)
    lost = create(by(OLD), receiver)
    before = [one for one in stored(engine) if one.startswith(PREFIX)]
    with caplog.at_level(logging.WARNING, "sqla_webhooks"):
        assert by(NEW).endpoints.reencrypt() == Reencrypted(4, unreadable=2)
    assert [one.__dict__["webhooks.endpoint"] for one in said(caplog, "outbox.reseal")] == [lost.id] * 2
    assert set(before) <= set(stored(engine))
    assert not any(one in caplog.text for one in before)
    assert by(NEW, OLD).endpoints.reencrypt() == Reencrypted(2)


def test_it_goes_on_where_it_was_broken_off(
    by: By, receiver: Receiver, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SIZE", 1)
    for _ in range(3):
        create(by(), receiver)
    webhooks = by(NEW)

    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "UPDATE webhook_secret" in statement and sum(one.startswith(PREFIX) for one in stored(engine)) == 1:
            raise KeyboardInterrupt

    with heard(engine, "before_cursor_execute", interrupt), pytest.raises(KeyboardInterrupt):
        webhooks.endpoints.reencrypt()
    assert sum(one.startswith(PREFIX) for one in stored(engine)) == 1
    assert webhooks.endpoints.reencrypt() == Reencrypted(5)
    assert all(one.startswith(PREFIX) for one in stored(engine))


# --- a key that is missing


def deliver_until_all_is_delivered(webhooks: Webhooks, clock: MovedClock) -> None:
    for _ in range(10):
        clock.advance(3600)
        webhooks.drain()


@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_an_endpoint_whose_key_is_missing_waits_alone_and_loses_nothing(
    by: By, sessions: Sessions, receiver: Receiver, clock: MovedClock, keys: tuple[str, ...]
) -> None:
    other = create(by(*keys), receiver, "/other")
    endpoint = create(by(OLD), receiver, "/lost")
    webhooks = by(*keys)
    put(sessions, *"abcde")
    for _ in range(20):
        webhooks.drain()
        clock.advance(5)

    assert [one.path for one in receiver.received] == ["/other"] * 5
    assert all(one.is_signed(other.secret) for one in receiver.received)
    waiting = webhooks.deliveries.list(endpoint=endpoint.id)
    attempts = [one for delivery in waiting for one in webhooks.deliveries.attempts(delivery.id)]
    assert {one.state.value for one in waiting} == {"pending"}
    assert {(one.reason, one.status) for one in attempts} == {("signing", None)}
    assert {one.detail for one in attempts} == {FAILED}
    assert len(attempts) < 10  # it is paused, and tried now and then
    health = webhooks.endpoints.get(endpoint.id).health
    assert health.paused_until is not None
    assert webhooks.endpoints.get(other.id).health.failures == 0

    deliver_until_all_is_delivered(by(OLD, *keys), clock)
    assert set(states(webhooks)) == {"delivered"}
    lost = [one for one in receiver.received if one.path == "/lost"]
    assert len(lost) == 5
    assert all(one.is_signed(endpoint.secret) for one in lost)


def test_an_endpoint_with_headers_that_cannot_be_read_is_sent_nothing_without_them(
    by: By, sessions: Sessions, receiver: Receiver, engine: Engine, clock: MovedClock
) -> None:
    webhooks = by(NEW)
    endpoint = create(webhooks, receiver)
    sealed = stored(engine)[1]
    for spoilt in ('{"X-Key": "a\\r\\nb"}', "no JSON", '{"Host": "inner"}', Vault([OLD]).seal("{}"), PREFIX):
        write_over(engine, models.endpoint.c.headers, spoilt)
        put(sessions, f"sku{len(states(webhooks))}")
        webhooks.drain()
        clock.advance(3600)
    assert receiver.received == []
    assert set(states(webhooks)) == {"pending"}
    write_over(engine, models.endpoint.c.headers, sealed)
    deliver_until_all_is_delivered(webhooks, clock)
    assert len(receiver.received) == 5
    assert all(one.is_signed(endpoint.secret) and one.headers["authorization"] == TOKEN for one in receiver.received)


def test_an_older_secret_that_cannot_be_read_is_left_out_and_the_log_says_so_once(
    by: By, sessions: Sessions, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = create(by(), receiver)
    by(OLD).endpoints.rotate_secret(endpoint.id)
    last = by(NEW).endpoints.rotate_secret(endpoint.id)
    webhooks = by(NEW)
    with caplog.at_level(logging.WARNING, "sqla_webhooks"):
        for sku in "abc":
            put(sessions, sku)
            webhooks.drain()
    assert [one.is_signed(last.secret, endpoint.secret) for one in receiver.received] == [True] * 3
    (once,) = said(caplog, "delivery.credentials")
    assert f"endpoint {endpoint.id}: its requests lack the signature of an older secret" in once.getMessage()


def test_nothing_is_sent_by_an_older_secret_alone(
    by: By, sessions: Sessions, receiver: Receiver, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver that knows the newest already would refuse all."""
    endpoint = create(by(NEW), receiver)
    newest = by(OLD).endpoints.rotate_secret(endpoint.id)
    webhooks = by(NEW)
    put(sessions, "a")
    with caplog.at_level(logging.ERROR, "sqla_webhooks"):
        for _ in range(3):
            webhooks.drain()
            clock.advance(3600)
    assert receiver.received == []
    (once,) = said(caplog, "delivery.credentials")
    assert once.getMessage() == (
        f"endpoint {endpoint.id}: its requests cannot be signed, and wait: what the database holds is encrypted, and "
        "none of encryption_keys opens it: add the key by which it was encrypted"
    )
    deliver_until_all_is_delivered(by(NEW, OLD), clock)
    assert receiver.received[0].is_signed(newest.secret, endpoint.secret)


def test_an_expired_secret_that_cannot_be_read_is_nobodys_concern(
    by: By, sessions: Sessions, receiver: Receiver, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = create(by(OLD), receiver)
    webhooks = by(NEW)
    webhooks.endpoints.update(endpoint.id, headers={})
    rotated = webhooks.endpoints.rotate_secret(endpoint.id, overlap=10)
    clock.advance(10)
    put(sessions, "a")
    with caplog.at_level(logging.WARNING, "sqla_webhooks"):
        webhooks.drain()
    assert receiver.received[0].is_signed(rotated.secret)
    assert said(caplog, "delivery.credentials") == []


def test_an_endpoint_without_a_secret_is_sent_nothing_and_the_log_says_so(
    by: By,
    sessions: Sessions,
    receiver: Receiver,
    engine: Engine,
    clock: MovedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As it is if somebody has been at the table."""
    webhooks = by(NEW)
    endpoint = create(webhooks, receiver)
    with engine.begin() as connection:
        connection.execute(models.secret.delete())
    put(sessions, "a", "b")
    webhooks.drain()
    assert receiver.received == []
    (line,) = said(caplog, "delivery.credentials")
    assert line.levelno == logging.ERROR
    assert line.getMessage() == (
        f"endpoint {endpoint.id}: its requests cannot be signed, and wait: the endpoint has no secret that is valid: "
        "rotate_secret() gives it one"
    )
    (attempt,) = webhooks.deliveries.attempts(1)
    assert (attempt.reason, attempt.detail) == (
        "signing",
        FAILED,
    )
    rotated = webhooks.endpoints.rotate_secret(endpoint.id)
    deliver_until_all_is_delivered(webhooks, clock)
    assert receiver.received[0].is_signed(rotated.secret)


def test_signals_and_strategies_are_told_why_and_nothing_secret(
    install: Install, sessions: Sessions, receiver: Receiver, engine: Engine, clock: MovedClock, by: By
) -> None:
    endpoint = create(by(OLD), receiver)
    seen: list[Any] = []

    def stop(state: Any) -> bool:
        seen.append(state.outcome.exception())
        return bool(state.attempt_number == 2)

    def hear(_sender: object, **arguments: Any) -> None:
        seen.append(arguments)

    webhooks = install(sessionmaker(engine), deliver=False, clock=clock, encryption_keys=[NEW], stop=stop)
    put(sessions, "a")
    with failed.connected_to(hear), dead.connected_to(hear):
        webhooks.drain()
        clock.advance(60)
        webhooks.drain()
    assert [type(one) for one in seen] == [SigningFailed, dict] * 2
    assert all(one.__traceback__ is one.__cause__ is one.__context__ is None for one in seen[::2])
    assert not any(one in repr(seen) for one in (endpoint.secret, TOKEN, OLD, NEW, *stored(engine)))
    assert states(webhooks) == ["dead"]


def test_what_is_shown_of_an_endpoint_can_be_pickled_and_holds_nothing_secret(by: By, receiver: Receiver) -> None:
    endpoint = create(by(), receiver)
    shown = by().endpoints.get(endpoint.id)
    pickled = pickle.dumps([shown, by().endpoints.secrets(endpoint.id)])
    assert pickle.loads(pickled)[0] == shown
    assert endpoint.secret.encode() not in pickled
    assert TOKEN.encode() not in pickled
