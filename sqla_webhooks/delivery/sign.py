"""
Signatures by Standard Webhooks 1.0, made and verified.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
sections "Signature scheme" and "Webhook headers (sending metadata to consumers)".
Pure: bytes in, text out; no database and no network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import secrets as random_source
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqla_webhooks._clock import Clock, SystemClock
from sqla_webhooks.errors import ConfigurationError, SignatureError

PREFIX = "whsec_"
VERSION = "v1"

#: What the specification allows a secret to measure, in bytes.
SHORTEST, LONGEST = 24, 64
#: What we make.
LENGTH = 32

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


class Headers(Protocol):
    """What is asked of a request's headers."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""


def generate_secret() -> str:
    """A new secret: `whsec_` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(random_source.token_bytes(LENGTH)).decode("ascii")


def check_secret(secret: str) -> str:
    """
    The secret, if it is one.

    Raises:
        ConfigurationError: It is not `whsec_` and the base64 of 24 to 64
            bytes. The message does not repeat it.
    """
    _key(secret)
    return secret


def sign(secrets: Sequence[str], message_id: str, *, timestamp: int, body: bytes) -> str:
    """
    The value of `webhook-signature`: one signature for each secret, in their order.

    Args:
        secrets: `whsec_…`, the newest first.
        message_id: The value of `webhook-id`.
        timestamp: The value of `webhook-timestamp`: seconds since 1970.
        body: The very bytes that are sent.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"{VERSION},{_signature(_key(secret), content)}" for secret in secrets)


def verify(
    body: bytes | str,
    headers: Headers,
    secret: str | Sequence[str],
    *,
    tolerance: float = 300,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """
    The event in a webhook request, if the request is what it claims to be.

    For receivers. Needs nothing of a database; safe in any thread.

    Args:
        body: The request's body as it came, before any parsing.
        headers: The request's headers, in whatever case: a dict, or what the
            framework has.
        secret: The endpoint's `whsec_…`, or several of which one must fit.
        tolerance: Seconds by which the request's timestamp may differ from now.
        clock: The source of now, for tests.

    Raises:
        SignatureError: A header is missing or malformed, the timestamp is too
            far off, no signature fits, or the body is not a JSON object.
        ConfigurationError: A secret is not one, or the body was parsed already.
    """
    raw = _raw(body)
    keys = [_key(one) for one in _several(secret)]
    if not keys:
        message = "no secret was given: without one nothing can be verified"
        raise ConfigurationError(message)
    message_id, sent_at, signatures = (_header(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    _check_time(sent_at, tolerance, clock or SystemClock())
    content = f"{message_id}.{sent_at}.".encode("utf-8", "surrogatepass") + raw
    if not _fits(signatures, [_signature(key, content) for key in keys]):
        message = f"no {VERSION} signature in {SIGNATURE} fits: the body was changed, or another secret signed it"
        raise SignatureError(message)
    return _event(raw)


def _raw(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    message = f"the body is {type(body).__name__}: give the bytes of the request as they came, before any parsing"
    raise ConfigurationError(message)


def _several(secret: Any) -> Sequence[Any]:
    return secret if isinstance(secret, Sequence) and not isinstance(secret, str | bytes) else [secret]


def _key(secret: str) -> bytes:
    problem = "it is not text"
    if isinstance(secret, str):
        problem = f"it does not start with {PREFIX!r}"
        if secret.startswith(PREFIX):
            try:
                key = base64.b64decode(secret.removeprefix(PREFIX).encode(), validate=True)
            except (binascii.Error, UnicodeEncodeError):
                problem = "what follows the prefix is not base64"
            else:
                if SHORTEST <= len(key) <= LONGEST:
                    return key
                problem = f"it has {len(key)} bytes, not {SHORTEST} to {LONGEST}"
    message = f"the secret cannot be used: {problem}. A secret is {PREFIX!r} and base64, as endpoints.create() makes it"
    raise ConfigurationError(message)


def _signature(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode("ascii")


def _header(headers: Headers, name: str) -> str:
    for key, value in headers.items():
        if isinstance(key, str) and key.lower() == name and isinstance(value, str) and value:
            return value
    message = f"the header {name} is missing: this is no Standard Webhooks request"
    raise SignatureError(message)


def _check_time(sent_at: str, tolerance: float, clock: Clock) -> None:
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):  # noqa: PLR2004  # to the year 33658
        message = f"{TIMESTAMP} is not a number of seconds"
        raise SignatureError(message)
    off = clock.now().timestamp() - int(sent_at)
    if abs(off) > tolerance:
        message = f"{TIMESTAMP} is {math.ceil(abs(off))} s {'old' if off > 0 else 'ahead'}; {tolerance:g} s are allowed"
        raise SignatureError(message)


def _fits(header: str, expected: Sequence[str]) -> bool:
    """Whether one of the header's signatures is one of *expected*, each compared in constant time."""
    fits = False
    for token in header.split():
        version, _, signature = token.partition(",")
        if version == VERSION:
            given = signature.encode("utf-8", "surrogatepass")
            for one in expected:
                fits |= hmac.compare_digest(given, one.encode())
    return fits


def _event(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
    except (ValueError, RecursionError) as error:
        message = "the signature fits, but the body is not JSON"
        raise SignatureError(message) from error
    if not isinstance(event, dict):
        message = "the signature fits, but the body is not a JSON object"
        raise SignatureError(message)
    return event
