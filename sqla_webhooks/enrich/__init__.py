"""
What the application adds to its payloads.

    enricher  a function as a receiver of the signal `enriching`
    rows      the rows of a batch, loaded in one query for each class
    run       each enricher on each event, and one that fails alone
"""
