"""
The oracle of capture: a replica built from nothing but delivered events equals the database.

Random work on real sessions and real databases; after each commit, and in the
end, every event that has arrived is applied to a copy, strictly.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.orm import sessionmaker
from support.clock import MovedClock
from support.databases import Database, clear
from support.local import Install
from support.machine import models
from support.machine.bulk import Bulk
from support.machine.endings import Endings
from support.machine.families import Families
from support.machine.objects import Objects
from support.machine.work import World
from support.receiver import Receiver

import sqla_webhooks.models

pytestmark = pytest.mark.machine

PATIENT = settings(
    deadline=None,
    stateful_step_count=40,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Application(Objects, Families, Bulk, Endings):
    """Everything that an application may do."""


@pytest.fixture(params=[True])
def world(request: pytest.FixtureRequest, database: Database, install: Install, receiver: Receiver) -> Iterator[World]:
    """The parameter is whether the changes of a row in one transaction become one event."""
    with database.engine() as engine:
        models.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False, clock=MovedClock(), coalesce=request.param, batch_size=3)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        yield World(database, engine, receiver, webhooks, sessions)


def fresh(world: World) -> None:
    """As the first example found it; the endpoint stays."""
    ours = sqla_webhooks.models
    world.receiver.forget()
    clear(world.engine, *models.metadata.sorted_tables, ours.outbox, ours.event, ours.delivery, ours.attempt)


def run(world: World, *, examples: int) -> None:
    class OnTheWorld(Application):
        """Hypothesis makes one for each example."""

        def __init__(self) -> None:
            fresh(world)
            super().__init__(world)

    run_state_machine_as_test(OnTheWorld, settings=settings(PATIENT, max_examples=examples))


def test_a_replica_of_the_events_equals_the_database(world: World) -> None:
    run(world, examples=40)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("world", [False], indirect=True)
def test_it_equals_the_database_too_with_an_event_for_each_flush(world: World) -> None:
    run(world, examples=30)


@pytest.mark.long
def test_a_replica_of_the_events_equals_the_database_for_long(world: World) -> None:
    run(world, examples=2000)
