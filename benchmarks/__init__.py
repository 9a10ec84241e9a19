"""
What the plug-in costs, as ratios to the same code without it.

    model        the table that is written
    variants     what is measured: SQLAlchemy alone, and with something installed
    databases    SQLite in memory, and PostgreSQL from its wheel
    workload     the writes, timed: what runs in a worker
    workers      a process for each variant, and how the driver steps them
    figures      times, ratios and tables; `command`, what the programs have in common

The programs, each `python -m benchmarks.NAME`, and all of them by
`python -m benchmarks`:

    write_path   inserts, updates and deletes in transactions of 100
    flush_size   flushes of 1 to 10,000 objects
    bulk_update  a bulk UPDATE against loading, changing and flushing the same rows
    locked       how often SQLite says "database is locked", with the relay and without

and those of `delivery/`, `python -m benchmarks.delivery.NAME`:

    latency      from commit to receipt
    outage       an endpoint that is down for an hour
    claims       claiming behind a million finished deliveries, and idling
    isolation    nine endpoints beside one that hangs
    many_relays  three relays, and a receiver that fails at random

Every figure of those before `locked` comes from workers that take turns, batch by batch and in random
order: what else the machine does hits all of them alike.
"""
