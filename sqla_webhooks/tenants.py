"""
Whose each event is: told by what was captured of its row, never by the database, so that nothing is ever loaded.

The boundary between tenants. What cannot be told is for endpoints of
everybody's events alone. A row that moves from one tenant to another is, as
PostgreSQL's row filters of publications have it, deleted for the one and
created for the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict

from sqla_webhooks import encoding, given
from sqla_webhooks.audience import Audience
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.errors import EndpointError, TenantUnknown
from sqla_webhooks.events import Around, Event, Operation
from sqla_webhooks.ids import event_id
from sqla_webhooks.mappers import full_name
from sqla_webhooks.resources import Resources, Shape
from sqla_webhooks.stand_in import stand_in

logger = logging.getLogger(__name__)

#: What tells of a row whose it is.
Rule: TypeAlias = Callable[[Any], Any]
#: Told of an event of which that cannot be told, and why.
Report: TypeAlias = Callable[[Event, BaseException], None]

_NOT_MAPPED = (
    "no class that is captured in this process is behind the resource, so nothing says whose its rows are: import the "
    "same models where events are relayed"
)


_IN_BETWEEN = (
    "what was emitted shows its row as somebody's whose it was in the middle of the transaction alone, neither before "
    "nor after: emit when the row is what it shall be"
)


@dataclass(frozen=True, slots=True)
class _Whose:
    """
    Whose a row is.

    Attributes:
        tenant: None for no tenant's.
        error: Why it cannot be told, if it cannot.
    """

    tenant: str | None = None
    error: BaseException | None = None

    @property
    def known(self) -> bool:
        return self.error is None

    @property
    def audience(self) -> Audience:
        if not self.known:
            return Audience.ALL
        return Audience.SHARED if self.tenant is None else Audience.TENANT

    @property
    def half(self) -> Audience:
        """The same without those who get everybody's events."""
        return Audience.SHARED_ONLY if self.tenant is None else Audience.TENANT_ONLY


