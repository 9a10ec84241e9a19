"""
Applications that are killed, and the account of what reached the receiver.

    models   the application's rows, each with its version, and the ledger of what was committed
    work     its threads: transactions of every kind and end, each with its lines in the ledger
    clock    real time, which the test sets forward for all processes at once
    steps    where a process may fall: every step of the relay, and both sides of every COMMIT
    life     one process, from its start to its fall or its end
    ordeal   lives, one after the other or side by side, on one database
    account  what was received, held against the ledger
"""
