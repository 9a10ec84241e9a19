"""`endpoints.register()`: one endpoint for a key, whoever registers it, and however often."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker
from support.databases import Database
from support.local import Install
from support.receiver import Receiver
from support.shop import Product

from sqla_webhooks import EndpointError, InvalidURL, NewEndpoint, NotFound, Webhooks
from sqla_webhooks.given import UNSAID

Sessions = sessionmaker[Session]


def test_twice_is_one_endpoint_that_is_what_was_said_last(webhooks: Webhooks, receiver: Receiver) -> None:
    first = webhooks.endpoints.register("crm", url=receiver.url("/old"), events=["product.*"], description="old")
    assert isinstance(first, NewEndpoint)
    second = webhooks.endpoints.register("crm", url=receiver.url("/new"), events=["*"], batch=5)
    assert not isinstance(second, NewEndpoint)
    assert webhooks.endpoints.list() == [second]
    assert (second.id, second.key, second.created_at) == (first.id, "crm", first.created_at)
    assert (second.url, second.events, second.batch, second.description) == (receiver.url("/new"), ("*",), 5, "")


def test_the_secret_stays_and_whether_it_is_enabled(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    first = webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    assert isinstance(first, NewEndpoint)
    webhooks.endpoints.disable(first.id)
    again = webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    assert not again.enabled
    webhooks.endpoints.enable(first.id)
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    webhooks.drain()
    (only,) = receiver.received
    assert only.is_signed(first.secret)


def test_another_secret_signs_first_and_the_old_one_beside_it(
    webhooks: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    first = webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    assert isinstance(first, NewEndpoint)
    given = "whsec_" + "A" * 40
    for _ in range(3):
        webhooks.endpoints.register("crm", url=receiver.url(), events=["*"], secret=given)
    with sessions.begin() as session:
        session.add(Product(sku="a"))
    webhooks.drain()
    (only,) = receiver.received
    assert only.is_signed(given, first.secret)
    assert len(webhooks.endpoints.secrets(first.id)) == 2


def test_each_tenant_has_keys_of_its_own_to_the_letter(webhooks: Webhooks, receiver: Receiver) -> None:
    tenants: list[Any] = [UNSAID, "acme", "ACME", "acme ", 1, "01"]
    ids = {
        webhooks.endpoints.register(key, url=receiver.url(), events=["*"], tenant=tenant).id
        for tenant in tenants
        for key in ("crm", "CRM", "crm ")
    }
    assert len(ids) == len(tenants) * 3
    assert webhooks.endpoints.register("crm", url=receiver.url(), events=["*"], tenant="1").id in ids
    assert {one.tenant for one in webhooks.endpoints.list(tenant="acme")} == {"acme"}
    assert len(webhooks.endpoints.list(tenant="acme")) == 3


def test_a_deleted_endpoint_gives_its_key_up(webhooks: Webhooks, receiver: Receiver) -> None:
    first = webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    webhooks.endpoints.delete(first.id)
    second = webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    assert isinstance(second, NewEndpoint)
    assert second.id != first.id
    with pytest.raises(NotFound):
        webhooks.endpoints.get(first.id)


def test_its_scope_is_for_good(webhooks: Webhooks, receiver: Receiver) -> None:
    webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    with pytest.raises(EndpointError, match="scope 'all', which is for good"):
        webhooks.endpoints.register("crm", url=receiver.url(), events=["*"], scope="shared")
    (only,) = webhooks.endpoints.list()
    assert only.scope == "all"


@pytest.mark.parametrize("key", ["", "x" * 501, "nul\0", 7, None])
def test_what_is_no_key_is_refused(webhooks: Webhooks, receiver: Receiver, key: Any) -> None:
    with pytest.raises(EndpointError, match=r"^key is "):
        webhooks.endpoints.register(key, url=receiver.url(), events=["*"])
    assert webhooks.endpoints.list() == []


def test_what_is_refused_leaves_the_endpoint_as_it_was(webhooks: Webhooks, receiver: Receiver) -> None:
    first = webhooks.endpoints.register("crm", url=receiver.url(), events=["*"])
    with pytest.raises(InvalidURL):
        webhooks.endpoints.register("crm", url="ftp://example.com", events=["*"])
    assert [one.url for one in webhooks.endpoints.list()] == [first.url]


def test_those_who_register_at_once_register_one(database: Database, install: Install, receiver: Receiver) -> None:
    with database.patient.engine() as engine:  # one after the other, which takes what it takes
        webhooks = install(sessionmaker(engine), deliver=False)
        start = threading.Barrier(4)
        found: list[str] = []

        def register() -> None:
            start.wait()
            found.append(webhooks.endpoints.register("crm", url=receiver.url(), events=["*"]).id)

        threads = [threading.Thread(target=register) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(found)) == 1
        assert [one.id for one in webhooks.endpoints.list()] == found[:1]


def test_a_tenant_that_is_missing_is_not_everybody(webhooks: Webhooks, receiver: Receiver) -> None:
    nobody: Any = None
    for call in (
        lambda: webhooks.endpoints.create(receiver.url(), ["*"], tenant=nobody),
        lambda: webhooks.endpoints.register("crm", url=receiver.url(), events=["*"], tenant=nobody),
        lambda: webhooks.endpoints.list(tenant=nobody),
        lambda: webhooks.events.list(tenant=nobody),
    ):
        with pytest.raises(EndpointError, match="tenant is None, which is no tenant"):
            call()
    assert webhooks.endpoints.list() == []


_TERMS = st.fixed_dictionaries(
    {"events": st.sampled_from([["*"], ["product.*"], ["*.created", "product.updated"]])},
    optional={
        "filter": st.sampled_from([{}, {"data.stock": 1}, {"$not": {"data.stock": {"$gt": 1}}}]),
        "payload": st.sampled_from(["full", "thin", "latest"]),
        "batch": st.integers(0, 100),
        "ordering": st.booleans(),
        "rate_limit": st.sampled_from([None, 1, 0.5]),
        "headers": st.sampled_from([{}, {"X-Token": "secret"}]),
        "description": st.sampled_from(["", "é"]),
    },
)


@given(said=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([UNSAID, "x"]), _TERMS), max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_registered_is_what_creating_it_anew_would_give(
    webhooks: Webhooks, receiver: Receiver, said: list[tuple[str, Any, dict[str, Any]]]
) -> None:
    for one in webhooks.endpoints.list():
        webhooks.endpoints.delete(one.id)
    last: dict[tuple[str, Any], dict[str, Any]] = {}
    for key, tenant, terms in said:
        webhooks.endpoints.register(key, url=receiver.url(), tenant=tenant, **terms)
        last[key, tenant] = terms
    there = {(one.key, one.tenant or UNSAID): _said_of(one) for one in webhooks.endpoints.list()}
    assert there == {
        (key, tenant): _said_of(webhooks.endpoints.create(receiver.url(), tenant=tenant, **terms))
        for (key, tenant), terms in last.items()
    }


def _said_of(endpoint: Any) -> list[Any]:
    names = ("url", "events", "filter", "payload", "batch", "ordering", "rate_limit", "header_names", "description")
    return [getattr(endpoint, name) for name in names]
