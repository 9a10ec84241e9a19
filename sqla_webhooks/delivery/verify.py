"""
Signatures by Standard Webhooks 1.0, verified: for receivers.

Section "Verifying webhook authenticity" of the specification that `sign`
names. Pure: no database and no network, but for what a replay guard does.
"""

from __future__ import annotations

import hmac
import inspect
import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from sqla_webhooks._clock import Clock, SystemClock
from sqla_webhooks.delivery.sign import ID, SIGNATURE, TIMESTAMP, VERSION, key_of, signature
from sqla_webhooks.errors import ConfigurationError, Replayed, SignatureError

#: Given a request's key and for how many seconds to remember it, remembers it and says whether it is new.
ReplayGuard: TypeAlias = Callable[[str, float], object]

T = TypeVar("T")

#: More signatures than anybody's secrets make; each costs a comparison with every secret.
MOST_SIGNATURES = 100

#: A guard that had to remember for longer would remember for ever.
LONGEST_GUARDED = 10**9


class Headers(Protocol):
    """What is asked of a request's headers."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""


def verify(
    body: bytes | str,
    headers: Headers,
    secret: str | Sequence[str],
    *,
    tolerance: float = 300,
    replay_guard: ReplayGuard | None = None,
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
        replay_guard: Called, once all else is right, with a key that a copy
            of the request has too, and the seconds for which to remember it;
            returns whether the key is new. It must look and remember in one
            step. `MemoryReplayGuard` is one, for a single process.
        clock: The source of now, for tests.

    Raises:
        Replayed: The replay guard knows the request.
        SignatureError: A header is missing or malformed, the timestamp is too
            far off, no signature fits, or the body is not a JSON object.
        ConfigurationError: A secret is not one, the body was parsed already,
            or another argument cannot work.
        Exception: Whatever the replay guard raises.
    """
    return _verified(body, headers, secret, read=_event, tolerance=tolerance, replay_guard=replay_guard, clock=clock)


def verify_batch(
    body: bytes | str,
    headers: Headers,
    secret: str | Sequence[str],
    *,
    tolerance: float = 300,
    replay_guard: ReplayGuard | None = None,
    clock: Clock | None = None,
) -> list[dict[str, Any]]:
    """
    The events in a request to an endpoint that asked for several in one (`batch`), in their order.

    As `verify()`, which is for one event. Answer 2xx for all of them, or 2xx
    with `{"failed": ["evt_…"]}` for all but those, which come again, each in a
    request of its own.

    Raises:
        SignatureError: As for `verify()`; or the body is not a JSON array of objects.
        Replayed, ConfigurationError, Exception: As for `verify()`.
    """
    return _verified(body, headers, secret, read=_events, tolerance=tolerance, replay_guard=replay_guard, clock=clock)


def _verified(
    body: bytes | str,
    headers: Headers,
    secret: str | Sequence[str],
    *,
    read: Callable[[bytes], T],
    tolerance: float,
    replay_guard: ReplayGuard | None,
    clock: Clock | None,
) -> T:
    raw = _raw(body)
    keys = [key_of(one) for one in _several(secret)]
    if not keys:
        message = "no secret was given: without one nothing can be verified"
        raise ConfigurationError(message)
    _check_tolerance(tolerance, guarded=replay_guard is not None)
    message_id, sent_at, signatures = _values(headers)
    _check_time(sent_at, tolerance, clock or SystemClock())
    signed = f"{message_id}.{sent_at}.".encode("utf-8", "surrogatepass") + raw
    if not _fits(signatures, [signature(key, signed) for key in keys]):
        message = f"no {VERSION} signature in {SIGNATURE} fits: the body was changed, or another secret signed it"
        raise SignatureError(message)
    content = read(raw)
    if replay_guard is not None:
        _check_new(replay_guard, f"{message_id}.{sent_at}", tolerance)
    return content


