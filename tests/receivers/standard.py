"""Standard Webhooks, by the independent package `standardwebhooks`; it looks at the machine's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from receivers.checks import Refused, by_any, check_json, lowered, parsed


class Standard:
    """
    Accepts an event, or a batch `[...]` of them.

    Args:
        secrets: `whsec_…`, of which any will do.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        #: What it accepted, in the order in which it came.
        self.events: list[Any] = []

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """
        Accept one delivery.

        Args:
            headers: By name, in any case.

        Raises:
            Refused: It is not what its sender should send, or of another sender.
        """
        verify(self._secrets, headers, body)
        check_json(lowered(headers))
        came = parsed(body)
        self.events += came if isinstance(came, list) else [came]


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> None:
    """
    That one of the secrets has signed it.

    Raises:
        Refused: None has, or too long ago.
    """

    def by(secret: str) -> None:
        try:
            Webhook(secret).verify(body, dict(headers))
        except (WebhookVerificationError, ValueError) as error:  # the latter, where a header cannot be read
            raise Refused(str(error)) from error

    by_any(secrets, by)
