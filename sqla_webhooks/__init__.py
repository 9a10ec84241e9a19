"""
Outgoing webhooks for any SQLAlchemy application, in one call.

    from sqla_webhooks import install

    webhooks = install(Session)  # at start-up

    endpoint = webhooks.endpoints.create("https://partner.example/hooks", events=["order.*"])  # once
    print(endpoint.secret)

The way of the data:

    capture/     the application's flush becomes an outbox row, in its transaction
    outbox/      every SQL statement on our tables (`models`)
    relay/       a background thread walks the rest of the path:
    coalesce     the changes of a transaction, each row's as one (`net`), become events
    tenants      whose each is: asked of a `stand_in` for its row
    enrich/      the application adds to them
    transitions  what follows from them are others
    delivery/    each is written down, made what each endpoint gets, signed, sent, and what came of it recorded

Beside it:

    plugin       install() and Webhooks, of the parts that the `assembly` puts together
    telling      what the application tells itself: `domain` events, events by hand, and in which `context`
    backfill     rows that are there already, told of behind live traffic (`throttle`): those `existing`, and the
                 `reading` of them
    endpoints    where events go: what people call. Each is written by `enrolment`: its `terms`, as they are `given`,
                 and what `custody` keeps
    trial        an example of an event, for one of them
    history      what came of events: what people look at, as it is `asked`
    resources    mapped classes as the outside sees them, and `subscriptions` to them; `filters` say which of
                 their events, by `conditions`, and `audience` whom they may reach; `unmet`, what can never come
    attributes   which of their attributes are sent: by `selection`, what install() says of
                 classes, and by `declared`, what `mappers`' classes say of themselves
    describe     all that, to be printed
    catalogue    every event that can occur: its `bodies`, described by the `schema` of each column; `openapi`, all that
                 as a document
    encoding     values as JSON, each by its rule in `values`, and back (`keys`); `naming`, what names say
    retry        when to try again; `breaker`, when to leave an endpoint alone; `pace`, how many at a time
    operational  events of the webhooks themselves
    dialect      what a body, headers and a signature for one kind of receiver are
    vault        secrets as they lie in the database; `headers`, what an endpoint may add to a request
    events       the values that travel; `deliveries`, of what is sent, and `destination`, to whom; `progress`, how far
    config       the settings: what is `workable`, and `allowed` of requests
    errors       all in one tree; `signals`, what programs are told; `ids`, the time (`_clock`), `async_sessions`
                 recognised, the `_version`
"""

from sqla_webhooks import models
from sqla_webhooks._clock import Clock
from sqla_webhooks._version import __version__
from sqla_webhooks.bodies import CatalogueEvent
from sqla_webhooks.catalogue import Catalogue
from sqla_webhooks.config import Options, Retention, Settings
from sqla_webhooks.deliveries import Answer, Attempt, Delivery, DeliveryState
from sqla_webhooks.delivery.dialects.cloudevents import CloudEvents, CloudEventsBinary
from sqla_webhooks.delivery.dialects.github import GitHub
from sqla_webhooks.delivery.dialects.openfront import OpenFront
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.replay_guard import MemoryReplayGuard
from sqla_webhooks.delivery.verify import verify, verify_batch
from sqla_webhooks.describe import DescribedAttribute, DescribedResource, Description
from sqla_webhooks.destination import Endpoint, Health, NewEndpoint, SecretState
from sqla_webhooks.dialect import Dialect, Post
from sqla_webhooks.endpoints import Endpoints
from sqla_webhooks.enrich.enricher import endpoint_enricher, enricher
from sqla_webhooks.errors import (
    Blocked,
    BulkLimitExceeded,
    ConfigurationError,
    ConnectFailed,
    DatabaseBusy,
    DeliveryError,
    EndpointError,
    InvalidAnswer,
    InvalidFilter,
    InvalidHeaders,
    InvalidSubscription,
    InvalidURL,
    NotAcknowledged,
    NotFound,
    OutboxWriteError,
    RenderingFailed,
    Replayed,
    SignatureError,
    SigningFailed,
    TenantUnknown,
    TimedOut,
    TLSFailed,
    WebhooksError,
    WrongState,
)
from sqla_webhooks.events import Event, Operation, StoredEvent
from sqla_webhooks.history import Deliveries, Events
from sqla_webhooks.plugin import Webhooks, install
from sqla_webhooks.progress import Progress, Pruned, Reencrypted
from sqla_webhooks.relay.drain import Drained
from sqla_webhooks.signals import (
    dead,
    delivered,
    endpoint_disabled,
    endpoint_failing,
    endpoint_recovered,
    enricher_failed,
    enriching,
    enriching_for_endpoint,
    failed,
    oversized,
    predicate_failed,
    tenant_unknown,
    unencodable,
)
from sqla_webhooks.transitions import Condition, changed

__all__ = [
    "Answer",
    "Attempt",
    "Blocked",
    "BulkLimitExceeded",
    "Catalogue",
    "CatalogueEvent",
    "Clock",
    "CloudEvents",
    "CloudEventsBinary",
    "Condition",
    "ConfigurationError",
    "ConnectFailed",
    "DatabaseBusy",
    "Deliveries",
    "Delivery",
    "DeliveryError",
    "DeliveryState",
    "DescribedAttribute",
    "DescribedResource",
    "Description",
    "Dialect",
    "Drained",
    "Endpoint",
    "EndpointError",
    "Endpoints",
    "Event",
    "Events",
    "GitHub",
    "Health",
    "InvalidAnswer",
    "InvalidFilter",
    "InvalidHeaders",
    "InvalidSubscription",
    "InvalidURL",
    "MemoryReplayGuard",
    "NewEndpoint",
    "NotAcknowledged",
    "NotFound",
    "OpenFront",
    "Operation",
    "Options",
    "OutboxWriteError",
    "Post",
    "Progress",
    "Pruned",
    "Reencrypted",
    "RenderingFailed",
    "Replayed",
    "Retention",
    "SecretState",
    "Settings",
    "SignatureError",
    "SigningFailed",
    "Standard",
    "StoredEvent",
    "TLSFailed",
    "TenantUnknown",
    "TimedOut",
    "Webhooks",
    "WebhooksError",
    "WrongState",
    "__version__",
    "changed",
    "dead",
    "delivered",
    "endpoint_disabled",
    "endpoint_enricher",
    "endpoint_failing",
    "endpoint_recovered",
    "enricher",
    "enricher_failed",
    "enriching",
    "enriching_for_endpoint",
    "failed",
    "install",
    "models",
    "oversized",
    "predicate_failed",
    "tenant_unknown",
    "unencodable",
    "verify",
    "verify_batch",
]
