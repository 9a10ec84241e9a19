"""
What a flush has linked and unlinked: rows of a `secondary` table, told by the rows that they link.

Such a row is no object: it is written for what was put into the collection of
a many-to-many relationship, and taken out. If both sides map it, both tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy.orm import PassiveFlag
from sqlalchemy.orm.attributes import instance_state

from sqla_webhooks.capture.plan import Plan, State, identity
from sqla_webhooks.events import Links
from sqla_webhooks.outbox import sheet

#: What is known without a query, and what awaits a collection that was never loaded.
_KNOWN = PassiveFlag.PASSIVE_NO_INITIALIZE | PassiveFlag.INCLUDE_PENDING_MUTATIONS


def changed(state: State, plan: Plan) -> Links:
    """What an object that was added or changed has been linked to and unlinked from. In `after_flush`."""
    if not plan.links or plan.links.keys().isdisjoint(state.committed_state):
        return {}
    links: Links = {}
    for name, to in plan.links.items():
        if name in state.committed_state:
            link: dict[str, list[Any]] = {}
            for way, other in _ways(state, name):
                link.setdefault(way, []).append(_identity(other, to.key))
            if link:
                links[name] = link
    return links


def cut(state: State, plan: Plan) -> Links:
    """What the row of a deleted object was linked to, as far as the flush has loaded it. In `after_flush`."""
    links: Links = {}
    for name, to in plan.links.items():
        if removed := [_identity(other, to.key) for other in _linked(state, name)]:
            links[name] = {"removed": removed}
    return links


def exchanged(before: State, state: State, plan: Plan) -> Links:
    """What a row was linked to by the object that was deleted, for that by the one under its key. In `after_flush`."""
    links = changed(state, plan)
    for name, link in cut(before, plan).items():
        added = links.get(name, {}).get("added", [])
        exchange = {
            "added": [one for one in added if one not in link["removed"]],
            "removed": [one for one in link["removed"] if one not in added],
        }
        links[name] = {way: some for way, some in exchange.items() if some}
    return {name: link for name, link in links.items() if link}


def cut_elsewhere(state: State, plan: Plan) -> Iterator[tuple[State, Links]]:
    """What is linked no more to the row of a deleted object: those that map it themselves. In `after_flush`."""
    for name, to in plan.links.items():
        if to.inverse is not None:
            for other in _linked(state, name):
                yield other, {to.inverse: {"removed": [sheet.parts(identity(state))]}}


def unaware(linked: Iterable[tuple[State, Plan]]) -> Iterator[tuple[State, Links]]:
    """The other ends of what was linked and unlinked that do not know it: they were expired before the flush."""
    aware: dict[tuple[State, str, str], set[State]] = {}
    for state, plan in linked:
        for name, to in plan.links.items():
            if to.inverse is None or name not in state.committed_state:
                continue
            for way, other in _ways(state, name):
                there = (other, to.inverse, way)
                if there not in aware:
                    aware[there] = {one for its, one in _ways(other, to.inverse) if its == way}
                if state not in aware[there]:
                    yield other, {to.inverse: {way: [_identity(state, plan.shape.key)]}}


def _ways(state: State, name: str) -> Iterator[tuple[str, State]]:
    history = state.get_history(name, _KNOWN)
    for way, some in (("added", history.added), ("removed", history.deleted)):
        yield from ((way, other) for other in _present(state, some))


def _linked(state: State, name: str) -> Iterator[State]:
    history = state.get_history(name, _KNOWN)
    yield from _present(state, history.unchanged)
    yield from _present(state, history.deleted)


def _present(state: State, instances: Iterable[Any] | None) -> Iterator[State]:
    """Those that the session has. To others the flush makes no link and cuts none: an earlier one has deleted them."""
    session = state.session
    return (
        instance_state(one) for one in instances or () if one is not None and session is not None and one in session
    )


def _identity(state: State, key: tuple[str, ...]) -> list[Any]:
    """The key of a linked row: that of a new one stands in the object only."""
    parts = state.key[1] if state.key is not None else (state.dict.get(name) for name in key)
    return sheet.parts(list(parts))
