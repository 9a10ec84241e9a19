"""
The tables, as SQLAlchemy Core tables of one `MetaData`.

`metadata` is public: an application that manages its schema with Alembic adds
it to `target_metadata` and installs with `create_tables=False`.

Nullable columns of `webhook_delivery` carry the queues, so that every look at
them is one short range of one index, however many finished rows lie behind:

* `lane`: a number for (endpoint, first attempt or retry); see `lane_of`. NULL
  when the delivery is finished. What has gone in a batch and goes in another
  stays in the lane of first attempts.
* `next_attempt_at`: the instant from which any relay may take the delivery.
  NULL when it is not up for taking: it waits behind an earlier change of its
  row, or is finished. A claim sets it to the end of the lease.
* `ordering_key`: a number for (endpoint, row), shared by the deliveries that
  must go one after the other. NULL when the delivery has left that queue, or
  its endpoint wants no order. `former_key` is that of the row's primary key
  before, in the delivery of a change of it, which stands in both queues.

A row of `webhook_endpoint` is written by the application alone, but for being
disabled; what relays know of an endpoint is in `webhook_health`. So no relay
waits for a transaction of the application that has written an endpoint.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator

#: Everything that `install()` creates.
metadata: MetaData = MetaData()


class Instant(TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond, on databases without time zones too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> DateTime:
        if dialect.name in ("mysql", "mariadb"):
            return mysql.DATETIME(fsp=6)  # the default keeps whole seconds only
        return DateTime(timezone=dialect.name != "sqlite")

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class _Hidden(str):
    """Text whose repr, which is what SQLAlchemy logs and puts into its errors, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Secret(TypeDecorator[str]):
    """Text that stands in no log and in no error."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # SQLAlchemy's signature
        return None if value is None else _Hidden(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # SQLAlchemy's signature
        return None if value is None else _Hidden(value)


# SQLite gives out row numbers only to INTEGER keys.
_BigId = BigInteger().with_variant(Integer, "sqlite")
# LONGBLOB and LONGTEXT on MySQL, whose plain BLOB and TEXT end at 64 KiB.
_Bytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
# Whatever the database's own: a key or an answer may have any letters, and one that cannot be written stops the relay.
_ANY_LETTERS: dict[str, Any] = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}

#: Written by capture in the application's transaction; removed by the fan-out.
outbox = Table(
    "webhook_outbox",
    metadata,
    Column("id", _BigId, primary_key=True, autoincrement=True),
    Column("transaction_id", String(32), nullable=False),
    Column("captured_at", Instant, nullable=False),
    Column("changes", _Bytes, nullable=False),
    # JSON, as in `webhook_event`.
    Column("context", _LongText),
    Index("ix_webhook_outbox_transaction", "transaction_id"),
    # A number must never come back: the fan-out deletes by number what it has read.
    sqlite_autoincrement=True,
    **_ANY_LETTERS,
)

endpoint = Table(
    "webhook_endpoint",
    metadata,
    Column("id", _BigId, primary_key=True, autoincrement=True),
    Column("public_id", String(40), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),
    # JSON, NULL for all: see `filters`.
    Column("filter", _LongText),
    # Whose events it may get: see `audience`.
    Column("scope", String(16), nullable=False),
    Column("tenant", Text),
    # What the application calls it, and a digest of that and of the tenant, by which there is one; NULL once deleted.
    Column("key", Text),
    Column("key_digest", String(64), unique=True),
    # How it is sent: the name of a dialect, how much of the row, and how many in a request; 0 for each by itself.
    Column("dialect", String(32), nullable=False),
    Column("payload", String(16), nullable=False),
    Column("batch", Integer, nullable=False),
    # JSON of names to values, sealed (see `vault`), NULL for none; and of the names alone.
    Column("headers", Secret),
    Column("header_names", Text),
    Column("enabled", Boolean, nullable=False),
    # What was known of its health before is void.
    Column("enabled_at", Instant, nullable=False),
    Column("disabled_at", Instant),
    Column("disabled_because", String(32)),
    Column("ordering", Boolean, nullable=False),
    # Requests a second; NULL for any number.
    Column("rate_limit", Float),
    Column("description", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    # The row stays, so that its deliveries stay explained; its secrets and headers do not.
    Column("deleted_at", Instant),
    **_ANY_LETTERS,
)

#: What requests to endpoints are signed with: the one of the largest number first, and all that have not expired.
secret = Table(
    "webhook_secret",
    metadata,
    Column("id", _BigId, primary_key=True, autoincrement=True),
    Column("endpoint_id", BigInteger, nullable=False, index=True),
    # Sealed: see `vault`.
    Column("value", Secret, nullable=False),
    Column("created_at", Instant, nullable=False),
    # NULL until another has come after it.
    Column("expires_at", Instant),
    sqlite_autoincrement=True,
    **_ANY_LETTERS,
)

#: How an endpoint has answered: written by relays, in short transactions of theirs.
health = Table(
    "webhook_health",
    metadata,
    # No foreign key here, nor in `secret` and `delivery`: some databases check it by a lock on the endpoint's row.
    Column("endpoint_id", BigInteger, primary_key=True, autoincrement=False),
    # In a row, up to now.
    Column("failures", Integer, nullable=False),
    Column("failing_since", Instant),
    Column("last_failure_at", Instant),
    Column("last_success_at", Instant),
    # Pauses in a row, when the last of them was set, and until when nothing is sent.
    Column("pauses", Integer, nullable=False),
    Column("paused_at", Instant),
    Column("paused_until", Instant),
    # How far it was told that it fails: see `outbox.health`.
    Column("warned", Integer, nullable=False),
    # With a rate limit: when the next request is due, were they evenly spread.
    Column("rate_at", Instant),
    **_ANY_LETTERS,
)

event = Table(
    "webhook_event",
    metadata,
    Column("id", _BigId, primary_key=True, autoincrement=True),
    Column("public_id", String(40), nullable=False, unique=True),
    Column("type", String(255), nullable=False),
    Column("resource", String(255), nullable=False),
    # The row's table, which tells the resources of one name apart; empty for what is about no row.
    Column("table_name", String(255), nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("operation", String(16), nullable=False),
    # A number for the row, by which the deliveries of its events are put in order; `former_key` is the one that it had
    # before, in an event that changes the primary key.
    Column("row_key", BigInteger, nullable=False),
    Column("former_key", BigInteger),
    Column("occurred_at", Instant, nullable=False, index=True),
    # Whom it may reach: see `audience`.
    Column("audience", String(16), nullable=False),
    Column("tenant", Text),
    # The id of the endpoint for which alone it was made public; NULL for those that had subscribed.
    Column("only_for", String(40)),
    # JSON of what the application said of the change's circumstances; NULL for nothing.
    Column("context", _LongText),
    # The very bytes that are signed and sent: never JSON, which a database may rewrite.
    Column("payload", _Bytes, nullable=False),
    sqlite_autoincrement=True,
    **_ANY_LETTERS,
)

delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", _BigId, primary_key=True, autoincrement=True),
    Column("event_id", ForeignKey(event.c.id), nullable=False),
    Column("endpoint_id", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lane", BigInteger),
    Column("next_attempt_at", Instant),
    Column("ordering_key", BigInteger),
    Column("former_key", BigInteger),
    Column("lease_token", String(32)),
    Column("created_at", Instant, nullable=False),
    # When attempt 1 started; noted if it failed, for strategies that look at the time gone.
    Column("first_attempt_at", Instant),
    Column("finished_at", Instant),
    # One delivery for each: whatever is replayed, and how often, nothing is doubled.
    UniqueConstraint("event_id", "endpoint_id", name="uq_webhook_delivery_event"),
    Index("ix_webhook_delivery_endpoint", "endpoint_id", "id"),
    sqlite_autoincrement=True,
    **_ANY_LETTERS,
)


def _partial(name: str, first: Column[Any], *rest: Column[Any]) -> None:
    """An index of the rows that have *first*, where the database can leave out the others."""
    there = first.is_not(None)
    Index(name, first, *rest, sqlite_where=there, postgresql_where=there)


_partial("ix_webhook_secret_expires", secret.c.expires_at, secret.c.id)
_partial("ix_webhook_delivery_lane", delivery.c.lane, delivery.c.next_attempt_at, delivery.c.id)
_partial("ix_webhook_delivery_order", delivery.c.ordering_key, delivery.c.id)
_partial("ix_webhook_delivery_former", delivery.c.former_key, delivery.c.id)
_finished = delivery.c.finished_at.is_not(None)
Index(
    "ix_webhook_delivery_finished",
    *(delivery.c.state, delivery.c.finished_at, delivery.c.id),
    sqlite_where=_finished,
    postgresql_where=_finished,
)
_dead = delivery.c.state == "dead"
Index("ix_webhook_delivery_dead", delivery.c.state, delivery.c.id, sqlite_where=_dead, postgresql_where=_dead)


def lane_of(endpoint_id: int, *, retry: bool) -> int:
    """The lane of an endpoint's first attempts, which is even, or of its retries."""
    return 2 * endpoint_id + int(retry)


