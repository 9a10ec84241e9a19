"""
The shop of the demo on Flask, with Flask-SQLAlchemy. `python -m examples.shop_flask`.

    app        the application: its views, and all that it says about webhooks
    __main__   a customer, and a partner that is told

In docs/guide.md: "Installing it on your sessions", "Registering by a key", "Context".
"""
