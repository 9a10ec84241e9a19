"""Redis on this machine, as a store of receivers. One that is not there is a failure in CI, and a skip elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

#: Where Redis is, unless this environment variable says otherwise.
REDIS = "redis://127.0.0.1:6379/0"
ELSEWHERE = "SQLA_WEBHOOKS_REDIS_URL"


@contextmanager
def redis_client() -> Iterator[Redis]:
    """A client, of which nothing is kept: whoever uses it sets keys that end."""
    url = os.environ.get(ELSEWHERE, REDIS)
    with Redis.from_url(url, socket_timeout=10) as client:
        try:
            client.ping()
        except NoConnection as error:
            message = f"no Redis at {url}: start one there, or say where it is in {ELSEWHERE} ({error})"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        yield client
