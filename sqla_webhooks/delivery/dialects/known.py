"""The dialects of an installation, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqla_webhooks.delivery.dialects.cloudevents import CloudEvents, CloudEventsBinary
from sqla_webhooks.delivery.dialects.github import GitHub
from sqla_webhooks.delivery.dialects.openfront import OpenFront
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.dialect import Dialect, checked
from sqla_webhooks.errors import ConfigurationError, EndpointError


@dataclass(frozen=True, slots=True)
class Dialects:
    """Those that there are already, and the application's, which replace them where they are called the same."""

    by_name: Mapping[str, Dialect]

    @classmethod
    def of(cls, given: Iterable[object]) -> Dialects:
        """
        With those that an application has given.

        Raises:
            ConfigurationError: One is no dialect, or two have one name.
        """
        there: tuple[Dialect, ...] = (Standard(), OpenFront(), GitHub(), CloudEvents(), CloudEventsBinary())
        return cls({one.name: one for one in (*there, *checked(given))})

    def has(self, name: str) -> bool:
        """Whether there is one of that name."""
        return name in self.by_name

    def is_stored(self, name: str) -> bool:
        """Whether its bodies are what is stored of events."""
        return type(self.by_name.get(name)) is Standard

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(self.by_name)

    def get(self, name: str) -> Dialect:
        """
        The one of this name.

        Raises:
            ConfigurationError: There is none; the message says which there are.
        """
        dialect = self.by_name.get(name) if isinstance(name, str) else None
        if dialect is None:
            close = difflib.get_close_matches(str(name).lower(), self.names, n=1)
            meant = f", did you mean {close[0]!r}" if close else ""
            message = (
                f"no dialect is called {name!r}{meant}: there are {', '.join(self.names)}; "
                "install(dialects=[...]) adds others"
            )
            raise ConfigurationError(message)
        return dialect

    def check_name(self, name: Any) -> str:
        """
        What an endpoint may name.

        Raises:
            EndpointError: There is none of that name.
        """
        try:
            return self.get(name).name
        except ConfigurationError as error:
            raise EndpointError(str(error)) from None

    def check_batch(self, name: str, size: int) -> None:
        """
        Whether several events may go in one request of this dialect.

        Raises:
            EndpointError: They may not.
        """
        if not self.get(name).batches:
            message = f"batch is {size}, and the dialect {name!r} sends each event by itself: leave batch out"
            raise EndpointError(message)

    def check_secret(self, name: str, secret: str) -> str:
        """
        The secret, if requests of that dialect can be signed with it.

        Raises:
            ConfigurationError: They cannot, or there is no such dialect. The message does not repeat it.
        """
        dialect = self.get(name)
        try:
            checked: object = dialect.check_secret(secret)
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001  # an application's own dialect, whose words may repeat the secret
            problem = f"raised {type(error).__name__}"
        else:
            if isinstance(checked, str):
                return checked
            problem = f"returned {type(checked).__name__}"
        message = f"check_secret() of the dialect {name!r} {problem}: return the secret, or raise ConfigurationError"
        raise ConfigurationError(message)
