"""CloudEvents 1.0 by their SDK, in requests that are signed as Standard Webhooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from cloudevents.core.exceptions import BaseCloudEventException

from receivers import standard
from receivers.checks import Refused, lowered, parsed, require

#: The SDK makes up what is missing of these: so that they came is looked at before it is asked.
REQUIRED = ("id", "source", "type", "specversion")

_STRUCTURED, _BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


class Structured:
    """
    Accepts what has all of an event in its body, and batches of such (HTTP binding, sections 3.2 and 3.3).

    Args:
        secrets: `whsec_…`, of which any will do.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        #: What it accepted, in the order in which it came.
        self.events: list[BaseCloudEvent] = []

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """As `Standard.receive`."""
        standard.verify(self._secrets, headers, body)
        content_type = lowered(headers).get("content-type", "").partition(";")[0]
        types = {_STRUCTURED, _BATCH}
        require(content_type in types, f"{content_type!r} is no content type of structured CloudEvents")
        came = parsed(body)
        require(isinstance(came, list) == (content_type == _BATCH), "a batch is an array, and nothing else is")
        self.events += [_structured(event) for event in (came if isinstance(came, list) else [came])]


class Binary:
    """
    Accepts what has an event's attributes in its headers, and its data as the body (HTTP binding, section 3.1).

    Args:
        secrets: `whsec_…`, of which any will do.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = secrets
        #: What it accepted, in the order in which it came.
        self.events: list[BaseCloudEvent] = []

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """As `Standard.receive`."""
        standard.verify(self._secrets, headers, body)
        came = lowered(headers)
        structured = came.get("content-type", "").startswith("application/cloudevents")
        require(not structured, "a structured event came where binary ones are expected")
        _check_required({name.removeprefix("ce-"): value for name, value in came.items() if name.startswith("ce-")})
        parsed(body)  # of what is no JSON the SDK would make text
        self.events.append(_by_sdk(from_binary_event, HTTPMessage(came, body)))


def _structured(event: dict[str, Any]) -> BaseCloudEvent:
    _check_required(event)
    # The SDK knows no batches; each of one is what a structured event is (HTTP binding, section 3.3).
    return _by_sdk(from_structured_event, HTTPMessage({"content-type": _STRUCTURED}, json.dumps(event).encode()))


def _check_required(attributes: Mapping[str, Any]) -> None:
    missing = [name for name in REQUIRED if not attributes.get(name)]
    require(not missing, f"CloudEvents attributes are missing: {', '.join(missing)}")
    require(attributes["specversion"] == "1.0", f"specversion is {attributes['specversion']!r}, not 1.0")


def _by_sdk(read: Callable[[HTTPMessage], BaseCloudEvent], message: HTTPMessage) -> BaseCloudEvent:
    try:
        return read(message)
    except (BaseCloudEventException, ValueError) as error:  # the latter, where the time is none
        raise Refused(str(error)) from error
