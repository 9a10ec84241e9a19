"""What is put right by hand, where the driver is async: beside a running event loop, and inside one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from support.async_databases import Application, application_at
from support.local import Install
from support.receiver import Receiver
from support.shop import Product
from tenacity import stop_after_attempt

from sqla_webhooks import Progress, Pruned, Reencrypted, Webhooks


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    with application_at(f"sqlite+aiosqlite:///{tmp_path}/shop.db") as application:
        yield application


def put_right(webhooks: Webhooks, endpoint: str) -> list[object]:
    """Something of everything."""
    event = webhooks.events.list()[0].id
    return [
        webhooks.deliveries.retry(1).state.value,
        webhooks.deliveries.cancel(1).state.value,
        webhooks.deliveries.retry_all(),
        webhooks.deliveries.cancel_all(state="pending"),
        webhooks.events.replay(event, endpoint=endpoint).state.value,
        webhooks.events.replay_all(endpoint=endpoint),
        webhooks.endpoints.rotate_secret(endpoint, overlap=60).header_names,
        len(webhooks.endpoints.secrets(endpoint)),
        webhooks.endpoints.reencrypt(),
        webhooks.prune(),
    ]


@pytest.mark.parametrize("inside", [False, True])
def test_everything_can_be_called(
    application: Application, install: Install, receiver: Receiver, *, inside: bool
) -> None:
    new_key, old_key = Fernet.generate_key(), Fernet.generate_key()
    with install(application.sessions, deliver=False, encryption_keys=[old_key]) as before:
        endpoint = before.endpoints.create(receiver.url(), events=["*"], headers={"X-Key": "1"})
    webhooks = install(
        application.sessions, deliver=False, stop=stop_after_attempt(1), encryption_keys=[new_key, old_key]
    )
    receiver.answer(500, 500)
    application.put(Product(sku="a"), Product(sku="b"))
    webhooks.drain()

    async def main() -> list[object]:
        return put_right(webhooks, endpoint.id)

    came = application.run(main) if inside else put_right(webhooks, endpoint.id)
    one = Progress(1, 1)
    assert came == ["pending", "cancelled", one, one, "pending", one, ("X-Key",), 2, Reencrypted(2), Pruned()]
    webhooks.drain()
    assert len(receiver.received) == 4