attempt = Table(
    "webhook_attempt",
    metadata,
    Column("id", _BigId, primary_key=True, autoincrement=True),
    Column("delivery_id", ForeignKey(delivery.c.id), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("status", Integer),
    Column("response", _LongText, nullable=False),
    Column("reason", String(32)),
    Column("detail", Text, nullable=False),
    **_ANY_LETTERS,
)

#: How far each backfill has come: see `outbox.backfills`.
backfill = Table(
    "webhook_backfill",
    metadata,
    Column("name", String(255), primary_key=True),
    # What it was asked for: the class, an endpoint's public id or NULL, a digest of the condition or NULL.
    Column("resource", String(255), nullable=False),
    Column("table_name", String(255), nullable=False),
    Column("endpoint", String(40)),
    Column("criterion", String(64)),
    # JSON. The row that was come to, NULL beyond the last; and those that others held, for another try.
    Column("place", _LongText),
    Column("again", _LongText, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("finished_at", Instant),
    **_ANY_LETTERS,
)

#: Who may turn outbox rows into events, and who does the upkeep. A row for each.
lease = Table(
    "webhook_lease",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("token", String(32)),
    Column("expires_at", Instant),
    **_ANY_LETTERS,
)

#: Counts the writes to `webhook_endpoint`, so that each process sees with one
#: small look-up whether what it remembers of the subscriptions is still true.
revision = Table(
    "webhook_revision",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
    **_ANY_LETTERS,
)
