"""
Listeners of an engine that come and go while other threads use it.

SQLAlchemy goes through its own without a lock, and fails in the thread that
does so if one is added or taken away meanwhile. Here it has one for each kind of
event, which stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, event

Listener = Callable[..., None]


class _Ear:
    """The listeners of one kind of event."""

    def __init__(self) -> None:
        #: Never changed, but exchanged.
        self.listeners: tuple[Listener, ...] = ()

    def hear(self, *arguments: Any) -> None:
        for listener in self.listeners:
            listener(*arguments)


_ears: WeakKeyDictionary[Engine, dict[str, _Ear]] = WeakKeyDictionary()
#: Held for a look at what there is, and the change of it.
_changing = threading.Lock()


@contextmanager
def heard(engine: Engine, name: str, listener: Listener) -> Iterator[None]:
    """Have *listener* called for each event of that name."""
    with _changing:
        ears = _ears.setdefault(engine, {})
        if name not in ears:
            ear = ears[name] = _Ear()
            event.listen(engine, name, ear.hear)
        ears[name].listeners += (listener,)
    try:
        yield
    finally:
        with _changing:
            ears[name].listeners = tuple(one for one in ears[name].listeners if one is not listener)