class Tenants:
    """
    Tells of the events of one installation whose they are.

    In the relay's thread, while no transaction of ours is open.

    Args:
        rule: The function of `install(tenant=...)`; None for none.
        encoding: How values are written as JSON.
        report: Told of each event of which it cannot be told.
    """

    def __init__(self, resources: Resources, rule: Rule | None, *, encoding: Encoding, report: Report) -> None:
        self._resources = resources
        self._rule = rule
        self._encoding = encoding
        self._report = report

    def assign(self, events: Iterable[Event]) -> list[Event]:
        """
        *events*, each with whom it may reach; those of moves between tenants as their halves.

        What is hidden is gone from them, and an update of nothing else, unless the row has moved.
        """
        ruled: dict[tuple[str, str], Sequence[Shape] | None] = {}
        assigned: list[Event] = []
        for event in events:
            place = event.resource, event.table
            if place not in ruled:
                ruled[place] = self._ruled(*place)
            assigned += self._assigned(event, ruled[place]) if _is_of_row(event) else [event]
        return [_without_hidden(event) for event in assigned]

    def may_see(self, mapper: Mapper[Any], instance: Any, event: Event) -> bool:
        """
        Whether a row, as it is loaded by now, is still of those whom its event may reach.

        Goes by what is loaded of it, and loads nothing.
        """
        shape = self._resources.shape(mapper)
        loaded = {name: value for name, value in instance_dict(instance).items() if name in mapper.columns}
        return event.audience is Audience.ALL or (shape is not None and self.may_have(shape, loaded, event))

    def may_have(self, shape: Shape, values: Mapping[str, Any], event: Event) -> bool:
        """The same of a row whose attributes were read, hidden ones too."""
        if event.audience is Audience.ALL:
            return True
        if not (shapes := self._with_rule([shape])):
            return False
        # There and back, so that it is told of the same values as were captured.
        whose = self._whose(shapes, encoding.loads(self._encoding.dumps(values)))
        return event.audience in (whose.audience, whose.half) and whose.known and whose.tenant == event.tenant

    # ------------------------------------------------------------------ by what it is told

    def _ruled(self, resource: str, table: str) -> Sequence[Shape] | None:
        """The classes by which it is told whose a row is: none if nobody has said so; None if they are not here."""
        if shapes := self._resources.shapes(resource, table):
            return self._with_rule(shapes)
        return None if self._rule is not None or self._resources.say_tenants() else ()

    def _with_rule(self, shapes: Iterable[Shape]) -> list[Shape]:
        return [one for one in shapes if self._rule is not None or self._resources.says_tenant(one.mapper)]

    def _whose(self, shapes: Sequence[Shape] | None, plain: Mapping[str, Any]) -> _Whose:
        """Whose a row of these values is. Where several classes are one resource, they must all say the same."""
        if not shapes:
            return _Whose(error=TenantUnknown(_NOT_MAPPED))
        try:
            tenants = {self._tenant(shape, plain) for shape in shapes}
        except KeyboardInterrupt:
            raise  # somebody wants `drain()` to end
        except BaseException as error:  # noqa: BLE001  # the application's code: whatever it raises, events go on
            return _Whose(error=error)
        if len(tenants) == 1:
            return _Whose(tenants.pop())
        names = ", ".join(full_name(shape.mapper.class_) for shape in shapes)
        message = f"{names} are one resource, and of a row of it say different tenants: let them say the same"
        return _Whose(error=TenantUnknown(message))

    def _tenant(self, shape: Shape, plain: Mapping[str, Any]) -> str | None:
        """
        The tenant of a row.

        Raises:
            TenantUnknown: It cannot be told.
            Exception: What the application's function raises.
        """
        said = self._resources.standing(shape.mapper).said
        if said.says_tenant and said.tenant is None:
            return None
        if said.tenant is not None:
            row = stand_in(shape.mapper, {name: plain[name] for name in (said.tenant,) if name in plain})
            return _checked(_attribute(row, said.tenant), shape)
        if self._rule is None:
            message = f"nobody has said whose the rows of {shape.mapper.class_.__qualname__} are"
            raise TenantUnknown(message)
        return _checked(self._rule(stand_in(shape.mapper, plain)), shape)

    # ------------------------------------------------------------------ what comes of it

    def _assigned(self, event: Event, shapes: Sequence[Shape] | None) -> list[Event]:
        if shapes is not None and not shapes:
            return [] if _is_invisible(event) else [event]
        if event.operation is Operation.UPDATE:
            return self._updated(event, shapes)
        if event.unsure is not None and shapes:
            # What the transaction had made of the row before may have been another tenant's.
            event = _as_it_was(event, shapes)
        whose = self._whose(shapes, _now(event))
        if whose.known and event.around is not None and not self._is_whose(event.around, shapes, whose):
            whose = _Whose(error=TenantUnknown(_IN_BETWEEN))
        self._tell(event, whose)
        return [_for(event, whose)]

    def _is_whose(self, around: Around, shapes: Sequence[Shape] | None, whose: _Whose) -> bool:
        """Whether a row was theirs before its transaction, or is after it."""
        names = _stored(shapes)
        before = {name: value for name, value in (around.before or {}).items() if name in names}
        known = [] if around.before is None else [self._whose(shapes, before)]
        known += [] if around.after is None else [self._whose(shapes, around.after)]
        return any(one.known and one.tenant == whose.tenant for one in known)

    def _updated(self, event: Event, shapes: Sequence[Shape] | None) -> list[Event]:
        names = _stored(shapes)
        visible = _before(event.data, event.changes or {}, names=names)
        before = self._whose(shapes, visible | _before(event.hidden, event.hidden_changes, names=names))
        now = self._whose(shapes, _now(event))
        self._tell(event, now, before)
        if before.known and now.known and before.tenant == now.tenant:
            return [] if _is_invisible(event) else [_for(event, now)]
        halves = [_left(event, before, visible, shapes=shapes or ())] if before.known else []
        halves += [_come(event, now)] if now.known else []
        return [*halves, replace(event, audience=Audience.ALL, tenant=None)]

    def _tell(self, event: Event, *whose: _Whose) -> None:
        for one in whose:
            if one.error is not None:
                self._report(_without_hidden(event), one.error)
                return


