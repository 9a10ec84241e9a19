"""
The state machine: mapped classes of every kind, sessions at work on them, and a replica that hears of it.

    models    the mapped classes
    kinds     what may be done to each of them
    replica   what a receiver makes of the events
    database  what the tables really hold
    work      sessions at work, and the comparison
    objects   rules for single rows
    families  rules for rows that belong together
    bulk      rules for many rows at once
    endings   rules for transactions and what sessions remember

    random_models   mapped classes that nobody thought of

Rules of another kind stand in another class derived from `Work`; the test puts them together.
"""
