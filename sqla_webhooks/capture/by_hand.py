"""
Events that somebody asks for: a row is told of though nothing was done to it.

In the caller's thread, in a transaction of our own. The row is locked before it
is read: who changes it has committed by then, or waits for us, so that the
event comes after every change that it shows, and before every other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, inspect, select
from sqlalchemy.orm import InstanceState

from sqla_webhooks.capture import rows
from sqla_webhooks.capture.interest import UNDATED
from sqla_webhooks.capture.plan import identity
from sqla_webhooks.capture.recorder import Recorder, Transaction
from sqla_webhooks.errors import ConfigurationError, NotFound
from sqla_webhooks.events import CHANGES, Change, Operation
from sqla_webhooks.keys import Identity
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.database import Database, among, on_database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.resources import Shape


class ByHand:
    """
    How one installation writes down what is asked for by hand.

    Args:
        wake: Called after the commit.
    """

    def __init__(self, recorder: Recorder, *, database: Database, wake: Callable[[], None]) -> None:
        self._recorder = recorder
        self._database = database
        self._wake = wake

    @on_database
    def trigger(self, type_: str, obj: Any) -> bool:
        """As `Webhooks.trigger()`."""
        state = self._state(obj)
        shape = self._shape(state)
        operation = self._operation(type_, shape)
        asked = outlive(lambda: self._write(type_, operation, shape=shape, key=identity(state)))
        if asked:
            self._wake()
        return asked

    def _state(self, obj: Any) -> InstanceState[Any]:
        state = inspect(obj, raiseerr=False)
        what = type(obj).__qualname__
        if not isinstance(state, InstanceState) or state.key is None:
            what = f"the class {obj.__qualname__}" if isinstance(obj, type) else f"{what}, without a row"
            message = f"obj is {what}: give an object of a mapped class that was committed or loaded"
            raise ConfigurationError(message)
        if state.session is not None and self._recorder.has_written(state.session):
            message = (
                f"the session of this {what} has written, and trigger(), whose transaction is another, would wait for "
                "its commit: commit first"
            )
            raise ConfigurationError(message)
        return state

    def _shape(self, state: InstanceState[Any]) -> Shape:
        shape = self._recorder.resources.shape(state.mapper)
        if shape is None:
            message = f"{state.class_.__qualname__} is not captured: see print(webhooks.describe())"
            raise ConfigurationError(message)
        return shape

    def _operation(self, type_: str, shape: Shape) -> Operation:
        told = self._recorder.resources.standing(shape.mapper).operations
        types = {f"{shape.resource}.{one.verb}": one for one in CHANGES if one in told}
        if type_ not in types:
            message = f"{type_!r} is no event of {shape.mapper.class_.__qualname__}: write one of {', '.join(types)}"
            raise ConfigurationError(message)
        return types[type_]

    def _write(self, type_: str, operation: Operation, *, shape: Shape, key: Identity) -> bool:
        recorder = self._recorder
        with self._database.write() as connection:
            recorder.take_write_lock(connection)
            if not recorder.interest.look(connection, as_of=UNDATED).match(type_):
                return False
            row = _locked(connection, shape, key)
            place = tuple(row.get(name) for name in shape.key)
            change = Change(shape.resource, operation, place, row, table=shape.table, by_hand=True, hidden=shape.hidden)
            recorder.write_on(connection, [sheet.run_of(change)], transaction=Transaction())
        return True


def _locked(connection: Connection, shape: Shape, key: Identity) -> dict[str, Any]:
    """
    The row of that key, as it is once nobody else changes it.

    Read by a statement of its own: the one that has waited for the lock may
    show what other rows were before it.

    Raises:
        NotFound: There is none.
    """
    locking = select(*shape.key_columns).select_from(shape.mapper.persist_selectable).with_for_update()
    if connection.execute(locking.where(among(shape.key_columns, [key]))).first() is not None:
        for _, values in rows.read_on(connection, shape, wanted={key: None}):
            return values
    message = f"there is no {shape.resource} with the key {key!r}: its row was deleted, or never committed"
    raise NotFound(message)
