"""
Domain events that follow from a row's change: declared transitions, such as an order's from pending to paid.

A predicate looks at each event of a class's rows; where it holds, one more
event comes right after it, of a type of the application's own. In the relay's
thread, in no transaction.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import ColumnElement
from sqlalchemy import inspect as sa_inspect
from sqlalchemy import types as sa
from sqlalchemy.orm import Mapper, QueryableAttribute

from sqla_webhooks import encoding
from sqla_webhooks.domain import Domain
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import CHANGES, Event, Operation
from sqla_webhooks.ids import event_id
from sqla_webhooks.resources import Resources
from sqla_webhooks.schema import enum_values
from sqla_webhooks.selection import attribute_named
from sqla_webhooks.signals import predicate_failed

logger = logging.getLogger(__name__)

#: Whether a row's event is the transition that is meant.
Predicate: TypeAlias = Callable[[Event], bool]

P = TypeVar("P", bound=Predicate)


class _Any(Enum):
    ANY = "any"


#: Where no value is asked for: None is one.
ANY: Final = _Any.ANY


@dataclass(frozen=True, slots=True)
class Seen:
    """An attribute of a class, and the values that are asked for of it."""

    owner: type
    name: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """
    A predicate that was put together of others, by `&`, `|` and `~`; what `changed()` returns.

    Attributes:
        test: Whether it holds of an event, whose values are written as the encoding says.
        seen: What it looks at.
    """

    test: Callable[[Event, Encoding], bool] = field(repr=False)
    seen: tuple[Seen, ...] = ()

    def __call__(self, event: Event) -> bool:
        """Whether it holds, with values written as they are without `encoders`."""
        return self.test(event, encoding.TABLE)

    def __and__(self, other: Predicate) -> Condition:
        return self._with(other, lambda event, by: _holds(self, event, by) and _holds(other, event, by))

    def __rand__(self, other: Predicate) -> Condition:
        return self._with(other, lambda event, by: _holds(other, event, by) and _holds(self, event, by))

    def __or__(self, other: Predicate) -> Condition:
        return self._with(other, lambda event, by: _holds(self, event, by) or _holds(other, event, by))

    def __ror__(self, other: Predicate) -> Condition:
        return self._with(other, lambda event, by: _holds(other, event, by) or _holds(self, event, by))

    def __invert__(self) -> Condition:
        return Condition(lambda event, by: not _holds(self, event, by), self.seen)

    def _with(self, other: Predicate, test: Callable[[Event, Encoding], bool]) -> Condition:
        _check_predicate(other)
        return Condition(test, (*self.seen, *_seen(other)))


def changed(attribute: Any, *, to: Any = ANY, from_: Any = ANY) -> Condition:
    """
    That an attribute has changed, for `webhooks.event()`: `changed(Order.status, to="paid")`.

    Values are compared as they are sent: an enum by its value, a datetime as
    the instant, a number as a number, be it a decimal or not. A row that is
    created counts if `to` is given, and `from_` is not: it has come to that
    value from nothing. A deleted one changes nothing. An old value that is not
    known is none that was asked for.

    Args:
        attribute: A column, a column property or a hybrid of a mapped class, `Order.status`, that is sent.
        to: The value that it has now; by default any.
        from_: The value that it had before; by default any.

    Raises:
        ConfigurationError: *attribute* is none.
    """
    found = attribute_named(attribute)
    if found is None:
        shown = attribute if isinstance(attribute, QueryableAttribute) else repr(attribute)
        message = f"changed({shown}): name a column of a mapped class, as in changed(Order.status, to='paid')"
        raise ConfigurationError(message)
    owner, name = found

    def test(event: Event, by: Encoding) -> bool:
        if event.operation is Operation.CREATE:
            return to is not ANY and from_ is ANY and name in event.data and _equal(event.data[name], to, by)
        change = (event.changes or {}).get(name) if event.operation is Operation.UPDATE else None
        return (
            change is not None
            and (to is ANY or _equal(change["to"], to, by))
            and (from_ is ANY or ("from" in change and _equal(change["from"], from_, by)))
        )

    return Condition(test, (Seen(owner, name, tuple(one for one in (to, from_) if one is not ANY)),))


@dataclass(frozen=True, slots=True)
class _Transition:
    name: str
    model: type
    predicate: Predicate


class Transitions:
    """
    The declared transitions of one installation.

    Safe for any thread: all that are declared are one value, replaced as a whole.
    """

    def __init__(self, resources: Resources, domain: Domain, *, encoding: Encoding) -> None:
        self._resources = resources
        self._domain = domain
        self._encoding = encoding
        self._declared: tuple[_Transition, ...] = ()

    def declare(self, type_: str, model: type[Any]) -> Callable[[P], P]:
        """As `Webhooks.event()`."""
        mapper = sa_inspect(model, raiseerr=False)
        if not isinstance(mapper, Mapper):
            message = f"webhooks.event({type_!r}, {model!r}): name a mapped class"
            raise ConfigurationError(message)
        if why_not := self._resources.standing(mapper).why_not:
            message = (
                f"{model.__qualname__} is not captured ({why_not}), so nothing that happens to it is known: capture "
                "it, or emit() the event"
            )
            raise ConfigurationError(message)

        def add(predicate: P) -> P:
            _check_predicate(predicate)
            for seen in _seen(predicate):
                self._check_sent(seen, model)
            self._domain.declare(type_, model)
            self._declared = (*self._declared, _Transition(type_, model, predicate))
            return predicate

        return add

    def types(self, model: type) -> list[str]:
        """The types of what is derived from changes of a class's rows. A flush asks."""
        return [one.name for one in self._declared if issubclass(model, one.model)]

    def derive(self, events: Iterable[Event]) -> list[Event]:
        """*events*, each with what follows from it right behind it."""
        declared = self._declared
        return [one for event in events for one in (event, *self._following(event, declared))]

    def _following(self, event: Event, declared: Iterable[_Transition]) -> Iterable[Event]:
        if not declared or event.by_hand or event.operation not in CHANGES:
            return
        models = [shape.mapper.class_ for shape in self._resources.shapes(event.resource, event.table)]
        followed: set[str] = set()
        for one in declared:
            model = next((model for model in models if issubclass(model, one.model)), None)
            if model is None or one.name in followed:
                continue
            if self._is_met(one, event, model):
                followed.add(one.name)
                yield replace(event, id=event_id(event.timestamp), type=one.name, operation=Operation.EMIT)

    def _is_met(self, transition: _Transition, event: Event, model: type) -> bool:
        predicate = transition.predicate
        try:
            return _holds(predicate, event, self._encoding)
        except Exception as error:  # an application's own code: its other events go on
            logger.exception("the predicate of %s failed, and no event came of it", transition.name)
            predicate_failed.tell(model, predicate=predicate, type=transition.name, event=event, error=error)
            return False

    def _check_sent(self, seen: Seen, model: type) -> None:
        """Whether the events of *model* tell of an attribute, and can have those values of it."""
        owner, name = seen.owner, seen.name
        if issubclass(owner, model) or issubclass(model, owner):
            nearer: Any = sa_inspect(owner if issubclass(owner, model) else model)
            found = [one for one in self._resources.examine(nearer).attributes if one.name == name]
            if any(one.sent for one in found):
                self._check_values(seen, [one.column for one in found])
                return
            why = f"is not sent ({', '.join(one.why for one in found)}), so no event tells of it: name it in include"
        else:
            why = f"is nothing of {model.__qualname__}, whose events are looked at"
        message = f"changed({owner.__qualname__}.{name}): {owner.__qualname__}.{name} {why}"
        raise ConfigurationError(message)

    def _check_values(self, seen: Seen, columns: Iterable[ColumnElement[Any] | None]) -> None:
        kinds = [column.type for column in columns if column is not None and isinstance(column.type, sa.Enum)]
        for sent in filter(None, (enum_values(kind, self._encoding) for kind in kinds)):
            for value in seen.values:
                if value is not None and not any(_equal(one, value, self._encoding) for one in sent):
                    where, known = f"{seen.owner.__qualname__}.{seen.name}", ", ".join(map(repr, sent))
                    message = f"changed({where}) asks for {value!r}, which is never sent: write one of {known}"
                    raise ConfigurationError(message)


