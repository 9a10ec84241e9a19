"""What an endpoint's requests are signed with, and the headers that they have beside ours: opened, for one claim."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqla_webhooks import headers
from sqla_webhooks.destination import Destination, Secret
from sqla_webhooks.errors import ConfigurationError, InvalidHeaders, SigningFailed
from sqla_webhooks.vault import Vault

logger = logging.getLogger(__name__)

#: Without the reason, which is for the log: tenants read it.
_FAILED = "the request could not be signed: what its secret or its headers are cannot be read now"
_NONE_VALID = "the endpoint has no secret that is valid: rotate_secret() gives it one"


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    Of one endpoint, open; neither is in a repr.

    Attributes:
        secrets: The newest first.
    """

    secrets: tuple[Secret, ...] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def live(self, now: datetime) -> list[str]:
        """
        The secrets that sign what is sent *now*.

        Raises:
            SigningFailed: There is none.
        """
        live = [one.value for one in self.secrets if one.is_live(now)]
        if not live:
            raise SigningFailed(_FAILED)
        return live


class Opener:
    """
    Opens what claims bring, and says once in the log what cannot be opened, until it can.

    Used by one thread at a time: the relay's, or that of `drain()`.

    Args:
        check_secret: Whether a secret will do for the dialect of that name; raises `ConfigurationError` if not.
    """

    def __init__(self, vault: Vault, *, check_secret: Callable[[str, str], str]) -> None:
        self._vault = vault
        self._check_secret = check_secret
        #: What was said, by endpoint.
        self._said: dict[str, str] = {}

    def open(self, destination: Destination, *, now: datetime) -> Credentials | SigningFailed:
        """
        All that is needed of *destination*; or why it cannot be sent to.

        Its newest secret must be there: by an older one alone, a receiver that
        knows the newest would refuse all. Without an older one, the requests go
        to those that know the newest.
        """
        live = [one for one in destination.secrets if one.is_live(now)]
        if not live:
            return self._failed(destination, _NONE_VALID)
        try:
            newest = self._opened(live[0], destination.dialect)
            added = {} if destination.headers is None else headers.read(self._vault.open(destination.headers))
        except (ConfigurationError, InvalidHeaders) as error:
            return self._failed(destination, str(error))
        return Credentials((newest, *self._older(destination, live[1:])), added)

    def _failed(self, destination: Destination, why: str) -> SigningFailed:
        self._say(destination, logging.ERROR, f"its requests cannot be signed, and wait: {why}")
        return SigningFailed(_FAILED)

    def _older(self, destination: Destination, secrets: list[Secret]) -> list[Secret]:
        opened, problem = [], ""
        for one in secrets:
            try:
                opened.append(self._opened(one, destination.dialect))
            except ConfigurationError as error:
                problem = str(error)
        if problem:
            self._say(destination, logging.WARNING, f"its requests lack the signature of an older secret: {problem}")
        else:
            self._said.pop(destination.endpoint_id, None)
        return opened

    def _opened(self, secret: Secret, dialect: str) -> Secret:
        """Raises `ConfigurationError` for what cannot be opened, and for what is no secret."""
        return Secret(self._check_secret(dialect, self._vault.open(secret.value)), secret.expires_at)

    def _say(self, destination: Destination, level: int, problem: str) -> None:
        if self._said.get(destination.endpoint_id) != problem:
            self._said[destination.endpoint_id] = problem
            about = {"webhooks.endpoint": destination.endpoint_id}
            logger.log(level, "endpoint %s: %s", destination.endpoint_id, problem, extra=about)
