"""
CloudEvents 1.0.2 over HTTP, structured and binary.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, and there
`bindings/http-protocol-binding.md` and `formats/json-format.md`. CloudEvents
has no signature: we add the headers of Standard Webhooks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from sqla_webhooks.delivery import sign
from sqla_webhooks.delivery.dialects import standard
from sqla_webhooks.delivery.dialects.instants import milliseconds
from sqla_webhooks.dialect import Post
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event

#: Where events come from, unless the application says it.
SOURCE = "urn:sqla-webhooks"

_LONGEST_SOURCE = 500
# As it is in a header; beyond it, servers refuse the whole request.
_LONGEST_SUBJECT = 2000

# A URI-reference by RFC 3986, appendix A.
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
_PLACE = rf"//(?:(?:{_PCHAR})*@)?{_HOST}(?::[0-9]*)?(?:/{_PCHAR}*)*"
_PATH = rf"(?!//)(?:{_PCHAR}|/)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:(?:{_PLACE}|{_PATH})|{_PLACE}|(?![^/?#]*:){_PATH})"
    rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:\#(?:{_PCHAR}|[/?])*)?"
)

# What no attribute may have, by spec.md, section "Type System": controls, surrogates, noncharacters.
_LAST_OF_PLANES = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_FORBIDDEN = re.compile(f"[\0-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_LAST_OF_PLANES}]")
# What a header has as it is, by the HTTP binding, section 3.1.3.2.
_SAFE = "".join(map(chr, range(0x21, 0x7F))).translate({ord('"'): None, ord("%"): None})


@dataclass(frozen=True, slots=True)
class _Sourced:
    """What both modes have: where the events come from, and the secrets of Standard Webhooks, by which they sign."""

    source: str = SOURCE

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for what is no source."""
        _check_source(self.source)

    def check_secret(self, secret: str) -> str:
        """
        The secret, if it is `whsec_` and the base64 of 24 to 64 bytes.

        Raises:
            ConfigurationError: It is not. The message does not repeat it.
        """
        return sign.check_secret(secret)


@dataclass(frozen=True, slots=True)
class CloudEvents(_Sourced):
    """
    CloudEvents in structured mode: one JSON object, or an array of them as a batch.

    Attributes of the event: `specversion`, `id`, `source`, `type`, `subject`
    (`order/42`), `time`, `datacontenttype`; `data` is the standard body
    without what stands there already. In a `subject`, what CloudEvents forbids
    is U+FFFD; one of more than 2,000 bytes in a header is left out. `data` has
    the `resource_id` as it is.

    Signed, over the body, by the three headers of Standard Webhooks, and by
    each secret that is valid; `webhook-id` is the event's `id`, unless it is a batch.

    Attributes:
        source: Where the events come from: a URI-reference of 500 characters at the most. Say which application of
            yours it is.
    """

    name: ClassVar[str] = "cloudevents"
    batches: ClassVar[bool] = True

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        """The whole event."""
        return dumps({**_attributes(event, self.source), "datacontenttype": "application/json", "data": _data(event)})

    def headers(self, post: Post) -> Mapping[str, str]:
        """The content type says whether it is a batch."""
        kind = "cloudevents-batch" if post.batch else "cloudevents"
        return {"Content-Type": f"application/{kind}+json; charset=utf-8", **standard.signature_headers(post)}


@dataclass(frozen=True, slots=True)
class CloudEventsBinary(_Sourced):
    """
    CloudEvents in binary mode: the body is `data`, and the attributes are headers.

    As `CloudEvents` otherwise, but that there are no batches. The signature is
    over the body and the id: the other `ce-` headers, the type among them,
    are only as safe as the connection.
    """

    name: ClassVar[str] = "cloudevents-binary"
    batches: ClassVar[bool] = False

    def body(self, event: Event, *, dumps: Callable[[Any], bytes]) -> bytes:
        """The `data` of the event."""
        return dumps(_data(event))

    def headers(self, post: Post) -> Mapping[str, str]:
        """Those of the only event."""
        attributes = {f"ce-{name}": _encoded(value) for name, value in _attributes(post.event, self.source).items()}
        return {"Content-Type": "application/json", **attributes, **standard.signature_headers(post)}


def _attributes(event: Event, source: str) -> dict[str, str]:
    made = {"specversion": "1.0", "id": event.id, "source": source, "type": event.type}
    subject = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", f"{event.resource}/{event.resource_id}")
    if len(_encoded(subject)) <= _LONGEST_SUBJECT:
        made["subject"] = subject
    return {**made, "time": milliseconds(event.timestamp)}


def _data(event: Event) -> dict[str, Any]:
    return {name: value for name, value in standard.content(event).items() if name not in ("type", "timestamp", "id")}


def _encoded(value: str) -> str:
    return quote(value, safe=_SAFE)


def _check_source(source: object) -> None:
    if not isinstance(source, str) or not 0 < len(source) <= _LONGEST_SOURCE or not _REFERENCE.fullmatch(source):
        message = (
            f"source is {source!r}: give a URI of {_LONGEST_SOURCE} characters at most, with what is not ASCII "
            'percent-encoded, as in source="https://shop.example/orders"'
        )
        raise ConfigurationError(message)
