"""
The values that travel along the path, and nothing that acts on them.

A `Change` is what capture saw of one row. An `Event` is a change made public.
A `Claim` is a delivery that this process holds by lease; its `Result` is what
came of sending it, and the `Verdict` what that means. `StoredEvent`, `Delivery`
and `Attempt` are what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, Literal, TypeAlias

from sqla_webhooks.audience import Audience, Reach, Scope
from sqla_webhooks.destination import Destination
from sqla_webhooks.errors import DeliveryError


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


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    #: Waits for its turn, for its retry, or for its answer.
    PENDING = "pending"  # in the table also what is held, and what the endpoint's deletion has cancelled
    #: The endpoint answered 2xx.
    DELIVERED = "delivered"
    #: Given up: the last attempt failed, or the policy forbids the address.
    DEAD = "dead"
    #: The endpoint is disabled; goes on when it is enabled.
    HELD = "held"
    #: Will not be sent: somebody said so, or the endpoint was deleted.
    CANCELLED = "cancelled"


class Strain(IntEnum):
    """What an attempt says of its endpoint, beyond its own delivery."""

    #: It took the delivery.
    NONE = 0
    #: It answered, and did not take it: that may be for this delivery alone.
    REFUSED = 1
    #: No answer came, or none that is HTTP; or no request could be made.
    UNREACHABLE = 2
    #: It asks for fewer requests (429), or somebody before it does (502, 503, 504).
    OVERLOADED = 3


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


@dataclass(frozen=True, slots=True)
class Health:
    """
    How an endpoint has answered.

    Attributes:
        failures: Failed attempts in a row, up to now.
        failing_since: When the first of them started.
        pauses: Pauses in a row: nothing is sent until the end of each, and then one request.
        paused_at: When the last of them was set.
        paused_until: When it ends.
        warned: How far it was told that the endpoint fails: a place in `breaker.WARNINGS`, counted from 1.
    """

    failures: int = 0
    failing_since: datetime | None = None
    last_failure_at: datetime | None = None
    last_success_at: datetime | None = None
    pauses: int = 0
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    warned: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Where events go, as `webhooks.endpoints` shows it.

    Attributes:
        filter: What its events must be, beside their types; None for anything.
        scope: Whose events it may get: those of its `tenant`, those that belong to no tenant, or all.
        key: What the application calls it; None if it was not registered by a key.
        dialect: Which headers, body and signature its requests have.
        payload: What of the row it gets: all as it was at the commit, only its key, or the row as it is when sent.
        batch: How many events one request may have, in an array; 0 for each by itself.
        ordering: Whether the events of one row come in the order of its changes.
        rate_limit: Requests a second, at most; None for any number.
        header_names: The headers that its requests have beside ours; their values are shown to nobody.
        disabled_because: `asked`; `gone`, since it answered 410; `failing`, since it did nothing else for
            `disable_after` seconds. None while it is enabled.
    """

    id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    description: str
    created_at: datetime
    updated_at: datetime
    filter: Mapping[str, Any] | None = None
    scope: Scope = Scope.ALL
    tenant: str | None = None
    key: str | None = None
    dialect: str = "standard"
    payload: Literal["full", "thin", "latest"] = "full"
    batch: int = 0
    ordering: bool = True
    rate_limit: float | None = None
    header_names: tuple[str, ...] = ()
    disabled_at: datetime | None = None
    disabled_because: str | None = None
    health: Health = field(default_factory=Health)

    @property
    def reach(self) -> Reach:
        """Which events it may get."""
        return Reach(self.scope, self.tenant)


@dataclass(frozen=True, slots=True)
class NewEndpoint(Endpoint):
    """
    An endpoint with its newest secret: what `create()` and `rotate_secret()` return, and nothing else ever does.

    Attributes:
        secret: `whsec_…`, to be given to the receiver. Never in a repr.
    """

    secret: str = field(repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class SecretState:
    """
    One secret of an endpoint, without the secret.

    Attributes:
        expires_at: Until when requests are signed with it too; None for the newest, which is so until another comes.
    """

    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """
    A delivery that this process may send until its lease ends.

    Attributes:
        token: Only a result that shows this token is recorded.
        until: When the lease ends: nothing may be sent from then on, since another relay may.
        attempt: This attempt's number; the first is 1.
        first_attempt_at: When attempt 1 started; None before it.
        keys: The queues that it stands in: none where order is not wanted, two where a primary key has changed.
        table: Of the event's row; empty if it is about none.
        audience, tenant: Whom the event may reach.
    """

    delivery_id: int
    token: str
    until: datetime
    attempt: int
    first_attempt_at: datetime | None
    created_at: datetime
    keys: tuple[int, ...]
    event_id: str
    event_type: str
    payload: bytes = field(repr=False)
    destination: Destination
    table: str = ""
    audience: Audience = Audience.ALL
    tenant: str | None = None

    @property
    def endpoint(self) -> int:
        """The endpoint's number."""
        return self.destination.endpoint

    @property
    def endpoint_id(self) -> str:
        return self.destination.endpoint_id

    @property
    def url(self) -> str:
        return self.destination.url

    @property
    def is_retry(self) -> bool:
        return self.attempt > 1


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What an endpoint answered, with whatever status.

    Retry strategies see it as the outcome's result:
    `retry_if_result(lambda answer: answer.status == 503)`.

    Attributes:
        body: The beginning of the body, decoded leniently.
        headers: Names in whatever case.
        failed: Of a batch: the ids of the events that it says it has not taken.
    """

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    failed: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx. A redirect is not: it is a failure."""
        return 200 <= self.status < 300  # noqa: PLR2004  # the 2xx class itself


@dataclass(frozen=True, slots=True)
class Result:
    """
    What came of one request.

    Attributes:
        claim: What was sent, or the first of what was sent together.
        duration: Seconds.
        others: What was sent with it.
    """

    claim: Claim
    started_at: datetime
    duration: float
    outcome: Answer | DeliveryError
    others: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    One HTTP request of a delivery and what came back.

    Attributes:
        duration: Seconds.
        status: None when no answer came.
        response: The beginning of the answer's body.
        reason: Why it failed, in a word: `status`, or the reason of a `DeliveryError`. None for 2xx.
        detail: The same in a sentence; empty for 2xx.
    """

    number: int
    started_at: datetime
    duration: float
    status: int | None
    response: str
    reason: str | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What one attempt means for its delivery: what is to be recorded.

    Attributes:
        next_attempt_at: When the next attempt is due; None when the delivery is finished.
        not_before: Until when the endpoint has asked not to be sent anything.
        gone: Whether it has said that it is there no more.
    """

    claim: Claim
    attempt: Attempt
    state: DeliveryState
    next_attempt_at: datetime | None = None
    strain: Strain = Strain.NONE
    not_before: datetime | None = None
    gone: bool = False

    @property
    def ended_at(self) -> datetime:
        return self.attempt.started_at + timedelta(seconds=self.attempt.duration)

    @property
    def first_attempt_at(self) -> datetime:
        return self.claim.first_attempt_at or self.attempt.started_at


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    One event for one endpoint, and where it stands.

    Attributes:
        attempts: How many attempts are recorded.
        next_attempt_at: When it is due; None when it waits behind an earlier change of its row, when it is held,
            and when it is finished. While a request runs, the instant at which another relay may take it over.
    """

    id: int
    event_id: str
    event_type: str
    endpoint_id: str
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


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
    context: Mapping[str, Any] | None = None
    tenant: str | None = None
