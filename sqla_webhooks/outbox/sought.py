"""Which deliveries are looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_

from sqla_webhooks import models
from sqla_webhooks.deliveries import DeliveryState

_event, _endpoint, _delivery = models.event, models.endpoint, models.delivery

#: Deliveries with their events and endpoints: what conditions are about.
JOINED = _delivery.join(_event, _delivery.c.event_id == _event.c.id).join(
    _endpoint, _delivery.c.endpoint_id == _endpoint.c.id
)

# What waits for an endpoint that is disabled or deleted stays as it is in the table, so that neither touches it.
STATE = case(
    (_delivery.c.state != DeliveryState.PENDING, _delivery.c.state),
    (_endpoint.c.deleted_at.is_not(None), DeliveryState.CANCELLED),
    (_endpoint.c.enabled.is_(False), DeliveryState.HELD),
    else_=_delivery.c.state,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """
    What is said of the deliveries that are looked for; None says nothing.

    Attributes:
        state: As people see it.
        event, endpoint: Public ids.
        type: The event's.
        since, until: When they were finished, or made if they are not finished: at or after the one, before the other.
        before: Only smaller numbers.
        ended_by: Only what was finished by then.
    """

    state: DeliveryState | None = None
    event: str | None = None
    endpoint: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    ended_by: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same, of `JOINED`."""
        given = ((condition, getattr(self, name)) for name, condition in _CONDITIONS.items())
        return [condition(value) for condition, value in given if value is not None]


def _is(state: DeliveryState) -> ColumnElement[bool]:
    """Whether a delivery shows that state; what is dead is found by an index."""
    pending = _delivery.c.state == DeliveryState.PENDING
    there = _endpoint.c.deleted_at.is_(None)
    match state:
        case DeliveryState.PENDING:
            return and_(pending, there, _endpoint.c.enabled.is_(True))
        case DeliveryState.HELD:
            return and_(pending, there, _endpoint.c.enabled.is_(False))
        case DeliveryState.CANCELLED:
            return or_(_delivery.c.state == state, and_(pending, _endpoint.c.deleted_at.is_not(None)))
        case _:
            return _delivery.c.state == state


#: When a delivery was finished, or made, if it is not.
_AT = func.coalesce(_delivery.c.finished_at, _delivery.c.created_at, type_=_delivery.c.created_at.type)

_CONDITIONS: dict[str, Callable[[Any], ColumnElement[bool]]] = {
    "state": _is,
    "event": lambda event: _event.c.public_id == event,
    "endpoint": lambda endpoint: _endpoint.c.public_id == endpoint,
    "type": lambda type_: _event.c.type == type_,
    "since": lambda since: since <= _AT,
    "until": lambda until: until > _AT,
    "before": lambda number: _delivery.c.id < number,
    "ended_by": lambda ended_by: _delivery.c.finished_at <= ended_by,
}
