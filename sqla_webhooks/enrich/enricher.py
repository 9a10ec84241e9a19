"""A function as a receiver of the signal `enriching`, and the decorator that makes it one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.base import ExecutableOption

from sqla_webhooks.destination import Endpoint
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event
from sqla_webhooks.signals import Signal, enriching, enriching_for_endpoint

T = TypeVar("T")
#: What an enricher is: given the row and the payload, it changes the payload in place.
EnricherFunction: TypeAlias = Callable[[T, dict[str, Any]], None]
#: The same for one endpoint, which it is given too.
EndpointEnricherFunction: TypeAlias = Callable[[T, dict[str, Any], Endpoint], None]

F = TypeVar("F", bound=Callable[..., None])


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Enricher:
    """A function as a receiver of `enriching`, with what it wants loaded."""

    function: EnricherFunction[Any]
    options: tuple[ExecutableOption, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"the enricher {self.function.__module__}.{self.function.__qualname__}"

    def __call__(self, _model: type, *, instance: Any, payload: dict[str, Any], event: Event) -> None:  # noqa: ARG002  # the signal's arguments
        _check_returned(self.function(instance, payload))  # type: ignore[func-returns-value]  # not every caller has a type checker


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class EndpointEnricher:
    """A function as a receiver of `enriching_for_endpoint`, with what it wants loaded."""

    function: EndpointEnricherFunction[Any]
    options: tuple[ExecutableOption, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"the enricher {self.function.__module__}.{self.function.__qualname__}"

    def __call__(
        self,
        _model: type,
        *,
        instance: Any,
        payload: dict[str, Any],
        event: Event,  # noqa: ARG002  # the signal's argument
        endpoint: Endpoint,
    ) -> None:
        _check_returned(self.function(instance, payload, endpoint))  # type: ignore[func-returns-value]  # not every caller has a type checker


def _check_returned(returned: object) -> None:
    if returned is not None:
        message = f"it returned {type(returned).__name__}; an enricher changes the payload in place"
        raise TypeError(message)


def enricher(
    model: type[T], *, options: Iterable[ExecutableOption] = ()
) -> Callable[[EnricherFunction[T]], EnricherFunction[T]]:
    """
    Register a function that adds to the payloads of *model*'s events.

        @enricher(Order, options=[selectinload(Order.lines)])
        def with_lines(order, payload):
            payload["lines"] = [line.sku for line in order.lines]

    The function gets the row, as it is when the relay comes to it, and the
    event's `data`, a dict of JSON values to be changed in place. It runs in the
    relay's thread, for `created`, `updated` and `read` events whose row still
    exists, and for domain events that have the data of their row; a deleted row
    cannot be loaded. The row's session is for reading, and is thrown away: an
    enricher that flushes or commits it fails.

    Several enrichers of a class run in this order: those of its base classes
    first, then in the order of registration; those of the module's `@enricher`
    before those of `@webhooks.enricher`. One that raises leaves no trace in
    the payload, is logged, and is sent as the signal `enricher_failed`; the
    others run.

    Args:
        model: A mapped class; its subclasses' events are enriched too.
        options: Loader options for the query that loads the rows.

    Raises:
        ConfigurationError: *model* is not mapped, or the function is `async`.
    """
    return register(enriching, model, options=options)


def endpoint_enricher(
    model: type[T], *, options: Iterable[ExecutableOption] = ()
) -> Callable[[EndpointEnricherFunction[T]], EndpointEnricherFunction[T]]:
    """
    Register a function that shapes what each single endpoint gets of *model*'s events.

        @endpoint_enricher(Order)
        def with_price(order, payload, endpoint):
            if endpoint.tenant != order.account_id:
                del payload["margin"]

    As `enricher`, but it is given the `Endpoint` too, and runs later: for each
    attempt of each delivery, before it is sent, after the enrichers that know
    no endpoint. What it does is not stored: `webhooks.events` shows the
    payload before it.
    """
    return register_for_endpoint(enriching_for_endpoint, model, options=options)


def register(
    signal: Signal, model: type[T], *, options: Iterable[ExecutableOption]
) -> Callable[[EnricherFunction[T]], EnricherFunction[T]]:
    """`enricher()` for one signal: the module's, or that of an installation."""
    return _registered(signal, model, make=lambda function: Enricher(function, tuple(options)))


def register_for_endpoint(
    signal: Signal, model: type[T], *, options: Iterable[ExecutableOption]
) -> Callable[[EndpointEnricherFunction[T]], EndpointEnricherFunction[T]]:
    """`endpoint_enricher()` for one signal: the module's, or that of an installation."""
    return _registered(signal, model, make=lambda function: EndpointEnricher(function, tuple(options)))


def _registered(signal: Signal, model: type, *, make: Callable[[F], Callable[..., None]]) -> Callable[[F], F]:
    if not isinstance(sa_inspect(model, raiseerr=False), Mapper):
        message = f"@enricher({model!r}): name a mapped class"
        raise ConfigurationError(message)

    def connect(function: F) -> F:
        if inspect.iscoroutinefunction(function):
            message = (
                f"the enricher {function.__qualname__} is async; it runs in a plain thread: write a plain function"
            )
            raise ConfigurationError(message)
        signal.connect(make(function), sender=model, weak=False)
        return function

    return connect
