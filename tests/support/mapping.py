"""Classes that are mapped for one test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Integer, String
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, column_property, mapped_column


@contextmanager
def base() -> Iterator[type[Any]]:
    """A declarative base, whose classes are mapped no longer afterwards."""

    kept: list[type[Any]] = []  # a mapper does not keep its class

    class Base(DeclarativeBase):
        def __init_subclass__(cls, **options: Any) -> None:
            super().__init_subclass__(**options)
            kept.append(cls)

    try:
        yield Base
    finally:
        Base.registry.dispose()


def person(base: type[Any], said: Any = None, **infos: Any) -> Any:
    """
    A class with a column, one whose name says secret, a column property and a hybrid.

    Args:
        said: Its `__webhooks__`.
        infos: The `info` of an attribute.
    """

    def column(name: str) -> Any:
        return mapped_column(String(20), info=infos.get(name), default=name)

    def loud(self: Any) -> Any:
        return self.first + "!!"

    first, api_key = column("first"), column("api_key")
    body = {
        "__tablename__": "person",
        "id": mapped_column(Integer, primary_key=True),
        "first": first,
        "api_key": api_key,
        "full": column_property(first + "!", info=infos.get("full")),
        "loud": hybrid_property(loud),
    }
    return type("Person", (base,), body if said is None else {**body, "__webhooks__": said})
