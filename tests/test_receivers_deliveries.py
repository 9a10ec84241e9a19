"""What receivers that know nothing of us make of our deliveries: in Python and in Node, of each dialect."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from receivers.cloudevents_sdk import Binary, Structured
from receivers.github import GitHub
from receivers.javascript import NodeReceiver, node_receiver
from receivers.openfront import Openfront
from receivers.report import Report
from receivers.served import Served, served
from receivers.standard import Standard
from sqlalchemy import JSON, Engine, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support.local import Install

from sqla_webhooks import Webhooks
from sqla_webhooks.delivery.dialects.known import Dialects

OLD, NEW = ("whsec_" + base64.b64encode(bytes([one]) * 32).decode() for one in (1, 2))


class Base(DeclarativeBase):
    """What is sent here."""


class Parcel(Base):
    __tablename__ = "parcel"

    id: Mapped[int] = mapped_column(primary_key=True)
    addressee: Mapped[str] = mapped_column(String(100))
    weight: Mapped[Decimal] = mapped_column(Numeric(10, 3))
    note: Mapped[str | None] = mapped_column(String(100))
    contents: Mapped[Any] = mapped_column(JSON)
    fragile: Mapped[bool]


#: An operation, as event types say it, and the row in JSON.
Told = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Dialect:
    """
    What there is to know of one.

    Attributes:
        receiver: In Python; it is given secrets.
        told: What an event says, as the receivers in either language have read it.
        every_secret: Whether each that is valid signs, or the newest alone.
    """

    receiver: Callable[..., Any]
    told: Callable[[Mapping[str, Any]], Told]
    every_secret: bool = True


def standard(event: Mapping[str, Any]) -> Told:
    return f"{event['operation']}d", event["data"]


def cloudevent(event: Mapping[str, Any]) -> Told:
    return event["type"].rpartition(".")[2], event["data"]["data"]


def github(event: Mapping[str, Any]) -> Told:
    return event["action"], event["parcel"]


DIALECTS = {
    "standard": Dialect(Standard, standard),
    "cloudevents": Dialect(Structured, cloudevent),
    "cloudevents-binary": Dialect(Binary, cloudevent),
    "github": Dialect(GitHub, github, every_secret=False),
    "openfront": Dialect(Openfront, standard, every_secret=False),
}

#: All of them, and those that come in batches.
SENT = tuple(DIALECTS)
BATCHED = ("standard", "cloudevents")

each = pytest.mark.parametrize("name", SENT)
each_batched = pytest.mark.parametrize("name", BATCHED)


# --------------------------------------------------------------------------- what is written

FIRST = {
    "id": 1,
    "addressee": "Żółć & Grüße, 世界 🎉\u2028",
    "weight": "1.500",
    "note": None,
    "contents": {"ключ": [1, None, True, {"</script>": '"\\\t'}], "0": 0.5},
    "fragile": True,
}
REPACKED = FIRST | {"weight": "0.125", "note": "zerbrechlich – 壊れ物", "contents": None}
SHIPPED = REPACKED | {"note": None, "fragile": False, "contents": []}
SECOND = FIRST | {"id": 2, "addressee": "", "weight": "-3.000", "contents": "text"}

#: By the row's id, in the order of its changes.
HISTORY: dict[int, list[Told]] = {
    1: [("created", FIRST), ("updated", REPACKED), ("updated", SHIPPED), ("deleted", SHIPPED)],
    2: [("created", SECOND), ("deleted", SECOND)],
}
EVENTS = sum(map(len, HISTORY.values()))


def write(sessions: sessionmaker[Session]) -> None:
    """What `HISTORY` tells of."""
    with sessions.begin() as session:
        session.add_all([_parcel(FIRST), _parcel(SECOND)])
    for row in (REPACKED, SHIPPED):
        with sessions.begin() as session:
            found = session.get_one(Parcel, 1)
            for name, value in _values(row).items():
                setattr(found, name, value)
    with sessions.begin() as session:
        for parcel in session.query(Parcel):
            session.delete(parcel)


def _parcel(row: Mapping[str, Any]) -> Parcel:
    return Parcel(**_values(row))


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "weight": Decimal(row["weight"])}


# --------------------------------------------------------------------------- what comes


@dataclass(frozen=True)
class Stand:
    """An installation, and a dialect's receivers: at `…/old` one that knows the old secret, at `…/new` the new one."""

    name: str
    receivers: Served | NodeReceiver
    webhooks: Webhooks
    sessions: sessionmaker[Session]

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.name]

    def subscribe(self, which: str, *, secret: str, **options: Any) -> str:
        """An endpoint of the dialect; its id."""
        url = self.receivers.url(f"/{self.name}/{which}")
        return self.webhooks.endpoints.create(url, ["*"], secret=secret, dialect=self.name, **options).id

    def reports_of(self, events: int) -> list[Report]:
        """Of the next requests, until there have been so many events; all of them must have been accepted."""
        reports: list[Report] = []
        while sum(len(report.events) for report in reports) < events:
            reports.append(self.receivers.report())
            assert reports[-1].error is None
        return reports

    def told(self, reports: Iterable[Report]) -> dict[int, list[Told]]:
        """By row."""
        rows: dict[int, list[Told]] = {}
        for event in (_plain(event) for report in reports for event in report.events):
            verb, row = self.dialect.told(event)
            rows.setdefault(row["id"], []).append((verb, row))
        return rows


