"""
Which event types a set of patterns asks for.

A pattern is `*`, `order.*`, `*.created` or `order.created`. Nothing else is a
wildcard: a half-matched name would be a surprise to whoever reads the list.
And no wildcard means what is told of the webhooks themselves.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqla_webhooks.errors import InvalidSubscription
from sqla_webhooks.events import CHANGES

EVERYTHING = "*"
VERBS = tuple(operation.verb for operation in CHANGES)

#: What is told of the webhooks themselves; see `operational`.
OPERATIONAL = ("endpoint.disabled", "delivery.dead")

# Standard Webhooks 1.0, "Payload structure": parts of [a-zA-Z0-9_] joined by dots.
_PART = re.compile(r"[A-Za-z0-9_]+")
#: With its verb it fits the columns of `webhook_event`.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns sorted by kind, so that a look-up costs the same for one and for a thousand."""

    everything: bool = False
    resources: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    #: The resources named by `types`.
    mentioned: frozenset[str] = frozenset()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Patterns:
        """Sort *patterns*, which are known to be well formed."""
        resources, verbs, types, everything = set(), set(), set(), False
        for pattern in patterns:
            resource, _, verb = pattern.partition(".")
            if pattern == EVERYTHING:
                everything = True
            elif verb == EVERYTHING:
                resources.add(resource)
            elif resource == EVERYTHING:
                verbs.add(verb)
            else:
                types.add(pattern)
        mentioned = frozenset(type_.partition(".")[0] for type_ in types.difference(OPERATIONAL))
        return cls(everything, frozenset(resources), frozenset(verbs), frozenset(types), mentioned)

    def match(self, event_type: str) -> bool:
        """Whether an event of this type is asked for; what is told of the webhooks themselves, by its full name."""
        if event_type in OPERATIONAL:
            return event_type in self.types
        resource, _, verb = event_type.partition(".")
        return self.everything or resource in self.resources or verb in self.verbs or event_type in self.types

    def want(self, resource: str) -> bool:
        """
        Whether any event of *resource* is asked for.

        Capture asks by resource, not by operation: the net effect of a
        transaction is known only if all of a row's changes are.
        """
        return self.everything or bool(self.verbs) or resource in self.resources or resource in self.mentioned

    def __bool__(self) -> bool:
        return self.everything or bool(self.resources or self.verbs or self.types)


def is_name(word: object) -> bool:
    """Whether a resource can be called so: in a pattern, in a type of the specification's form, and in the database."""
    return isinstance(word, str) and _PART.fullmatch(word) is not None and len(word) <= _LONGEST_NAME


def check(
    patterns: Iterable[str], resources: Collection[str], *, never: Collection[str] = frozenset()
) -> tuple[str, ...]:
    """
    The patterns as they are stored: in the order given, without duplicates.

    Args:
        patterns: What the caller asks for.
        resources: Every resource whose changes are captured.
        never: Event types of these resources that there are not, since their operations are left out.

    Raises:
        InvalidSubscription: No pattern, a malformed one, or one that can
            match no event; the message says what to write instead.
    """
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        message = f"events is {patterns!r}, not a list of patterns: write events=[{patterns or '*'!r}]"
        raise InvalidSubscription(message)
    given = tuple(patterns)
    if not given:
        message = (
            'events is empty, so nothing would ever be sent: name patterns such as "order.*", or "*" for everything'
        )
        raise InvalidSubscription(message)
    for pattern in given:
        _check_one(pattern, resources, never=never)
    return tuple(dict.fromkeys(given))


def _check_one(pattern: str, resources: Collection[str], *, never: Collection[str]) -> None:
    if pattern == EVERYTHING or pattern in OPERATIONAL:
        return
    parts = pattern.split(".") if isinstance(pattern, str) else []
    formed = len(parts) == 2 and all(part == EVERYTHING or _PART.fullmatch(part) for part in parts)  # noqa: PLR2004  # resource and verb
    if not formed or parts == [EVERYTHING, EVERYTHING]:
        message = (
            f'{pattern!r} is not a subscription pattern: write "*", "order.*", "*.created" or "order.created", '
            "with no other wildcards"
        )
        raise InvalidSubscription(message)
    resource, verb = parts
    if verb not in (EVERYTHING, *VERBS):
        close = _closest(verb, VERBS)
        _refuse(pattern, f"no change is called {verb!r}", VERBS, instead=close and f"{resource}.{close}")
    if resource != EVERYTHING and resource not in resources:
        known = sorted(resources)
        close = _closest(resource, known)
        _refuse(pattern, f"no captured class is called {resource!r}", known, instead=close and f"{close}.{verb}")
    if pattern in never:
        known = [type_ for type_ in (f"{resource}.{one}" for one in VERBS) if type_ not in never]
        _refuse(pattern, "that operation of the class is left out", known, instead="")


def _closest(wrong: str, known: Collection[str]) -> str:
    """The known word that may have been meant; empty if none is close."""
    return next(iter(difflib.get_close_matches(wrong.lower(), known, n=1)), "")


def _refuse(pattern: str, why: str, known: Collection[str], *, instead: str) -> None:
    hint = f"did you mean {instead!r}? " if instead else ""
    listing = ", ".join(known) or "none: import the modules that map your classes first"
    message = f"{pattern!r} can match nothing: {why}; {hint}Known: {listing}"
    raise InvalidSubscription(message)
