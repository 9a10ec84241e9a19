"""`install()`: what it takes, what it refuses, and that one factory has one installation."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
from conftest import LOCAL, Install
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool
from support.receiver import Receiver
from support.shop import Base, Product

import sqla_webhooks
from sqla_webhooks import ConfigurationError, DatabaseBusy, Webhooks, models

Sessions = sessionmaker[Session]


def types_of(webhooks: Webhooks, receiver: Receiver) -> list[str]:
    webhooks.drain()
    types = receiver.types
    receiver.forget()
    return types


# ------------------------------------------------------------------ what it takes


def test_a_sessionmaker_and_no_other(install: Install, engine: Engine, receiver: Receiver) -> None:
    sessions = sessionmaker(engine)
    webhooks = install(sessions, deliver=False, capture="all")
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessionmaker(engine).begin() as other, Session(engine) as another:
        other.add(Product(sku="other"))
        other.flush()
        assert another.info == {}
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    assert types_of(webhooks, receiver) == ["product.created"]


def test_a_session_that_is_open_already(install: Install, engine: Engine, receiver: Receiver) -> None:
    sessions = sessionmaker(engine)
    with sessions() as session:
        webhooks = install(sessions, deliver=False)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        session.add(Product(sku="a"))
        session.commit()

    assert types_of(webhooks, receiver) == ["product.created"]


def test_a_scoped_session(install: Install, engine: Engine, receiver: Receiver) -> None:
    scope = scoped_session(sessionmaker(engine))
    webhooks = install(scope, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    scope.add(Product(sku="a"))
    scope.commit()
    scope.remove()

    assert install(scope, deliver=False) is webhooks
    assert install(scope.session_factory, deliver=False) is webhooks
    assert types_of(webhooks, receiver) == ["product.created"]


def test_a_session_subclass(install: Install, engine: Engine, receiver: Receiver) -> None:
    class Ours(Session):
        pass

    webhooks = install(Ours, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with Session(engine) as plain, plain.begin():
        plain.add(Product(sku="plain"))
    with Ours(engine) as ours, ours.begin():
        ours.add(Product(sku="ours"))
    with sessionmaker(engine, class_=Ours).begin() as made:
        made.add(Product(sku="made"))
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events()] == ["ours", "made"]


def test_session_itself(install: Install, engine: Engine, receiver: Receiver) -> None:
    webhooks = install(Session, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with Session(engine) as session, session.begin():
        session.add(Product(sku="a"))

    assert types_of(webhooks, receiver) == ["product.created"]


def test_one_session(install: Install, engine: Engine, receiver: Receiver) -> None:
    with Session(engine) as session:
        webhooks = install(session, deliver=False)
        assert install(session, deliver=False) is webhooks
        webhooks.endpoints.create(receiver.url(), events=["*"])
        session.add(Product(sku="a"))
        session.commit()
    with Session(engine) as other, other.begin():
        other.add(Product(sku="b"))

    assert types_of(webhooks, receiver) == ["product.created"]
    webhooks.uninstall()
    assert session.info == {}


def test_a_connection_as_bind_is_its_engine(install: Install, engine: Engine) -> None:
    with engine.connect() as connection:
        webhooks = install(sessionmaker(connection), deliver=False)
    assert webhooks.endpoints.list() == []


# ------------------------------------------------------------------ once per factory


def test_install_twice_is_the_same_handle(install: Install, sessions: Sessions, receiver: Receiver) -> None:
    webhooks = install(sessions, deliver=False)

    assert install(sessions, deliver=False) is webhooks
    assert sqla_webhooks.install(sessions) is webhooks
    assert sqla_webhooks.install(sessions, bind=sessions.kw["bind"]) is webhooks
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    assert types_of(webhooks, receiver) == ["product.created"]


def test_install_twice_with_other_settings_is_refused(
    install: Install, sessions: Sessions, in_memory: Sessions
) -> None:
    install(sessions, deliver=False)
    with pytest.raises(ConfigurationError, match="other settings"):
        install(sessions, deliver=False, timeout=3)
    with pytest.raises(ConfigurationError, match="another bind"):
        install(sessions, bind=in_memory.kw["bind"], deliver=False)


def test_install_on_a_class_and_on_one_under_it_is_refused(install: Install, engine: Engine) -> None:
    class Ours(Session):
        pass

    sessions = sessionmaker(engine, class_=Ours)
    install(sessions, deliver=False)
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(Ours, bind=engine, deliver=False)
    sqla_webhooks.install(sessions).uninstall()
    install(Ours, bind=engine, deliver=False)
    with pytest.raises(ConfigurationError, match="captured twice"):
        install(sessionmaker(engine, class_=Ours), deliver=False)
    with Ours(engine) as session, pytest.raises(ConfigurationError, match="captured twice"):
        install(session, deliver=False)


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize("given", [None, "postgresql://", 42, create_engine, object])
def test_what_is_no_factory_is_refused(given: Any, install: Install) -> None:
    with pytest.raises(ConfigurationError, match="give a sessionmaker"):
        install(given)


def test_a_factory_that_does_not_know_its_database_is_refused(install: Install) -> None:
    with pytest.raises(ConfigurationError, match="bind=engine"):
        install(sessionmaker())
    with pytest.raises(ConfigurationError, match="bind is 'sqlite://'"):
        install(sessionmaker(), bind="sqlite://")


def test_an_unknown_setting_is_refused_before_anything_is_done(install: Install, sessions: Sessions) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'timeout'"):
        install(sessions, timout=3)
    assert [name for name in vars(sessions.class_) if "webhooks" in name] == []


def test_repr_says_where_and_hides_the_password(install: Install) -> None:
    engine = create_engine("sqlite://")
    assert repr(install(sessionmaker(engine))) == "<Webhooks on sqlite://>"
    engine.dispose()


# ------------------------------------------------------------------ the tables


def test_tables_are_not_created_when_they_are_managed_elsewhere(install: Install, engine: Engine) -> None:
    install(sessionmaker(engine), deliver=False, create_tables=False)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE name LIKE 'webhook_%'")).scalars().all()
    assert names == []
    assert all(name.startswith("webhook_") for name in models.metadata.tables)


# ------------------------------------------------------------------ one connection


@pytest.mark.parametrize("pool", [{}, {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}])
def test_in_memory_works_by_drain_and_says_so(
    install: Install, receiver: Receiver, caplog: pytest.LogCaptureFixture, pool: Any
) -> None:
    engine = create_engine("sqlite://", **pool)
    Base.metadata.create_all(engine)
    sessions = sessionmaker(engine)
    webhooks = install(sessions)
    assert [(one.levelno, "call drain()" in one.getMessage()) for one in caplog.records] == [(logging.WARNING, True)]

    endpoint = webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    assert webhooks.drain().attempts == 1
    receiver.received[0].verify(endpoint.secret)
    with sessions() as session:
        session.add(Product(sku="b"))
        session.flush()
        with pytest.raises(DatabaseBusy, match="commit or roll back first"):
            webhooks.drain()
        session.rollback()
    assert webhooks.drain().attempts == 0
    webhooks.uninstall()
    engine.dispose()


def loaded_by(statement: str) -> set[str]:
    """The top-level modules beside the standard library's that *statement* loads in a process of its own."""
    script = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split()) - sys.stdlib_module_names


def test_the_core_packages_are_all_that_is_imported() -> None:
    core = loaded_by("import sqlalchemy.orm, sqlalchemy.dialects.mysql, requests, tenacity, blinker")

    assert loaded_by("import sqla_webhooks") - core <= {"sqla_webhooks", "orjson"}


def test_every_name_of_the_public_face_is_there() -> None:
    assert sorted(sqla_webhooks.__all__) == list(sqla_webhooks.__all__)
    for name in sqla_webhooks.__all__:
        assert getattr(sqla_webhooks, name) is not None
    assert LOCAL.keys() <= sqla_webhooks.Settings.__dataclass_fields__.keys()
