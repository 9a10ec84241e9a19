"""
Every SQL statement on our tables, one module for each step that needs some.

    database    the door: short transactions on the application's engine
    write       capture's side: one row for one flush, in the application's transaction
    sheet       how those changes stand in it
    subscribed  which event types anybody asks for
    take        the relay's side: outbox rows, whole transactions at a time
    lead        which relay may go on with them
    fan_out     rows become events and deliveries, in one transaction
    queue       which delivery of a row is due: the head of its queue
    claim       deliveries that are due, by lease
    reconsider  what was decided by an endpoint as it was, when it has been written meanwhile
    record      what came of them
    endpoints   the endpoints' own rows
    history     what is kept, for people to look at
"""
