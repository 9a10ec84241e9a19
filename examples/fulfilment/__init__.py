"""
Order paid -> warehouse. `python -m examples.fulfilment`.

    shop        its orders, and all that it says about webhooks
    warehouse   the receiver, which reserves what was paid for
    __main__    three orders, and what comes of them

In docs/guide.md: "Domain events", "Enrichers", "Registering by a key", "Once for each event".
"""
