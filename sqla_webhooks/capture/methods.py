"""
The session's bulk methods, which no event tells of: they are wrapped while we listen.

In the application's thread, around the method, in its transaction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from sqlalchemy.orm import Mapper, Session, class_mapper

from sqla_webhooks.capture.bulk import Bulk
from sqla_webhooks.capture.factory import Listened

#: Takes the session, the method as it was, and the arguments of the call.
Wrapper: TypeAlias = Callable[..., None]


class Methods:
    """The bulk methods of one session class, or of one session, while they are wrapped."""

    def __init__(self, listened: Listened, bulk: Bulk) -> None:
        self._listened = listened
        self._bulk = bulk
        self._wrapped: list[tuple[str, Any]] = []

    def wrap(self) -> None:
        """Capture what the methods write, in sessions that are already open too."""
        for name, wrapper in (
            ("bulk_save_objects", self._save_objects),
            ("bulk_insert_mappings", self._insert_mappings),
            ("bulk_update_mappings", self._update_mappings),
        ):
            wrapped = _wrapped(self._listened, name, wrapper)
            self._wrapped.append((name, wrapped))
            setattr(self._listened, name, wrapped)

    def unwrap(self) -> None:
        """Leave the methods as they were, unless somebody else has replaced them meanwhile. May be called twice."""
        for name, ours in self._wrapped:
            if self._listened.__dict__.get(name) != ours:
                continue
            if ours.was_own:
                setattr(self._listened, name, ours.__wrapped__)
            else:
                delattr(self._listened, name)
        self._wrapped.clear()

    def _save_objects(
        self, session: Session, method: Callable[..., None], objects: Iterable[object], *more: Any, **named: Any
    ) -> None:
        every = list(objects)
        self._bulk.save_objects(session, every, functools.partial(method, every, *more, **named))

    def _insert_mappings(
        self, session: Session, method: Callable[..., None], mapper: Any, *more: Any, **named: Any
    ) -> None:
        self._bulk.insert_mappings(session, _mapper(mapper), functools.partial(method, mapper, *more, **named))

    def _update_mappings(
        self, session: Session, method: Callable[..., None], mapper: Any, mappings: Iterable[Mapping[str, Any]]
    ) -> None:
        every = list(mappings)
        self._bulk.update_mappings(session, _mapper(mapper), every, functools.partial(method, mapper, every))


def _mapper(given: Any) -> Mapper[Any]:
    return given if isinstance(given, Mapper) else class_mapper(given)


def _wrapped(listened: Listened, name: str, wrapper: Wrapper) -> Any:
    original = getattr(listened, name)

    if isinstance(listened, Session):

        @functools.wraps(original)
        def of_session(*arguments: Any, **named: Any) -> None:
            wrapper(listened, original, *arguments, **named)

        method: Any = of_session
    else:

        @functools.wraps(original)
        def of_class(session: Session, *arguments: Any, **named: Any) -> None:
            wrapper(session, functools.partial(original, session), *arguments, **named)

        method = of_class
    method.was_own = name in listened.__dict__
    return method
