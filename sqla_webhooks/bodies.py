"""
The bodies of events, described: the JSON Schema (2020-12) of each type's, and an example.

The body is that of `Standard`. What is sent of a row has a schema of its own,
which the bodies refer to: `order` for the row, `order.before` for the row as its
object had it, `order.changes` for what an update has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from sqlalchemy import Table

from sqla_webhooks.encoding import dumps
from sqla_webhooks.events import Operation
from sqla_webhooks.resources import Shape
from sqla_webhooks.schema import SCALARS, Form, Forms

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Where the schemas of rows stand.
DEFINITIONS = "#/$defs/"

_INSTANT = "2026-11-23T10:00:00.123Z"
_ID = "evt_019aaf2f0b7b5c3a1f9e0d8c7b6a5948"


@dataclass(frozen=True, slots=True)
class CatalogueEvent:
    """
    One type of event.

    Attributes:
        type: As endpoints subscribe to it: `order.created`.
        resource: What its bodies say in `resource`; of a domain event, the first part of its type.
        description: A sentence for people.
        schema: The JSON Schema (2020-12) of the body; complete in itself.
        example: A body, as parsed JSON; always the same.
    """

    type: str
    resource: str
    description: str
    schema: Mapping[str, Any] = field(repr=False)
    example: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Row:
    """
    What is sent of the rows of one class.

    Attributes:
        name: Of its schema: its resource, and a number where another class has that name too.
        forms: By attribute.
        stored: The attributes that are columns: an update tells how they have changed.
        key: The attributes of the primary key, in key order.
        links: The many-to-many relationships that are told of.
    """

    name: str
    resource: str
    class_name: str
    forms: Mapping[str, Form]
    stored: tuple[str, ...]
    key: tuple[str, ...]
    links: tuple[str, ...]

    @classmethod
    def of(cls, shape: Shape, *, name: str, forms: Forms) -> Row:
        """
        That of a shape.

        Raises:
            SQLAlchemyError: The class is not yet complete, or wrongly mapped.
        """
        mapper = shape.mapper
        sent = {name: column for name, column in shape.columns.items() if name not in shape.hidden}
        outer = not isinstance(mapper.local_table, Table)  # a join, or a query: what it does not find is null
        return cls(
            name,
            shape.resource,
            mapper.class_.__name__,
            forms={one: forms.of(column, outer=outer) for one, column in sent.items()},
            stored=tuple(name for name in shape.stored if name in sent),
            key=shape.key,
            links=tuple(one.key for one in mapper.relationships if one.secondary is not None and not one.viewonly),
        )

    def event(self, operation: str) -> CatalogueEvent:
        """The event of an operation on a row: `create`, `update`, `delete` or `read`."""
        verb, said = _SAID[operation]
        before = operation == Operation.DELETE
        updates = operation == Operation.UPDATE
        also: dict[str, Any] = {"changes": self._ref(".changes")} if updates else {}
        if self.links:
            also["links"] = _object(dict.fromkeys(self.links, _LINK))
        type_ = f"{self.resource}.{verb}"
        body = _body(type_, resource=self.resource, operation=operation, data=self._ref(".before" * before), also=also)
        return _event(
            type_,
            resource=self.resource,
            description=said.format(self.class_name),
            body=_or_truncated(body, also=["changes"] if updates else []),
            definitions=self.definitions(before=before or updates, changes=updates),
            example=self._example(type_, operation),
        )

    def definitions(self, *, before: bool = False, changes: bool = False) -> dict[str, Any]:
        """The schema of the row, and those about the row as it was."""
        found = {self.name: _object({name: one.schema for name, one in self.forms.items()}, needed=self.forms)}
        if before:
            properties = {name: self._before(name) for name in self.forms}
            found[f"{self.name}.before"] = {**_object(properties, needed=self.key), "description": _AS_IT_WAS}
        if changes:
            found[f"{self.name}.changes"] = _object({name: self._change(name) for name in self.stored})
        return found

    def data(self) -> dict[str, Any]:
        """A row."""
        return {name: one.example for name, one in self.forms.items()}

    def id(self) -> str:
        """The `resource_id` of that row."""
        parts = [self.forms[name].example for name in self.key]
        return ",".join(one if isinstance(one, str) else dumps(one).decode() for one in parts)

    def _example(self, type_: str, operation: str) -> dict[str, Any]:
        example = _example(type_, resource=self.resource, resource_id=self.id(), operation=operation, data=self.data())
        if operation == Operation.UPDATE:
            changed = next((name for name in self.stored if name not in self.key), None)
            example["changes"] = {} if changed is None else {changed: self._changed(changed)}
        return example

    def _changed(self, name: str) -> dict[str, Any]:
        form = self.forms[name]
        return {"from": form.former, "to": form.example}

    def _change(self, name: str) -> dict[str, Any]:
        properties = {"from": self._ref(".before", name), "to": self._ref("", name)}
        return _object(properties, needed=["to"])

    def _before(self, name: str) -> dict[str, Any]:
        """The application may have set the attribute to something else, of which the database has made its value."""
        other: dict[str, Any] = {"type": SCALARS} if self.forms[name].is_scalar else {}
        return {"anyOf": [self._ref("", name), other]}

    def _ref(self, which: str, attribute: str = "") -> dict[str, Any]:
        # A JSON pointer in a URI: RFC 6901, sections 3 and 6.
        place = quote(attribute.replace("~", "~0").replace("/", "~1"))
        return {"$ref": f"{DEFINITIONS}{self.name}{which}{f'/properties/{place}' if attribute else ''}"}


def domain_event(type_: str, row: Row | None) -> CatalogueEvent:
    """An event of the application's own, about a row or not. Of its data is known that it is an object."""
    resource = type_.partition(".")[0]
    data: dict[str, Any] = {"type": "object"}
    also: dict[str, Any] = {}
    if row is not None:
        also = {"changes": {"anyOf": [{"$ref": f"{DEFINITIONS}{row.name}.changes"}, data], "description": _FOLLOWS}}
        data = {"anyOf": [{"$ref": f"{DEFINITIONS}{row.name}"}, data]}
    return _event(
        type_,
        resource=resource,
        description=f"The application's own{'' if row is None else f', about a row of {row.class_name}'}.",
        body=_body(type_, resource=None, operation=Operation.EMIT.value, data=data, also=also),
        definitions={} if row is None else row.definitions(before=True, changes=True),
        example=_example(
            type_,
            resource=resource if row is None else row.resource,
            resource_id="1" if row is None else row.id(),
            operation=Operation.EMIT.value,
            data={} if row is None else row.data(),
        ),
    )


