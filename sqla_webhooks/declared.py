"""
What a mapped class says of itself: `__webhooks__`, and `info={"webhook": ...}` on its columns.

    class Order(Base):
        __webhooks__ = {"name": "purchase_order", "operations": ["create"], "include": ["api_key"], "exclude": ["note"]}

    class Invoice(Base):
        __webhooks__ = {"tenant": "account_id"}

`False` stands for a class that is not captured. A base's holds for the classes
derived from it that have none of their own, but for the name.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import ColumnProperty, Mapper

from sqla_webhooks import mappers
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import CHANGES, Operation
from sqla_webhooks.subscriptions import is_name

ATTRIBUTE = "__webhooks__"
EVERY = frozenset(CHANGES)

_KEYS = ("name", "operations", "include", "exclude", "tenant")
_FORM = '{"name": "purchase_order", "operations": ["create"], "include": ["api_key"], "exclude": ["note"]}'


@dataclass(frozen=True, slots=True)
class Declared:
    """A class's `__webhooks__`, understood; what it says if it has none."""

    #: The class that has it: itself, a base, or `object` if there is none.
    owner: type = object
    captured: bool = True
    name: str = ""
    operations: frozenset[Operation] = EVERY
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    #: Whether it says whose its rows are: the attribute that tells the tenant of each, or None for no tenant's.
    says_tenant: bool = False
    tenant: str | None = None


def declared(mapper: Mapper[Any]) -> Declared:
    """
    What the class of *mapper* says of itself.

    Raises:
        ConfigurationError: It makes no sense, or contradicts the `info` of a column.
    """
    cls = mapper.class_
    owner = next((one for one in cls.__mro__ if ATTRIBUTE in vars(one)), None)
    said = Declared() if owner is None else _understood(getattr(cls, ATTRIBUTE), cls, owner=owner)
    if said.owner is cls:
        _check_names(said, mapper)
    for prop in mappers.column_properties(mapper):
        _check_info(said, prop, cls)
    return said


def info(prop: ColumnProperty[Any], cls: type) -> bool | None:
    """
    What `info={"webhook": ...}` says of an attribute, None if nothing.

    Raises:
        ConfigurationError: It is neither True nor False.
    """
    for noted in mappers.infos(prop):
        if "webhooks" in noted and "webhook" not in noted:
            message = f"{cls.__qualname__}.{prop.key} has info with 'webhooks': did you mean 'webhook'?"
            raise ConfigurationError(message)
        if "webhook" in noted:
            said = noted["webhook"]
            if not isinstance(said, bool):
                message = (
                    f'{cls.__qualname__}.{prop.key} has info={{"webhook": {said!r}}}: write False to leave it out, '
                    "or True to send it though its name says secret"
                )
                raise ConfigurationError(message)
            return said
    return None


def operations(given: Iterable[Any], where: str) -> frozenset[Operation]:
    """
    The operations that words name.

    Raises:
        ConfigurationError: One is none, or there is none; the message begins with *where* it stands.
    """
    words = tuple(given)
    for one in words:
        if not isinstance(one, str) or one not in EVERY:
            message = f"{where} has {one!r}{_meant(one, EVERY)}: operations are {', '.join(CHANGES)}"
            raise ConfigurationError(message)
    if not words:
        message = f"{where} has no operation: name some of {', '.join(CHANGES)}"
        raise ConfigurationError(message)
    return frozenset(map(Operation, words))


def check_name(name: Any, where: str) -> str:
    """
    *name*, if a resource can be called so.

    Raises:
        ConfigurationError: It cannot; the message begins with *where* it stands.
    """
    if not is_name(name):
        message = (
            f"{where} is {name!r}: a resource is called by letters of ASCII, digits and underscores, 200 at the most, "
            "as in 'purchase_order'"
        )
        raise ConfigurationError(message)
    return str(name)


