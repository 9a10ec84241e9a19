"""The class of the sync sessions behind the async ones: one for each async factory that is listened to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from sqla_webhooks import async_sessions
from sqla_webhooks.errors import ConfigurationError

#: The argument of a maker, or the attribute of a class, that says what makes its sync sessions.
_NAME = "sync_session_class"
#: Under which a class of ours has what the factory itself said of it before, if it did.
_BEFORE = "_sqla_webhooks_before"


@dataclass(frozen=True, slots=True)
class AsyncMade:
    """
    Sessions of an `async_sessionmaker`, or of `AsyncSession` or a subclass of it.

    SQLAlchemy tells the events of an async session to the class of the sync
    one behind it. As that is `Session` itself, or another that many share, the
    factory gets a subclass of its own; unless it goes by a `sessionmaker`,
    which has one.
    """

    factory: Any

    @property
    def bind(self) -> Any:
        """The bind that it knows, or None."""
        return self.factory.kw.get("bind") if async_sessions.is_maker(self.factory) else None

    def listened(self) -> type[Session]:
        """
        The class to listen to; where it is a new one, it is not in use yet.

        Raises:
            ConfigurationError: It is not known.
        """
        own = self._said.get(_NAME)
        if isinstance(own, type) and _BEFORE in own.__dict__:
            return own
        base = own or self._class.sync_session_class
        if isinstance(base, sessionmaker):
            return base.class_
        if not isinstance(base, type):
            message = f"sync_session_class of {self.factory!r} is {base!r}: give a Session subclass or a sessionmaker"
            raise ConfigurationError(message)
        return type(base.__name__, (base,), {_BEFORE: own})

    def use(self, listened: Any) -> None:
        """Make sync sessions of that class from now on; those that are open are of the one before."""
        if _BEFORE in listened.__dict__:
            self._say(listened)

    def restore(self) -> None:
        """As it was before `use()`."""
        own = self._said.get(_NAME)
        if isinstance(own, type) and _BEFORE in own.__dict__:
            self._say(own.__dict__[_BEFORE])

    @property
    def _class(self) -> Any:
        return self.factory.class_ if async_sessions.is_maker(self.factory) else self.factory

    @property
    def _said(self) -> Any:
        """What the factory says for itself, and did not inherit."""
        return self.factory.kw if async_sessions.is_maker(self.factory) else self.factory.__dict__

    def _say(self, what: Any) -> None:
        if not async_sessions.is_maker(self.factory):
            delattr(self.factory, _NAME) if what is None else setattr(self.factory, _NAME, what)
        elif what is None:
            self.factory.kw.pop(_NAME, None)
        else:
            self.factory.configure(**{_NAME: what})
