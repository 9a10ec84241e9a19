"""
The shop of the demo on FastAPI, with async sessions. `python -m examples.shop_fastapi`.

    app        the application: its routes, and all that it says about webhooks
    __main__   a customer, and a partner that is told

In docs/guide.md: "Async sessions", "Registering by a key", "Context".
"""
