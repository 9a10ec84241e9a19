"""The lead when nobody has ever led."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event
from support.clock import START
from support.databases import Database as Place
from support.receiver import PATIENCE
from support.threads import aside

from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.lead import Lead


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_of_two_that_lead_first_one_does(database: Place) -> None:
    """The row is missing, both write it at once, and neither fails."""
    both = threading.Barrier(2)

    def meet(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO webhook_lease"):
            both.wait(PATIENCE)

    with database.patient.engine() as engine:
        ours = Database(engine)
        ours.create_tables()
        event.listen(engine, "before_cursor_execute", meet)
        leads = [Lead(ours) for _ in range(2)]
        acquiring = [aside(partial(lead.acquire, None, backlog=True, now=START)) for lead in leads]
        for thread, _ in acquiring:
            thread.join(PATIENCE)

    assert sorted(came for _, [came] in acquiring) == [False, True]
