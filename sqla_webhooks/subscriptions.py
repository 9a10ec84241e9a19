"""
Which event types a set of patterns asks for.

A pattern is `*`, `order.*`, `*.created` or `order.created`. Nothing else is a
wildcard: a half-matched name would be a surprise to whoever reads the list.
And no wildcard means what is told of the webhooks themselves. Types are those
of rows, `order.created`, and those of domain events, `payment.captured`, which
the application declares.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqla_webhooks.errors import ConfigurationError, InvalidSubscription
from sqla_webhooks.events import CHANGES, Operation

EVERYTHING = "*"
VERBS = tuple(operation.verb for operation in CHANGES)
#: What is told of rows: their changes, and that they are there.
OF_ROWS = (*VERBS, Operation.READ.verb)

#: What is told of the webhooks themselves; see `operational`.
OPERATIONAL = ("endpoint.disabled", "delivery.dead")

# Standard Webhooks 1.0, "Payload structure": parts of [a-zA-Z0-9_] joined by dots.
_PART = re.compile(r"[A-Za-z0-9_]+")
#: A resource, or a word in its place, and what happened.
_PARTS = 2
#: With its verb it fits the columns of `webhook_event`.
_LONGEST_NAME = 200
#: What those columns take.
_LONGEST_TYPE = 250


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns sorted by kind, so that a look-up costs the same for one and for a thousand."""

    everything: bool = False
    resources: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    #: The resources of whose changes `types` names any.
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
        named = (type_.partition(".") for type_ in types)
        mentioned = frozenset(resource for resource, _, verb in named if verb in VERBS)
        return cls(everything, frozenset(resources), frozenset(verbs), frozenset(types), mentioned)

    def match(self, event_type: str) -> bool:
        """Whether an event of this type is asked for; what is told of the webhooks themselves, by its full name."""
        if event_type in OPERATIONAL:
            return event_type in self.types
        resource, _, verb = event_type.partition(".")
        return self.everything or resource in self.resources or verb in self.verbs or event_type in self.types

    def match_rows(self, resource: str) -> bool:
        """Whether any event is asked for that rows of *resource* tell."""
        return any(self.match(f"{resource}.{verb}") for verb in OF_ROWS)

    def want(self, resource: str) -> bool:
        """
        Whether any event of a change of *resource* is asked for.

        Capture asks by resource, not by operation: the net effect of a
        transaction is known only if all of a row's changes are.
        """
        of_any = not self.verbs.isdisjoint(VERBS)
        return self.everything or of_any or resource in self.resources or resource in self.mentioned

    def __bool__(self) -> bool:
        return self.everything or bool(self.resources or self.verbs or self.types)


def is_name(word: object) -> bool:
    """Whether a resource can be called so: in a pattern, in a type of the specification's form, and in the database."""
    return isinstance(word, str) and _PART.fullmatch(word) is not None and len(word) <= _LONGEST_NAME


def check_type(given: object, where: str) -> str:
    """
    The type of a domain event, as it is declared.

    Args:
        where: Where it stands, for the message.

    Raises:
        ConfigurationError: It cannot be one.
    """
    parts = given.split(".") if isinstance(given, str) else []
    if len(parts) != _PARTS or not all(map(_PART.fullmatch, parts)) or len(str(given)) > _LONGEST_TYPE:
        problem = f"give two words of letters, digits and _ with a dot between, {_LONGEST_TYPE} characters at most"
    elif not is_name(parts[0]):
        problem = f"what stands before the dot may have {_LONGEST_NAME} characters"
    elif parts[1] in OF_ROWS:
        problem = f"'.{parts[1]}' is what rows tell of themselves: name what has happened, as in 'payment.captured'"
    elif given in OPERATIONAL:
        problem = "that is told of the webhooks themselves: take another name"
    else:
        return str(given)
    message = f"{where} has {given!r}: {problem}"
    raise ConfigurationError(message)


def check(
    patterns: Iterable[str],
    resources: Collection[str],
    *,
    never: Collection[str] = frozenset(),
    domain: Collection[str] = (),
) -> tuple[str, ...]:
    """
    The patterns as they are stored: in the order given, without duplicates.

    Args:
        patterns: What the caller asks for.
        resources: Every resource whose changes are captured.
        never: Event types of these resources that there are not, since their operations are left out.
        domain: The types of domain events that are declared.

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
        _check_one(pattern, resources, never=never, domain=domain)
    return tuple(dict.fromkeys(given))


def _check_one(pattern: str, resources: Collection[str], *, never: Collection[str], domain: Collection[str]) -> None:
    if pattern == EVERYTHING or pattern in OPERATIONAL or pattern in domain:
        return
    parts = pattern.split(".") if isinstance(pattern, str) else []
    formed = len(parts) == _PARTS and all(part == EVERYTHING or _PART.fullmatch(part) for part in parts)
    if not formed or parts == [EVERYTHING, EVERYTHING]:
        message = (
            f'{pattern!r} is not a subscription pattern: write "*", "order.*", "*.created" or "order.created", '
            "with no other wildcards"
        )
        raise InvalidSubscription(message)
    resource, verb = parts
    verbs_of = _verbs_by_resource(resources, domain)
    verbs = verbs_of.get(resource) or tuple(dict.fromkeys(one for some in verbs_of.values() for one in some)) or OF_ROWS
    if verb not in (EVERYTHING, *verbs):
        close = _closest(verb, verbs)
        whose = f" of {resource!r}" if resource in verbs_of else ""
        instead = f"{resource}.{close}" if close else _closest(pattern, domain)
        _refuse(pattern, f"no event{whose} is called {verb!r}", verbs, instead=instead)
    if resource != EVERYTHING and resource not in verbs_of:
        close = _closest(resource, [one for one, some in verbs_of.items() if verb in (EVERYTHING, *some)])
        known = sorted(verbs_of)
        _refuse(pattern, f"no captured class is called {resource!r}", known, instead=close and f"{close}.{verb}")
    if pattern in never:
        known = [type_ for type_ in (f"{resource}.{one}" for one in verbs) if type_ not in never]
        _refuse(pattern, "that operation of the class is left out", known, instead="")


def _verbs_by_resource(resources: Collection[str], domain: Collection[str]) -> dict[str, tuple[str, ...]]:
    """By what stands before the dot, what may stand behind it."""
    verbs: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(resources), OF_ROWS)
    for type_ in sorted(domain):
        resource, _, verb = type_.partition(".")
        verbs[resource] = (*verbs.get(resource, ()), verb)
    return verbs


def _closest(wrong: str, known: Collection[str]) -> str:
    """The known word that may have been meant; empty if none is close."""
    return next(iter(difflib.get_close_matches(wrong.lower(), known, n=1)), "")


def _refuse(pattern: str, why: str, known: Collection[str], *, instead: str) -> None:
    hint = f"did you mean {instead!r}? " if instead else ""
    listing = ", ".join(known) or "none: import the modules that map your classes first"
    message = f"{pattern!r} can match nothing: {why}; {hint}Known: {listing}"
    raise InvalidSubscription(message)
