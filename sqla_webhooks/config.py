"""
The settings of `install()`: one frozen, validated value.

Nothing is read from the environment. Times are seconds.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

from sqla_webhooks import allowed, context, domain, workable
from sqla_webhooks._clock import Clock, SystemClock
from sqla_webhooks.allowed import Network
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.dialect import Dialect, checked
from sqla_webhooks.encoding import Encoders
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.events import Event
from sqla_webhooks.retry import (
    LONGEST_RETRY_AFTER,
    RetryPolicy,
    RetryStrategy,
    StopStrategy,
    WaitStrategy,
    retry_standard,
    stop_standard,
    wait_standard,
)
from sqla_webhooks.vault import check_keys

#: Shapes what one endpoint gets: the event that is sent instead, or None to send nothing.
Transform: TypeAlias = Callable[[Event, Endpoint], Event | None]

#: Seconds: a hundred years, after which there is still a date; and a day, which a socket can wait, unlike a month.
_LONGEST, _LONGEST_REQUEST = 36525 * 86400, 86400

T = TypeVar("T")
#: Several of a kind, and no lone string, which is a collection too.
Several: TypeAlias = list[T] | tuple[T, ...] | AbstractSet[T]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """
    For how long what is finished is kept: seconds each, None for ever.

    Attributes:
        attempts: Attempts, of deliveries that are finished or not.
        delivered: Deliveries that were delivered or cancelled, with their attempts.
        dead: Deliveries that were given up, with their attempts.
        events: Events whose deliveries are all gone.
    """

    attempts: float | None = 30 * 86400.0
    delivered: float | None = 30 * 86400.0
    dead: float | None = 30 * 86400.0
    events: float | None = 30 * 86400.0

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for what is no time."""
        for name in ("attempts", "delivered", "dead", "events"):
            workable.check_number(self, name, 0, highest=_LONGEST, may_be_none=True)

    @classmethod
    def of(cls, given: object) -> Retention:
        """What `install(retention=...)` was given, as one value."""
        if isinstance(given, Retention):
            return given
        seconds: Any = given
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
            message = f"retention is {given!r}: give seconds, such as 86400, a Retention, or None to keep everything"
            raise ConfigurationError(message)
        return cls(attempts=seconds, delivered=seconds, dead=seconds, events=seconds)


