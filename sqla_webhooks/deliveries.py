"""
The values of sending, and nothing that acts on them.

A `Claim` is a delivery that this process holds by lease; its `Result` is what
came of sending it, and the `Verdict` what that means. `Delivery` and `Attempt`
are what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum

from sqla_webhooks.audience import Audience
from sqla_webhooks.destination import Destination
from sqla_webhooks.errors import DeliveryError


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
        batch: Which batch it goes in, by the number of one of its deliveries; None if it goes alone.
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
    batch: int | None = None

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

    @property
    def goes_alone(self) -> bool:
        """
        Whether it is sent again by itself.

        What has gone in a batch that nobody has looked at, since the endpoint
        was not there or had too much to do, goes in a batch again: after an
        outage there may be many. Of one that it has refused, each goes alone.
        """
        return self.claim.batch is None or self.strain is Strain.REFUSED


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