def _checked(found: Any, shape: Shape) -> str | None:
    """A tenant as text; None for none."""
    try:
        return None if found is None else given.check_tenant(found)
    except EndpointError as error:
        message = (
            f"whose a row of {shape.mapper.class_.__qualname__} is, is told by a {encoding.type_name(type(found))}: "
            f"a tenant is an int, a UUID, or a text of 1 to {given.LONGEST_NAME} characters without NUL and lone "
            "surrogates, and None is no tenant"
        )
        raise TenantUnknown(message) from error


def _attribute(row: Any, name: str) -> Any:
    try:
        return getattr(row, name)
    except AttributeError as error:
        cls = type(row).__qualname__
        message = (
            f"{cls} has no {name!r}, by which its __webhooks__, which it has from a base, tell whose a row is: give it "
            'some of its own, such as {"tenant": None} for rows that belong to no tenant'
        )
        raise TenantUnknown(message) from error


def _is_of_row(event: Event) -> bool:
    """Whether it tells of a row: not of the webhooks themselves, and not of what was emitted about none."""
    return event.operation is not Operation.EMIT or bool(event.table)


def _now(event: Event) -> dict[str, Any]:
    """The row that it tells of, whatever was emitted about it."""
    return {**event.data, **event.hidden} if event.row is None else event.row


def _stored(shapes: Sequence[Shape] | None) -> frozenset[str]:
    """The attributes that are columns: what an expression was before is never known."""
    return frozenset.intersection(*(frozenset(one.stored) for one in shapes)) if shapes else frozenset()


def _before(
    data: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]], *, names: frozenset[str]
) -> dict[str, Any]:
    """What of a row's values is known from before an update: nothing of what it has set."""
    same = {name: value for name, value in data.items() if name in names and name not in changes}
    return same | {name: one["from"] for name, one in changes.items() if name in names and "from" in one}


def _as_it_was(event: Event, shapes: Sequence[Shape]) -> Event:
    """A delete without the values that may be later ones than those of before the transaction."""
    names = _stored(shapes) - (event.unsure or frozenset())
    return replace(
        event,
        data={name: value for name, value in event.data.items() if name in names},
        hidden={name: value for name, value in event.hidden.items() if name in names},
    )


def _for(event: Event, whose: _Whose) -> Event:
    return replace(event, audience=whose.audience, tenant=whose.tenant)


def _left(event: Event, whose: _Whose, before: dict[str, Any], *, shapes: Sequence[Shape]) -> Event:
    """For those whose the row was: it is gone, under the key that they know it by, with nothing of what it is now."""
    gone = replace(
        event,
        id=event_id(event.timestamp),
        type=f"{event.resource}.{Operation.DELETE.verb}",
        operation=Operation.DELETE,
        data=before,
        changes=None,
        links=None,
        audience=whose.half,
        tenant=whose.tenant,
    )
    if event.former_id is None:
        return gone
    key = shapes[0].key
    identity = tuple(before[name] for name in key) if all(name in before for name in key) else ()
    # It stands in the queue of the new key too, under which the row may come back.
    return replace(gone, resource_id=event.former_id, identity=identity, former_id=event.resource_id)


def _come(event: Event, whose: _Whose) -> Event:
    """For those whose the row is: it is new, whatever it was before."""
    return replace(
        event,
        id=event_id(event.timestamp),
        type=f"{event.resource}.{Operation.CREATE.verb}",
        operation=Operation.CREATE,
        changes=None,
        links=None,
        audience=whose.half,
        tenant=whose.tenant,
    )


def _is_invisible(event: Event) -> bool:
    """Whether nothing has changed but what is hidden."""
    return bool(event.hidden_changes) and not event.changes and event.links is None and event.former_id is None


def _without_hidden(event: Event) -> Event:
    if not (event.hidden or event.hidden_changes or event.around is not None):
        return event
    return replace(event, hidden={}, hidden_changes={}, around=None)
