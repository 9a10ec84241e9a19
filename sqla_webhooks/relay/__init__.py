"""
From committed outbox rows to recorded attempts.

    turn         the path, once: take, coalesce, enrich, fan out, allot, claim, send, record
    allot        who gets the senders that are free; `windows`, how many requests an endpoint may have at once
    retirements  what follows for endpoints from what was recorded
    upkeep       what is done now and then, by one relay at a time
    drain        turns in the caller's thread, until nothing is due
    thread       when a turn is due: after a commit, a result, a poll
    baton        who may take one: the thread, or whoever drains
"""
