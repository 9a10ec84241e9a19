"""Events of an order, and random ones, that no database knows; and how a dialect puts them into a request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from sqla_webhooks import Dialect, Event, Operation, Post
from sqla_webhooks.encoding import dumps
from support.clock import START

SECRETS = ("whsec_" + "bmV3ISEh" * 4, "whsec_" + "b2xkISEh" * 4)


def event(**changes: Any) -> Event:
    plain = Event(
        id="evt_1",
        type="order.created",
        timestamp=datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        resource="order",
        resource_id="7",
        operation=Operation.CREATE,
        data={"id": 7, "status": "pending"},
        identity=(7,),
    )
    return replace(plain, **changes)


def updated(**changes: Any) -> Event:
    given = {
        "type": "order.updated",
        "operation": Operation.UPDATE,
        "data": {"id": 7, "status": "paid", "total": "99.50"},
        "changes": {"status": {"from": "pending", "to": "paid"}},
    }
    return event(**(given | changes))


def post(dialect: Dialect, *events: Event, **changes: Any) -> Post:
    """The request of these events; of several, a batch."""
    bodies = [dialect.body(one, dumps=dumps) for one in events]
    batch = len(events) != 1
    made = Post(
        id=changes.pop("id", events[0].id),
        endpoint_id="ep_1",
        events=events,
        body=b"[" + b",".join(bodies) + b"]" if batch else bodies[0],
        batch=batch,
        secrets=SECRETS,
        now=START + timedelta(microseconds=999_999),
    )
    return replace(made, **changes)


#: What a row may hold, as JSON.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)
attributes = st.dictionaries(names, json_values, max_size=4)
instants = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001  # the next line gives it one
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-3, minutes=-30))]),
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Of any operation, of any row."""
    operation = draw(st.sampled_from(Operation))
    resource, data = draw(names), draw(attributes)
    what = draw(names) if operation is Operation.EMIT else operation.verb
    changes: dict[str, dict[str, Any]] | None = None
    if operation is Operation.UPDATE:
        froms = draw(st.dictionaries(st.sampled_from([*data, "other"]), st.none() | json_values.map(lambda one: [one])))
        # What it was is not known of all.
        changes = {
            name: {"to": data.get(name)} if old is None else {"from": old[0], "to": data.get(name)}
            for name, old in froms.items()
        }
    return Event(
        id=f"evt_{draw(st.integers(0, 2**64)):020x}",
        type=f"{resource}.{what}",
        timestamp=draw(instants),
        resource=resource,
        resource_id=draw(st.text(max_size=20)),
        operation=operation,
        data=data,
        changes=changes,
        links=draw(st.none() | st.just({"tags": {"added": ["3"], "removed": []}})),
        context=draw(st.none() | attributes),
        truncated=draw(st.booleans()),
    )
