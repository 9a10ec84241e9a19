"""`install()` and `Webhooks`: what people call, made of the parts that `assembly` has put together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from sqlalchemy import ColumnElement, Connection, Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.sql.base import ExecutableOption

from sqla_webhooks.assembly import Assembly
from sqla_webhooks.async_sessions import AsyncBind, AsyncFactory
from sqla_webhooks.capture.factory import Factory
from sqla_webhooks.catalogue import Catalogue
from sqla_webhooks.config import Options, Settings
from sqla_webhooks.describe import Description, describe
from sqla_webhooks.endpoints import Endpoints
from sqla_webhooks.enrich.enricher import (
    EndpointEnricherFunction,
    EnricherFunction,
    register,
    register_for_endpoint,
)
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.history import Deliveries, Events
from sqla_webhooks.outbox.retention import prune_all
from sqla_webhooks.progress import Progress, Pruned, Report
from sqla_webhooks.relay.drain import Drained
from sqla_webhooks.telling import Telling

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
        endpoints: Where events go: create, register, get, list, update, test, disable, enable, delete; of their
            secrets: secrets, rotate_secret, reencrypt.
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
        self._parts = parts = Assembly(factory, engine, settings=settings, told_by=self)
        super().__init__(
            parts.emission, parts.by_hand, circumstances=parts.circumstances, transitions=parts.transitions
        )
        self.endpoints, self.events, self.deliveries = parts.endpoints, parts.events, parts.deliveries
        self._begin()

    def enricher(
        self, model: type[T], *, options: Iterable[ExecutableOption] = ()
    ) -> Callable[[EnricherFunction[T]], EnricherFunction[T]]:
        """As the module's `@enricher`, for this installation alone; runs after those."""
        return register(self._parts.enriching, model, options=options)

    def endpoint_enricher(
        self, model: type[T], *, options: Iterable[ExecutableOption] = ()
    ) -> Callable[[EndpointEnricherFunction[T]], EndpointEnricherFunction[T]]:
        """As the module's `@endpoint_enricher`, for this installation alone; runs after those."""
        return register_for_endpoint(self._parts.enriching_for_endpoint, model, options=options)

    def describe(self) -> Description:
        """
        What is captured: `print(webhooks.describe())`.

        Returns:
            Each mapped class of this process, captured or not: its resource, its operations, its attributes, and what
            has decided which of them are sent.

        Raises:
            SQLAlchemyError: A mapped class is not yet complete, or wrongly mapped.
        """
        return describe(self._parts.resources)

    def catalogue(self) -> Catalogue:
        """Every event that can occur, with the JSON Schema of its body and an example. Raises as `describe()`."""
        return self._parts.catalogue()

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
        return self._parts.thread.drain(timeout)

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
        return self._parts.backfills.run(
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
        return self._parts.database.run(partial(prune_all, self._parts.database, self.settings, progress=progress))

    def start(self) -> None:
        """
        Start the relay's thread, if it does not run. `install()` has done it, unless `deliver=False`.

        Raises:
            ConfigurationError: The database is SQLite in memory, or this was uninstalled.
        """
        self._check_installed()
        if self._parts.database.in_memory:
            message = f"no relay thread can run on {_ONE_CONNECTION}"
            raise ConfigurationError(message)
        self._parts.thread.start()

    def stop(self, timeout: float | None = 5.0) -> bool:
        """
        Stop the relay's thread. Changes are still captured, and sent when it is started again.

        Args:
            timeout: Seconds to wait for requests in flight to be recorded; None for as long as it takes.

        Returns:
            Whether the thread has ended.
        """
        return self._parts.thread.stop(timeout)

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
        self._parts.capture.close(_CLOSE_TIMEOUT)
        ended = self._parts.thread.close(timeout)
        self._parts.database.close()
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

    def _begin(self) -> None:
        """The end of `install()`: nothing has happened before, and nothing is left of it if it fails."""
        try:
            if self.settings.create_tables:
                self._parts.database.create_tables()
            self._parts.capture.listen()
            self._factory.mark(self)
            if self.settings.deliver and not self._parts.database.in_memory:
                self._parts.thread.start()
        except BaseException:
            self.uninstall()
            raise
        if not self._parts.vault.seals:
            logger.info("secrets of endpoints stand in the database as they are: encryption_keys=[...] encrypts them")
        if self.settings.deliver and self._parts.database.in_memory:
            logger.warning("no relay thread was started: this is %s", _ONE_CONNECTION)

    def _check_installed(self) -> None:
        if self._uninstalled:
            message = "this installation was uninstalled: call install() again and use what it returns"
            raise ConfigurationError(message)


#: Seconds that `uninstall()` waits for a flush to be through with the listeners.
_CLOSE_TIMEOUT = 5.0

_ONE_CONNECTION = (
    "an in-memory SQLite database, which has one connection, the application's: call drain() between transactions to "
    "deliver, or use a file"
)
