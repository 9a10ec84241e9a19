"""What `install()` was given: the sessions to listen to, and the database they write to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_webhooks import async_sessions
from sqla_webhooks.async_sessions import AsyncBind
from sqla_webhooks.capture.async_made import AsyncMade
from sqla_webhooks.errors import ConfigurationError

#: A session class, whose sessions all are listened to, or one session.
Listened: TypeAlias = type[Session] | Session

#: Under which an installation is found again, on the class or in `Session.info`.
_MARK = "_sqla_webhooks"
#: Under which a class has those of its sessions that have an installation of their own, by their ids.
_SESSIONS = "_sqla_webhooks_sessions"


@dataclass(frozen=True, slots=True)
class Factory:
    """
    A session factory, understood.

    Attributes:
        made_for: The async factory that has, or is to get, `listened` as the class of its sync sessions; else None.
    """

    listened: Listened
    engine: Engine | None
    made_for: AsyncMade | None = None

    @classmethod
    def of(cls, given: Any, *, bind: Engine | Connection | AsyncBind | None) -> Factory:
        """
        Understand what `install()` was given.

        Raises:
            ConfigurationError: It is no session factory.
        """
        factory = given
        if isinstance(given, scoped_session) or async_sessions.is_scope(given):
            factory = given.session_factory
        made_for = None
        configured: Any = None
        if async_sessions.is_session(factory):
            factory = factory.sync_session
        if isinstance(factory, sessionmaker):
            # Every sessionmaker makes a subclass of its own, so that no other's sessions are listened to.
            listened: Listened = factory.class_
            configured = factory.kw.get("bind")
        elif isinstance(factory, Session):
            listened = factory
            configured = factory.bind
        elif isinstance(factory, type) and issubclass(factory, Session):
            listened = factory
        elif async_sessions.is_maker(factory) or async_sessions.is_session_class(factory):
            made_for = AsyncMade(factory)
            listened = made_for.listened()
            configured = made_for.bind
        else:
            raise _no_factory(given)
        chosen = async_sessions.sync_bind(bind if bind is not None else configured)
        if chosen is not None and not isinstance(chosen, Engine | Connection):
            message = f"bind is {chosen!r}: give an Engine, as create_engine() makes it, or an AsyncEngine"
            raise ConfigurationError(message)
        return cls(listened, chosen.engine if chosen is not None else None, made_for)

    def require_engine(self) -> Engine:
        """
        The engine where the webhook tables are.

        Raises:
            ConfigurationError: Nobody has said.
        """
        if self.engine is None:
            message = (
                "it is not known which database the sessions write to: give the factory its bind before install(), "
                "or install(..., bind=engine)"
            )
            raise ConfigurationError(message)
        return self.engine

    # ------------------------------------------------------------------ the installation on it

    def installed(self) -> Any:
        """The installation on exactly these sessions, or None."""
        return _marks(self.listened).get(_MARK)

    def mark(self, installation: object) -> None:
        """Remember the installation."""
        if isinstance(self.listened, Session):
            self.listened.info[_MARK] = installation
            cls = type(self.listened)
            if _SESSIONS not in cls.__dict__:
                setattr(cls, _SESSIONS, WeakValueDictionary())
            cls.__dict__[_SESSIONS][id(self.listened)] = self.listened
        else:
            setattr(self.listened, _MARK, installation)
        if self.made_for is not None:
            self.made_for.use(self.listened)

    def unmark(self) -> None:
        """Forget it."""
        if isinstance(self.listened, Session):
            self.listened.info.pop(_MARK, None)
            sessions = type(self.listened).__dict__.get(_SESSIONS, {})
            sessions.pop(id(self.listened), None)
            if not sessions and _SESSIONS in type(self.listened).__dict__:
                delattr(type(self.listened), _SESSIONS)
        elif _MARK in self.listened.__dict__:
            delattr(self.listened, _MARK)
        if self.made_for is not None:
            self.made_for.restore()

    def check_alone(self) -> None:
        """
        See that no other installation hears the same sessions.

        Raises:
            ConfigurationError: One does, and every change would be captured twice.
        """
        for other in self._overlapping():
            if (installation := _marks(other).get(_MARK)) is not None:
                message = (
                    f"{installation!r} hears sessions that are among these, since one factory is derived from the "
                    "other: every change would be captured twice. Install on one of the two, or uninstall() first"
                )
                raise ConfigurationError(message)

    def _overlapping(self) -> Iterator[Listened]:
        """The classes, and the single sessions, whose sessions are among these or the other way round."""
        if isinstance(self.listened, Session):
            yield from type(self.listened).__mro__
            return
        yield from self.listened.__mro__[1:]
        for cls in (self.listened, *_subclasses(self.listened)):
            if cls is not self.listened:
                yield cls
            yield from list(cls.__dict__.get(_SESSIONS, {}).values())


def _no_factory(given: Any) -> ConfigurationError:
    if isinstance(given, scoped_session) or async_sessions.is_scope(given):
        return ConfigurationError(
            f"install({given!r}): {given.session_factory!r} makes its sessions, and it cannot be known of which class "
            "they are: make them by a sessionmaker, or install on their class"
        )
    return ConfigurationError(
        f"install({given!r}): give a sessionmaker, a scoped_session, a Session subclass, Session itself, or one "
        "session, or the same of sqlalchemy.ext.asyncio"
    )


def _marks(listened: Listened) -> Mapping[str, Any]:
    return listened.info if isinstance(listened, Session) else listened.__dict__


def _subclasses(cls: type[Session]) -> Iterator[type[Session]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
