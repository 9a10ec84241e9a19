"""As GitHub's documents say: "Validating webhook deliveries", and "Delivery headers" of webhook events."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from receivers.checks import by_any, check_json, lowered, parsed, require


class GitHub:
    """
    Accepts what `X-Hub-Signature-256` signs and what says its event and its delivery.

    Args:
        secrets: Any text; any of them will do.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        #: The payloads that it accepted, in the order in which they came.
        self.events: list[dict[str, Any]] = []
        #: Of each of the `events` its `X-GitHub-Event` and its `X-GitHub-Delivery`.
        self.named: list[tuple[str, str]] = []

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """As `Standard.receive`."""
        came = lowered(headers)
        by_any(self._secrets, lambda secret: _check_signature(secret, came, body))
        check_json(came)
        event, delivery = came.get("x-github-event", ""), came.get("x-github-delivery", "")
        require(event and delivery, "X-GitHub-Event or X-GitHub-Delivery is missing")
        payload = parsed(body)
        require(isinstance(payload, dict), "the payload is no object")
        self.events.append(payload)
        self.named.append((event, delivery))


def _check_signature(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    signature = headers.get("x-hub-signature-256", "")
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    require(hmac.compare_digest(signature.encode(), expected.encode()), "the signature is missing, or another")
