"""What must hold of the queues, whatever was done to them: asked of the table, by a rule written otherwise."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select

from sqla_webhooks import models

_TABLE = models.delivery


def rows_of(engine: Engine) -> list[Any]:
    """Every delivery, by number."""
    with engine.connect() as connection:
        return list(connection.execute(select(_TABLE).order_by(_TABLE.c.id)))


def faults(engine: Engine) -> list[str]:
    """Deliveries that nothing will ever wake, and what is left of finished ones; empty if all is well."""
    waiting: dict[int, int] = {}
    found: list[str] = []
    for row in rows_of(engine):
        keys = [key for key in (row.ordering_key, row.former_key) if key is not None]
        if row.state == "pending" and row.next_attempt_at is None and not any(key in waiting for key in keys):
            found.append(f"{row.id} waits for nothing")
        if row.state == "pending" and (row.lane is None or row.finished_at is not None):
            found.append(f"{row.id} is pending, and marked as finished")
        if row.state != "pending" and (row.lane, row.next_attempt_at, row.lease_token) != (None, None, None):
            found.append(f"{row.id} is finished, and can be claimed")
        for key in keys:
            waiting.setdefault(key, row.id)
    return found


def awake(engine: Engine) -> list[int]:
    """The deliveries that are due, or will be at a time that they know."""
    return [row.id for row in rows_of(engine) if row.next_attempt_at is not None]