def _understood(given: Any, cls: type, *, owner: type) -> Declared:
    where = f"{owner.__qualname__}.{ATTRIBUTE}"
    if given is False:
        return Declared(owner, captured=False)
    if not isinstance(given, Mapping):
        message = f"{where} is {given!r}: write False for a class that is not captured, or a dict such as {_FORM}"
        raise ConfigurationError(message)
    for key in given:
        if key not in _KEYS:
            message = f"{where} has the key {key!r}{_meant(key, _KEYS)}: it may have {', '.join(_KEYS)}"
            raise ConfigurationError(message)
    include = frozenset(_several(given, "include", where))
    exclude = frozenset(_several(given, "exclude", where))
    if both := sorted(include & exclude):
        message = f"{where} has {both[0]!r} both in 'include' and in 'exclude': take it out of one"
        raise ConfigurationError(message)
    return Declared(
        owner,
        name=_own_name(given, cls, owner=owner),
        operations=operations(_several(given, "operations", where), f"{where}['operations']")
        if "operations" in given
        else EVERY,
        include=include,
        exclude=exclude,
        says_tenant="tenant" in given,
        tenant=_attribute(given.get("tenant"), f"{where}['tenant']"),
    )


def _attribute(given: Any, where: str) -> str | None:
    if given is None or (isinstance(given, str) and given):
        return given
    message = (
        f"{where} is {given!r}: name the attribute that tells whose a row is, as in 'account_id', or write None for "
        "rows that belong to no tenant"
    )
    raise ConfigurationError(message)


def _own_name(given: Mapping[str, Any], cls: type, *, owner: type) -> str:
    """The name that the class has given itself: two classes of one name would be mistaken for each other."""
    if "name" not in given:
        return ""
    where = f"{owner.__qualname__}.{ATTRIBUTE}['name']"
    name = check_name(given["name"], where)
    if not mappers.has_mapper(owner):
        message = f"{where} is {name!r}, but {owner.__qualname__} is not mapped: name each of its classes for itself"
        raise ConfigurationError(message)
    return name if owner is cls else ""


def _several(given: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = given.get(key, ())
    if isinstance(found, str) or not isinstance(found, Collection):
        message = f"{where}[{key!r}] is {found!r}: give a list of names, as in [{found or 'name'!r}]"
        raise ConfigurationError(message)
    for one in found:
        if not isinstance(one, str):
            message = f"{where}[{key!r}] has {one!r}: give names as text, as in ['note']"
            raise ConfigurationError(message)
    return tuple(found)


def _check_names(said: Declared, mapper: Mapper[Any]) -> None:
    """Whether the class has what it names. Of a base's names it need not have all."""
    known = mappers.sendable(mapper)
    for key, names in (("exclude", said.exclude), ("include", said.include)):
        for name in sorted(names):
            if name not in known:
                cls = mapper.class_.__qualname__
                message = (
                    f"{cls}.{ATTRIBUTE}[{key!r}] has {name!r}{_meant(name, known)}: name columns of {cls}, column "
                    f"properties or hybrids: {', '.join(known)}"
                )
                raise ConfigurationError(message)
    columns = [prop.key for prop in mappers.column_properties(mapper) if mappers.is_column(prop)]
    if said.tenant is not None and said.tenant not in columns:
        cls = mapper.class_.__qualname__
        message = (
            f"{cls}.{ATTRIBUTE}['tenant'] is {said.tenant!r}{_meant(said.tenant, columns)}: name a column of {cls}, "
            f"which are {', '.join(columns)}; for anything else give install() a function, as in "
            "tenant=lambda row: row.account_id"
        )
        raise ConfigurationError(message)


def _check_info(said: Declared, prop: ColumnProperty[Any], cls: type) -> None:
    noted = info(prop, cls)
    for key, names, contrary in (("include", said.include, False), ("exclude", said.exclude, True)):
        if prop.key in names and noted is contrary:
            message = (
                f"{said.owner.__qualname__}.{ATTRIBUTE}[{key!r}] has {prop.key!r}, and {cls.__qualname__}.{prop.key} "
                f'has info={{"webhook": {noted}}}: they contradict each other, take one away'
            )
            raise ConfigurationError(message)


def _meant(wrong: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(wrong).lower(), list(known), n=1)
    return f" (did you mean {str(close[0])!r}?)" if close else ""
