"""
From a flush, or a bulk statement, to its outbox row, in the application's thread and transaction.

    factory       which sessions, and which database; `async_made`, those of async makers
    listen        the session's events
    listeners     how they are listened to, and no longer
    recorder      what is wanted of a transaction, and the row that is written
    interest      whether anybody has subscribed

A flush:

    notes         what it will forget
    unit_of_work  what it has changed
    drafts        rows that an object does not know whole
    links         rows of many-to-many tables
    plan          how objects in memory are read, worked out once a class
    settled       which values the database stores as they are
    runs          what was found, written down

Many rows at once:

    methods       the session's bulk methods
    bulk          statements and methods; `bulk_write`, one of them while it is done
    watch         its statements, as they reach the connection
    inserts       which rows an INSERT puts in
    changed       which rows an UPDATE or DELETE changes

What is no change:

    emission      what the application says has happened
    by_hand       a row that somebody wants told of

What they look at in the database:

    rows          some rows, in one query a class
    snapshot      rows at one instant, and what has become of them at another
    cascades      rows that the database changes by itself, by `references`
    unseen        what cannot be told of, said in the log
    binds         on which connection
"""
