"""
Secrets and headers are sealed anew, after a change of keys: a page at a time, in short transactions.

A row is locked before it is read for good, so that what is written is what it
holds, whoever rotates, updates, deletes or reseals it meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from sqlalchemy import Column, Select, bindparam, select, update

from sqla_webhooks import models
from sqla_webhooks.errors import ConfigurationError
from sqla_webhooks.outbox.database import Database
from sqla_webhooks.outbox.deadlock import outlive
from sqla_webhooks.outbox.pages import Pages
from sqla_webhooks.outbox.write import take_write_lock
from sqla_webhooks.progress import Reencrypted
from sqla_webhooks.vault import Vault

logger = logging.getLogger(__name__)

_endpoint, _secret = models.endpoint, models.secret

#: What is sealed, and how to find it with the public id of its endpoint.
_SECRETS = select(_secret.c.id, _secret.c.value.label("text"), _endpoint.c.public_id).select_from(
    _secret.join(_endpoint, _endpoint.c.id == _secret.c.endpoint_id)
)
_HEADERS = select(_endpoint.c.id, _endpoint.c.headers.label("text"), _endpoint.c.public_id).where(
    _endpoint.c.headers.is_not(None)
)


def reseal(database: Database, vault: Vault) -> Reencrypted:
    """
    Seal by the first key what is not.

    In the caller's thread. What no key opens is left as it is, counted, and
    said in the log.
    """
    done = Reencrypted()
    for column, query in ((_secret.c.value, _SECRETS), (_endpoint.c.headers, _HEADERS)):
        for stale in _stale(database, vault, column.table.c.id, query):
            numbers = [row.id for row in stale if _can_be_opened(vault, row)]
            rewritten = outlive(partial(_reseal, database, vault, column, numbers)) if numbers else 0
            done += Reencrypted(rewritten, unreadable=len(stale) - len(numbers))
    return done


def _stale(database: Database, vault: Vault, number: Column[Any], query: Select[Any]) -> Iterator[list[Any]]:
    """Rows that are not sealed by the first key, a page at a time, by looks that lock nothing."""
    for page in Pages.of(database, number, query):
        with database.read() as connection:
            found = connection.execute(query.where(number.in_(page))).all()
        yield [row for row in found if not vault.is_current(row.text)]


def _can_be_opened(vault: Vault, row: Any) -> bool:
    try:
        vault.open(row.text)
    except ConfigurationError:
        logger.warning(
            "endpoint %s: a secret of it, or its headers, cannot be encrypted anew, since no key of encryption_keys "
            "opens what the database holds",
            row.public_id,
            extra={"webhooks.endpoint": row.public_id},
        )
        return False
    return True


def _reseal(database: Database, vault: Vault, column: Column[Any], numbers: Collection[int]) -> int:
    """Those of the rows that still need it; one write transaction."""
    number = column.table.c.id
    locked = select(number, column.label("text")).where(number.in_(numbers)).order_by(number).with_for_update()
    anew = update(column.table).where(number == bindparam("number"))
    with database.write() as connection:
        take_write_lock(connection)
        sealed = {row.id: _anew(vault, row.text) for row in connection.execute(locked)}
        rows = [{"number": number, "sealed": text} for number, text in sealed.items() if text is not None]
        if rows:
            connection.execute(anew.values({column: bindparam("sealed", type_=column.type)}), rows)
    return len(rows)


def _anew(vault: Vault, text: str | None) -> str | None:
    """*text* sealed by the first key; None if it need not be, or cannot any more."""
    if text is None or vault.is_current(text):
        return None
    try:
        return vault.seal(vault.open(text))
    except ConfigurationError:  # another process has just sealed it by a newer key
        return None
