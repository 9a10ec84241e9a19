"""How the rows of one shape are read out of the objects in memory: worked out once, since a flush has many of few."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import eq, itemgetter
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import JSON, ClauseElement, Dialect
from sqlalchemy.orm import InstanceState, LoaderCallableStatus, RelationshipProperty
from sqlalchemy.types import TypeEngine

from sqla_webhooks import encoding
from sqla_webhooks.capture.settled import AS_IT_IS, UNSETTLED, Check, Rule, rule
from sqla_webhooks.outbox.sheet import Layout
from sqla_webhooks.resources import Shape

State: TypeAlias = InstanceState[Any]

#: In place of an old value that is not known.
UNKNOWN = LoaderCallableStatus.NO_VALUE

#: Types of values that are certainly no SQL expressions.
PLAIN = frozenset(
    {type(None), bool, int, str, float, bytes, dict, list, Decimal, datetime, date, time, timedelta, UUID}
)
#: Types of keys that stand in JSON as `encoding.key_part` has them.
_KEYS = frozenset({int, str, UUID})


@dataclass(frozen=True, slots=True)
class Link:
    """A many-to-many relationship."""

    #: The attributes of the key of what it links to.
    key: tuple[str, ...]
    #: The relationship that is the same from the other side, if it is mapped.
    inverse: str | None

    @classmethod
    def of(cls, relation: RelationshipProperty[Any]) -> Link:
        mapper = relation.mapper
        key = tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)
        return cls(key, relation.back_populates)


@dataclass(frozen=True, slots=True)
class Look:
    """What the types of a row's values tell."""

    #: Whether the row's identity is what stands under its key.
    plain_key: bool
    #: Values that the database may have stored differently: their places, and what tells how it has.
    checks: tuple[tuple[int, Check], ...]

    def stored(self, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """*values* as the database stores them; None if only it knows."""
        for place, check in self.checks:
            value = values[place]
            if (stored := check(value)) is not value:
                if stored is UNSETTLED:
                    return None
                values = (*values[:place], stored, *values[place + 1 :])
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is worked out of a shape."""

    shape: Shape
    layout: Layout
    #: The values of all attributes, in the order of the layout. Raises KeyError if the object lacks one.
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    #: By attribute: whether its type calls two values equal. May raise anything.
    same: Mapping[str, Callable[[Any, Any], bool]]
    #: Where the parts of the key stand among the values.
    key_places: tuple[int, ...]
    #: By attribute: which values are stored as they are.
    rules: Mapping[str, Rule]
    #: Whether the flush may find that an object is an orphan, and delete it.
    orphans: bool
    #: The many-to-many relationships.
    links: Mapping[str, Link]
    #: By the types of a row's values: rows of one class have few different ones. Two threads find the same.
    _looks: dict[tuple[type, ...], Look] = field(default_factory=dict)

    @classmethod
    def of(cls, shape: Shape, dialect: Dialect) -> Plan:
        names, stored = tuple(shape.columns), frozenset(shape.stored)
        return cls(
            shape=shape,
            layout=Layout(shape.resource, shape.table, names, shape.key, shape.hidden),
            values=itemgetter(*names) if len(names) > 1 else lambda values: (values[names[0]],),
            same={name: _comparison(column.type) for name, column in shape.columns.items()},
            key_places=tuple(names.index(name) for name in shape.key),
            rules={
                name: rule(one.type, dialect) if name in stored else AS_IT_IS for name, one in shape.columns.items()
            },
            orphans=bool(shape.mapper._delete_orphans),  # noqa: SLF001  # what `Mapper._is_orphan` asks
            links={
                one.key: Link.of(one)
                for one in shape.mapper.relationships
                if one.secondary is not None and not one.viewonly
            },
        )

    def is_orphan(self, state: State) -> bool:
        """Whether the flush will delete the object though nobody asked the session to."""
        return self.orphans and self.shape.mapper._is_orphan(state)  # noqa: SLF001  # what Session._flush asks

    def is_whole(self, values: Mapping[str, Any]) -> bool:
        """Whether the object knows all of its row."""
        return self.whole(values) is not None

    def whole(self, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The values of all attributes, if the object knows all of its row."""
        try:
            return self.values(values)
        except KeyError:
            return None

    def has_plain_key(self, values: tuple[Any, ...]) -> bool:
        """Whether the row's identity is what stands under its key. For rows that are not looked at otherwise."""
        for place in self.key_places:  # noqa: SIM110  # three times as quick as all()
            if type(values[place]) not in _KEYS:
                return False
        return True

    def look(self, values: tuple[Any, ...]) -> Look:
        """What the types of *values* tell."""
        kinds = tuple(map(type, values))
        try:
            return self._looks[kinds]
        except KeyError:
            return self._looks.setdefault(kinds, self._look(kinds))

    def _look(self, kinds: tuple[type, ...]) -> Look:
        rules = enumerate(zip(self.rules.values(), kinds, strict=True))
        checks = ((place, rule.check(kind)) for place, (rule, kind) in rules)
        return Look(
            plain_key=all(kinds[place] in _KEYS for place in self.key_places),
            checks=tuple((place, check) for place, check in checks if check is not None),
        )

    def is_settled(self, name: str, value: Any) -> bool:
        """Whether the database certainly stores an attribute's value as it is."""
        check = self.rules[name].check(type(value))
        return check is None or check(value) is value

    def is_stored_same(self, name: str, old: Any, new: Any) -> bool:
        """The same of two values that were read: JSON that Python calls equal may be another, as 1 and true are."""
        return self.is_same(name, old, new) and (
            name not in self.shape.json or encoding.dumps(old) == encoding.dumps(new)
        )

    def outdated(self, held: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
        """
        What of *held*, which nobody has set, is other than it was *read*: another transaction has changed it since.

        Not of what can be changed in place, for the application may have done so.
        """
        return {
            name: read[name]
            for name, value in held.items()
            if name in read and isinstance(value, Hashable) and not self.is_same(name, value, read[name])
        }

    def is_same(self, name: str, old: Any, new: Any) -> bool:
        """Whether the attribute's type calls two values equal; one that cannot say so calls them different."""
        if is_unknown(old):
            return False
        try:
            return bool(self.same[name](old, new))
        except Exception:  # noqa: BLE001  # a value's own __eq__: an array has no truth, a stranger's may raise anything
            return False


def _comparison(type_: TypeEngine[Any]) -> Callable[[Any, Any], bool]:
    """How a type compares values; most do it as Python does."""
    return eq if type(type_).compare_values is TypeEngine.compare_values else type_.compare_values


def is_unknown(value: Any) -> bool:
    """Whether it is no value, but SQLAlchemy's word for why there is none."""
    return isinstance(value, LoaderCallableStatus)


def is_sql(value: Any) -> bool:
    """Whether it is an expression, of which the database makes the value; `PLAIN` types are none."""
    return hasattr(value, "__clause_element__") or isinstance(value, ClauseElement)


def identity(state: State) -> tuple[Any, ...]:
    """The primary key under which the session knows a persistent object."""
    return tuple(state.key[1]) if state.key is not None else ()


def with_plain_null(shape: Shape, values: dict[str, Any]) -> dict[str, Any]:
    """*values* with `JSON.NULL` as None: it is a kind of int, and would be encoded as a number."""
    values.update(dict.fromkeys([key for key in shape.json if values.get(key) is JSON.NULL]))
    return values
