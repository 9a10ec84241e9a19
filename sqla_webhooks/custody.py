"""What of an endpoint nobody may read: its secrets and the values of its headers, checked, sealed and laid by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from sqla_webhooks import headers as own_headers
from sqla_webhooks.errors import ConfigurationError, EndpointError
from sqla_webhooks.outbox import endpoints, secrets
from sqla_webhooks.vault import Vault


class Custody:
    """
    The secrets of one installation's endpoints, on their way into the database.

    Args:
        check_secret: Whether a secret will do for the dialect of that name; raises `ConfigurationError` if not.
        make_secret: A new one, which does for every dialect of ours.
    """

    def __init__(
        self, vault: Vault, *, check_secret: Callable[[str, str], str], make_secret: Callable[[], str]
    ) -> None:
        self.vault = vault
        self._check_secret = check_secret
        self._make_secret = make_secret

    def secret(self, given: str | None, *, dialect: str) -> str:
        """
        That which was given, checked, or one that is made.

        Raises:
            EndpointError: It is none of that dialect. The message does not repeat it.
        """
        if given is None:
            return self._make_secret()
        try:
            return self._check_secret(dialect, given)
        except ConfigurationError as error:
            raise EndpointError(str(error)) from None

    def sealed(self, headers: Mapping[str, str]) -> str | None:
        """Headers as they are laid by; None for none."""
        return self.vault.seal(own_headers.written(headers)) if headers else None

    def check_vault(self, connection: Connection) -> None:
        """Raises `ConfigurationError` rather than lay a secret that anybody can read beside others that are sealed."""
        if not self.vault.seals and secrets.any_sealed(connection):
            message = (
                "the database holds secrets that are encrypted, and install() got no encryption_keys: give it those of "
                "the other processes"
            )
            raise ConfigurationError(message)

    def check_dialect(self, connection: Connection, public_id: str, *, dialect: str, now: datetime) -> None:
        """
        Whether the secrets that an endpoint has will do for another dialect; in a transaction that has written it.

        Raises:
            EndpointError: One will not.
            ConfigurationError: One cannot be read here.
        """
        for value in secrets.values(connection, endpoints.number_of(connection, public_id), now=now):
            secret = self.vault.open(value)
            try:
                self._check_secret(dialect, secret)
            except ConfigurationError as error:
                message = (
                    f"the endpoint cannot be sent to as {dialect!r}, for it has a secret that will not do: {error}. "
                    "First give it another: rotate_secret(overlap=0)"
                )
                raise EndpointError(message) from None

    def rotate(self, connection: Connection, public_id: str, secret: str, *, now: datetime, until: datetime) -> None:
        """Let *secret* sign first; in a transaction that has written the endpoint."""
        secrets.rotate(
            connection,
            endpoints.number_of(connection, public_id),
            self.vault.seal(secret),
            is_same=lambda sealed: self._holds(secret, sealed),
            now=now,
            until=until,
        )

    def is_newest(self, connection: Connection, public_id: str, secret: str, *, now: datetime) -> bool:
        """Whether that is what signs first already; in a transaction that has written the endpoint."""
        found = secrets.values(connection, endpoints.number_of(connection, public_id), now=now)
        return bool(found) and self._holds(secret, found[0])

    def _holds(self, secret: str, sealed: str) -> bool:
        """Whether that is what was sealed; one that cannot be opened is taken for another."""
        try:
            return self.vault.open(sealed) == secret
        except ConfigurationError:
            return False
