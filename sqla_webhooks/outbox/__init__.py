"""
Every SQL statement on our tables, one module for each step that needs some.

The door:

    database    short transactions on the application's engine; `bridge`, the way to an async driver; `sizes`, what
                one statement may carry
    gate        on a SQLite file, who may be in one: the application before us; `guard` hears of its transactions
    deadlock    transactions that have given way are made again

In the application's transaction:

    write       one row for one flush; `sheet`, how the changes stand in it
    subscribed  which event types anybody asks for
    endpoints   the endpoints' own rows; `secrets`, those of their secrets

The relay's steps:

    pulse       whether there is anything at all
    take        outbox rows, whole transactions at a time
    lead        which relay may go on with them: a `lease`
    fan_out     rows become events and deliveries, in one transaction; `publish`, what is inserted
    queue       which delivery of a row is due: the head of its queue
    lanes       for whom there is something to send
    release     what need not wait for its retry, since its endpoint was enabled
    claim       deliveries that are due, by lease; `turnstile`, how many of an endpoint's; `bundle`, how many in
                a request; `destinations`, where they go
    record      what came of them; `health`, what that says of their endpoints
    retire      an endpoint is disabled, since it is gone or did nothing but fail

Its upkeep:

    withdraw    what waits for an endpoint that takes nothing any more is cancelled
    retention   what is finished is removed once it is old
    recall      what a clock that ran ahead has leased for too long is made due

For people:

    history     what is kept, to look at; `sought`, which of it, and `pages`, a little at a time
    reopen      deliveries are retried and cancelled
    replay      events are given to an endpoint again, or for the first time
    reseal      secrets and headers are encrypted by another key
    trial       an example is sent to one endpoint

For a backfill:

    backfills   how far it has come, and how much of it waits
    writers     who is at work on the application's own tables
"""
