"""
Every error of this library, in one tree.

    WebhooksError
    ├── ConfigurationError        a setting, or an argument, that cannot work
    ├── EndpointError             an endpoint that cannot be written
    │   ├── InvalidURL
    │   ├── InvalidSubscription
    │   ├── InvalidHeaders
    │   └── InvalidFilter
    ├── NotFound                  no endpoint, event or delivery has that id; or a row is gone
    ├── WrongState                a delivery that cannot be retried or cancelled any more
    ├── OutboxWriteError          raised out of flush(): the change cannot be recorded
    ├── BulkLimitExceeded         a bulk statement about more rows than one may be
    ├── DatabaseBusy              the only connection is inside the application's transaction
    ├── SignatureError            verify(): the request is not from who it says
    │   └── Replayed              it is, and has been accepted before
    └── DeliveryError             an attempt that got no answer
        ├── Blocked               the egress policy forbids the address
        ├── ConnectFailed
        ├── TLSFailed
        ├── TimedOut
        ├── InvalidAnswer
        ├── SigningFailed         its secrets or headers cannot be read, its dialect failed; no request was made
        ├── RenderingFailed       its body could not be made; no request was made
        └── NotAcknowledged       it took the batch, but said that it has not taken this event

`except WebhooksError` catches all of them. An answer with a status other than
2xx is not an error here: it is an `Answer` (see `sqla_webhooks.deliveries`).
"""

from __future__ import annotations

from typing import ClassVar


class WebhooksError(Exception):
    """The base of every error that this library raises."""


class ConfigurationError(WebhooksError, ValueError):
    """
    A setting, an argument, or a call at this place that cannot work.

    A mistake of the program that made the call, and not of anybody's data: the
    message says what to write instead.
    """


class EndpointError(WebhooksError, ValueError):
    """An endpoint that cannot be written as asked."""


class InvalidURL(EndpointError):
    """The URL of an endpoint breaks a rule; the message says which."""


class InvalidSubscription(EndpointError):
    """A subscription pattern is malformed, or can match nothing."""


class InvalidHeaders(EndpointError):
    """A header of an endpoint breaks a rule; the message says which, and never repeats a value."""


class InvalidFilter(EndpointError):
    """A filter of an endpoint breaks a rule; the message says where in it, which, and what to write instead."""


class NotFound(WebhooksError, LookupError):
    """No endpoint, event or delivery has the id that was asked for; or the row that an event would be about is gone."""


class WrongState(WebhooksError):
    """A delivery cannot be retried or cancelled as it stands: it was delivered, or its endpoint was deleted."""


class OutboxWriteError(WebhooksError):
    """
    The outbox row of a flush could not be written, so the flush has failed.

    Raised out of `Session.flush()` and `commit()`; the session needs
    `rollback()`, as after any failed flush. Letting the change through
    without its event would be a silent loss.
    """


class BulkLimitExceeded(WebhooksError):
    """
    A bulk statement, or a call of a bulk method, is about more rows than `bulk_limit` allows.

    Its changes would not be told of, so it fails; what it has done, if it had
    to be executed to know, is rolled back.
    """


class DatabaseBusy(WebhooksError):
    """
    The database has one connection and the application's transaction holds it.

    In-memory SQLite only. Commit or roll back, then call again.
    """


class SignatureError(WebhooksError, ValueError):
    """
    A request that `verify()` does not accept; the message says why.

    Answer such a request with 400 or 401 and do nothing with its body.
    """


class Replayed(SignatureError):
    """
    A request that `verify()` has accepted before: the replay guard knows it.

    A sender's retry is no such request, for it has a timestamp of its own.
    """


class TenantUnknown(WebhooksError):
    """
    Whose a row is cannot be told: of what tells it something was not captured, or what it tells is no tenant.

    Its event goes only to endpoints of everybody's events.
    """


class DeliveryError(WebhooksError):
    """
    An attempt that got no answer.

    Retry strategies see it as the outcome's exception, and its *reason* is
    what the attempt's row records.
    """

    reason: ClassVar[str] = "failed"


class Blocked(DeliveryError):
    """The egress policy forbids the address; no request was made."""

    reason = "blocked"


class ConnectFailed(DeliveryError):
    """The name did not resolve, or the connection was refused."""

    reason = "connect"


class TLSFailed(DeliveryError):
    """The TLS handshake or the certificate failed."""

    reason = "tls"


class TimedOut(DeliveryError):
    """No complete answer came in time."""

    reason = "timeout"


class InvalidAnswer(DeliveryError):
    """The connection broke, or what came back was not HTTP."""

    reason = "invalid_answer"


class SigningFailed(DeliveryError):
    """
    The endpoint's secret or its headers cannot be read, or its dialect is not known or has failed, so no request was
    made.

    Most often a key is missing in `encryption_keys`, or a dialect in
    `dialects`; once it is there, the next attempt is made as any other.
    """

    reason = "signing"


class RenderingFailed(DeliveryError):
    """
    What the endpoint wants could not be made of the event, so no request was made.

    The installation's `transform`, or the dialect, has raised or returned what
    it must not, or the row could not be read again. The next attempt tries
    again.
    """

    reason = "rendering"


class NotAcknowledged(DeliveryError):
    """The endpoint took the request, a batch, and named this event among those that it has not taken."""

    reason = "not_acknowledged"
