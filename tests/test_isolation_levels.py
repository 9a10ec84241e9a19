"""Whatever isolation the application's transactions have: ours see what has committed, and change nothing of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker
from support.databases import Database
from support.heard import heard
from support.local import Install
from support.receiver import Receiver
from support.shop import Base, Product, put
from support.threads import aside

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@pytest.fixture(autouse=True)
def shared(database: Database) -> None:
    if not database.is_shared:
        pytest.skip("SQLite has one kind of isolation")


@pytest.mark.parametrize("level", LEVELS)
def test_two_relays_at_once_send_everything_once(
    install: Install, database: Database, receiver: Receiver, level: Any
) -> None:
    """Their transactions meet at each other's rows all the time."""
    with database.patient.engine(isolation_level=level) as engine:
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        first = install(sessions, deliver=False)
        first.endpoints.create(receiver.url(), events=["*"])
        put(sessions, *(f"{number}" for number in range(30)))
        for _ in range(3):
            with sessions.begin() as session:
                for product in session.query(Product):
                    product.stock += 1
        second = install(sessionmaker(engine), deliver=False)
        helpers = [aside(webhooks.drain) for webhooks in (first, second)]
        for thread, came in helpers:
            thread.join()
            assert not isinstance(came[0], Exception), came[0]
        while not first.drain().complete:
            pass
        first.uninstall()
        second.uninstall()

    assert len(receiver.ids) == len(set(receiver.ids)) == 30 * 4
    stocks: dict[str, list[int]] = {}
    for one in receiver.events():
        stocks.setdefault(one["resource_id"], []).append(one["data"]["stock"])
    assert set(map(tuple, stocks.values())) == {(0, 1, 2, 3)}


@pytest.mark.parametrize("level", LEVELS)
def test_the_application_s_transactions_keep_theirs(
    install: Install, database: Database, receiver: Receiver, level: Any
) -> None:
    """On the very connection that we had before."""
    with database.engine(isolation_level=level, pool_size=1, max_overflow=0) as engine:
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        put(sessions, "a")
        ours = levels_of_ours(engine, webhooks.drain)
        with sessions() as session:
            theirs = session.connection().get_isolation_level()
        webhooks.uninstall()

    assert receiver.types == ["product.created"]
    assert theirs == level
    assert "READ COMMITTED" in ours <= {"READ COMMITTED", "AUTOCOMMIT", "its own"}
    if database.name == "mariadb" and level == "SERIALIZABLE":  # where who looks would lock what he looks at
        assert ours == {"READ COMMITTED"}


def levels_of_ours(engine: Engine, act: Any) -> set[str]:
    """The levels at which *act* makes its statements on our tables, in this thread; others are enrichers'."""
    here = threading.get_ident()
    found: set[str] = set()

    def note(connection: Any, _cursor: object, statement: str, *_: object) -> None:
        if threading.get_ident() == here and "webhook_" in statement:
            found.add(str(connection.get_execution_options().get("isolation_level", "its own")))

    with heard(engine, "before_cursor_execute", note):
        act()
    return found
