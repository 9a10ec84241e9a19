"""
What `install()` says of the mapped classes: its `include`, `exclude` and `names`.

An entry is a class (`Order`), operations of a class (`(Order, "create", "update")`),
or an attribute (`Order.note`). What `include` names adds up; `exclude` wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import ColumnProperty, Mapper, QueryableAttribute

from sqla_webhooks import declared, mappers
from sqla_webhooks.declared import Declared
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Operation


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of `include` or `exclude`, sorted by what they name."""

    classes: tuple[type, ...]
    operations: tuple[tuple[type, frozenset[Operation]], ...]
    #: Each with the class whose attribute it is.
    attributes: frozenset[tuple[type, str]]

    @classmethod
    def of(cls, setting: str, given: Iterable[Any]) -> Entries:
        """
        Sort them.

        Raises:
            ConfigurationError: One names nothing that could be captured.
        """
        classes, operations, attributes = [], [], set()
        for one in given:
            if isinstance(one, type) and mappers.is_mapped(one):
                classes.append(one)
            elif isinstance(one, tuple) and one and isinstance(one[0], type) and mappers.is_mapped(one[0]):
                operations.append((one[0], declared.operations(one[1:], f"{setting}, at {one[0].__qualname__},")))
            elif (attribute := attribute_named(one)) is not None:
                attributes.add(attribute)
            else:
                message = (
                    f"{setting} has {one!r}: name mapped classes (User), operations of them "
                    '((User, "create", "delete")), or columns, column properties and hybrids (User.api_key)'
                )
                raise ConfigurationError(message)
        return cls(tuple(classes), tuple(operations), frozenset(attributes))

    def operations_of(self, cls: type) -> frozenset[Operation]:
        return frozenset(word for one, words in self.operations if issubclass(cls, one) for word in words)

    def names(self, cls: type, attribute: str) -> bool:
        return any(attribute == name and issubclass(cls, owner) for owner, name in self.attributes)


@dataclass(frozen=True, slots=True)
class Selection:
    """All that it says. It wins over what the classes say of themselves."""

    include: Entries
    exclude: Entries
    called: Mapping[type, str]

    @classmethod
    def of(
        cls, *, include: Iterable[Any] = (), exclude: Iterable[Any] = (), names: Mapping[Any, Any] | None = None
    ) -> Selection:
        """
        Understand the settings.

        Raises:
            ConfigurationError: One names nothing that could be captured, or by what cannot be a name.
        """
        return cls(Entries.of("include", include), Entries.of("exclude", exclude), _called(names or {}))

    def why_not(self, cls: type, said: Declared) -> str:
        """Why a class is not captured; empty if it is."""
        if any(issubclass(cls, one) for one in self.exclude.classes):
            return "exclude"
        only = (*self.include.classes, *(one for one, _ in self.include.operations))
        wanted = [one for one in only if issubclass(cls, one)]
        if only and not wanted:
            return "not in include"
        # A base in `include` says nothing of a class below it that wants to stay out.
        if not said.captured and not any(issubclass(one, said.owner) for one in wanted):
            return f"{declared.ATTRIBUTE} = False"
        return "" if self.operations(cls, said) else "exclude, of all operations that are left"

    def operations(self, cls: type, said: Declared) -> frozenset[Operation]:
        """Of what events of a class are made."""
        return (self.include.operations_of(cls) or said.operations) - self.exclude.operations_of(cls)

    def attribute(self, cls: type, name: str) -> bool | None:
        """Whether an attribute is sent; None if nothing is said of it."""
        if self.exclude.names(cls, name):
            return False
        return True if self.include.names(cls, name) else None


def attribute_named(one: Any) -> tuple[type, str] | None:
    """The class and the name of what can be sent; a synonym stands for its column."""
    if not isinstance(one, QueryableAttribute):
        return None
    mapper = sa_inspect(one.class_, raiseerr=False)
    if not isinstance(mapper, Mapper):
        return None
    if one.key in mappers.hybrids(mapper):
        return mapper.class_, one.key
    prop = getattr(one, "property", None)
    return (mapper.class_, prop.key) if isinstance(prop, ColumnProperty) else None


def _called(names: Mapping[Any, Any]) -> dict[type, str]:
    for cls, name in names.items():
        if not isinstance(cls, type) or not mappers.has_mapper(cls):
            message = f'names has {cls!r}: name mapped classes, as in names={{Order: "purchase_order"}}'
            raise ConfigurationError(message)
        declared.check_name(name, f"names, at {cls.__qualname__},")
    return dict(names)
