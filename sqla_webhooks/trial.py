"""An example of an event, sent to one endpoint so that its receiver can be tried: `endpoints.test()`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqla_webhooks._clock import Clock
from sqla_webhooks.catalogue import Catalogue
from sqla_webhooks.deliveries import Delivery
from sqla_webhooks.delivery.rendering import Rendering
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.errors import InvalidSubscription, NotFound
from sqla_webhooks.events import Event, Operation
from sqla_webhooks.ids import example_id
from sqla_webhooks.outbox import endpoints, history, trial
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.subscriptions import OPERATIONAL, Patterns


@dataclass(frozen=True, slots=True)
class Trial:
    """
    Sends examples for one installation. In the caller's thread, in a short transaction of its own.

    Attributes:
        catalogue: What events there are.
        due: Told after the write.
    """

    database: Database
    catalogue: Callable[[], Catalogue]
    rendering: Rendering
    clock: Clock
    due: Callable[[], None]

    def send(self, endpoint_id: str, type_: str | None) -> Delivery:
        """As `endpoints.test()`."""
        with self.database.read() as connection:
            endpoint = endpoints.find(connection, endpoint_id)
        if endpoint is None:
            raise endpoints.not_found(endpoint_id)
        (message,) = self.rendering.messages([self._example(endpoint, type_)])
        number = trial.give(self.database, message, endpoint_id=endpoint_id, now=self.clock.now())
        self.due()
        with self.database.read() as connection:
            delivery = history.delivery(connection, number)
        if delivery is None:
            raise endpoints.not_found(endpoint_id)
        return delivery

    def _example(self, endpoint: Endpoint, type_: str | None) -> Event:
        catalogue = self.catalogue()
        example = catalogue[self._type(catalogue, endpoint, type_)].example
        now = self.clock.now()
        return Event(
            id=example_id(now),
            type=example["type"],
            timestamp=now,
            resource=example["resource"],
            resource_id=example["resource_id"],
            operation=Operation(example["operation"]),
            data=example["data"],
            changes=example.get("changes"),
            links=example.get("links"),
            endpoint=endpoint.id,
            audience=endpoint.reach.audience,
            tenant=endpoint.tenant,
        )

    def _type(self, catalogue: Catalogue, endpoint: Endpoint, type_: str | None) -> str:
        """The type that was asked for, or the first to which the endpoint has subscribed."""
        if type_ is not None:
            if type_ in catalogue:
                return type_
            message = f"no event is called {type_!r}: print(webhooks.catalogue()) shows those that there are"
            raise NotFound(message)
        patterns = Patterns.of(endpoint.events)
        for one in catalogue:
            if patterns.match(one.type) and (one.type not in OPERATIONAL or one.type in endpoint.events):
                return one.type
        message = (
            f"nothing that can occur here is what the endpoint has subscribed to, {', '.join(endpoint.events)}: import "
            "the modules that map your classes, or name a type"
        )
        raise InvalidSubscription(message)
