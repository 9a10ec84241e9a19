"""
Stock changed -> sales channels. `python -m examples.inventory`.

    shop       its stock, where it is listed, and what it says about webhooks
    channel    a receiver, which offers what the shop has
    __main__   a day of sales, and a channel that joins in the evening

In docs/guide.md: "Filters", "How much of a row", "Shaped for each endpoint", "Backfill".
"""
