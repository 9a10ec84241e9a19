"""
The values that travel from the flush to the fan-out, and nothing that acts on them.

A `Change` is what capture saw of one row. An `Event` is a change made public,
and a `StoredEvent` what is kept of it. What is sent stands in `deliveries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from sqla_webhooks.audience import Audience


class Operation(StrEnum):
    """What was done to a row."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    #: Nothing: the row was there already, and is told of.
    READ = "read"
    #: Nothing was done to a row: something happened.
    EMIT = "emit"

    @property
    def verb(self) -> str:
        """What was done to a row as event types say it: `created`, `updated`, `deleted`, `read`."""
        return "read" if self is Operation.READ else f"{self.value}d"


#: What is done to rows.
CHANGES = (Operation.CREATE, Operation.UPDATE, Operation.DELETE)


#: Many-to-many relationship to what was added and removed.
Links: TypeAlias = dict[str, dict[str, list[Any]]]


@dataclass(frozen=True, slots=True)
class Change:
    """
    What capture saw of one row in one flush.

    Its values are Python's on the way to the outbox, and JSON's from there on.

    Attributes:
        identity: The primary key's values in key order; unambiguous, unlike `resource_id`.
        data: Attribute name to value: the row after the change; a deleted row as it was.
        previous: The attributes that changed, to their old value where that is known. Deletes of a row that the same
            transaction has updated: what it had changed; these are the values of `data`.
        changed: Updates: the attributes that changed, the ones of unknown old value too. Deletes of a row that the
            same transaction has updated: those of which `data` has the later value, since that before is not known.
        moved_from: Updates of the primary key only: the identity before.
        table: The row's table: it keeps the rows of two classes of one name apart.
        links: Many-to-many relationship to the identities of the rows linked and unlinked: `{"added": [...],
            "removed": [...]}`, of which neither need be there.
        type: Of what was emitted: the event's type. Empty for all else, of which the operation says it.
        tenant: Whose it is, said by the application; None if it was not.
        row: Of what was emitted about a row with other data than the row's: the row's captured attributes, for whoever
            works out whose it is. Never part of the body.
        by_hand: Whether somebody has asked for it to be told of, though nothing was done to the row.
        endpoint: The id of the endpoint to which alone it goes, whether or not it has subscribed; None for those that
            have.
        hidden: The attributes that are captured to tell whose the row is, and must not be sent.
    """

    resource: str
    operation: Operation
    identity: tuple[Any, ...]
    data: dict[str, Any]
    previous: dict[str, Any] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    moved_from: tuple[Any, ...] | None = None
    table: str = ""
    links: Links = field(default_factory=dict)
    type: str = ""
    tenant: str | None = None
    row: dict[str, Any] | None = None
    by_hand: bool = False
    endpoint: str | None = None
    hidden: tuple[str, ...] = ()

    @property
    def is_net(self) -> bool:
        """Whether it counts among the changes of its row: not what is told of while nothing was done to one."""
        return self.operation in CHANGES and not self.by_hand


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """
    The changes of one flush, as they were written beside it; or what was emitted, or asked for by hand.

    Attributes:
        transaction: The same for every flush of one transaction.
        context: What the application said of the circumstances, in the thread of the flush; None for nothing.
    """

    id: int
    transaction: str
    captured_at: datetime
    changes: tuple[Change, ...]
    context: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """
    A row before a transaction and after it: its captured attributes, hidden ones too, as far as they are known.

    Attributes:
        before, after: None if it was not there, or is not any more.
    """

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Event:
    """
    One change made public.

    Attributes:
        id: `evt_…`: the `webhook-id` header, the same for every attempt.
        changes: Updates only: attribute name to `{"from": old, "to": new}`.
        links: Many-to-many relationship to `{"added": [...], "removed": [...]}`, of `resource_id`s; None if there is
            nothing to say.
        table, identity: The row's table and its primary key's values, for loading it and for its order. Not part of
            the body.
        former_id: The `resource_id` before, where the primary key has changed. Not part of the body.
        endpoint: The id of the endpoint to which alone it goes, subscribed or not; None for those that have
            subscribed. Not part of the body.
        audience, tenant: Whom it may reach. Not part of the body.
        context: What the application said of the change's circumstances; None for nothing. Of what stands here, the
            body has only what `send_context` names.
        row: The row's captured attributes, where `data` is what was emitted instead. Not part of the body.
        by_hand: Whether somebody has asked for it, though nothing was done to the row. Not part of the body.
        truncated: Whether only the key is in `data`, since the body would have been too large.
        gone: Whether only the key is in `data`, since the row was to be sent as it is now, and is there no more.
        hidden, hidden_changes: As `data` and `changes`, of the attributes that tell whose the row is and are not sent.
            Only on the way from coalescing to that. Not part of the body.
        unsure: Deletes of a row that the same transaction has updated: the attributes of which `data` has the later
            value, since that before is not known. None for a row that was deleted as it was. Not part of the body.
        around: Of what was emitted about a row that the same transaction has changed: the row before and after it all.
            Not part of the body.
    """

    id: str
    type: str
    timestamp: datetime
    resource: str
    resource_id: str
    operation: Operation
    data: dict[str, Any]
    changes: dict[str, dict[str, Any]] | None = None
    links: Links | None = None
    table: str = ""
    identity: tuple[Any, ...] = ()
    former_id: str | None = None
    endpoint: str | None = None
    audience: Audience = Audience.ALL
    tenant: str | None = None
    context: Mapping[str, Any] | None = None
    row: dict[str, Any] | None = None
    by_hand: bool = False
    truncated: bool = False
    gone: bool = False
    hidden: Mapping[str, Any] = field(default_factory=dict, repr=False)
    hidden_changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    unsure: frozenset[str] | None = None
    around: Around | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """
    An event as it is kept, with the bytes that are sent to endpoints that want nothing else.

    Attributes:
        context: What the application said of the change's circumstances; None for nothing.
        tenant: Whose it is; None if it is no one tenant's, or that could not be told.
    """

    id: str
    type: str
    timestamp: datetime
    resource: str
    resource_id: str
    operation: Operation
    payload: bytes
    context: Mapping[str, Any] | None = field(default=None, hash=False)
    tenant: str | None = None
