"""Secrets of endpoints: rotated, valid side by side for a while, expired, removed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import Database
from support.local import LOCAL
from support.receiver import Received, Receiver
from support.shop import Base, put, shop_at

from sqla_webhooks import (
    ConfigurationError,
    EndpointError,
    NewEndpoint,
    NotFound,
    Pruned,
    SecretState,
    Webhooks,
    install,
    models,
)
from sqla_webhooks.outbox.retention import LINGERS
from sqla_webhooks.outbox.secrets import MOST
from sqla_webhooks.relay.upkeep import RARELY

Sessions = sessionmaker[Session]
URL = "https://partner.example/hooks"
DAY = 86400.0
#: The receiver's own.
GIVEN = "whsec_" + base64.b64encode(b"x" * 24).decode()

skus = map(str, count())


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    with database.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def endpoint(webhooks: Webhooks, receiver: Receiver) -> NewEndpoint:
    return webhooks.endpoints.create(receiver.url(), events=["*"])


@pytest.fixture
def next_request(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> Any:
    """Sends something, and gives the request."""

    def send() -> Received:
        put(sessions, next(skus))
        webhooks.drain()
        return receiver.received[-1]

    return send


def stored(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(models.secret)).scalar_one()


def test_the_new_one_signs_first_and_the_old_one_beside_it_until_it_expires(
    webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any, clock: MovedClock
) -> None:
    rotated = webhooks.endpoints.rotate_secret(endpoint.id)
    assert rotated.secret.startswith("whsec_")
    assert rotated.secret != endpoint.secret
    assert rotated.secret not in repr(rotated)
    assert (rotated.id, rotated.url, rotated.events) == (endpoint.id, endpoint.url, endpoint.events)

    assert next_request().is_signed(rotated.secret, endpoint.secret)
    clock.advance(DAY - 1)
    assert next_request().is_signed(rotated.secret, endpoint.secret)
    clock.advance(1)
    assert next_request().is_signed(rotated.secret)


def test_what_waits_is_signed_by_what_is_valid_when_it_is_sent(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    receiver.answer(500)
    put(sessions, "waits")
    webhooks.drain()
    rotated = webhooks.endpoints.rotate_secret(endpoint.id, overlap=0)
    clock.advance(6)
    webhooks.drain()
    before, after = receiver.received
    assert before.is_signed(endpoint.secret)
    assert after.is_signed(rotated.secret)


def test_expiry_is_judged_at_each_request_and_not_at_the_claim(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver, clock: MovedClock
) -> None:
    """Four of one claim, of which two are sent before the old one has expired."""
    rotated = webhooks.endpoints.rotate_secret(endpoint.id, overlap=3.5)
    receiver.on_request = lambda _request: clock.advance(2)
    put(sessions, *"abcd")
    webhooks.drain()
    old = [one.is_signed(rotated.secret, endpoint.secret) for one in receiver.received]
    new = [one.is_signed(rotated.secret) for one in receiver.received]
    assert (old, new) == ([True, True, False, False], [False, False, True, True])


def test_an_overlap_is_never_prolonged_and_may_be_cut_short(
    webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any, clock: MovedClock
) -> None:
    second = webhooks.endpoints.rotate_secret(endpoint.id, overlap=100)
    third = webhooks.endpoints.rotate_secret(endpoint.id, overlap=1000)
    clock.advance(99)
    assert next_request().is_signed(third.secret, second.secret, endpoint.secret)
    clock.advance(1)
    assert next_request().is_signed(third.secret, second.secret)
    fourth = webhooks.endpoints.rotate_secret(endpoint.id, overlap=10)
    clock.advance(9)
    assert next_request().is_signed(fourth.secret, third.secret, second.secret)
    clock.advance(1)
    assert next_request().is_signed(fourth.secret)


def test_without_overlap_only_the_new_one_is_left(
    webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any, engine: Engine
) -> None:
    webhooks.endpoints.rotate_secret(endpoint.id)
    last = webhooks.endpoints.rotate_secret(endpoint.id, overlap=0)
    assert next_request().is_signed(last.secret)
    assert stored(engine) == 1


def test_one_may_be_given(webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any) -> None:
    assert webhooks.endpoints.rotate_secret(endpoint.id, secret=GIVEN).secret == GIVEN
    assert next_request().is_signed(GIVEN, endpoint.secret)


def test_one_that_is_valid_already_becomes_the_first_and_signs_once(
    webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any, clock: MovedClock
) -> None:
    """As when a rotation is taken back, or a call is made again."""
    second = webhooks.endpoints.rotate_secret(endpoint.id, overlap=100)
    clock.advance(50)
    assert webhooks.endpoints.rotate_secret(endpoint.id, secret=endpoint.secret, overlap=100).secret == endpoint.secret
    assert next_request().is_signed(endpoint.secret, second.secret)
    assert len(webhooks.endpoints.secrets(endpoint.id)) == 2
    webhooks.endpoints.rotate_secret(endpoint.id, secret=endpoint.secret, overlap=1000)
    clock.advance(99)
    assert next_request().is_signed(endpoint.secret, second.secret)
    clock.advance(1)
    assert next_request().is_signed(endpoint.secret)


def test_two_ways_to_write_one_secret_make_one_signature(
    webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any
) -> None:
    """Base64 of 25 bytes ends in letters whose last bits say nothing."""
    one = "whsec_" + base64.b64encode(b"y" * 25).decode()
    other = one.removesuffix("eQ==") + "eR=="
    webhooks.endpoints.rotate_secret(endpoint.id, secret=one, overlap=0)
    webhooks.endpoints.rotate_secret(endpoint.id, secret=other)
    assert next_request().is_signed(other)


def test_another_endpoint_may_have_the_same_one_and_keeps_it(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks.endpoints.create(receiver.url("/other"), events=["*"], secret=GIVEN)
    webhooks.endpoints.rotate_secret(endpoint.id, secret=GIVEN, overlap=0)
    put(sessions, "a")
    webhooks.drain()
    assert [one.is_signed(GIVEN) for one in receiver.received] == [True, True]
    webhooks.endpoints.rotate_secret(endpoint.id, overlap=0)
    put(sessions, "b")
    webhooks.drain()
    assert {one.path for one in receiver.received[2:] if one.is_signed(GIVEN)} == {"/other"}


def test_there_are_no_more_than_ten(
    webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any, clock: MovedClock, engine: Engine
) -> None:
    all_ = [endpoint.secret]
    for number in range(1, MOST):
        all_.insert(0, webhooks.endpoints.rotate_secret(endpoint.id, overlap=1000 * number).secret)
    assert len(webhooks.endpoints.secrets(endpoint.id)) == MOST
    with pytest.raises(
        EndpointError, match=r"has 10 secrets.*wait until the first of them expires.*overlap=0"
    ) as caught:
        webhooks.endpoints.rotate_secret(endpoint.id)
    assert not any(one in str(caught.value) for one in all_)
    assert next_request().is_signed(*all_)
    assert webhooks.endpoints.rotate_secret(endpoint.id, secret=all_[3], overlap=2000).secret == all_[3]

    clock.advance(1000)
    last = webhooks.endpoints.rotate_secret(endpoint.id).secret
    assert next_request().headers["webhook-signature"].count("v1,") == MOST
    assert stored(engine) == MOST
    only = webhooks.endpoints.rotate_secret(endpoint.id, overlap=0).secret
    assert next_request().is_signed(only)
    assert last != only


def test_they_are_shown_newest_first_without_what_they_are(
    webhooks: Webhooks, endpoint: NewEndpoint, clock: MovedClock
) -> None:
    begin = clock.now()
    clock.advance(10)
    webhooks.endpoints.rotate_secret(endpoint.id, overlap=5)
    middle = clock.now()
    shown = webhooks.endpoints.secrets(endpoint.id)
    clock.advance(5)
    ends = clock.now()
    assert shown == [SecretState(middle, None), SecretState(begin, ends)]
    assert webhooks.endpoints.secrets(endpoint.id) == [SecretState(middle, None)]


def test_a_disabled_endpoint_is_given_one_too(webhooks: Webhooks, endpoint: NewEndpoint, next_request: Any) -> None:
    webhooks.endpoints.disable(endpoint.id)
    rotated = webhooks.endpoints.rotate_secret(endpoint.id)
    assert not rotated.enabled
    webhooks.endpoints.enable(endpoint.id)
    assert next_request().is_signed(rotated.secret, endpoint.secret)


def test_deleting_an_endpoint_removes_its_own_only(webhooks: Webhooks, endpoint: NewEndpoint, engine: Engine) -> None:
    webhooks.endpoints.create(URL, events=["*"])
    webhooks.endpoints.rotate_secret(endpoint.id)
    assert stored(engine) == 3
    webhooks.endpoints.delete(endpoint.id)
    assert stored(engine) == 1
    for call in (webhooks.endpoints.rotate_secret, webhooks.endpoints.secrets):
        with pytest.raises(NotFound, match="deleted"):
            call(endpoint.id)
    assert stored(engine) == 1


def test_with_a_session_it_is_part_of_its_transaction(
    webhooks: Webhooks, endpoint: NewEndpoint, sessions: Sessions, next_request: Any
) -> None:
    with sessions() as session:
        webhooks.endpoints.rotate_secret(endpoint.id, overlap=0, session=session)
        session.rollback()
    assert next_request().is_signed(endpoint.secret)
    with sessions.begin() as session:
        rotated = webhooks.endpoints.rotate_secret(endpoint.id, overlap=0, session=session)
    assert next_request().is_signed(rotated.secret)


@pytest.mark.parametrize("overlap", [-1, -0.001, 30 * DAY + 1, float("inf"), float("nan"), True, None, "60", 10**400])
def test_an_overlap_that_is_none_is_refused(webhooks: Webhooks, endpoint: NewEndpoint, overlap: Any) -> None:
    with pytest.raises(EndpointError, match=r"overlap is .*: give the seconds for which older secrets stay valid"):
        webhooks.endpoints.rotate_secret(endpoint.id, overlap=overlap)
    assert len(webhooks.endpoints.secrets(endpoint.id)) == 1


def test_the_longest_overlap_and_the_shortest(webhooks: Webhooks, endpoint: NewEndpoint) -> None:
    webhooks.endpoints.rotate_secret(endpoint.id, overlap=30 * DAY)
    webhooks.endpoints.rotate_secret(endpoint.id, overlap=0.001)
    assert len(webhooks.endpoints.secrets(endpoint.id)) == 3


def test_what_is_no_secret_is_refused_and_not_repeated(webhooks: Webhooks, endpoint: NewEndpoint) -> None:
    with pytest.raises(EndpointError, match="24 to 64") as caught:
        webhooks.endpoints.rotate_secret(endpoint.id, secret="whsec_c2hvcnQ=")
    assert "c2hvcnQ" not in str(caught.value)
    given_id: Any = endpoint
    for call in (webhooks.endpoints.rotate_secret, webhooks.endpoints.secrets):
        with pytest.raises(NotFound, match="no endpoint has the id 'ep_x'"):
            call("ep_x")
        with pytest.raises(ConfigurationError, match=r"write endpoint\.id"):
            call(given_id)
    assert len(webhooks.endpoints.secrets(endpoint.id)) == 1


# --- what has expired is removed


def test_a_rotation_removes_what_has_expired_of_its_endpoint_only(
    webhooks: Webhooks, endpoint: NewEndpoint, clock: MovedClock, engine: Engine
) -> None:
    other = webhooks.endpoints.create(URL, events=["*"])
    for one in (endpoint, other):
        webhooks.endpoints.rotate_secret(one.id, overlap=10)
    clock.advance(10)
    webhooks.endpoints.rotate_secret(endpoint.id)
    assert stored(engine) == 4


def test_the_relay_removes_what_expired_a_day_ago(
    webhooks: Webhooks, endpoint: NewEndpoint, clock: MovedClock, engine: Engine, next_request: Any
) -> None:
    rotated = webhooks.endpoints.rotate_secret(endpoint.id, overlap=10)
    clock.advance(10 + LINGERS)
    webhooks.drain()
    assert stored(engine) == 2
    clock.advance(RARELY)
    webhooks.drain()
    assert stored(engine) == 1
    assert next_request().is_signed(rotated.secret)


def test_prune_removes_them_too_whatever_is_to_be_kept(
    sessions: Sessions, clock: MovedClock, engine: Engine, receiver: Receiver
) -> None:
    with install(sessions, deliver=False, clock=clock, retention=None, **LOCAL) as webhooks:
        endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
        for overlap in (10, 20, 30 * DAY):
            webhooks.endpoints.rotate_secret(endpoint.id, overlap=overlap)
        clock.advance(LINGERS + 20.5)
        assert webhooks.prune() == Pruned(secrets=2)
        assert webhooks.prune() == Pruned()
        assert stored(engine) == 2


# --- any number of rotations, against a model of them


rotations = st.lists(
    st.tuples(st.sampled_from([0, 5, 20, 100]), st.sampled_from([None, None, 0, 1, 2]), st.integers(0, 30)), max_size=9
)


@settings(max_examples=15, deadline=None)
@given(steps=rotations)
def test_what_signs_is_what_a_model_says(steps: list[tuple[int, int | None, int]]) -> None:
    """A step: for how long the older ones stay valid; which of three comes, or a new one; how long until the next."""
    clock, some = MovedClock(), ["whsec_" + base64.b64encode(bytes([n]) * 24).decode() for n in (1, 2, 3)]
    with shop_at("sqlite://") as engine, Receiver() as receiver:
        sessions = sessionmaker(engine)
        with install(sessions, deliver=False, clock=clock, **LOCAL) as webhooks:
            endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
            #: The newest first, each with its end.
            model: list[tuple[str, float]] = [(endpoint.secret, float("inf"))]
            for overlap, which, wait in steps:
                secret = None if which is None else some[which]
                new = webhooks.endpoints.rotate_secret(endpoint.id, secret=secret, overlap=overlap).secret
                until = clock.monotonic() + overlap
                model = [(new, float("inf")), *((one, min(end, until)) for one, end in model if one != new)]
                clock.advance(wait)
                put(sessions, next(skus))
                webhooks.drain()
                assert receiver.received[-1].is_signed(*(one for one, end in model if end > clock.monotonic()))
