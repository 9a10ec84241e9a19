"""
From committed outbox rows to recorded attempts.

    turn    the path, once: take, coalesce, enrich, fan out, claim, send, record
    drain   turns in the caller's thread, until nothing is due
    thread  when a turn is due: after a commit, a result, a poll
    baton   who may take one: the thread, or whoever drains
"""
