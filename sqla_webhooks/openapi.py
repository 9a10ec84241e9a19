"""A catalogue as an OpenAPI 3.1 document, by its section "Webhooks": what receivers are asked to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from sqla_webhooks.bodies import DEFINITIONS, CatalogueEvent

_COMPONENTS = "#/components/schemas/"


def document(events: Iterable[CatalogueEvent], *, title: str, version: str) -> dict[str, Any]:
    """
    The document, as JSON has it.

    Args:
        title, version: Of the application's webhooks; its `info`.
    """
    every = list(events)
    schemas = {name: one for event in every for name, one in event.schema.get("$defs", {}).items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "webhooks": {event.type: {"post": _operation(event)} for event in every},
        "components": {"schemas": _moved(schemas), "parameters": deepcopy(_PARAMETERS)},
    }


def _operation(event: CatalogueEvent) -> dict[str, Any]:
    schema = {key: one for key, one in event.schema.items() if key not in ("$schema", "$defs")}
    content = {"schema": _moved(schema), "example": deepcopy(event.example)}
    return {
        "operationId": event.type,
        "summary": event.description,
        "tags": [event.resource],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in _PARAMETERS],
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {
            "2XX": {"description": "It was received."},
            "default": {"description": "It was not, and is sent again later."},
        },
    }


def _moved(schema: Any) -> Any:
    """*schema* with its references to where schemas stand in such a document."""
    if isinstance(schema, Mapping):
        return {key: _place(one) if key == "$ref" else _moved(one) for key, one in schema.items()}
    return [_moved(one) for one in schema] if isinstance(schema, list) else schema


def _place(reference: Any) -> Any:
    """An attribute may be called `$ref`, too; then this is its schema."""
    return reference.replace(DEFINITIONS, _COMPONENTS, 1) if isinstance(reference, str) else _moved(reference)


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": description, "schema": schema}


#: Standard Webhooks 1.0, section "Webhook headers".
_PARAMETERS = {
    "webhook-id": _header("webhook-id", "The event's id: the same for every attempt.", {"type": "string"}),
    "webhook-timestamp": _header(
        "webhook-timestamp",
        "When the attempt was made, in seconds since 1970.",
        {"type": "string", "pattern": "^[0-9]+$"},
    ),
    "webhook-signature": _header(
        "webhook-signature",
        "Signatures of `id.timestamp.body`, separated by spaces; any of them may be the one by the known secret.",
        {"type": "string", "pattern": "^v1,"},
    ),
}
