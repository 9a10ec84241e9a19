from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker
from support.clock import MovedClock
from support.databases import NAMES, Database, database_named
from support.local import LOCAL, Install
from support.network import Connects, Resolver, Send, Senders
from support.receiver import Receiver
from support.shop import Base, put, shop_at
from support.threads import Gate, opened

import sqla_webhooks
from sqla_webhooks import Webhooks


@pytest.hookimpl(tryfirst=True)  # before hypothesis looks for it
def pytest_configure(config: pytest.Config) -> None:
    """Every run has a seed, so that what a run finds can be found again."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = os.environ.get("HYPOTHESIS_SEED") or str(random.SystemRandom().getrandbits(32))


def pytest_report_header(config: pytest.Config) -> str:
    return f"again with the same examples: HYPOTHESIS_SEED={config.option.hypothesis_seed}"


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite file with the shop's tables."""
    with shop_at(f"sqlite:///{tmp_path}/shop.db") as engine:
        yield engine


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return sessionmaker(engine)


@pytest.fixture(params=NAMES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database: SQLite, PostgreSQL and MariaDB in turn."""
    with database_named(request.param, tmp_path) as database:
        yield database


@pytest.fixture
def patient_engine(database: Database) -> Iterator[Engine]:
    """The shop's tables in a `database` where who meets another's lock waits for it."""
    with database.patient.engine() as engine:
        Base.metadata.create_all(engine)
        yield engine


@pytest.fixture
def in_memory() -> Iterator[sessionmaker[Session]]:
    """SQLite in memory, with its one connection."""
    with shop_at("sqlite://") as engine:
        yield sessionmaker(engine)


@pytest.fixture
def install() -> Iterator[Install]:
    """`install()` that may send to this machine, and is undone after the test."""
    installed: list[Webhooks] = []

    def install(factory: Any, **options: Any) -> Webhooks:
        webhooks = sqla_webhooks.install(factory, **{**LOCAL, **options})
        installed.append(webhooks)
        return webhooks

    yield install
    for webhooks in installed:
        webhooks.uninstall()


@pytest.fixture
def webhooks(install: Install, sessions: sessionmaker[Session], clock: MovedClock) -> Webhooks:
    """An installation on `sessions` that relays by `drain()` only, on the moved clock."""
    return install(sessions, deliver=False, clock=clock)


@pytest.fixture
def gate() -> Iterator[Gate]:
    with opened(Gate()) as gate:
        yield gate


@pytest.fixture
def in_flight(install: Install, sessions: sessionmaker[Session], receiver: Receiver, gate: Gate) -> Webhooks:
    """An installation with a relay's thread, whose request for the product "a" is held at the gate."""
    webhooks = install(sessions, batch_window=0)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    receiver.on_request = gate
    put(sessions, "a")
    gate.wait()
    return webhooks


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Answers in place of the name servers."""
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> Connects:
    """What sockets were to be connected to."""
    connects = Connects()

    def connect(connection: socket.socket, place: Any) -> None:  # a method, as a function is in a class
        connects.connect(connection, place)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return connects


@pytest.fixture
def send() -> Iterator[Send]:
    """Sends to a URL past the check of an endpoint that is written; each policy has one sender."""
    senders = Senders()
    yield senders.send
    senders.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every test ends with the threads it began with; those of a stopped server may take a moment."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert not left