def _plain(event: Any) -> Mapping[str, Any]:
    """A CloudEvent as Node's SDK has it; others are mappings already."""
    return event if isinstance(event, dict) else {**event.get_attributes(), "data": event.get_data()}


@contextmanager
def receiving(name: str, language: str) -> Iterator[Served | NodeReceiver]:
    secrets = {f"/{name}/old": [OLD], f"/{name}/new": [NEW]}
    if language == "node":
        with node_receiver(secrets) as node:
            yield node
    else:
        with served({path: DIALECTS[name].receiver(*known) for path, known in secrets.items()}) as server:
            yield server


@pytest.fixture(params=["python", "node"])
def stand(
    request: pytest.FixtureRequest, name: str, install: Install, engine: Engine, sessions: sessionmaker[Session]
) -> Iterator[Stand]:
    Base.metadata.create_all(engine)
    with receiving(name, request.param) as receivers:
        yield Stand(name, receivers, install(sessions, deliver=False), sessions)


# --------------------------------------------------------------------------- tests


def test_no_dialect_is_without_a_receiver() -> None:
    there = Dialects.of([]).by_name
    assert set(SENT) == set(there)
    assert set(BATCHED) == {name for name, dialect in there.items() if dialect.batches}


@each
def test_a_receiver_accepts_and_reads_what_was_written(stand: Stand) -> None:
    stand.subscribe("new", secret=NEW)
    write(stand.sessions)
    assert stand.webhooks.drain().complete
    reports = stand.reports_of(EVENTS)
    assert len(reports) == EVENTS
    assert stand.told(reports) == HISTORY
    assert [delivery.state for delivery in stand.webhooks.deliveries.list()] == ["delivered"] * EVENTS


@each
def test_after_a_rotation_those_accept_who_know_a_secret_that_signs(stand: Stand) -> None:
    for which in ("old", "new"):
        stand.webhooks.endpoints.rotate_secret(stand.subscribe(which, secret=OLD), secret=NEW)
    with stand.sessions.begin() as session:
        session.add(_parcel(FIRST))
    stand.webhooks.drain()
    reports = {report.path: report for report in (stand.receivers.report(), stand.receivers.report())}
    told = {which: stand.told([reports[f"/{stand.name}/{which}"]]) for which in ("old", "new")}
    created = {1: [("created", FIRST)]}
    assert told == {"old": created if stand.dialect.every_secret else {}, "new": created}


@each_batched
def test_a_receiver_accepts_and_reads_batches(stand: Stand) -> None:
    stand.subscribe("new", secret=NEW, batch=10)
    write(stand.sessions)
    assert stand.webhooks.drain().complete
    reports = stand.reports_of(EVENTS)
    assert len(reports) < EVENTS
    assert all(isinstance(report.body, list) for report in reports)
    assert stand.told(reports) == HISTORY
