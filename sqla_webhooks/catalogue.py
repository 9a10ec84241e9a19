"""Every event that can occur, as receivers read it: `print(webhooks.catalogue())`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy import inspect as sa_inspect

from sqla_webhooks import openapi
from sqla_webhooks.bodies import CatalogueEvent, Row, domain_event, either, operational_event
from sqla_webhooks.encoding import Encoders
from sqla_webhooks.events import CHANGES
from sqla_webhooks.mappers import mapped
from sqla_webhooks.resources import Resources, Shape
from sqla_webhooks.schema import INTEGER, TEXT, Form, Forms
from sqla_webhooks.subscriptions import OPERATIONAL


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every event that can occur, by resource, the webhooks' own last: what `print()` shows as a table."""

    events: tuple[CatalogueEvent, ...]

    def __iter__(self) -> Iterator[CatalogueEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __contains__(self, type_: object) -> bool:
        return any(one.type == type_ for one in self.events)

    def __getitem__(self, type_: str) -> CatalogueEvent:
        """
        That of a type, as in `catalogue["order.created"]`.

        Raises:
            KeyError: There are no such events.
        """
        for one in self.events:
            if one.type == type_:
                return one
        raise KeyError(type_)

    def __str__(self) -> str:
        """A line for each."""
        width = max((len(one.type) for one in self.events), default=0)
        return "\n".join(f"{one.type:{width}}  {one.description}" for one in self.events)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """By type, what JSON can say: `description`, `schema`, `example`."""
        return {
            one.type: {"description": one.description, "schema": deepcopy(one.schema), "example": deepcopy(one.example)}
            for one in self.events
        }

    def openapi(self, title: str = "Webhooks", version: str = "1") -> dict[str, Any]:
        """
        An OpenAPI 3.1 document, whose `webhooks` are these events; what is sent of rows stands in its components.

        Args:
            title, version: Its `info`.
        """
        return openapi.document(self.events, title=title, version=version)


def catalogue(
    resources: Resources,
    *,
    dialect: Dialect,
    encoders: Encoders,
    domain_events: Mapping[str, type | None] = MappingProxyType({}),
) -> Catalogue:
    """
    All events of the classes that are mapped so far and captured, of the application's own, and of the webhooks'.

    Args:
        dialect: Of the database: what a column may hold depends on it.
        domain_events: By type, the class that they are about, if any.

    Raises:
        SQLAlchemyError: A mapped class is not yet complete, or wrongly mapped.
    """
    shapes = [shape for mapper in mapped() if (shape := resources.shape(mapper)) is not None]
    rows = _rows(sorted(shapes, key=lambda one: (one.resource, one.table)), Forms(dialect, encoders=encoders))
    events = [
        row.event(operation)
        for shape, row in rows.items()
        for operation in (*(one.value for one in CHANGES if one in resources.standing(shape.mapper).operations), "read")
    ]
    events += [_domain_event(type_, cls, resources=resources, rows=rows) for type_, cls in domain_events.items()]
    return Catalogue(tuple(_by_type([*events, *_operational()])))


def _rows(shapes: Iterable[Shape], forms: Forms) -> dict[Shape, Row]:
    rows: dict[Shape, Row] = {}
    seen: dict[str, int] = {}
    for shape in shapes:
        seen[shape.resource] = number = seen.get(shape.resource, 0) + 1
        name = shape.resource if number == 1 else f"{shape.resource}.{number}"
        rows[shape] = Row.of(shape, name=name, forms=forms)
    return rows


def _domain_event(type_: str, cls: type | None, *, resources: Resources, rows: Mapping[Shape, Row]) -> CatalogueEvent:
    shape = None if cls is None else resources.shape(sa_inspect(cls))
    return domain_event(type_, None if shape is None else rows[shape])


def _by_type(events: Iterable[CatalogueEvent]) -> Iterator[CatalogueEvent]:
    found: dict[str, list[CatalogueEvent]] = {}
    for one in events:
        found.setdefault(one.type, []).append(one)
    yield from map(either, found.values())


def _operational() -> tuple[CatalogueEvent, ...]:
    """As `operational` makes them."""
    disabled, dead = OPERATIONAL
    endpoint = _words("ep_0123456789abcdef0123456789abcdef")
    return (
        operational_event(
            disabled,
            "An endpoint was disabled: it was gone, or did nothing but fail.",
            data={
                "id": endpoint,
                "reason": _words("failing").nullable,
                "failures": replace(INTEGER, example=42),
                "failing_since": Form({"type": "string", "format": "date-time"}, "2026-11-18T10:00:00+00:00").nullable,
            },
        ),
        operational_event(
            dead,
            "A delivery was given up.",
            data={
                "id": INTEGER,
                "event_id": _words("evt_019aaf2f0b7b5c3a1f9e0d8c7b6a5948"),
                "event_type": _words("order.created"),
                "endpoint_id": endpoint,
                "attempts": replace(INTEGER, example=10),
                "reason": _words("timeout").nullable,
                "status": replace(INTEGER, example=None).nullable,
            },
        ),
    )


def _words(example: str) -> Form:
    return replace(TEXT, example=example)
