"""What waits for an endpoint that takes nothing any more is cancelled in the table: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.clock import START
from support.databases import Database
from support.queues import faults, rows_of
from support.stand import LEASE, WAIT, Stand, later, stand_on

from sqla_webhooks import models
from sqla_webhooks.outbox import pages
from sqla_webhooks.outbox.withdraw import withdraw


@pytest.fixture
def stand(database: Database) -> Iterator[Stand]:
    with stand_on(database) as stand:
        yield stand


def states(stand: Stand) -> list[str]:
    return [row.state for row in rows_of(stand.engine)]


def withdraw_all(stand: Stand, seconds: float = 0) -> int:
    return sum(withdraw(stand.door, lane, now=later(seconds)) for lane in stand.lanes() if not lane.open)


gone = pytest.mark.parametrize("values", [{"enabled": False}, {"enabled": False, "deleted_at": START}])


@gone
def test_what_is_being_sent_is_left_until_it_has_come_back(stand: Stand, values: dict[str, Any]) -> None:
    endpoint = stand.endpoint()
    stand.publish("a", "b", "b")
    claims = stand.claim(endpoint, 1)
    stand.change(models.endpoint, **values)
    assert withdraw_all(stand) == 2
    assert states(stand) == ["pending", "cancelled", "cancelled"]
    stand.record(claims, 500)
    assert withdraw_all(stand, WAIT) == 1
    assert states(stand) == ["cancelled"] * 3
    assert [lane.number for lane in stand.lanes()] == []


@gone
def test_what_a_relay_had_that_died_is_cancelled_when_its_lease_has_ended(stand: Stand, values: dict[str, Any]) -> None:
    endpoint = stand.endpoint()
    stand.publish("a")
    stand.claim(endpoint)
    stand.change(models.endpoint, **values)
    assert withdraw_all(stand, LEASE - 1) == 0
    assert withdraw_all(stand, LEASE) == 1
    assert states(stand) == ["cancelled"]


def test_of_what_is_dropped_the_rest_goes_on_if_the_endpoint_is_enabled_between(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SIZE", 2)
    endpoint = stand.endpoint()
    stand.publish("a", "b", "a>b", "a", "b", "b")
    for left in (4, 2, 0):
        stand.change(models.endpoint, enabled=False)
        assert withdraw_all(stand) == 2
        stand.change(models.endpoint, enabled=True)
        assert states(stand).count("pending") == left
        assert faults(stand.engine) == []
    assert stand.claim(endpoint) == []


def test_an_endpoint_that_was_enabled_since_it_was_looked_at_loses_nothing(stand: Stand) -> None:
    stand.endpoint()
    stand.publish("a")
    stand.change(models.endpoint, enabled=False)
    [lane] = stand.lanes()
    stand.change(models.endpoint, enabled=True)
    assert withdraw(stand.door, lane, now=START) == 0
    assert states(stand) == ["pending"]


def test_another_endpoint_loses_nothing(stand: Stand) -> None:
    one, other = stand.endpoint(), stand.endpoint()
    stand.publish("a", "a")
    stand.change(models.endpoint, models.endpoint.c.id == one, deleted_at=START)
    assert withdraw_all(stand) == 2
    assert [(row.endpoint_id, row.state) for row in rows_of(stand.engine)] == [
        (one, "cancelled"),
        (other, "pending"),
        (one, "cancelled"),
        (other, "pending"),
    ]
