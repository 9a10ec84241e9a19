"""What lets a test reach a receiver on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqla_webhooks import Webhooks

LOCAL: dict[str, Any] = {"allow_http": True, "allow_networks": ["127.0.0.0/8"]}

#: The fixture of that name: `install()` with these settings, undone after the test.
Install = Callable[..., Webhooks]
