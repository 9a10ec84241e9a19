"""
What SQLAlchemy has for asyncio, recognised without importing it.

`sqlalchemy.ext.asyncio` needs greenlet, which an application without it does
not have. Whoever gives us something of it has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the import that an application without greenlet cannot do
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
    from sqlalchemy.ext.asyncio import async_sessionmaker as maker

AsyncFactory: TypeAlias = "maker[Any] | async_scoped_session[Any] | type[AsyncSession] | AsyncSession"
AsyncBind: TypeAlias = "AsyncEngine | AsyncConnection"


def is_maker(given: object) -> bool:
    """Whether it is an `async_sessionmaker`."""
    return _is(given, "async_sessionmaker")


def is_scope(given: object) -> bool:
    """Whether it is an `async_scoped_session`."""
    return _is(given, "async_scoped_session")


def is_session(given: object) -> bool:
    """Whether it is an `AsyncSession`."""
    return _is(given, "AsyncSession")


def is_session_class(given: object) -> bool:
    """Whether it is `AsyncSession`, or a subclass."""
    kind = _named("AsyncSession")
    return kind is not None and isinstance(given, type) and issubclass(given, kind)


def sync_bind(given: Any) -> Any:
    """The `Engine` or `Connection` behind an `AsyncEngine` or `AsyncConnection`; anything else as it is."""
    if _is(given, "AsyncConnection"):
        return given.engine.sync_engine
    return given.sync_engine if _is(given, "AsyncEngine") else given


def _is(given: object, name: str) -> bool:
    kind = _named(name)
    return kind is not None and isinstance(given, kind)


def _named(name: str) -> type[Any] | None:
    return getattr(sys.modules.get("sqlalchemy.ext.asyncio"), name, None)
