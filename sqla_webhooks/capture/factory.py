"""What `install()` was given: the sessions to listen to, and the database they write to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from sqla_webhooks import async_sessions
from sqla_webhooks.async_sessions import AsyncBind
from sqla_webhooks.capture.async_made import AsyncMade
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.outbox.database import same_database

#: A session class, whose sessions all are listened to, or one session.
Listened: TypeAlias = type[Session] | Session

#: Under which installations are found again, on the class or in `Session.info`: by engine.
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
            configured = factory.kw.get("bind") or _asked(factory)
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

    # ------------------------------------------------------------------ the installations on it

    def installed(self) -> Any:
        """
        The installation on exactly these sessions, for this database, or None.

        Raises:
            ConfigurationError: There are several, and nobody has said for which database.
        """
        there = _marks(self.listened)
        if self.engine is not None:
            return next((one for engine, one in there.items() if same_database(engine, self.engine)), None)
        if len(there) > 1:
            message = (
                f"these sessions have {len(there)} installations, {', '.join(map(repr, there.values()))}: say which by "
                "install(..., bind=engine)"
            )
            raise ConfigurationError(message)
        return next(iter(there.values()), None)

    def mark(self, installation: object) -> None:
        """Remember the installation."""
        others = _marks(self.listened)
        marks = {**others, self.require_engine(): installation}
        if isinstance(self.listened, Session):
            self.listened.info[_MARK] = marks
            cls = type(self.listened)
            if _SESSIONS not in cls.__dict__:
                setattr(cls, _SESSIONS, WeakValueDictionary())
            cls.__dict__[_SESSIONS][id(self.listened)] = self.listened
        else:
            setattr(self.listened, _MARK, marks)
        if self.made_for is not None:
            self.made_for.use(self.listened)

    def unmark(self, installation: object) -> None:
        """Forget it. Does nothing if it is not remembered."""
        there = _marks(self.listened)
        left = {engine: one for engine, one in there.items() if one is not installation}
        if len(left) == len(there):
            return
        if isinstance(self.listened, Session):
            self.listened.info[_MARK] = left
        else:
            setattr(self.listened, _MARK, left)
        if not left:
            self._unmark_wholly()

    def _unmark_wholly(self) -> None:
        if isinstance(self.listened, Session):
            del self.listened.info[_MARK]
            cls = type(self.listened)
            sessions = cls.__dict__[_SESSIONS]
            sessions.pop(id(self.listened), None)
            if not sessions:
                delattr(cls, _SESSIONS)
        else:
            delattr(self.listened, _MARK)
        if self.made_for is not None:
            self.made_for.restore()

    def check_alone(self) -> None:
        """
        See that no other installation hears the same sessions for the same database.

        Raises:
            ConfigurationError: One does, and every change would be captured twice.
        """
        for other in self._overlapping():
            for engine, installation in _marks(other).items():
                if same_database(engine, self.require_engine()):
                    message = (
                        f"{installation!r} hears sessions that are among these, since one factory is derived from the "
                        "other: every change would be captured twice. Install on one of the two, or uninstall() first"
                    )
                    raise ConfigurationError(message)

    def serves(self, bind: Engine | Connection) -> bool:
        """Whether some installation on these sessions captures what is written to *bind*."""
        return any(
            same_database(engine, bind.engine)
            for listened in (self.listened, *self._overlapping())
            for engine in _marks(listened)
        )

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


def _marks(listened: Any) -> Mapping[Engine, Any]:
    """The installations on exactly these sessions, by the engine of each."""
    marked: Mapping[Any, Any] = listened.info if isinstance(listened, Session) else listened.__dict__
    marks: Mapping[Engine, Any] = marked.get(_MARK, {})
    return marks


def _asked(factory: sessionmaker[Any]) -> Any:
    """The bind that its sessions choose for themselves, as Flask-SQLAlchemy's do inside an application context."""
    if factory.class_.get_bind is Session.get_bind:
        return None
    try:
        with closing(factory()) as session:
            return session.get_bind()
    except Exception:  # noqa: BLE001  # the application's code, which may well need to know more
        return None


def _subclasses(cls: type[Session]) -> Iterator[type[Session]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
