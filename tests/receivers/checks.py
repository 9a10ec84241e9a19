"""What several receivers look at, and how they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Refused(Exception):
    """What is wrong with a delivery."""


def require(fulfilled: object, otherwise: str) -> None:
    """
    That it is so.

    Raises:
        Refused: It is not; *otherwise* says what is wrong.
    """
    if not fulfilled:
        raise Refused(otherwise)


def by_any(secrets: Iterable[str], verify: Callable[[str], None]) -> None:
    """
    Let one of the secrets verify it.

    Raises:
        Refused: None of them does; it says what the last one has against it.
    """
    refusal = Refused("no secret is known")
    for secret in secrets:
        try:
            verify(secret)
        except Refused as error:
            refusal = error
        else:
            return
    raise refusal


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """By lower-case name."""
    return {name.lower(): value for name, value in headers.items()}


def parsed(body: bytes) -> Any:
    """
    The JSON of a body.

    Raises:
        Refused: It is none, is not UTF-8, or says a name twice.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_once)
    except ValueError as error:
        raise Refused(str(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    require(len(read) == len(pairs), f"the body says a name twice, of {[name for name, _ in pairs]}")
    return read


def check_json(headers: Mapping[str, str]) -> None:
    """
    That the content type, by a lower-case name, is that of JSON.

    Raises:
        Refused: It is another.
    """
    content_type = headers.get("content-type")
    require(content_type == "application/json", f"the content type is {content_type!r}, not application/json")
