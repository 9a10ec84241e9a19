"""
Rotations, deletions and new keys at once, in threads: no secret is lost that somebody was given.

Who comes first is held before the commit until the other has come as far as
the locks let it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.interleaving import commit_held, running, statement_held
from support.local import Install
from support.receiver import Receiver
from support.shop import put
from support.threads import aside

from sqla_webhooks import NewEndpoint, NotFound, Reencrypted, Webhooks, models
from sqla_webhooks.vault import Vault

pytestmark = pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)

Sessions = sessionmaker[Session]
COUNTS, ROTATED, DELETED = "UPDATE webhook_revision", "INSERT INTO webhook_secret", "DELETE FROM webhook_secret"
LOCKS, RESEALED = "FOR UPDATE", "UPDATE webhook_secret SET value"
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def engine(patient_engine: Engine) -> Engine:
    return patient_engine


@pytest.fixture
def by_old(install: Install, engine: Engine, clock: MovedClock) -> Webhooks:
    return install(sessionmaker(engine), deliver=False, clock=clock, encryption_keys=[OLD])


@pytest.fixture
def webhooks(install: Install, sessions: Sessions, clock: MovedClock) -> Webhooks:
    return install(sessions, deliver=False, clock=clock, encryption_keys=[NEW, OLD])


@pytest.fixture
def endpoint(by_old: Webhooks, receiver: Receiver) -> NewEndpoint:
    return by_old.endpoints.create(receiver.url(), events=["*"], headers={"X-Key": "first"})


def at_once(
    engine: Engine, first: Callable[[], Any], second: Callable[[], Any], *, held: str, until: str
) -> tuple[Any, Any]:
    """The *first* is about to be committed, having made a statement, when the *second* makes one; what came of them."""
    with commit_held(engine, held) as commit:
        thread, came_first = aside(first)
        commit.wait()
        with running(engine, second, until=until) as came_second:
            commit.open()
        thread.join()
    return came_first[0], came_second[0]


def signatures(webhooks: Webhooks, sessions: Sessions, receiver: Receiver, *secrets: str) -> bool:
    put(sessions, f"sku{len(receiver.received)}")
    webhooks.drain()
    return receiver.received[-1].is_signed(*secrets)


def stored(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(models.secret.c.value).order_by(models.secret.c.id)).scalars())


def test_of_two_rotations_at_once_both_results_are_valid(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    rotate = webhooks.endpoints.rotate_secret
    one, other = at_once(engine, lambda: rotate(endpoint.id), lambda: rotate(endpoint.id), held=ROTATED, until=COUNTS)
    assert isinstance(one, NewEndpoint)
    assert isinstance(other, NewEndpoint)
    assert signatures(webhooks, sessions, receiver, other.secret, one.secret, endpoint.secret)
    assert [state.expires_at is None for state in webhooks.endpoints.secrets(endpoint.id)] == [True, False, False]


def test_a_rotation_in_a_transaction_that_began_before_another_sees_it(
    webhooks: Webhooks,
    endpoint: NewEndpoint,
    sessions: Sessions,
    engine: Engine,
    receiver: Receiver,
    database: Database,
) -> None:
    """As on MariaDB, where a transaction of the application's sees what was there when it first looked."""
    with sessions.begin() as session:
        session.execute(select(models.secret.c.id)).all()
        between = webhooks.endpoints.rotate_secret(endpoint.id)
        last = webhooks.endpoints.rotate_secret(endpoint.id, overlap=0, session=session)
    assert between.secret != last.secret
    assert signatures(webhooks, sessions, receiver, last.secret)
    assert len(stored(engine)) == 1