def _holds(predicate: Predicate, event: Event, by: Encoding) -> bool:
    """
    Whether a predicate holds of an event.

    Raises:
        TypeError: It says neither yes nor no.
        Exception: Whatever it raises.
    """
    said: object = predicate.test(event, by) if isinstance(predicate, Condition) else predicate(event)
    if not isinstance(said, bool):
        message = f"it returned {type(said).__name__}; a predicate returns True or False"
        raise TypeError(message)
    return said


def _seen(predicate: Predicate) -> tuple[Seen, ...]:
    return predicate.seen if isinstance(predicate, Condition) else ()


def _check_predicate(given: Any) -> None:
    if not callable(given) or inspect.iscoroutinefunction(given) or isinstance(given, type):
        message = (
            f"{given!r} is no predicate: give a plain function that takes the event and returns True or False, or "
            "changed(Order.status, to='paid')"
        )
        raise ConfigurationError(message)


def _equal(sent: Any, value: Any, by: Encoding) -> bool:
    """Whether *value* is written as what was sent; of numbers, whether they are the same number."""
    if encoding.same(sent, encoding.loads(by.dumps(value))):
        return True
    asked = None if isinstance(value, str) else _number(value)
    return asked is not None and asked == _number(sent)


def _number(value: Any) -> Decimal | None:
    """A number, or what a decimal is written as."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None
