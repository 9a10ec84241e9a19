"""
A shop that sends webhooks. `python -m examples.shop`, or `make demo`.

    models      the shop's tables, which know nothing of webhooks
    scenario    what happens in the shop, one transaction after the other
    outgoing    all that the shop says about webhooks
    receiver    the other side, in a process of its own
    process     that process, as the demo holds it
    stage       a step played, and what came of it
    account     what is printed
    tally       what everybody counted, compared in the end

In docs/guide.md: "Delivery and retries", "What happened", "Receivers".
"""