class Options(TypedDict, total=False):
    """The keyword arguments of `install()`; `Settings` says what each does."""

    batch_window: float
    batch_size: int
    poll_interval: float
    concurrency: int
    max_in_flight: int
    wait: WaitStrategy
    stop: StopStrategy
    retry: RetryStrategy
    longest_retry_after: float
    after_last_attempt: Literal["skip", "hold"]
    disable_after: float | None
    while_disabled: Literal["hold", "drop"]
    retention: float | Retention | None
    connect_timeout: float
    timeout: float
    lease: float
    payload_limit: int | None
    allow_http: bool
    allow_hosts: Several[str]
    allow_networks: Several[str | Network]
    deny_networks: Several[str | Network]
    egress_ports: Several[int] | None
    egress_proxy: str | None
    encryption_keys: list[str | bytes] | list[str] | list[bytes] | tuple[str | bytes, ...] | None
    include: Several[Any]
    exclude: Several[Any]
    names: Mapping[Any, str]
    tenant: Callable[[Any], Any] | None
    encoders: Encoders
    transform: Transform | None
    dialects: Several[Dialect]
    domain_events: Mapping[str, type | None]
    send_context: Several[str]
    capture: Literal["subscribed", "all"]
    capture_bulk: bool
    bulk_limit: int
    beyond_bulk_limit: Literal["fail", "skip"]
    coalesce: bool
    deliver: bool
    create_tables: bool
    clock: Clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    Everything one installation can be told: what `webhooks.settings` shows.

    `install()` takes the same names as keyword arguments, lists and all, and
    makes one of them.

    Attributes:
        batch_window: Seconds that the relay lets changes gather after a commit has woken it; a turn that is under way
            may take them earlier.
        batch_size: How many outbox rows one turn of the relay takes, about: it takes whole transactions, and fewer
            rows where they have more than 16 MiB.
        poll_interval: Seconds between looks at the database when nothing has woken the relay.
        concurrency: Requests in flight in this process. Of retries, and to endpoints of which it is not known that they
            answer, half as many.
        max_in_flight: How many of them to one endpoint. One that has not answered yet gets one; as it answers, more.
        wait, stop, retry: tenacity strategies over the persisted attempt count.
        longest_retry_after: Seconds; an endpoint that asks to be left alone for longer (`Retry-After`) is not.
        after_last_attempt: What happens to the later events of a row when an earlier one is given up. "skip": they are
            sent. "hold": they wait until it is retried or cancelled.
        disable_after: Seconds of nothing but failure after which an endpoint is disabled; None for never.
        while_disabled: What becomes of what a disabled endpoint should get. "hold": it is sent when the endpoint is
            enabled. "drop": it is cancelled.
        retention: Seconds for which what is finished is kept, or a `Retention` that says it one by one; None for ever.
        connect_timeout: Seconds to open a connection: to look its name up, to connect, and to agree on TLS.
        timeout: Seconds that a request may take, its connection included, whatever the other side does.
        lease: Seconds for which a delivery belongs to the relay that claimed it.
        payload_limit: Bytes that the body of an event may have; a larger one is sent without what is in the row. None
            for as many as the database takes.
        allow_http: Whether an endpoint may be plain http.
        allow_hosts: Host names that may be reached whatever their addresses.
        allow_networks: Networks that may be reached though they are not public, such as "127.0.0.0/8".
        deny_networks: Networks that may not be reached, whatever else is allowed: your own public addresses, say.
        egress_ports: The only ports that may be reached. None: 80, 443, and those from 1024 on that no well-known
            service of another kind has.
        egress_proxy: The URL, of http, of a proxy through which every request goes. It looks the names up, and is
            trusted to refuse what must not be reached.
        encryption_keys: Fernet keys, the newest first: by it secrets and headers of endpoints are encrypted in the
            database, and the others read what was encrypted before. Never in a repr.
        include: Classes: capture only these. Operations (`(Order, "create", "update")`): of this class only these.
            Attributes (`User.api_key`): send them though their names say secret, or they are no columns.
        exclude: Classes, operations of a class, attributes: not these.
        names: Classes to the resources that they are called by.
        tenant: A function that tells of a row whose it is: a text, an int or a UUID, or None for no tenant's. It gets
            an object of the row's class that has what was captured, and loads nothing. In the relay's thread. What a
            class says itself (`__webhooks__ = {"tenant": "account_id"}`) comes before it.
        encoders: By class, a function that makes of a value of it what is to be written as JSON, for subclasses too. In
            the application's thread, within its flush, and in the relay's.
        transform: Shapes what each endpoint gets: called with the `Event` and the `Endpoint`, it returns the event, or
            another made of it (`dataclasses.replace(event, data={...})`), or None: then the delivery is cancelled. In
            the relay's thread, for each attempt anew; what it does is not stored. An attempt for which it raises has
            failed.
        dialects: Those of the application's own, for endpoints that name them; one that is called as one of ours
            replaces it.
        domain_events: Types of what happens beside the changes of rows, such as "payment.captured", to the mapped class
            that each is about, or None: what `emit()` may be given.
        send_context: Names of what is said by `webhooks.context()` that stand in the body, under `context`.
        capture: "subscribed": a change is written to the outbox if an endpoint asks for its resource. "all": always,
            so that `webhooks.events` has the history of everything.
        capture_bulk: Whether bulk statements and the session's bulk methods are captured.
        bulk_limit: How many rows one of them may be about.
        beyond_bulk_limit: What happens to one that is about more. "fail": it raises `BulkLimitExceeded`. "skip": it is
            done, its rows are not captured, and the log says so.
        coalesce: Whether the changes of one row in one transaction become one event.
        deliver: Whether this process sends; False where a separate worker does.
        create_tables: Whether `install()` creates the missing tables; False where Alembic does.
        clock: The source of time, for tests.
    """

    batch_window: float = 0.1
    batch_size: int = 100
    poll_interval: float = 1.0
    concurrency: int = 32
    max_in_flight: int = 16
    wait: WaitStrategy = field(default_factory=wait_standard)
    stop: StopStrategy = field(default_factory=stop_standard)
    retry: RetryStrategy = field(default_factory=retry_standard)
    longest_retry_after: float = LONGEST_RETRY_AFTER
    after_last_attempt: Literal["skip", "hold"] = "skip"
    disable_after: float | None = 5 * 86400.0
    while_disabled: Literal["hold", "drop"] = "hold"
    retention: float | Retention | None = 30 * 86400.0
    connect_timeout: float = 5.0
    timeout: float = 15.0
    lease: float = 60.0
    payload_limit: int | None = 1_048_576
    allow_http: bool = False
    allow_hosts: frozenset[str] = frozenset()
    allow_networks: tuple[Network, ...] = ()
    deny_networks: tuple[Network, ...] = ()
    egress_ports: frozenset[int] | None = None
    #: May have a password in it.
    egress_proxy: str | None = field(default=None, repr=False)
    encryption_keys: tuple[str, ...] | None = field(default=None, repr=False)
    include: tuple[Any, ...] = ()
    exclude: tuple[Any, ...] = ()
    names: Mapping[Any, str] = field(default_factory=dict)
    tenant: Callable[[Any], Any] | None = None
    encoders: Encoders = field(default_factory=dict)
    transform: Transform | None = None
    dialects: tuple[Dialect, ...] = ()
    domain_events: Mapping[str, type | None] = field(default_factory=dict)
    send_context: tuple[str, ...] = ()
    capture: Literal["subscribed", "all"] = "subscribed"
    capture_bulk: bool = True
    bulk_limit: int = 100_000
    beyond_bulk_limit: Literal["fail", "skip"] = "fail"
    coalesce: bool = True
    deliver: bool = True
    create_tables: bool = True
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def of(cls, options: Options) -> Settings:
        """
        The settings that *options* ask for.

        Raises:
            ConfigurationError: An unknown name, or a value that cannot work.
        """
        known = [one.name for one in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; the settings are {', '.join(known)}"
                message = f"install() has no setting {name!r}{hint}"
                raise ConfigurationError(message)
        values: dict[str, Any] = dict(options)
        return cls(**values)

    def __post_init__(self) -> None:
        """Bring what may be given in several forms into one, and see that everything can work."""
        normal: dict[str, Any] = {
            "allow_networks": allowed.networks(workable.several(self, "allow_networks"), "allow_networks"),
            "deny_networks": allowed.networks(workable.several(self, "deny_networks"), "deny_networks"),
            "allow_hosts": allowed.hosts(workable.several(self, "allow_hosts"), "allow_hosts"),
            "include": workable.several(self, "include"),
            "exclude": workable.several(self, "exclude"),
            "names": workable.names(self.names),
            "encoders": workable.encoders(self.encoders),
            "dialects": checked(workable.several(self, "dialects")),
            "domain_events": domain.check(self.domain_events),
            "send_context": context.check_names(workable.several(self, "send_context")),
        }
        if self.encryption_keys is not None:
            normal["encryption_keys"] = check_keys(self.encryption_keys)
        if self.egress_ports is not None:
            normal["egress_ports"] = allowed.ports(workable.several(self, "egress_ports"), "egress_ports")
        if self.egress_proxy is not None:
            normal["egress_proxy"] = allowed.proxy(self.egress_proxy, "egress_proxy")
        for name, value in normal.items():
            object.__setattr__(self, name, value)  # frozen for everybody else
        _check(self)

    def shown(self, name: str) -> str:
        """One of the settings as an error may show it: not what stands in no repr, since it may be secret."""
        (one,) = (one for one in dataclasses.fields(self) if one.name == name)
        return repr(getattr(self, name)) if one.repr else "(not shown)"

    def check_same(self, asked: Settings, names: Collection[str]) -> None:
        """
        Whether *asked* is the same in these *names*. A strategy equals only itself, as tenacity has it.

        Raises:
            ConfigurationError: It is not; the message shows nothing that a repr does not.
        """
        others = [name for name in names if getattr(asked, name) != getattr(self, name)]
        if others:
            listing = ", ".join(f"{name}={self.shown(name)}" for name in others)
            message = (
                f"this session factory has an installation with other settings, {listing}: call install() with the "
                "same ones, or with none, to get the handle, or uninstall() it first"
            )
            raise ConfigurationError(message)

    @property
    def longest_request(self) -> float:
        """Seconds after which a request is over for sure, on a busy machine too: twice `timeout`."""
        return 2 * self.timeout

    @property
    def kept(self) -> Retention:
        """For how long what is finished is kept."""
        return Retention.of(self.retention)

    @property
    def retries(self) -> RetryPolicy:
        """The three strategies as one."""
        return RetryPolicy(self.wait, self.stop, self.retry, self.longest_retry_after)


def _check(settings: Settings) -> None:
    for name in ("batch_size", "concurrency", "max_in_flight", "bulk_limit"):
        workable.check_number(settings, name, 1, whole=True)
    for name, least in (("batch_window", 0), ("poll_interval", 0.01), ("longest_retry_after", 0)):
        workable.check_number(settings, name, least, highest=_LONGEST)
    workable.check_number(settings, "disable_after", 1, highest=_LONGEST, may_be_none=True)
    workable.check_number(settings, "payload_limit", 1024, whole=True, may_be_none=True)
    Retention.of(settings.retention)
    for name, most in (("connect_timeout", _LONGEST_REQUEST), ("timeout", _LONGEST_REQUEST), ("lease", _LONGEST)):
        workable.check_number(settings, name, 0.001, highest=most)
    if settings.lease < settings.longest_request:
        message = (
            f"lease is {settings.lease} s and timeout {settings.timeout} s: a lease that ends before its request lets "
            "another relay send the same delivery, and a busy machine is late; make lease longer, about four times "
            "the timeout"
        )
        raise ConfigurationError(message)
    for name in ("allow_http", "capture_bulk", "coalesce", "deliver", "create_tables"):
        if not isinstance(getattr(settings, name), bool):
            message = f"{name} is {getattr(settings, name)!r}: give True or False"
            raise ConfigurationError(message)
    workable.check_clock(settings.clock)
    workable.check_tenant(settings.tenant)
    for name in ("wait", "stop", "retry"):
        strategy = getattr(settings, name)
        if not callable(strategy) or isinstance(strategy, type):
            message = f"{name} is {strategy!r}: give a tenacity {name}_* strategy, such as {_EXAMPLES[name]}"
            raise ConfigurationError(message)
    workable.check_function(settings, "transform")
    workable.check_choice(settings, "capture", "subscribed", "all")
    workable.check_choice(settings, "beyond_bulk_limit", "fail", "skip")
    workable.check_choice(settings, "after_last_attempt", "skip", "hold")
    workable.check_choice(settings, "while_disabled", "hold", "drop")


_EXAMPLES = {"wait": "wait_fixed(60)", "stop": "stop_after_attempt(5)", "retry": "retry_if_exception_type(TimedOut)"}
