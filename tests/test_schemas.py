"""Tenants by `schema_translate_map`: their rows are in their schemas, our tables where `install()` made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.orm import Session, sessionmaker
from support.async_databases import application_at, postgresql_database, postgresql_server
from support.local import Install
from support.receiver import Receiver
from support.shop import Base, Customer, Product

TENANTS = ("tenant_a", "tenant_b")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture
def url(server: str) -> Iterator[str]:
    """A database where the shop's tables are in the tenants' schemas, and nowhere else."""
    with postgresql_database(server, "schemas", driver="psycopg") as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            for tenant in TENANTS:
                connection.execute(text(f"CREATE SCHEMA {tenant}"))
                Base.metadata.create_all(connection.execution_options(schema_translate_map={None: tenant}))
        engine.dispose()
        yield url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def of(tenant: str) -> dict[str, dict[str | None, str]]:
    return {"schema_translate_map": {None: tenant}}


def by_engine(engine: Engine, tenant: str) -> Session:
    return Session(engine.execution_options(**of(tenant)))


def by_connection(engine: Engine, tenant: str) -> Session:
    session = Session(engine)
    session.connection(execution_options=of(tenant))
    return session


@pytest.mark.parametrize("begin", [by_engine, by_connection])
def test_each_tenants_row_is_an_event_in_our_tables(
    begin: Callable[[Engine, str], Session], engine: Engine, install: Install, receiver: Receiver
) -> None:
    webhooks = install(Session, bind=engine, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    for tenant in TENANTS:
        with begin(engine, tenant) as session:
            session.add(Product(sku=tenant))
            session.flush()
            session.add(Customer(email="a@b.example"))  # a statement of the application's after one of ours
            session.commit()
    with begin(engine, "tenant_a") as session:
        session.add(Product(sku="rolled back"))
        session.flush()
        session.rollback()
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events("product.created")] == list(TENANTS)
    assert len(receiver.events("customer.created")) == 2
    _ours_are_in(engine, "public")
    assert _skus(engine) == {tenant: [tenant] for tenant in TENANTS}


def test_what_the_flush_must_read_is_read_in_the_tenants_schema(engine: Engine, install: Install) -> None:
    for tenant in TENANTS:
        with by_engine(engine, tenant) as session, session.begin():
            session.add(Product(sku="same", name=f"of {tenant}"))
    webhooks = install(Session, bind=engine, deliver=False, capture="all")
    with by_connection(engine, "tenant_b") as session:
        product = session.get_one(Product, "same")
        session.expire(product)
        product.name = "new"  # the old value is no longer known
        session.commit()
    webhooks.drain()

    (event,) = webhooks.events.list()
    assert b'"changes":{"name":{"from":"of tenant_b","to":"new"}}' in event.payload


def test_a_session_joined_to_a_tenants_connection(engine: Engine, install: Install) -> None:
    webhooks = install(Session, bind=engine, deliver=False, capture="all")
    with engine.connect().execution_options(**of("tenant_a")) as connection:
        with Session(connection) as session:
            session.add(Product(sku="a"))
            session.commit()
        assert connection.get_execution_options()["schema_translate_map"][None] == "tenant_a"  # as before
    webhooks.drain()

    assert [one.resource_id for one in webhooks.events.list()] == ["a"]


def test_an_endpoint_in_a_tenants_transaction(engine: Engine, install: Install, receiver: Receiver) -> None:
    webhooks = install(Session, bind=engine, deliver=False)
    with by_connection(engine, "tenant_a") as session:
        webhooks.endpoints.create(receiver.url(), events=["*"], session=session)
        session.add(Product(sku="a"))
        session.commit()
    webhooks.drain()

    assert receiver.types == ["product.created"]
    _ours_are_in(engine, "public")


def test_one_session_with_a_variant_of_the_engine_for_each_class(engine: Engine, install: Install) -> None:
    """Two connections, each with the event of its own row."""
    sessions = sessionmaker(
        binds={
            Product: engine.execution_options(**of("tenant_a")),
            Customer: engine.execution_options(**of("tenant_b")),
        }
    )
    webhooks = install(sessions, bind=engine, deliver=False, capture="all")
    with sessions() as session:
        session.add_all([Product(sku="a"), Customer(email="a@b.example")])
        session.commit()
    webhooks.drain()

    assert sorted(one.type for one in webhooks.events.list()) == ["customer.created", "product.created"]
    assert _skus(engine) == {"tenant_a": ["a"], "tenant_b": []}


def test_an_engine_that_is_one_tenants_has_our_tables_in_the_tenants_schema(
    engine: Engine, install: Install, receiver: Receiver
) -> None:
    sessions = sessionmaker(engine.execution_options(**of("tenant_b")))
    webhooks = install(sessions)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a"))

    assert receiver.wait_for(1)[0].event["resource_id"] == "a"
    _ours_are_in(engine, "tenant_b")


def test_a_tenants_async_session(url: str, install: Install, receiver: Receiver) -> None:
    async_url = url.replace("psycopg", "asyncpg")
    with application_at(async_url) as application:
        webhooks = install(application.sessions)
        webhooks.endpoints.create(receiver.url(), events=["*"])

        async def main() -> None:
            for tenant in TENANTS:
                async with application.sessions() as session:
                    await session.connection(execution_options=of(tenant))
                    session.add(Product(sku=tenant))
                    await session.commit()

        application.run(main)
        receiver.wait_for(2)
        webhooks.uninstall()

    assert sorted(one["resource_id"] for one in receiver.events()) == list(TENANTS)  # of different rows in any order


def _ours_are_in(engine: Engine, schema: str) -> None:
    there = {
        name: [one for one in inspect(engine).get_table_names(schema=name) if one.startswith("webhook_")]
        for name in ("public", *TENANTS)
    }
    assert [name for name, tables in there.items() if tables] == [schema]


def _skus(engine: Engine) -> dict[str, list[str]]:
    found = {}
    for tenant in TENANTS:
        with by_engine(engine, tenant) as session:
            found[tenant] = [one.sku for one in session.query(Product)]
    return found
