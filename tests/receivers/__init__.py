"""
Receivers, which know nothing of what sends to them: each verifies a delivery as its dialect's own documents say.

    standard         Standard Webhooks, by the package `standardwebhooks`
    cloudevents_sdk  CloudEvents by their SDK, structured or binary, in requests signed as Standard Webhooks
    github           as GitHub's documents say
    openfront        as Openfront's say; keeps a replica of what it is told of
    checks           what several of these look at, and how they refuse
    report           what one says of a request
    served           any of them behind HTTP
    javascript       Node and its packages, for all of these: node/receiver.mjs
    by_hand          messages for all of these, signed by hand
"""
