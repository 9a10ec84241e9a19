"""
Every event -> a collector. `python -m examples.analytics`.

    shop        carts, and all that it says about webhooks
    collector   the receiver, which takes many events at once
    __main__    some customers, and what is known of them

In docs/guide.md: "Domain events", "Context", "Dialects", "Several in one request",
"Dead letters, and sending again".
"""
