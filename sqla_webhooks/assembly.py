"""
The parts of one installation, put together: which is made of which.

Nothing is listened to yet, no thread runs, and the database was not touched.
"""

from __future__ import annotations

import logging
from functools import partial

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from sqla_webhooks import signals, subscriptions
from sqla_webhooks.backfill import Backfills
from sqla_webhooks.capture.bulk import Bulk
from sqla_webhooks.capture.by_hand import ByHand
from sqla_webhooks.capture.emission import Emission
from sqla_webhooks.capture.factory import Factory, Listened
from sqla_webhooks.capture.interest import Interest
from sqla_webhooks.capture.listen import Capture
from sqla_webhooks.capture.recorder import Recorder
from sqla_webhooks.catalogue import Catalogue, catalogue
from sqla_webhooks.config import Settings
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
from sqla_webhooks.domain import Domain
from sqla_webhooks.encoding import Encoding, type_name
from sqla_webhooks.endpoints import Effects, Endpoints
from sqla_webhooks.enrich.latest import Latest
from sqla_webhooks.enrich.run import Enrichment, is_enriched
from sqla_webhooks.enrolment import Enrolment
from sqla_webhooks.history import Deliveries, Events
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lead import Lead
from sqla_webhooks.outbox.publish import Publication
from sqla_webhooks.outbox.record import Recording
from sqla_webhooks.relay.retirements import Retirements
from sqla_webhooks.relay.tailor import Tailor
from sqla_webhooks.relay.thread import RelayThread
from sqla_webhooks.relay.turn import Relay, Steps
from sqla_webhooks.relay.upkeep import Upkeep
from sqla_webhooks.resources import Resources
from sqla_webhooks.tenants import Tenants
from sqla_webhooks.terms import Rules
from sqla_webhooks.transitions import Transitions
from sqla_webhooks.trial import Trial
from sqla_webhooks.unmet import Unmet
from sqla_webhooks.vault import Vault

logger = logging.getLogger(__name__)


