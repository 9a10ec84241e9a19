"""
From a flush to its outbox row, in the application's thread and transaction.

    factory       which sessions, and which database
    listen        the session's events, and the row they write
    listeners     how they are listened to, and no longer
    interest      whether anybody has subscribed
    notes         what a flush will forget
    unit_of_work  what it has changed
    drafts        rows that an object does not know whole
    links         rows of many-to-many tables
    plan          how objects in memory are read, worked out once a class
    rows          what the objects in memory do not know, read in one query a class
    binds         on which connection
"""