def _raw(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    message = f"the body is {type(body).__name__}: give the bytes of the request as they came, before any parsing"
    raise ConfigurationError(message)


def _several(secret: Any) -> Sequence[Any]:
    return secret if isinstance(secret, Sequence) and not isinstance(secret, str | bytes) else [secret]


def _check_tolerance(tolerance: Any, *, guarded: bool) -> None:
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        message = f"tolerance is {tolerance!r}: give seconds, such as 300"
        raise ConfigurationError(message)
    if guarded and tolerance > LONGEST_GUARDED:
        message = f"tolerance is {tolerance!r}: a replay guard would have to remember each request for ever; give less"
        raise ConfigurationError(message)


def _values(headers: Headers) -> list[str]:
    """Of the three headers, in whatever case."""
    try:
        given = [(name.lower(), value) for name, value in headers.items() if isinstance(name, str)]
    except (AttributeError, TypeError, ValueError) as error:
        message = f"headers is {type(headers).__name__}: give the request's headers as a dict, or as the framework has"
        raise ConfigurationError(message) from error
    return [_value(given, name) for name in (ID, TIMESTAMP, SIGNATURE)]


def _value(headers: Iterable[tuple[str, object]], wanted: str) -> str:
    values = {value for name, value in headers if name == wanted and isinstance(value, str) and value}
    if not values:
        message = f"the header {wanted} is missing: this is no Standard Webhooks request"
        raise SignatureError(message)
    if len(values) > 1:  # which of them is signed, and which the receiver goes by, need not be the same
        message = f"the header {wanted} is there more than once, with different values"
        raise SignatureError(message)
    return values.pop()


def _check_time(sent_at: str, tolerance: float, clock: Clock) -> None:
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):  # noqa: PLR2004  # to the year 33658
        message = f"{TIMESTAMP} is not a number of seconds"
        raise SignatureError(message)
    off = clock.now().timestamp() - int(sent_at)
    if abs(off) > tolerance:
        message = f"{TIMESTAMP} is {math.ceil(abs(off))} s {'old' if off > 0 else 'ahead'}; {tolerance:g} s are allowed"
        raise SignatureError(message)


def _fits(header: str, expected: Sequence[str]) -> bool:
    """
    Whether one of the header's signatures is one of *expected*, each compared in constant time, and with each.

    Raises:
        SignatureError: There are too many to be compared.
    """
    tokens = header.split(None, MOST_SIGNATURES)
    if len(tokens) > MOST_SIGNATURES:
        message = f"{SIGNATURE} has more than {MOST_SIGNATURES} signatures"
        raise SignatureError(message)
    fits = False
    for token in tokens:
        version, _, given = token.partition(",")
        if version == VERSION:
            for one in expected:
                fits |= hmac.compare_digest(given.encode("utf-8", "surrogatepass"), one.encode())
    return fits


def _event(raw: bytes) -> dict[str, Any]:
    event = _json(raw)
    if isinstance(event, dict):
        return event
    several = ": several events are for verify_batch()" if isinstance(event, list) else ""
    message = f"the signature fits, but the body is not a JSON object{several}"
    raise SignatureError(message)


def _events(raw: bytes) -> list[dict[str, Any]]:
    events = _json(raw)
    if isinstance(events, list) and all(isinstance(event, dict) for event in events):
        return events
    one = ": a single event is for verify()" if isinstance(events, dict) else ""
    message = f"the signature fits, but the body is not a JSON array of objects{one}"
    raise SignatureError(message)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        message = "the signature fits, but the body is not JSON"
        raise SignatureError(message) from error


def _check_new(guard: ReplayGuard, key: str, tolerance: float) -> None:
    # From the earliest moment at which the timestamp is accepted to the last. One second more, since the last counts
    # too, and a store may round.
    new = guard(key, 2 * tolerance + 1)
    if inspect.isawaitable(new):
        if inspect.iscoroutine(new):
            new.close()
        message = "the replay guard is async, and verify() does not wait for its answer: give a plain function"
        raise ConfigurationError(message)
    if not new:
        message = (
            "the signature fits, but the same request has been accepted before: somebody has copied it, or the "
            "receivers of several endpoints share a replay guard"
        )
        raise Replayed(message)
