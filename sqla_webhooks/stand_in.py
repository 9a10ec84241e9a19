"""
What stands in for a row where nothing may be loaded: an object of its class, with the values that are known.

Code of the application's can do with it whatever it does with a row: it is an
instance, whose properties, hybrids, synonyms and methods work. What is not
known of it raises: nothing is loaded, and nothing seems to be NULL.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from sqla_webhooks import keys
from sqla_webhooks.encoding import PLACEHOLDER
from sqla_webhooks.errors import TenantUnknown


def stand_in(mapper: Mapper[Any], plain: Mapping[str, Any]) -> Any:
    """
    An object of the class of *mapper*, in no session, made as by a query: without its `__init__`.

    An attribute that is mapped and not known raises `TenantUnknown`, which no default of `getattr()` swallows; one
    that the class does not have, AttributeError.

    Args:
        plain: Attribute names to values as JSON has them; what cannot be brought back is not known. Whatever is done to
            the object, they stay as they are.
    """
    instance = mapper.class_manager.new_instance()
    known = set()
    for prop in mapper.column_attrs:
        if prop.key in plain and not _is_placeholder(plain[prop.key]):
            # What the class has come to since may not know the value: an enum's former member.
            with suppress(ValueError, TypeError):
                set_committed_value(instance, prop.key, keys.value(prop.columns[0], copy.deepcopy(plain[prop.key])))
                known.add(prop.key)
    state = instance_state(instance)
    # SQLAlchemy's own place for how one object loads what it does not have.
    state.callables = {prop.key: _unknown(mapper, prop.key) for prop in mapper.attrs if prop.key not in known}
    return instance


def _is_placeholder(plain: Any) -> bool:
    return isinstance(plain, dict) and PLACEHOLDER in plain


def _unknown(mapper: Mapper[Any], name: str) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        message = (
            f"{mapper.class_.__qualname__}.{name} is not known, and nothing is loaded to tell whose a row is: go by "
            "columns that are captured; one that is not sent must be named, as in "
            '__webhooks__ = {"tenant": "account_id"}'
        )
        raise TenantUnknown(message)

    return fail
