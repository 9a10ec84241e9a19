"""
Domain events: what the application says has happened, in its own transaction.

In the application's thread. What it says is written to the outbox as changes
are, beside them, and so comes after those that were flushed before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.orm import InstanceState, Session, scoped_session

from sqla_webhooks.capture import binds, rows
from sqla_webhooks.capture.plan import identity
from sqla_webhooks.capture.recorder import Recorder
from sqla_webhooks.domain import Domain
from sqla_webhooks.errors import ConfigurationError, EndpointError, NotFound
from sqla_webhooks.events import Change, Operation
from sqla_webhooks.given import check_tenant
from sqla_webhooks.outbox import sheet
from sqla_webhooks.outbox.database import Database, check_session
from sqla_webhooks.resources import Shape

_CALL = "webhooks.emit(session, ...)"


@dataclass(frozen=True, slots=True)
class Emission:
    """
    How one installation writes down what is emitted.

    Attributes:
        hears: Whether a session is one of those that are listened to.
    """

    recorder: Recorder
    database: Database
    domain: Domain
    hears: Callable[[Session], bool]

    def emit(self, session: Any, type_: str, *, obj: Any, data: Mapping[str, Any] | None, tenant: object) -> None:
        """As `Webhooks.emit()`."""
        session = self._session(session)
        about = self.domain.about(type_)
        _check_about(type_, obj, about)
        change = Change(
            resource=type_.partition(".")[0],
            operation=Operation.EMIT,
            identity=(),
            data=_data(data),
            type=type_,
            tenant=_tenant(tenant, obj),
        )
        session.flush()
        row = None if obj is None else self._row_of(session, obj)
        arguments = self._bind(session) if row is None else binds.writing(session, row[1].mapper)
        if not self._is_asked_for(session, type_, arguments):
            return
        connection = session.connection(bind_arguments=arguments)
        self.recorder.take_write_lock(connection)  # before the row is read
        if row is not None:
            change = _about(change, _read(connection, *row), shape=row[1], own=data is None)
        self.recorder.write_on(connection, [sheet.run_of(change)], transaction=self.recorder.transaction(session))

    def _is_asked_for(self, session: Session, type_: str, bind_arguments: Mapping[str, Any]) -> bool:
        patterns = self.recorder.known(session)
        if patterns is None:
            patterns = self.recorder.look(session, bind_arguments, first=True)
        return patterns.match(type_)

    def _bind(self, session: Session) -> dict[str, Any]:
        """Where what is about no row is written: to the database of our tables."""
        self.database.of_session(session, call=_CALL)
        return {"bind": self.database.engine if session.bind is None else session.get_bind()}

    def _row_of(self, session: Session, obj: Any) -> tuple[InstanceState[Any], Shape]:
        state = inspect(obj, raiseerr=False)
        what = type(obj).__qualname__
        if not isinstance(state, InstanceState):
            message = f"obj is {what}: give an object of a mapped class"
            raise ConfigurationError(message)
        if not state.persistent or state.session is not session:
            message = f"this {what} has no row in the session's transaction: add it before, and delete it after"
            raise ConfigurationError(message)
        shape = self.recorder.shape(session, state.mapper)
        if shape is None:
            message = (
                f"{what} is not captured, or not in this database, so no event can be about it: see print("
                "webhooks.describe()), or give data={...} without an object"
            )
            raise ConfigurationError(message)
        return state, shape

    def _session(self, given: Any) -> Session:
        session = given() if isinstance(given, scoped_session) else given
        check_session(session, call=_CALL)
        if not self.hears(session):
            message = (
                "the session is none of those that install() was called for, so nobody would know when its "
                "transaction ends: give one of that factory"
            )
            raise ConfigurationError(message)
        found: Session = session
        return found


def _check_about(type_: str, obj: Any, about: type | None) -> None:
    if about is not None and not isinstance(obj, about):
        given = "nothing" if obj is None else type(obj).__qualname__
        message = (
            f"{type_!r} is declared to be about {about.__qualname__}, and is emitted about {given}: write "
            f"emit(session, {type_!r}, obj) with an object of that class, or declare it with None"
        )
        raise ConfigurationError(message)


def _data(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        message = f"data is a {type(given).__name__}: give a dict whose keys are texts"
        raise ConfigurationError(message)
    return dict(given)


def _tenant(given: object, obj: Any) -> str | None:
    if given is None:
        return None
    if obj is not None:
        message = "tenant= is for what is about no row: whose a row is, is worked out from the row itself"
        raise ConfigurationError(message)
    try:
        return check_tenant(given)
    except EndpointError as error:
        raise ConfigurationError(str(error)) from None


def _read(connection: Connection, state: InstanceState[Any], shape: Shape) -> dict[str, Any]:
    """The row as it is in the transaction."""
    for _, values in rows.read_on(connection, shape, wanted={identity(state): None}):
        return values
    message = f"the row of this {state.class_.__qualname__} is not there any more: it was deleted without its session"
    raise NotFound(message)


def _about(change: Change, row: dict[str, Any], *, shape: Shape, own: bool) -> Change:
    """*change* as what has happened to a row; with the row's data if there is none of its own."""
    return replace(
        change,
        resource=shape.resource,
        table=shape.table,
        identity=tuple(row.get(name) for name in shape.key),
        data=row if own else change.data,
        row=None if own else row,
        hidden=shape.hidden if own else (),
    )
