"""Databases that do not have all letters, and endpoints that answer with whatever they like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import sessionmaker
from support.databases import Database
from support.local import Install
from support.receiver import Receiver, Reply
from support.shop import Base, put

from sqla_webhooks import models

SMILE = "\N{GRINNING FACE}"


@contextmanager
def of_latin_letters(database: Database) -> Iterator[Engine]:
    """With our tables, in ISO 8859-1."""
    if database.name == "mariadb":
        with database.patient.engine() as engine:
            models.metadata.create_all(engine)
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE webhook_attempt CONVERT TO CHARACTER SET latin1")
            yield engine
        return
    name = f"{database.url.database}_latin"
    with database.engine(isolation_level="AUTOCOMMIT") as admin, admin.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        engine = create_engine(database.url.set(database=name))
        yield engine
        engine.dispose()
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_an_answer_with_letters_that_the_database_lacks_is_recorded_without_them(
    database: Database, install: Install, receiver: Receiver
) -> None:
    """Or one stranger would keep everybody's results from being recorded."""
    with of_latin_letters(database) as engine:
        Base.metadata.create_all(engine)
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        receiver.answer(Reply(500, f"no {SMILE}".encode()))
        put(sessions, "a", "b")
        webhooks.drain()
        (attempt,) = webhooks.deliveries.attempts(webhooks.deliveries.list()[-1].id)
        assert (attempt.status, attempt.response) == (500, "no \\U0001f600")
        assert [one.state for one in webhooks.deliveries.list()] == ["delivered", "pending"]
        webhooks.uninstall()


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_our_tables_have_all_letters_whatever_the_database_has(
    database: Database, install: Install, receiver: Receiver
) -> None:
    with database.patient.engine() as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {database.url.database} CHARACTER SET latin1")
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE product CONVERT TO CHARACTER SET utf8mb4")
        sessions = sessionmaker(engine)
        webhooks = install(sessions, deliver=False)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        receiver.answer(Reply(200, SMILE.encode()))
        put(sessions, SMILE)
        webhooks.drain()
        assert [event["resource_id"] for event in receiver.events()] == [SMILE]
        assert [one.response for one in webhooks.deliveries.attempts(1)] == [SMILE]
        webhooks.uninstall()
