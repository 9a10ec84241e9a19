"""
Which attributes of a class are sent, and what has decided it.

The first that says something of it decides: `exclude` and `include` of
`install()`; `__webhooks__` and the column's `info`, which may not contradict each
other; that it is no column; that its name says secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, ColumnElement
from sqlalchemy.orm import ColumnProperty, Mapper

from sqla_webhooks import declared, mappers
from sqla_webhooks.declared import Declared
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.naming import says_secret
from sqla_webhooks.selection import Selection

NOT_A_COLUMN, SECRET, NO_SQL = "not a column", "secret name", "no form in SQL"


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """What could be sent of a row under one name."""

    name: str
    sent: bool
    #: What has decided it; empty if nothing had to.
    why: str
    #: Whether its name says secret.
    secret: bool
    #: Its SQL: a column, or an expression. None for a hybrid that is not sent.
    column: ColumnElement[Any] | None
    #: The property by which it is mapped; None for a hybrid.
    prop: ColumnProperty[Any] | None = None

    @property
    def is_expression(self) -> bool:
        """Whether the database works it out, so that no object knows it after a flush."""
        return not isinstance(self.column, Column)


def attributes(mapper: Mapper[Any], said: Declared, selection: Selection) -> tuple[Attribute, ...]:
    """
    All that could be sent, in the order of the class.

    Raises:
        ConfigurationError: What the class says of its columns makes no sense.
    """
    return (*_of_properties(mapper, said, selection), *_of_hybrids(mapper, said, selection))


def check_needed(mapper: Mapper[Any], said: Declared, selection: Selection) -> None:
    """
    Whether each column that is named in `include` would be left out otherwise.

    Whoever names one that would not may think that the others are kept out.

    Raises:
        ConfigurationError: One would be sent anyway.
    """
    cls = mapper.class_
    here = {
        f"{cls.__qualname__}.{declared.ATTRIBUTE}['include']": said.include if said.owner is cls else frozenset(),
        "include": {name for owner, name in selection.include.attributes if owner is cls},
    }
    if not any(here.values()):
        return
    alone = _of_properties(mapper, replace(said, include=frozenset()), Selection.of())
    anyway = {one.name for one in alone if one.sent and not one.why}
    for where, names in here.items():
        for name in sorted(anyway.intersection(names)):
            message = (
                f"{where} has {cls.__qualname__}.{name}, which is sent anyway: naming a column here does not keep the "
                "others out, name those in exclude; take it away"
            )
            raise ConfigurationError(message)


def _of_properties(mapper: Mapper[Any], said: Declared, selection: Selection) -> Iterator[Attribute]:
    for prop in mappers.column_properties(mapper):
        column = prop.columns[0]
        secret = says_secret(prop.key) or (isinstance(column, Column) and says_secret(column.name))
        named = _named(prop.key, mapper.class_, said=said, selection=selection)
        if named is None and (noted := declared.info(prop, mapper.class_)) is not None:
            named = noted, "info"
        sent, why = named or _unless_named(is_column=mappers.is_column(prop), secret=secret)
        yield Attribute(prop.key, sent, why, secret, column, prop)


def _of_hybrids(mapper: Mapper[Any], said: Declared, selection: Selection) -> Iterator[Attribute]:
    for name in mappers.hybrids(mapper):
        secret = says_secret(name)
        sent, why = _named(name, mapper.class_, said=said, selection=selection) or (False, NOT_A_COLUMN)
        expression = _expression(mapper.class_, name) if sent else None
        if sent and expression is None:
            sent, why = False, NO_SQL
        yield Attribute(name, sent, why, secret, expression)


def _named(name: str, cls: type, *, said: Declared, selection: Selection) -> tuple[bool, str] | None:
    """What is said of an attribute by its name."""
    installed = selection.attribute(cls, name)
    if installed is not None:
        return installed, "include" if installed else "exclude"
    if name in said.exclude or name in said.include:
        return name in said.include, declared.ATTRIBUTE
    return None


def _unless_named(*, is_column: bool, secret: bool) -> tuple[bool, str]:
    if not is_column:
        return False, NOT_A_COLUMN
    return (False, SECRET) if secret else (True, "")


def _expression(cls: type, name: str) -> ColumnElement[Any] | None:
    """A hybrid as SQL, if it has such a form."""
    try:
        found = getattr(cls, name).__clause_element__()
        if not isinstance(found, ColumnElement):  # it stands for an attribute
            found = found.__clause_element__()
    except Exception:  # noqa: BLE001  # the application's own code, which may never have been called with a class
        return None
    return found if isinstance(found, ColumnElement) else None