def operational_event(type_: str, description: str, *, data: Mapping[str, Form], key: str = "id") -> CatalogueEvent:
    """One that is told of the webhooks themselves."""
    resource = type_.partition(".")[0]
    schema = _object({name: one.schema for name, one in data.items()}, needed=data)
    example = {name: one.example for name, one in data.items()}
    return _event(
        type_,
        resource=resource,
        description=description,
        body=_body(type_, resource=resource, operation=Operation.EMIT.value, data=schema, also={}),
        definitions={},
        example=_example(
            type_, resource=resource, resource_id=str(example[key]), operation=Operation.EMIT.value, data=example
        ),
    )


def either(events: Iterable[CatalogueEvent]) -> CatalogueEvent:
    """Events of one type, which classes of one name have, as one."""
    first, *others = events
    if not others:
        return first
    every = (first, *others)
    description = " Or: ".join(dict.fromkeys(one.description for one in every))
    definitions = {name: one for event in every for name, one in event.schema.get("$defs", {}).items()}
    bodies = [{key: one for key, one in event.schema.items() if key not in _OF_THE_WHOLE} for event in every]
    return _event(
        first.type,
        resource=first.resource,
        description=description,
        body={"anyOf": bodies},
        definitions=definitions,
        example=first.example,
    )


#: By operation: how types say it, and a sentence about it.
_SAID: Mapping[str, tuple[str, str]] = {
    Operation.CREATE.value: (Operation.CREATE.verb, "A row of {} was created."),
    Operation.UPDATE.value: (Operation.UPDATE.verb, "A row of {} was updated."),
    Operation.DELETE.value: (Operation.DELETE.verb, "A row of {} was deleted."),
    "read": ("read", "A row of {} as it is, sent by a backfill."),
}

_AS_IT_WAS = (
    "As the application's object had it: a value may be of another type than the one that the database makes of it, "
    "and one that was never loaded is missing."
)
_FOLLOWS = "There where the event follows from an update of the row: that update's."
_TRUNCATED = "There, and true, where the body would have been too large: data is the primary key at most."

_LINK = {
    "type": "object",
    "properties": {way: {"type": "array", "items": {"type": "string"}} for way in ("added", "removed")},
    "required": ["added", "removed"],
}

#: What stands in a schema once, whatever it is made of.
_OF_THE_WHOLE = ("$schema", "title", "description", "$defs")


def _object(properties: Mapping[str, Any], *, needed: Iterable[str] = ()) -> dict[str, Any]:
    required = {"required": list(needed)}
    return {"type": "object", "properties": dict(properties), **(required if required["required"] else {})}


def _body(
    type_: str, *, resource: str | None, operation: str, data: Mapping[str, Any], also: Mapping[str, Any]
) -> dict[str, Any]:
    needed = {
        "type": {"const": type_},
        "timestamp": {"type": "string", "format": "date-time"},
        "id": {"type": "string"},
        "resource": {"type": "string"} if resource is None else {"const": resource},
        "resource_id": {"type": "string"},
        "operation": {"const": operation},
        "data": data,
    }
    return _object({**needed, **also, "context": {"type": "object"}}, needed=needed)


def _or_truncated(body: Mapping[str, Any], *, also: list[str]) -> dict[str, Any]:
    """A body that is whole, and has *also*; or else says that it is not, and has only the key in its data."""
    properties = {**body["properties"], "truncated": {"const": True, "description": _TRUNCATED}}
    data = properties["data"]
    properties["data"] = {"anyOf": [data, {"type": "object"}]}
    whole = {"properties": {"data": data}, **({"required": also} if also else {})}
    return {**body, "properties": properties, "if": {"required": ["truncated"]}, "else": whole}


def _example(type_: str, *, resource: str, resource_id: str, operation: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": type_,
        "timestamp": _INSTANT,
        "id": _ID,
        "resource": resource,
        "resource_id": resource_id,
        "operation": operation,
        "data": dict(data),
    }


def _event(
    type_: str,
    *,
    resource: str,
    description: str,
    body: Mapping[str, Any],
    definitions: Mapping[str, Any],
    example: Mapping[str, Any],
) -> CatalogueEvent:
    defs = {"$defs": dict(definitions)} if definitions else {}
    schema = {"$schema": DIALECT, "title": type_, "description": description, **body, **defs}
    # Whoever changes what he was given changes no other.
    return CatalogueEvent(type_, resource, description, deepcopy(schema), deepcopy(dict(example)))