def test_one_is_rotated_whose_endpoint_came_after_the_transaction_began(
    webhooks: Webhooks, sessions: Sessions, clock: MovedClock, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        session.execute(select(models.secret.c.id)).all()
        endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
        clock.advance(1)
        rotated = webhooks.endpoints.rotate_secret(endpoint.id, session=session)
    assert signatures(webhooks, sessions, receiver, rotated.secret, endpoint.secret)


def test_many_rotations_at_once_lose_nothing(
    webhooks: Webhooks, by_old: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    calls = [lambda one=one: one.endpoints.rotate_secret(endpoint.id).secret for one in [webhooks, by_old] * 3]
    threads = [aside(call) for call in calls]
    for thread, _ in threads:
        thread.join()
    given = {came[0] for _, came in threads} | {endpoint.secret}
    assert len(given) == 7
    assert len(webhooks.endpoints.secrets(endpoint.id)) == 7
    put(sessions, "a")
    webhooks.drain()
    (request,) = receiver.received
    assert set(request.headers["webhook-signature"].split()) == set(map(request.signature, given))


def test_one_is_rotated_whose_endpoint_is_being_deleted(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine
) -> None:
    deleted, rotated = at_once(
        engine,
        lambda: webhooks.endpoints.delete(endpoint.id),
        lambda: webhooks.endpoints.rotate_secret(endpoint.id),
        held=DELETED,
        until=COUNTS,
    )
    assert deleted is None
    assert isinstance(rotated, NotFound)
    assert stored(engine) == []


def test_an_endpoint_is_deleted_whose_secret_is_being_rotated(
    webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine
) -> None:
    rotated, deleted = at_once(
        engine,
        lambda: webhooks.endpoints.rotate_secret(endpoint.id),
        lambda: webhooks.endpoints.delete(endpoint.id),
        held=ROTATED,
        until=COUNTS,
    )
    assert isinstance(rotated, NewEndpoint)
    assert deleted is None
    assert stored(engine) == []


def test_a_secret_is_rotated_that_is_being_encrypted_anew(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    count, rotated = at_once(
        engine,
        webhooks.endpoints.reencrypt,
        lambda: webhooks.endpoints.rotate_secret(endpoint.id),
        held=RESEALED,
        until=LOCKS,
    )
    assert count == Reencrypted(2)  # and the headers
    assert isinstance(rotated, NewEndpoint)
    assert signatures(webhooks, sessions, receiver, rotated.secret, endpoint.secret)
    assert all(Vault([NEW]).is_current(one) for one in stored(engine))


def test_one_is_encrypted_anew_that_a_rotation_is_removing(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    rotated, count = at_once(
        engine,
        lambda: webhooks.endpoints.rotate_secret(endpoint.id, overlap=0),
        webhooks.endpoints.reencrypt,
        held=ROTATED,
        until=LOCKS,
    )
    assert count == Reencrypted(1)
    assert isinstance(rotated, NewEndpoint)
    assert signatures(webhooks, sessions, receiver, rotated.secret)
    assert all(Vault([NEW]).is_current(one) for one in stored(engine))


def test_headers_are_encrypted_anew_that_are_being_updated(
    webhooks: Webhooks, by_old: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    """What was read without a lock is not what is written."""
    webhooks.endpoints.rotate_secret(endpoint.id, overlap=0)
    updated, count = at_once(
        engine,
        lambda: by_old.endpoints.update(endpoint.id, headers={"X-Key": "second"}),
        webhooks.endpoints.reencrypt,
        held="UPDATE webhook_endpoint",
        until=LOCKS,
    )
    assert updated.header_names == ("X-Key",)
    assert count == Reencrypted(1)
    put(sessions, "a")
    webhooks.drain()
    assert receiver.received[0].headers["x-key"] == "second"


def test_keys_are_changed_by_two_at_once(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    with statement_held(engine, LOCKS) as held:
        thread, came = aside(webhooks.endpoints.reencrypt)
        held.wait()
        assert webhooks.endpoints.reencrypt() == Reencrypted(2)
        held.open()
        thread.join()
    assert came == [Reencrypted()]
    assert signatures(webhooks, sessions, receiver, endpoint.secret)


def test_all_at_once_for_a_while(
    webhooks: Webhooks, by_old: Webhooks, endpoint: NewEndpoint, sessions: Sessions, engine: Engine, receiver: Receiver
) -> None:
    """Rotations by two keys, new headers, and others that encrypt anew and send: nothing fails, and nothing is lost."""
    last: list[str] = []

    def rotate(one: Webhooks) -> None:
        overlaps = [0, 60] * 4
        last.extend(one.endpoints.rotate_secret(endpoint.id, overlap=overlap).secret for overlap in overlaps)

    def write() -> None:
        for number in range(8):
            by_old.endpoints.update(endpoint.id, headers={"X-Key": str(number)})

    def reencrypt() -> None:
        for _ in range(8):
            webhooks.endpoints.reencrypt()

    def send() -> None:
        for number in range(8):
            put(sessions, str(number))
            webhooks.drain()

    calls = [lambda: rotate(webhooks), lambda: rotate(by_old), write, reencrypt, reencrypt, send]
    threads = [aside(call) for call in calls]
    for thread, _ in threads:
        thread.join()
    assert [came for _, came in threads] == [[None]] * len(calls)
    webhooks.endpoints.reencrypt()
    assert all(Vault([NEW]).is_current(one) for one in stored(engine))
    newest = Vault([NEW]).open(stored(engine)[-1])
    assert newest in last
    assert {one.state.value for one in webhooks.deliveries.list()} == {"delivered"}
    put(sessions, "last")
    webhooks.drain()
    assert receiver.received[-1].headers["x-key"] == "7"
