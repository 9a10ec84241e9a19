"""Events whose bodies would be too large: sent without what is in the row, told of, and in nobody's way."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Text, event
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from support import mapping
from support.clock import START, MovedClock
from support.databases import Database
from support.events import event as made_event
from support.faults import refusing
from support.heard import heard
from support.hostile import claim_for
from support.local import Install
from support.receiver import Receiver
from support.shop import Product, Seat, put
from tenacity import stop_after_attempt

from sqla_webhooks import Attempt, DeliveryState, OutboxWriteError, Webhooks, oversized
from sqla_webhooks.deliveries import Verdict
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.rendering import Rendering
from sqla_webhooks.destination import Endpoint, Health
from sqla_webhooks.encoding import TABLE
from sqla_webhooks.operational import dead, disabled
from sqla_webhooks.outbox.database import Database as OutboxDatabase
from sqla_webhooks.outbox.sizes import STATEMENT_BYTES, pieces
from sqla_webhooks.resources import Resources

Sessions = sessionmaker[Session]

LEAST = 1024
MEGABYTE = 1_000_000


class Papers(DeclarativeBase):
    """Rows as large as one likes, on every database."""


class Parchment(Papers):
    __tablename__ = "parchment"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text().with_variant(LONGTEXT(), "mysql", "mariadb"))


Told = list[dict[str, Any]]


@pytest.fixture
def told() -> Iterator[Told]:
    """What the signal has said."""
    told: Told = []

    def note(sender: object, **arguments: Any) -> None:
        told.append({"sender": sender, **arguments})

    with oversized.connected_to(note):
        yield told


@pytest.fixture
def small(install: Install, sessions: Sessions, receiver: Receiver, clock: MovedClock) -> Webhooks:
    """No body may be larger than must be allowed."""
    webhooks = install(sessions, deliver=False, clock=clock, payload_limit=LEAST)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    return webhooks


@pytest.fixture
def papers(database: Database) -> Iterator[Sessions]:
    with database.patient.engine() as engine:
        Papers.metadata.create_all(engine)
        yield sessionmaker(engine)


def written(papers: Sessions, *texts: str) -> None:
    with papers.begin() as session:
        session.add_all([Parchment(text=text) for text in texts])


def name_of(size: int, letter: str = "x") -> str:
    return letter * (size // len(letter.encode()))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING and "payload_limit" in one.msg]


# --------------------------------------------------------------------------- what is sent


def test_a_thin_event_says_what_happened_to_which_row(small: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    with sessions.begin() as session:
        session.get_one(Product, "a").stock = 7
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))
    small.drain()

    for request, operation in zip(receiver.received, ("create", "update", "delete"), strict=True):
        envelope = {"type": f"product.{operation}d", "timestamp": "2026-03-01T12:00:00.000Z", "id": request.id}
        row = {"resource": "product", "resource_id": "a", "operation": operation, "data": {"sku": "a"}}
        expected = {**envelope, **row, "truncated": True}
        assert request.body == json.dumps(expected, separators=(",", ":")).encode()


def test_a_body_may_be_as_large_as_the_limit_and_no_byte_larger(
    small: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    put(sessions, "a")
    small.drain()
    room = LEAST - len(receiver.received[0].body)
    for sku, more in (("b", room), ("c", room + 1), ("d", room // 2 * 2), ("e", room // 2 * 2 + 2)):
        letter = "é" if sku in "de" else "x"  # of two bytes
        with sessions.begin() as session:
            session.add(Product(sku=sku, name=name_of(more, letter)))
    small.drain()

    whole = {one.event["resource_id"]: "truncated" not in one.event for one in receiver.received}
    assert whole == {"a": True, "b": True, "c": False, "d": True, "e": False}
    assert max(len(one.body) for one in receiver.received) == LEAST


def test_a_key_of_several_parts_is_whole(small: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    small.enricher(Seat)(lambda _seat, payload: payload.update(view=name_of(LEAST)))
    with sessions.begin() as session:
        session.add(Seat(row="A", number=3))
    small.drain()

    (seat,) = receiver.events()
    assert (seat["resource_id"], seat["data"], seat["truncated"]) == ("A,3", {"row": "A", "number": 3}, True)


def test_of_a_row_that_changes_its_key_the_old_one_is_told(
    small: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    with sessions.begin() as session:
        session.get_one(Product, "a").sku = "b"
    small.drain()

    moved = receiver.events("product.updated")[0]
    assert (moved["data"], moved["changes"]) == ({"sku": "b"}, {"sku": {"from": "a", "to": "b"}})


def test_a_key_that_is_too_large_by_itself_is_sent_all_the_same(
    small: Webhooks, sessions: Sessions, receiver: Receiver, told: Told
) -> None:
    huge = name_of(2 * LEAST)
    put(sessions, huge, "b")
    small.drain()

    assert [one["data"].get("name") for one in receiver.events()] == [None, ""]
    assert receiver.events()[0]["data"] == {"sku": huge}
    assert len(told) == 1


def test_every_endpoint_gets_the_same(small: Webhooks, sessions: Sessions, receiver: Receiver, told: Told) -> None:
    small.endpoints.create(receiver.url("/other"), events=["product.created"])
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    small.drain()

    one, other = receiver.received
    assert {one.path, other.path} == {"/hooks", "/other"}
    assert one.body == other.body == small.events.get(one.id).payload
    assert len(told) == 1


def test_without_a_limit_a_body_is_as_large_as_it_is(
    install: Install, sessions: Sessions, receiver: Receiver, told: Told
) -> None:
    webhooks = install(sessions, deliver=False, payload_limit=None)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(3 * MEGABYTE)))
    webhooks.drain()

    assert len(receiver.events()[0]["data"]["name"]) == 3 * MEGABYTE
    assert told == []


def test_the_limit_is_a_mebibyte_unless_it_is_given(webhooks: Webhooks, sessions: Sessions, receiver: Receiver) -> None:
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(2**20 - 500)))
    with sessions.begin() as session:
        session.add(Product(sku="b", name=name_of(2**20)))
    webhooks.drain()

    assert ["truncated" in one for one in receiver.events()] == [False, True]


def test_of_a_class_that_the_relay_does_not_map_not_even_the_key_is_known(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    with mapping.base() as base:
        person = mapping.person(base)
        base.metadata.create_all(sessions.kw["bind"])
        webhooks = install(sessions, deliver=False)
        webhooks.endpoints.create(receiver.url(), events=["*"])
        with sessions.begin() as session:
            session.add(person(id=7, first=name_of(LEAST)))
        webhooks.uninstall()
    install(sessions, deliver=False, payload_limit=LEAST).drain()

    (event,) = receiver.events()
    assert (event["resource"], event["resource_id"], event["data"]) == ("person", "7", {})
    assert event["truncated"] is True


# --------------------------------------------------------------------------- it is told


def test_it_is_told_by_the_log_and_by_a_signal(
    small: Webhooks, sessions: Sessions, receiver: Receiver, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    put(sessions, "a")
    with sessions.begin() as session:
        session.add(Product(sku="b", name=name_of(LEAST)))
    small.drain()

    plain, thin = receiver.received
    size = len(plain.body) + LEAST
    assert told == [
        {"sender": small, "event_id": thin.id, "event_type": "product.created", "size": size, "limit": LEAST}
    ]
    said = (
        f"product.created {thin.id} would have {size} bytes, and payload_limit or the database allows 1024: it is sent "
        "without what is in the row; raise payload_limit, leave attributes out with exclude=[...], or let the receiver "
        "fetch the row"
    )
    assert warnings(caplog) == [said]


def test_it_is_told_after_the_commit_when_no_transaction_of_ours_is_open(
    small: Webhooks, sessions: Sessions, receiver: Receiver
) -> None:
    seen: list[Any] = []

    def write(webhooks: Webhooks, *, event_id: str, **_: object) -> None:
        put(sessions, "b")  # would wait for a transaction of ours, in vain
        seen.append(webhooks.events.get(event_id).type)

    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    with oversized.connected_to(write):
        small.drain()

    assert seen == ["product.created"]
    assert [one["resource_id"] for one in receiver.events()] == ["a", "b"]


def test_a_fan_out_that_is_tried_again_tells_once(
    small: Webhooks, sessions: Sessions, receiver: Receiver, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    with refusing(small.engine, "INSERT INTO webhook_delivery", times=3):
        for _ in range(3):
            with pytest.raises(OperationalError):
                small.drain()
        assert told == []
        small.drain()

    assert [one["event_id"] for one in told] == receiver.ids
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_of_what_another_relay_has_published_this_one_tells_nothing(
    papers: Sessions, install: Install, receiver: Receiver, told: Told
) -> None:
    slow, quick = (install(sessionmaker(papers.kw["bind"]), deliver=False, payload_limit=LEAST) for _ in range(2))
    slow.endpoints.create(receiver.url(), events=["*"])
    install(papers, deliver=False)
    written(papers, "a")
    slow.drain()  # and so knows who wants what

    @slow.enricher(Parchment)
    def wait(_paper: Parchment, _payload: dict[str, Any]) -> None:
        quick.drain()

    written(papers, name_of(LEAST))
    slow.drain()

    assert [one["event_id"] for one in told] == receiver.ids[1:]
    assert [one["sender"] for one in told] == [quick]


def test_of_an_event_that_nobody_gets_nothing_is_told(
    install: Install, sessions: Sessions, receiver: Receiver, told: Told
) -> None:
    webhooks = install(sessions, deliver=False, payload_limit=LEAST)
    webhooks.endpoints.create(receiver.url(), events=["product.deleted"])
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    with sessions.begin() as session:
        session.delete(session.get_one(Product, "a"))
    webhooks.drain()

    assert [one["event_type"] for one in told] == receiver.types == ["product.deleted"]


def test_of_an_event_that_is_only_kept_it_is_told(install: Install, sessions: Sessions, told: Told) -> None:
    webhooks = install(sessions, deliver=False, payload_limit=LEAST, capture="all")
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    webhooks.drain()

    assert [one["event_id"] for one in told] == [one.id for one in webhooks.events.list()]


# --------------------------------------------------------------------------- events of the webhooks themselves


def test_an_event_of_the_webhooks_themselves_is_whole(
    install: Install, sessions: Sessions, receiver: Receiver, told: Told
) -> None:
    webhooks = install(sessions, deliver=False, payload_limit=LEAST, stop=stop_after_attempt(1))
    webhooks.endpoints.create(receiver.url(), events=["product.*"])
    webhooks.endpoints.create(receiver.url(), events=["delivery.dead", "endpoint.disabled"])
    receiver.answer(410)
    with sessions.begin() as session:
        session.add(Product(sku="a", name=name_of(LEAST)))
    webhooks.drain()

    assert receiver.types == ["product.created", "delivery.dead", "endpoint.disabled"]
    assert ["truncated" in one for one in receiver.events()] == [True, False, False]
    assert len(told) == 1


def test_an_event_of_the_webhooks_themselves_is_never_large() -> None:
    """However long the names are that `webhook_event` has room for, and however they must be written."""
    claim = replace(claim_for("https://partner.example"), event_type="\x01" * 255, event_id="x" * 40, delivery_id=2**63)
    claim = replace(claim, destination=replace(claim.destination, endpoint_id="x" * 40))
    attempt = Attempt(10**9, START, 1.0, 599, "x" * 10**6, "invalid_answer", "x" * 10**6)
    verdict = Verdict(claim=claim, attempt=attempt, state=DeliveryState.DEAD)
    endpoint = Endpoint(
        "x" * 40, "u" * 10**6, ("*",), enabled=False, description="", created_at=START, updated_at=START
    )
    endpoint = replace(endpoint, disabled_because="failing", health=Health(10**9, START))

    for one in (dead(verdict, now=START), disabled(endpoint, now=START)):
        assert len(Standard().body(one, dumps=TABLE.dumps)) <= 2500


# --------------------------------------------------------------------------- databases that take so much and no more


def test_a_flush_of_many_large_rows_goes_through(
    papers: Sessions, install: Install, receiver: Receiver, told: Told
) -> None:
    """Together they are more than MariaDB takes in one statement; the application's own are one for each row."""
    webhooks = install(papers, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["parchment.updated"])
    written(papers, *"a" * 48)
    texts = [str(number % 10) * (MEGABYTE // 2 - 500) for number in range(48)]
    with papers.begin() as session:
        for number, text in enumerate(texts, start=1):
            session.get_one(Parchment, number).text = text
    webhooks.drain()

    assert [one["resource_id"] for one in receiver.events()] == [str(number) for number in range(1, 49)]
    assert [one["data"]["text"] for one in receiver.events()] == texts
    assert told == []


def test_what_comes_in_many_transactions_goes_through_too(
    papers: Sessions, install: Install, receiver: Receiver
) -> None:
    webhooks = install(papers, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    for _ in range(24):
        written(papers, '"' * (MEGABYTE // 2 - 500))  # each of which takes two bytes in JSON, and more in SQL
    webhooks.drain()

    assert [len(one["data"]["text"]) for one in receiver.events()] == [MEGABYTE // 2 - 500] * 24


@contextmanager
def carried(engine: Engine) -> Iterator[list[int]]:
    """The bytes of the values of each statement that writes what may be large."""
    carried: list[int] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("INSERT INTO webhook_event", "INSERT INTO webhook_outbox")):
            carried.append(_bytes_in(parameters))

    with heard(engine, "before_cursor_execute", note):
        yield carried


def test_no_statement_carries_more_than_it_should(papers: Sessions, install: Install, receiver: Receiver) -> None:
    webhooks = install(papers, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    with carried(webhooks.engine) as statements:
        written(papers, *["x" * (MEGABYTE - 500)] * 12)
        webhooks.drain()

    assert len(receiver.received) == 12
    assert len(statements) >= 6
    assert max(statements) <= STATEMENT_BYTES


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_nor_more_than_the_database_says(papers: Sessions, install: Install, receiver: Receiver) -> None:
    """As one does that was told to take a mebibyte."""
    webhooks = install(papers, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    packet = 2**20

    @event.listens_for(webhooks.engine, "before_cursor_execute", retval=True)
    def say(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        return statement.replace("@@max_allowed_packet", str(packet)), parameters

    with carried(webhooks.engine) as statements:
        written(papers, *["x" * 100_000] * 12)
        written(papers, *["x" * 100] * 12)  # whose sizes are not worth a question
        webhooks.drain()

    assert len(receiver.received) == 24
    assert len(statements) >= 6
    assert max(statements) <= (packet - 65536) // 2


def _bytes_in(parameters: Any) -> int:
    if isinstance(parameters, bytes):
        return len(parameters)
    if isinstance(parameters, dict):
        return sum(map(_bytes_in, parameters.values()))
    return sum(map(_bytes_in, parameters)) if isinstance(parameters, list | tuple) else 0


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
@pytest.mark.parametrize("limit", [None, 10**9])
def test_an_event_that_the_database_cannot_take_is_thin_and_holds_up_no_other(
    papers: Sessions, install: Install, receiver: Receiver, told: Told, limit: int | None
) -> None:
    """The outbox row is less than half as large as the body, which has the new value twice, and the old one."""
    webhooks = install(papers, deliver=False, payload_limit=limit)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    written(papers, "a", "b")
    with papers.begin() as session:
        session.get_one(Parchment, 1).text = "x" * (7 * MEGABYTE)
    with papers.begin() as session:
        session.get_one(Parchment, 2).text = "x" * (3 * MEGABYTE)
    webhooks.drain()

    first, second = receiver.events("parchment.updated")
    assert (first["data"], first["truncated"], "changes" in first) == ({"id": 1}, True, False)
    assert len(second["data"]["text"]) == len(second["changes"]["text"]["to"]) == 3 * MEGABYTE
    with papers.kw["bind"].connect() as connection:
        packet = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar()
    (one,) = told
    assert one["size"] > 14 * MEGABYTE
    assert one["limit"] == (packet - 65536) // 2


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_an_enricher_that_makes_the_key_too_large_holds_up_no_other(
    papers: Sessions, install: Install, receiver: Receiver
) -> None:
    webhooks = install(papers, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    webhooks.enricher(Parchment)(lambda paper, payload: payload.update(id=paper.text * (9 * MEGABYTE)))
    written(papers, "a", "")
    webhooks.drain()

    first, second = receiver.events()
    assert (first["resource_id"], first["data"], first["truncated"]) == ("1", {}, True)
    assert second["data"] == {"id": "", "text": ""}


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_context_that_the_database_cannot_take_is_left_out(papers: Sessions) -> None:
    resources = Resources(include=(), exclude=(), names={})
    bind = OutboxDatabase(papers.kw["bind"])
    rendering = Rendering(bind, resources, encoding=TABLE, limit=None, send_context=["actor"])
    small = made_event(resource="parchment", context={"actor": "Zoë"}, data={"id": 1, "text": "x" * (9 * MEGABYTE)})
    large = replace(small, context={"actor": "x" * (9 * MEGABYTE)})

    first, second = (json.loads(one.body) for one in rendering.messages([small, large]))

    assert (first["context"], first["truncated"]) == ({"actor": "Zoë"}, True)
    assert ("context" in second, second["data"], second["truncated"]) == (False, {}, True)


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_a_row_that_the_outbox_cannot_take_fails_the_flush(
    papers: Sessions, install: Install, receiver: Receiver
) -> None:
    webhooks = install(papers, deliver=False)
    webhooks.endpoints.create(receiver.url(), events=["*"])
    # MariaDB closes the connection, so that it may be the rollback that is told.
    with pytest.raises((OutboxWriteError, OperationalError)), papers.begin() as session:
        session.add(Parchment(text="x" * (9 * MEGABYTE)))
    written(papers, "a")
    webhooks.drain()

    assert [one["data"]["text"] for one in receiver.events()] == ["a"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2 * STATEMENT_BYTES)))
@example([STATEMENT_BYTES // 2] * 4)
def test_pieces_are_as_large_as_they_may_be(sizes: list[int]) -> None:
    found = [list(one) for one in pieces(sizes, size=int, most=STATEMENT_BYTES)]

    assert [size for piece in found for size in piece] == sizes
    assert all(len(piece) == 1 or sum(piece) <= STATEMENT_BYTES for piece in found)
    assert all(sum(piece) + after[0] > STATEMENT_BYTES for piece, after in pairwise(found))
    assert [] not in found


def test_what_is_for_one_endpoint_alone_and_too_large_is_told_of(
    install: Install, sessions: Sessions, receiver: Receiver
) -> None:
    webhooks = install(sessions, deliver=False, payload_limit=1024)
    with sessions.begin() as session:
        session.add(Product(sku="a", details={"text": "x" * 2000}))
    endpoint = webhooks.endpoints.create(receiver.url(), ["customer.*"])
    told: list[str] = []
    with oversized.connected_to(lambda _, **about: told.append(about["event_type"])):
        webhooks.backfill(Product, endpoint=endpoint.id, waiting=None)
        webhooks.drain()
    assert told == ["product.read"]
    assert receiver.events()[0]["truncated"] is True
