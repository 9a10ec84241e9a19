"""An installation is not felt: what fails in an application fails with it in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, text, update
from sqlalchemy.orm import Session
from support.cases import Base, Counted, Named, Owner, Thing
from support.clock import MovedClock
from support.local import Install
from support.observed import Note, Pair, failing, pair_at, picture


@pytest.fixture
def pair(install: Install, tmp_path: Path, clock: MovedClock) -> Iterator[Pair]:
    with pair_at(tmp_path, Base.metadata) as pair:
        webhooks = install(pair.heard, deliver=False, clock=clock)
        webhooks.endpoints.create("http://127.0.0.1:1024/hooks", events=["*"])
        yield pair


def integrity_error(session: Session) -> None:
    session.add(Owner(id=2, name="a"))
    session.flush()


def integrity_error_at_commit_s_flush(session: Session) -> None:
    session.add(Thing(id=2, owner_id=99))
    session.commit()


def stale_data_error(session: Session) -> None:
    row = session.get_one(Counted, 1)
    session.execute(text("UPDATE counted SET version = 7"))
    row.n = 5
    session.flush()


def stale_delete(session: Session) -> None:
    row = session.get_one(Counted, 1)
    session.execute(text("DELETE FROM counted"))
    session.delete(row)
    session.flush()


def flush_error(session: Session) -> None:
    session.add(Named())
    session.flush()


def flush_error_of_too_many_flushes(session: Session) -> None:
    @event.listens_for(session, "after_flush")
    def add_more(*_: object) -> None:
        session.add(Thing())

    session.add(Thing())
    session.commit()


def a_key_that_is_taken(session: Session) -> None:
    known = session.get_one(Owner, 1)
    session.add(Owner(id=known.id))
    session.flush()


def a_key_that_is_none(session: Session) -> None:
    session.get_one(Thing, 1).id = None  # type: ignore[assignment]  # it must not be
    session.flush()


def expression_that_fails(session: Session) -> None:
    session.get_one(Thing, 1).n = func.no_such_function()
    session.flush()


def value_that_its_type_refuses(session: Session) -> None:
    session.add(Thing(id=5, n=object()))
    session.flush()


def detached_instance_error(session: Session) -> None:
    owner = session.get_one(Owner, 1)
    session.commit()
    session.expunge(owner)
    owner.things  # noqa: B018  # it is loaded


def object_deleted_error(session: Session) -> None:
    thing = session.get_one(Thing, 1)
    session.expire(thing)
    session.execute(text("DELETE FROM thing"))
    thing.n  # noqa: B018  # it is loaded


def an_update_of_a_row_that_is_gone(session: Session) -> None:
    thing = session.get_one(Thing, 1)
    session.execute(text("DELETE FROM thing"))
    thing.n = 5
    session.flush()


def listener_before_the_flush_that_fails(session: Session) -> None:
    @event.listens_for(session, "before_flush")
    def fail(*_: object) -> None:
        raise LookupError("before")  # noqa: EM101  # a test's

    session.add(Owner(id=2))
    session.flush()


def listener_after_the_flush_that_fails(session: Session) -> None:
    @event.listens_for(session, "after_flush")
    def fail(*_: object) -> None:
        raise LookupError("after")  # noqa: EM101  # a test's

    session.add(Owner(id=2))
    session.flush()


def bulk_statement_that_fails(session: Session) -> None:
    session.execute(update(Owner).values(id=None))


FAILURES = [
    integrity_error,
    integrity_error_at_commit_s_flush,
    stale_data_error,
    stale_delete,
    flush_error,
    flush_error_of_too_many_flushes,
    a_key_that_is_taken,
    a_key_that_is_none,
    expression_that_fails,
    value_that_its_type_refuses,
    detached_instance_error,
    object_deleted_error,
    an_update_of_a_row_that_is_gone,
    listener_before_the_flush_that_fails,
    listener_after_the_flush_that_fails,
    bulk_statement_that_fails,
]


@pytest.mark.parametrize("fail", FAILURES)
@pytest.mark.filterwarnings("ignore:New instance")  # of the flush that fails
def test_what_fails_fails_in_the_same_way(fail: Callable[[Session], None], pair: Pair) -> None:
    def work(session: Session, note: Note) -> None:
        session.add_all([Owner(id=1, name="a"), Thing(id=1, owner_id=1), Counted(id=1)])
        session.commit()
        failing(note, lambda: fail(session))
        note(picture(session))
        failing(note, session.connection)  # whether the transaction is still good
        session.rollback()
        note(picture(session))

    assert pair.extra(work) == [] or fail is bulk_statement_that_fails
