"""
What the library needs of a database, asked of each: `make test` runs it on those that are there.

A new backend that passes this, and `test_databases`, will do.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, update
from support.clock import START
from support.databases import NAMES, Database, database_named
from support.interleaving import commit_held, running
from support.queues import awake, faults, rows_of
from support.stand import LEASE, WAIT, Stand, claim_all, claim_in_process, later, render, stand_on
from support.threads import aside

from sqla_webhooks import Pruned, Retention, models
from sqla_webhooks.outbox.claim import claim
from sqla_webhooks.outbox.retention import prune
from sqla_webhooks.outbox.retire import GONE, Busy, Retirement, retire
from sqla_webhooks.outbox.turnstile import Share

BACKENDS = (*NAMES, "mysql")
shared = pytest.mark.parametrize("database", BACKENDS[1:], indirect=True)


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with database_named(request.param, tmp_path) as database:
        yield database


@pytest.fixture
def stand(database: Database) -> Iterator[Stand]:
    with stand_on(database) as stand:
        yield stand


def attempts(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(models.attempt)).scalar_one()


def states(stand: Stand) -> list[str]:
    return [row.state for row in rows_of(stand.engine)]


# --------------------------------------------------------------------------- claim


def test_no_delivery_is_claimed_by_two_threads(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish(*(str(number) for number in range(60)))
    threads = [aside(partial(claim_all, stand.twin(), endpoint, limit=4)) for _ in range(6)]
    for thread, _ in threads:
        thread.join()
    assert [came for _, came in threads if isinstance(came[0], Exception)] == []
    claims = [one for _, came in threads for one in came[0]]
    assert max(len(one) for one in claims) <= 4
    rest = [one.delivery_id for one in stand.claim(endpoint)]
    assert sorted([number for one in claims for number in one] + rest) == list(range(1, 61))


def test_nor_by_two_processes(stand: Stand, database: Database) -> None:
    endpoint = stand.endpoint()
    stand.publish(*(str(number) for number in range(60)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        claims = pool.starmap(claim_in_process, [(database, endpoint, 4)] * 2)
    numbers = [number for of_one in claims for one in of_one for number in one]
    rest = [one.delivery_id for one in stand.claim(endpoint)]
    assert sorted(numbers + rest) == list(range(1, 61))


def test_each_lane_gives_no_more_than_it_was_asked_for_and_the_oldest_first(stand: Stand) -> None:
    one, other = stand.endpoint(), stand.endpoint()
    stand.publish("late", now=later(1))
    stand.publish("a", "b", "c", now=START)
    shares = [Share(one, retry=False, limit=2), Share(other, retry=False, limit=1), Share(one, retry=True, limit=9)]
    claims = claim(stand.door, shares, now=later(1), lease=LEASE)
    assert [(one.delivery_id, one.endpoint) for one in claims] == [(3, one), (4, other), (5, one)]
    assert [claim.delivery_id for claim in stand.claim(one, now=START)] == [7]


def test_what_is_not_due_yet_is_not_claimed(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", now=later(1))
    assert stand.claim(endpoint, now=later(0.999999)) == []
    assert len(stand.claim(endpoint, now=later(1))) == 1


@pytest.mark.parametrize("values", [{"enabled": False}, {"deleted_at": START}])
def test_what_is_for_an_endpoint_that_is_gone_is_left_where_it_is(stand: Stand, values: dict[str, object]) -> None:
    endpoint = stand.endpoint()
    stand.publish("a")
    stand.change(models.endpoint, **values)
    assert stand.claim(endpoint) == []
    [row] = rows_of(stand.engine)
    assert (row.lease_token, row.next_attempt_at) == (None, START)


# --------------------------------------------------------------------------- lease


def test_a_lease_is_taken_over_when_it_has_ended_and_its_late_holder_records_nothing(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a")
    late = stand.claim(endpoint)
    assert stand.twin().claim(endpoint, now=later(LEASE - 0.001)) == []
    taken = stand.twin().claim(endpoint, now=later(LEASE))
    assert [one.delivery_id for one in taken] == [1]

    assert stand.record(late).verdicts == ()
    assert (states(stand), attempts(stand.engine)) == (["pending"], 0)
    assert len(stand.twin().record(taken, now=later(LEASE)).verdicts) == 1
    assert (states(stand), attempts(stand.engine)) == (["delivered"], 1)
    assert stand.record(taken).verdicts == ()
    assert attempts(stand.engine) == 1


def test_of_several_results_those_are_recorded_whose_lease_is_held(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b")
    late = stand.claim(endpoint)
    stand.claim(endpoint, 1, now=later(LEASE))
    recorded = stand.record(late, now=later(LEASE))
    assert [one.claim.delivery_id for one in recorded.verdicts] == [2]
    assert states(stand) == ["pending", "delivered"]


# --------------------------------------------------------------------------- order


def test_only_the_head_of_a_row_is_due(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b", "a")
    stand.publish("a")
    sent = []
    while claims := stand.claim(endpoint):
        sent.append([one.delivery_id for one in claims])
        stand.record(claims)
    assert sent == [[1, 2], [3], [4]]


def test_where_no_order_is_wanted_all_are_due(stand: Stand) -> None:
    endpoint = stand.endpoint(ordering=False)
    stand.publish("a", "a", "a>b")
    assert len(stand.claim(endpoint)) == 3


def test_a_change_of_the_key_is_due_as_the_head_of_both_queues(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b", "a>b", "a", "b")
    first, second = stand.claim(endpoint)
    stand.record([second])
    assert stand.claim(endpoint) == []
    stand.record([first])
    moved = stand.claim(endpoint)
    assert [one.delivery_id for one in moved] == [3]
    stand.record(moved)
    assert [one.delivery_id for one in stand.claim(endpoint)] == [4, 5]


@shared
def test_two_relays_finish_the_heads_of_both_at_once(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b", "a>b")
    first, second = stand.claim(endpoint)
    with (
        commit_held(stand.engine, "INSERT INTO webhook_attempt") as commit,
        running(stand.engine, lambda: stand.record([first]), until="FOR UPDATE") as one,
    ):
        commit.wait()
        with running(stand.engine, lambda: stand.twin().record([second]), until="FOR UPDATE") as other:
            commit.open()
    assert not isinstance(one[0], Exception)
    assert not isinstance(other[0], Exception)
    assert faults(stand.engine) == []
    assert awake(stand.engine) == [3]


@shared
@pytest.mark.parametrize("fan_out_first", [True, False])
def test_one_comes_while_the_one_before_it_is_finished(stand: Stand, *, fan_out_first: bool) -> None:
    endpoint = stand.endpoint()
    stand.publish("a")
    claims = stand.claim(endpoint)
    stand.publish("z")  # so that both know the endpoints

    def publish() -> None:
        stand.publish("a")

    def record() -> None:
        stand.twin().record(claims)

    calls = [(publish, "INSERT INTO webhook_delivery"), (record, "INSERT INTO webhook_attempt")]
    (first, held), (second, _) = calls if fan_out_first else calls[::-1]
    with commit_held(stand.engine, held) as commit, running(stand.engine, first, until=held) as one:
        commit.wait()
        with running(stand.engine, second, until="UPDATE" if fan_out_first else "FOR UPDATE") as other:
            commit.open()
    assert (one, other) == ([None], [None])
    assert faults(stand.engine) == []
    assert awake(stand.engine) == [2, 3]


# --------------------------------------------------------------------------- settle


def test_what_fails_is_due_again_in_the_other_lane(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "a")
    stand.record(stand.claim(endpoint), 500)
    [row, behind] = rows_of(stand.engine)
    assert (row.state, row.attempts, row.first_attempt_at, row.lease_token) == ("pending", 1, START, None)
    assert (row.next_attempt_at, behind.next_attempt_at) == (later(WAIT), None)
    assert stand.claim(endpoint, now=later(WAIT)) == []
    [again] = stand.claim(endpoint, retry=True, now=later(WAIT))
    assert (again.delivery_id, again.attempt, again.first_attempt_at) == (1, 2, START)


def test_what_is_given_up_lets_go_on_what_waits_behind_it(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "a")
    stand.record(stand.claim(endpoint), 500, attempts=1)
    assert (states(stand), awake(stand.engine), faults(stand.engine)) == (["dead", "pending"], [2], [])


def test_what_is_given_up_holds_what_waits_behind_it_and_what_comes(stand: Stand) -> None:
    holding = Stand(stand.engine, hold=True)
    endpoint = holding.endpoint()
    holding.publish("a", "a")
    holding.record(holding.claim(endpoint), 500, attempts=1)
    holding.publish("a", "b")
    assert states(stand) == ["dead", "pending", "pending", "pending"]
    assert [one.delivery_id for one in holding.claim(endpoint)] == [4]
    assert faults(stand.engine) == []


# --------------------------------------------------------------------------- lanes


def test_the_lanes_in_which_something_waits_are_seen_whatever_lies_behind(stand: Stand) -> None:
    quiet, one, other = stand.endpoint(), stand.endpoint(), stand.endpoint()
    stand.publish("a")
    for endpoint in (quiet, one, other):
        stand.record(stand.claim(endpoint))
    stand.change(models.endpoint, models.endpoint.c.id == quiet, deleted_at=START)
    stand.publish("a", "b", now=later(2))
    stand.record(stand.claim(one, 1, now=later(2)), 500, now=later(2))
    stand.change(models.endpoint, models.endpoint.c.id == other, enabled=False)

    seen = {lane.number: (lane.endpoint, lane.retry, lane.due, lane.open, lane.deleted) for lane in stand.lanes()}
    assert seen == {
        2 * quiet: (quiet, False, later(2), False, True),
        2 * one: (one, False, later(2), True, False),
        2 * one + 1: (one, True, later(2 + WAIT), True, False),
        2 * other: (other, False, later(2), False, False),
    }


def test_a_lane_in_which_all_wait_behind_others_has_nothing_due(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "a")
    stand.record(stand.claim(endpoint), 500)
    assert {lane.number % 2: lane.due for lane in stand.lanes()} == {0: None, 1: later(WAIT)}


# --------------------------------------------------------------------------- endpoints that an application writes


@shared
def test_nobody_waits_for_a_transaction_that_has_written_the_endpoint(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b")
    with stand.engine.connect() as application:
        application.execute(update(models.revision).values(number=models.revision.c.number + 1))
        application.execute(update(models.endpoint).values(enabled=False))
        claims = stand.claim(endpoint, 1)
        stand.record(claims, 500)
        stand.publish("c")
        with pytest.raises(Busy):
            _retire(stand, endpoint)
        application.rollback()
    assert _retire(stand, endpoint)
    assert not _retire(stand, endpoint)
    assert [lane.open for lane in stand.lanes()] == [False, False]


def _retire(stand: Stand, endpoint: int) -> bool:
    retirement = Retirement(endpoint, GONE, url="https://partner.example/")
    return retire(stand.door, retirement, publication=stand.publication, render=render, now=START) is not None


# --------------------------------------------------------------------------- retention


def test_what_is_old_is_removed_and_nothing_that_waits(stand: Stand) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b", "c")
    stand.record(stand.claim(endpoint, 1))
    stand.record(stand.claim(endpoint, 1), 500, attempts=1)
    removed = Pruned()
    for batch in prune(stand.door, Retention(attempts=9, delivered=9, dead=9, events=9), now=later(10)):
        removed += batch
    assert removed == Pruned(2, 2, 2)
    assert states(stand) == ["pending"]
