"""
Who is at work on the application's own tables: the transactions that have written there, and have not ended.

What is asked is what the database says of itself; no row is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger(__name__)

#: Seconds for which InnoDB gives the same answer again. It makes a new one only if nobody has asked for as long.
OLD = 0.1

# Whoever writes to a table holds this lock on it until the end. By its name alone: the same table of another schema is
# waited for too, as the search path and a translated schema are not asked for.
_POSTGRESQL = text("""
    SELECT DISTINCT held.virtualtransaction
    FROM pg_locks AS held
    JOIN pg_class AS named ON named.oid = held.relation
    JOIN pg_database AS here ON here.oid = held.database
    WHERE here.datname = current_database() AND held.locktype = 'relation' AND held.granted
    AND held.mode = 'RowExclusiveLock' AND named.relname IN :tables
""").bindparams(bindparam("tables", expanding=True))

# It does not say which tables, only in which database a connection is.
_MYSQL = text("""
    SELECT trx_id
    FROM information_schema.innodb_trx
    JOIN information_schema.processlist AS connections ON connections.id = trx_mysql_thread_id
    WHERE trx_rows_modified > 0 AND connections.db <=> DATABASE()
""")
_MAY_NOT = 1227


def writers(connection: Connection, tables: Collection[str]) -> frozenset[str]:
    """
    The open transactions that have written to any of *tables*, by what the database calls them.

    On MySQL and MariaDB those that have written to any table, on connections
    to this database, so none that is prepared and has lost its connection;
    without the privilege PROCESS they are not told, and there are none. On
    SQLite nobody writes beside another: whoever asks, and then writes, has
    waited.

    Args:
        tables: Their names, without a schema.
    """
    if connection.dialect.name == "postgresql":
        return frozenset(map(str, connection.execute(_POSTGRESQL, {"tables": sorted(tables)}).scalars()))
    if connection.dialect.name not in ("mysql", "mariadb"):
        return frozenset()
    try:
        return frozenset(map(str, connection.execute(_MYSQL).scalars()))
    except DBAPIError as error:
        if getattr(error.orig, "args", (None,))[0] != _MAY_NOT:
            raise
        logger.warning(
            "which transactions are open is not told to this user of the database, who lacks the privilege PROCESS: "
            "what they have inserted already may be missed by a backfill that begins now"
        )
        return frozenset()
