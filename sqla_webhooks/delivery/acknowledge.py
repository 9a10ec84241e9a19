"""
What an endpoint has taken of a batch. Pure.

It answers 2xx for all of it, or 2xx with `{"failed": ["evt_…", …]}` for all but
those, which are sent again by the schedule of retries, each alone.
"""

from __future__ import annotations

import json
from dataclasses import replace

from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.errors import NotAcknowledged

_NOT_TAKEN = "the endpoint has taken the batch, and named this event among those that it has not taken"


def failed(body: bytes) -> frozenset[str]:
    """The ids that the body of an answer names as not taken; none, whatever else it is."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):  # text for people, or nothing
        return frozenset()
    named = said.get("failed") if isinstance(said, dict) else None
    return frozenset(one for one in named if isinstance(one, str)) if isinstance(named, list) else frozenset()


def apart(result: Result) -> list[Result]:
    """What came of each claim of one request."""
    outcome, claims = result.outcome, (result.claim, *result.others)
    if len(claims) == 1 and not (isinstance(outcome, Answer) and outcome.failed):
        return [result]
    named = outcome.failed if isinstance(outcome, Answer) and outcome.ok else frozenset()
    return [
        replace(result, claim=one, others=(), outcome=NotAcknowledged(_NOT_TAKEN) if one.event_id in named else outcome)
        for one in claims
    ]
