"""`install()` and `Webhooks`: the one place that knows all the parts."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.sql.base import ExecutableOption

from sqla_webhooks import signals, subscriptions
from sqla_webhooks.async_sessions import AsyncBind, AsyncFactory
from sqla_webhooks.backfill import Backfills
from sqla_webhooks.capture.bulk import Bulk
from sqla_webhooks.capture.by_hand import ByHand
from sqla_webhooks.capture.emission import Emission
from sqla_webhooks.capture.factory import Factory, Listened
from sqla_webhooks.capture.interest import Interest
from sqla_webhooks.capture.listen import Capture
from sqla_webhooks.capture.recorder import Recorder
from sqla_webhooks.catalogue import Catalogue, catalogue
from sqla_webhooks.config import Options, Settings
from sqla_webhooks.context import Circumstances
from sqla_webhooks.custody import Custody
from sqla_webhooks.delivery import sign
from sqla_webhooks.delivery.announce import Announcer
from sqla_webhooks.delivery.credentials import Opener
from sqla_webhooks.delivery.dialects.known import Dialects
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.rendering import Rendering
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.describe import Description, describe
from sqla_webhooks.domain import Domain
from sqla_webhooks.encoding import Encoding, type_name
from sqla_webhooks.endpoints import Effects, Endpoints
from sqla_webhooks.enrich.enricher import (
    EndpointEnricherFunction,
    EnricherFunction,
    register,
    register_for_endpoint,
)
from sqla_webhooks.enrich.latest import Latest
from sqla_webhooks.enrich.run import Enrichment
from sqla_webhooks.enrolment import Enrolment
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.history import Deliveries, Events
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lead import Lead
from sqla_webhooks.outbox.publish import Publication
from sqla_webhooks.outbox.record import Recording
from sqla_webhooks.outbox.retention import prune_all
from sqla_webhooks.progress import Progress, Pruned, Report
from sqla_webhooks.relay.drain import Drained
from sqla_webhooks.relay.retirements import Retirements
from sqla_webhooks.relay.tailor import Tailor
from sqla_webhooks.relay.thread import RelayThread
from sqla_webhooks.relay.turn import Relay, Steps
from sqla_webhooks.relay.upkeep import Upkeep
from sqla_webhooks.resources import Resources
from sqla_webhooks.telling import Telling
from sqla_webhooks.tenants import Tenants
from sqla_webhooks.terms import Rules
from sqla_webhooks.transitions import Transitions
from sqla_webhooks.vault import Vault

logger = logging.getLogger(__name__)

T = TypeVar("T")


def install(
    session_factory: sessionmaker[Any] | scoped_session[Any] | type[Session] | Session | AsyncFactory,
    *,
    bind: Engine | Connection | AsyncBind | None = None,
    **options: Unpack[Options],
) -> Webhooks:
    """
    Send webhooks for what the sessions of a factory commit.

    Creates the missing tables (`create_tables=False` leaves that to your
    migrations), listens to the sessions, those already open too, and starts
    the relay's thread (`deliver=False` leaves that to another process). On an
    in-memory SQLite database, which has one connection, no thread is started:
    call `drain()`.

    Args:
        session_factory: A `sessionmaker`, a `scoped_session`, a `Session`
            subclass, `Session` itself, or one session; or the same of
            `sqlalchemy.ext.asyncio`, of which only sessions that are made
            later are heard, but for one session.
        bind: The engine, where the factory does not know it, or one of several
            that its sessions write to.
        options: The settings; see `sqla_webhooks.Settings`.

    Returns:
        The installation. A second call for the same factory returns the same
        one; with the bind of another database, one for that database beside it.

    Raises:
        ConfigurationError: A setting cannot work, the database is not known,
            or these sessions have an installation with other settings.
        DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
    """
    with _installing:
        factory = Factory.of(session_factory, bind=bind)
        settings = Settings.of(options)
        installed: Webhooks | None = factory.installed()
        if installed is not None:
            installed.settings.check_same(settings, options)
            return installed
        engine = factory.require_engine()
        factory.check_alone()
        return Webhooks(factory, engine, settings=settings)


#: Held from the look whether a factory has an installation until it has one: two
#: threads that install at once would capture every change twice.
_installing = threading.Lock()


def _after_fork_in_child() -> None:
    """Another thread may have held it; it is not here any more."""
    global _installing  # noqa: PLW0603  # a lock cannot be made anew in place
    _installing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Webhooks(Telling):
    """
    One installation: what `install()` returns.

    Safe for any thread. `drain()` must not be called from an enricher or a
    receiver of a signal.

    Attributes:
        settings: What it was told.
        engine: The database where its tables are.
        endpoints: Where events go: create, get, list, update, disable, enable, delete; of their secrets:
            secrets, rotate_secret, reencrypt.
        events: What was made public: list, get, replay, replay_all.
        deliveries: What was sent, and what came of it: list, get, attempts, retry, retry_all, cancel, cancel_all.
    """

    settings: Settings
    engine: Engine
    endpoints: Endpoints
    events: Events
    deliveries: Deliveries

    def __init__(self, factory: Factory, engine: Engine, *, settings: Settings) -> None:
        """Not for callers: `install()` makes one, and there is no other way that sees to all it must."""
        self.settings = settings
        self.engine = engine
        self._uninstalled = False
        self._factory = factory
        # First, since it may refuse what it is given, and nothing has been listened to by then.
        self._resources = Resources(include=settings.include, exclude=settings.exclude, names=settings.names)
        self._vault = Vault(settings.encryption_keys or ())
        self._database = Database(engine)
        self._encoding = Encoding(settings.encoders, report=self._report)
        self._enriching = signals.Signal("enriching", "`enriching`, for one installation.")
        self._enriching_for_endpoint = signals.Signal(
            "enriching_for_endpoint", "`enriching_for_endpoint`, for one installation."
        )
        self._dialects = Dialects.of(settings.dialects)
        self._domain = Domain(settings.domain_events)
        self._transitions = Transitions(self._resources, self._domain, encoding=self._encoding)
        self._circumstances = Circumstances()
        self._interest = Interest(settings.clock, everything=settings.capture == "all", derived=self._transitions.types)
        self._policy = EgressPolicy.of(settings)
        self._thread = self._make_thread()
        self._recorder = self._make_recorder()
        self._capture = self._make_capture(factory.listened)
        self._emission = Emission(self._recorder, self._database, self._domain, self._capture.hears)
        self._by_hand = ByHand(self._recorder, database=self._database, wake=self._thread.wake)
        self.endpoints = self._make_endpoints()
        self.events = Events(self._database, clock=settings.clock, due=self._thread.ring)
        self.deliveries = Deliveries(self._database, clock=settings.clock, due=self._thread.ring)
        self._backfills = Backfills(
            self._database,
            self._resources,
            settings=settings,
            encoding=self._encoding,
            written=self._thread.wake,
        )
        self._begin()

    def enricher(
        self, model: type[T], *, options: Iterable[ExecutableOption] = ()
    ) -> Callable[[EnricherFunction[T]], EnricherFunction[T]]:
        """As the module's `@enricher`, for this installation alone; runs after those."""
        return register(self._enriching, model, options=options)

    def endpoint_enricher(
        self, model: type[T], *, options: Iterable[ExecutableOption] = ()
    ) -> Callable[[EndpointEnricherFunction[T]], EndpointEnricherFunction[T]]:
        """As the module's `@endpoint_enricher`, for this installation alone; runs after those."""
        return register_for_endpoint(self._enriching_for_endpoint, model, options=options)

    def describe(self) -> Description:
        """
        What is captured: `print(webhooks.describe())`.

        Returns:
            Each mapped class of this process, captured or not: its resource, its operations, its attributes, and what
            has decided which of them are sent.

        Raises:
            SQLAlchemyError: A mapped class is not yet complete, or wrongly mapped.
        """
        return describe(self._resources)

    def catalogue(self) -> Catalogue:
        """Every event that can occur, with the JSON Schema of its body and an example. Raises as `describe()`."""
        return catalogue(self._resources, dialect=self.engine.dialect, encoders=self.settings.encoders)

    def drain(self, timeout: float | None = None) -> Drained:
        """
        Relay in this thread until nothing is due: for scripts and tests.

        Deterministic: one request after the other, in order. Retries that are
        not due yet are left; the relay's own thread stands still meanwhile.

        Args:
            timeout: Seconds after which to give up; by default never. A request
                that is under way is finished first.

        Returns:
            What was done; `complete` is False if the time was not enough.

        Raises:
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
            ConfigurationError: Called from an enricher or a receiver of a signal, or after `uninstall()`.
        """
        self._check_installed()
        return self._thread.drain(timeout)

    def backfill(
        self,
        model: type[Any],
        *,
        where: ColumnElement[bool] | None = None,
        endpoint: str | None = None,
        name: str | None = None,
        page: int = 100,
        waiting: int | None = 1000,
        progress: Report | None = None,
    ) -> Progress:
        """
        Tell of rows that are there already, as `order.read`, each as it is when it is come to.

        In this thread, by pages in the order of the primary keys, each in one
        short transaction of its own, which waits for no row. None is told of
        before a change of it that has committed earlier, nor after one that
        commits later. Broken off and called again, it goes on; when it has
        finished, it begins anew. Several callers of one name share the work. A
        row that another transaction holds is come to when that has ended: do
        not call it inside a transaction that has written such rows, nor, on
        SQLite, that has written anything.

        Args:
            model: A mapped class that is captured. Rows of classes derived from it are told of as what they are.
            where: Which of its rows, by a condition in SQL that holds when they are read; by default all.
            endpoint: The id of the one that gets them, whether or not it has subscribed to them; by default all get
                them that have.
            name: By which it is gone on with; by default one for the class and the endpoint.
            page: Rows of one transaction, from 1 to 1000.
            waiting: So many deliveries may wait for their endpoints before the next page is read; with None, any
                number. No endpoint is waited for that is disabled or paused.
            progress: Called after each page.

        Returns:
            How many rows it has dealt with, and how many there were when it began.

        Raises:
            ConfigurationError: The class is not captured, an argument cannot work, or one of that name has not
                finished that was begun with others.
            NotFound: There is no such endpoint, or it was deleted meanwhile.
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
            SQLAlchemyError: The database failed, or refused the condition.
        """
        self._check_installed()
        return self._backfills.run(
            model, where=where, endpoint=endpoint, name=name, page=page, waiting=waiting, progress=progress
        )

    def prune(self, progress: Callable[[Pruned], object] | None = None) -> Pruned:
        """
        Remove now what is older than `retention` says, in this thread. The relay does it by itself, little by little.

        In short transactions; broken off and called again, it goes on.

        Args:
            progress: Called after each of them with what was removed so far.

        Raises:
            DatabaseBusy: In-memory SQLite, and a transaction is open on its connection.
        """
        return self._database.run(partial(prune_all, self._database, self.settings, progress=progress))

    def start(self) -> None:
        """
        Start the relay's thread, if it does not run. `install()` has done it, unless `deliver=False`.

        Raises:
            ConfigurationError: The database is SQLite in memory, or this was uninstalled.
        """
        self._check_installed()
        if self._database.in_memory:
            message = f"no relay thread can run on {_ONE_CONNECTION}"
            raise ConfigurationError(message)
        self._thread.start()

    def stop(self, timeout: float | None = 5.0) -> bool:
        """
        Stop the relay's thread. Changes are still captured, and sent when it is started again.

        Args:
            timeout: Seconds to wait for requests in flight to be recorded; None for as long as it takes.

        Returns:
            Whether the thread has ended.
        """
        return self._thread.stop(timeout)

    def uninstall(self, timeout: float | None = 5.0) -> bool:
        """
        Stop capturing and sending, and leave no trace but the tables.

        What waits in them is sent by the next installation.

        Args:
            timeout: Seconds to wait for requests in flight to be recorded; None for as long as it takes.

        Returns:
            Whether the thread has ended. If not, a request took longer: it
            will be recorded by nobody, and sent again when its lease has ended.
        """
        self._uninstalled = True
        self._capture.close(_CLOSE_TIMEOUT)
        ended = self._thread.close(timeout)
        self._database.close()
        self._factory.unmark(self)
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `uninstall()`: what is not sent stays in the tables. Call `drain()` before to wait for it."""
        self.uninstall()

    def __repr__(self) -> str:
        return f"<Webhooks on {self.engine.url!r}>"

    def _make_thread(self) -> RelayThread:
        settings, database = self.settings, self._database
        relay = Relay(database, settings, steps=self._make_steps())
        make_sender = partial(
            Sender,
            self._policy,
            connect_timeout=settings.connect_timeout,
            timeout=settings.timeout,
            clock=settings.clock,
        )
        return RelayThread(relay, settings, database=database, make_sender=make_sender)

    def _make_steps(self) -> Steps:
        settings, database = self.settings, self._database
        render = partial(Standard().body, dumps=self._encoding.dumps)
        announcer = Announcer(self)
        publication = Publication(keep_all=settings.capture == "all", drop=settings.while_disabled == "drop")
        tenants = Tenants(
            self._resources,
            settings.tenant,
            encoding=Encoding(settings.encoders),  # which reports nothing: what it writes was written by capture before
            report=announcer.tenant_unknown,
        )
        enrichment = Enrichment(
            database,
            self._resources,
            signals=(signals.enriching, self._enriching),
            encoding=self._encoding,
            may_see=tenants.may_see,
        )
        own_enrichment = Enrichment(
            database,
            self._resources,
            signals=(signals.enriching_for_endpoint, self._enriching_for_endpoint),
            encoding=self._encoding,
            may_see=tenants.may_see,
        )
        rendering = Rendering(
            database,
            self._resources,
            encoding=self._encoding,
            limit=settings.payload_limit,
            send_context=settings.send_context,
        )
        return Steps(
            keep_fresh=self._interest.keep_fresh,
            lead=Lead(database),
            assign=tenants.assign,
            wanted=self._resources.wanted,
            enrich=enrichment.enrich,
            derive=self._transitions.derive,
            rendering=rendering,
            publication=publication,
            tailor=Tailor(
                database,
                self._resources,
                latest=Latest(database, self._resources, encoding=self._encoding, may_have=tenants.may_have),
                enrichments=(enrichment, own_enrichment),
                transform=settings.transform,
                dialects=self._dialects,
                rendering=rendering,
            ),
            dialects=self._dialects,
            opener=Opener(self._vault, check_secret=self._dialects.check_secret),
            recording=Recording(
                database,
                publication,
                hold=settings.after_last_attempt == "hold",
                disable_after=settings.disable_after,
                render=render,
            ),
            retirements=Retirements(
                database, publication, disable_after=settings.disable_after, render=render, announcer=announcer
            ),
            upkeep=Upkeep(database, settings),
            announcer=announcer,
        )

    def _make_recorder(self) -> Recorder:
        return Recorder(
            database=self._database,
            served=self._factory.serves,
            resources=self._resources,
            interest=self._interest,
            clock=self.settings.clock,
            encoding=self._encoding,
            circumstances=self._circumstances,
        )

    def _make_capture(self, listened: Listened) -> Capture:
        settings, recorder = self.settings, self._recorder
        skip = settings.beyond_bulk_limit == "skip"
        bulk = Bulk(recorder, limit=settings.bulk_limit, skip=skip) if settings.capture_bulk else None
        return Capture(listened, recorder=recorder, bulk=bulk, wake=self._thread.wake)

    def _make_endpoints(self) -> Endpoints:
        rules = Rules(
            check_url=self._policy.check_url,
            check_events=lambda patterns: subscriptions.check(
                patterns, self._resources.names(), never=self._resources.never(), domain=self._domain
            ),
            check_dialect=self._dialects.check_name,
            check_batch=self._dialects.check_batch,
        )
        custody = Custody(
            self._vault,
            check_secret=self._dialects.check_secret,
            make_secret=sign.generate_secret,
        )
        effects = Effects(
            being_written=self._capture.endpoints_being_written,
            written=self._endpoints_written,
            due=self._thread.ring,
        )
        enrolment = Enrolment(rules, custody, clock=self.settings.clock)
        return Endpoints(self._database, enrolment=enrolment, effects=effects, clock=self.settings.clock)

    def _begin(self) -> None:
        """The end of `install()`: nothing has happened before, and nothing is left of it if it fails."""
        try:
            if self.settings.create_tables:
                self._database.create_tables()
            self._capture.listen()
            self._factory.mark(self)
            if self.settings.deliver and not self._database.in_memory:
                self._thread.start()
        except BaseException:
            self.uninstall()
            raise
        if not self._vault.seals:
            logger.info("secrets of endpoints stand in the database as they are: encryption_keys=[...] encrypts them")
        if self.settings.deliver and self._database.in_memory:
            logger.warning("no relay thread was started: this is %s", _ONE_CONNECTION)

    def _endpoints_written(self) -> None:
        """Know it at once, so that the next flush knows which old values to read: in the thread that wrote."""
        self._interest.forget_age()
        as_of = self.settings.clock.monotonic()
        try:
            with self._database.read() as connection:
                self._interest.look(connection, as_of=as_of)
        except SQLAlchemyError:
            logger.debug("an endpoint was written, and could not be read again: the next flush will", exc_info=True)

    def _check_installed(self) -> None:
        if self._uninstalled:
            message = "this installation was uninstalled: call install() again and use what it returns"
            raise ConfigurationError(message)

    def _report(self, kind: type) -> None:
        """In whichever thread met the value; in `flush()`, so it must not fail."""
        logger.warning(
            "a value of type %s has no JSON form, or its encoder failed, and it was replaced by a placeholder: see "
            "install(encoders={...}), or leave the attribute out with exclude=[...]",
            type_name(kind),
        )
        signals.unencodable.tell(self, kind=kind)


#: Seconds that `uninstall()` waits for a flush to be through with the listeners.
_CLOSE_TIMEOUT = 5.0

_ONE_CONNECTION = (
    "an in-memory SQLite database, which has one connection, the application's: call drain() between transactions to "
    "deliver, or use a file"
)