class Assembly:
    """
    The parts of one installation.

    Args:
        told_by: The sender of its signals: the `Webhooks`.

    Raises:
        ConfigurationError: What it is told of classes makes no sense.
    """

    def __init__(self, factory: Factory, engine: Engine, *, settings: Settings, told_by: object) -> None:
        self._settings = settings
        self._factory = factory
        self._told_by = told_by
        # First, since it may refuse what it is given.
        self.resources = Resources(include=settings.include, exclude=settings.exclude, names=settings.names)
        self.vault = Vault(settings.encryption_keys or ())
        self.database = Database(engine)
        self._encoding = Encoding(settings.encoders, report=self._report)
        self.enriching = signals.Signal("enriching", "`enriching`, for one installation.")
        self.enriching_for_endpoint = signals.Signal(
            "enriching_for_endpoint", "`enriching_for_endpoint`, for one installation."
        )
        self._dialects = Dialects.of(settings.dialects)
        self._rendering = Rendering(
            self.database,
            self.resources,
            encoding=self._encoding,
            limit=settings.payload_limit,
            send_context=settings.send_context,
        )
        self._domain = Domain(settings.domain_events)
        self.transitions = Transitions(self.resources, self._domain, encoding=self._encoding)
        self.circumstances = Circumstances()
        self._interest = Interest(settings.clock, everything=settings.capture == "all", derived=self.transitions.types)
        self._policy = EgressPolicy.of(settings)
        self.thread = self._make_thread()
        self._recorder = self._make_recorder()
        self.capture = self._make_capture(factory.listened)
        self.emission = Emission(self._recorder, self.database, self._domain, self.capture.hears)
        self.by_hand = ByHand(self._recorder, database=self.database, wake=self.thread.wake)
        self.endpoints = self._make_endpoints()
        self.events = Events(self.database, clock=settings.clock, due=self.thread.ring)
        self.deliveries = Deliveries(self.database, clock=settings.clock, due=self.thread.ring)
        self.backfills = Backfills(
            self.database, self.resources, settings=settings, encoding=self._encoding, written=self.thread.wake
        )

    def catalogue(self) -> Catalogue:
        """As `Webhooks.catalogue()`."""
        return catalogue(
            self.resources,
            dialect=self.database.engine.dialect,
            encoders=self._settings.encoders,
            domain_events={type_: self._domain.about(type_) for type_ in self._domain},
        )

    def _make_thread(self) -> RelayThread:
        settings, database = self._settings, self.database
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
        settings, database = self._settings, self.database
        render = partial(Standard().body, dumps=self._encoding.dumps)
        announcer = Announcer(self._told_by)
        publication = Publication(keep_all=settings.capture == "all", drop=settings.while_disabled == "drop")
        tenants = Tenants(
            self.resources,
            settings.tenant,
            encoding=Encoding(settings.encoders),  # which reports nothing: what it writes was written by capture before
            report=announcer.tenant_unknown,
        )
        enrichment = Enrichment(
            database,
            self.resources,
            signals=(signals.enriching, self.enriching),
            encoding=self._encoding,
            may_see=tenants.may_see,
        )
        own_enrichment = Enrichment(
            database,
            self.resources,
            signals=(signals.enriching_for_endpoint, self.enriching_for_endpoint),
            encoding=self._encoding,
            may_see=tenants.may_see,
        )
        return Steps(
            keep_fresh=self._interest.keep_fresh,
            lead=Lead(database),
            assign=tenants.assign,
            wanted=self.resources.wanted,
            enrich=enrichment.enrich,
            derive=self.transitions.derive,
            rendering=self._rendering,
            publication=publication,
            tailor=Tailor(
                database,
                self.resources,
                latest=Latest(database, self.resources, encoding=self._encoding, may_have=tenants.may_have),
                enrichments=(enrichment, own_enrichment),
                transform=settings.transform,
                dialects=self._dialects,
                rendering=self._rendering,
            ),
            dialects=self._dialects,
            opener=Opener(self.vault, check_secret=self._dialects.check_secret),
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
            database=self.database,
            served=self._factory.serves,
            resources=self.resources,
            interest=self._interest,
            clock=self._settings.clock,
            encoding=self._encoding,
            circumstances=self.circumstances,
        )

    def _make_capture(self, listened: Listened) -> Capture:
        settings, recorder = self._settings, self._recorder
        skip = settings.beyond_bulk_limit == "skip"
        bulk = Bulk(recorder, limit=settings.bulk_limit, skip=skip) if settings.capture_bulk else None
        return Capture(listened, recorder=recorder, bulk=bulk, wake=self.thread.wake)

    def _make_endpoints(self) -> Endpoints:
        rules = Rules(
            check_url=self._policy.check_url,
            check_events=lambda patterns: subscriptions.check(
                patterns, self.resources.names(), never=self.resources.never(), domain=self._domain
            ),
            check_dialect=self._dialects.check_name,
            check_batch=self._dialects.check_batch,
            tell_unmet=Unmet(
                self.resources,
                self._domain,
                encoding=Encoding(self._settings.encoders),
                is_enriched=partial(is_enriched, signals=(signals.enriching, self.enriching)),
                ruled=self._settings.tenant is not None,
            ).tell,
        )
        custody = Custody(
            self.vault,
            check_secret=self._dialects.check_secret,
            make_secret=sign.generate_secret,
        )
        effects = Effects(
            being_written=self.capture.endpoints_being_written,
            written=self._endpoints_written,
            due=self.thread.ring,
        )
        enrolment = Enrolment(rules, custody, clock=self._settings.clock)
        trial = Trial(self.database, self.catalogue, self._rendering, self._settings.clock, self.thread.ring)
        return Endpoints(
            self.database,
            enrolment=enrolment,
            effects=effects,
            send_example=trial.send,
            clock=self._settings.clock,
        )

    def _endpoints_written(self) -> None:
        """Know it at once, so that the next flush knows which old values to read: in the thread that wrote."""
        self._interest.forget_age()
        as_of = self._settings.clock.monotonic()
        try:
            with self.database.read() as connection:
                self._interest.look(connection, as_of=as_of)
        except SQLAlchemyError:
            logger.debug("an endpoint was written, and could not be read again: the next flush will", exc_info=True)

    def _report(self, kind: type) -> None:
        """In whichever thread met the value; in `flush()`, so it must not fail."""
        logger.warning(
            "a value of type %s has no JSON form, or its encoder failed, and it was replaced by a placeholder: see "
            "install(encoders={...}), or leave the attribute out with exclude=[...]",
            type_name(kind),
        )
        signals.unencodable.tell(self._told_by, kind=kind)
