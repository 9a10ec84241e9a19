"""
From committed outbox rows to recorded attempts.

    turn    the path, once: take, coalesce, enrich, fan out, claim, send, record
    thread  when a turn is due: after a commit, a result, a poll; and `drain()`
"""
