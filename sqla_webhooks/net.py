"""
The net changes of one transaction, row by row.

Rows are followed from change to change, through keys that move; at the end
each is told of once. No database and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeAlias

from sqla_webhooks import encoding
from sqla_webhooks.events import Change, Links, Operation, OutboxRow

#: A resource, its table, and a primary key as JSON, which unlike its parts can always be looked up.
Place: TypeAlias = tuple[str, str, bytes]
#: A row: where it was before the transaction, and False; or where it is, and True, if it was nowhere.
Named: TypeAlias = tuple[Place | None, bool]
#: What the application said of the circumstances.
Said: TypeAlias = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Net:
    """
    What is told of one row in the end, or was said aside.

    Attributes:
        at: When it was captured.
        said: What was said at any of the flushes that it is of; of two that say different things, the last.
        row: Of what was said aside: all that the transaction has done to the row that it is about, be it to no effect;
            None if that is nothing.
    """

    change: Change
    at: datetime
    said: Said = None
    row: Change | None = None


def net(rows: Sequence[OutboxRow]) -> list[Net]:
    """
    The net changes of one transaction, in the order of its changes.

    First old value, last new value; insert then delete is nothing; delete then
    insert of one key is an update; a value set and set back is no change. A
    key is given up before another row takes it; rows that have handed their
    keys around in a circle were updated, each key where it stands.

    What was emitted, or asked for by hand, is no change, and is told of each
    time: behind the rows that were told of before it at the keys that they
    have in the end, before the others.
    """
    story, aside = _Story(), []
    for row in rows:
        for change in row.changes:
            if change.is_net:
                story.tell(change, row.captured_at, row.context)
            else:
                about = story.about(_place(change, change.identity))
                aside.append(_Told(change, row.captured_at, story.next_turn(), row.context, about))
    whole = story.whole()
    become = {told.named: told.change for told in whole}
    return [
        Net(told.change, told.at, told.said, _row_of(told, become)) for told in _with(aside, _in_order(_changed(whole)))
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """What is told of one row: its changes so far as one."""

    change: Change
    at: datetime
    #: When it was first told of at the key that it has.
    turn: int
    said: Said = None
    #: Of what is no change: the row that it is about.
    about: Named | None = None

    @property
    def named(self) -> Named:
        return (self.end, True) if self.start is None else (self.start, False)

    @property
    def start(self) -> Place | None:
        """Where the row was before the transaction."""
        change = self.change
        return None if change.operation is Operation.CREATE else _place(change, change.moved_from or change.identity)

    @property
    def end(self) -> Place | None:
        """Where it is after it."""
        return None if self.change.operation is Operation.DELETE else _place(self.change, self.change.identity)


@dataclass(slots=True)
class _Story:
    """The rows of one transaction, each where it is now, and those that are gone, each where it was before."""

    here: dict[Place, _Told] = field(default_factory=dict)
    gone: dict[Place, _Told] = field(default_factory=dict)
    turn: int = 0

    def next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def about(self, place: Place) -> Named:
        """The row that is there now."""
        told = self.here.get(place)
        return (place, False) if told is None else told.named

    def tell(self, change: Change, at: datetime, said: Said) -> None:
        turn = self.next_turn()
        place = _place(change, change.moved_from or change.identity)
        before = None
        if change.operation is not Operation.CREATE:
            before = self.here.pop(place, None) or self.gone.pop(place, None)
        result = change if before is None else _merge(before.change, change)
        if result is not None:
            self._put(_Told(result, at, turn, said if before is None else _both(before.said, said)), before)

    def _put(self, now: _Told, before: _Told | None) -> None:
        end = now.end
        if before is not None and end is not None and before.end == end:
            now = replace(now, turn=before.turn)  # it keeps its place among the others
        if end is None:
            self._bury(now)
            return
        if (there := self.here.pop(end, None)) is not None and there.start is not None:
            self._bury(replace(there, change=_deleted(there.change, there.change)))  # by SQL that was not captured
        self.here[end] = now

    def _bury(self, told: _Told) -> None:
        if told.start is not None:
            self.gone.setdefault(told.start, told)

    def whole(self) -> list[_Told]:
        """What the rows have come to, be it to what they were."""
        for place, told in self.here.items():
            if told.start is None and place in self.gone:
                first = self.gone.pop(place)
                change, said = _replaced(first.change, told.change), _both(first.said, told.said)
                self.here[place] = replace(told, change=change, said=said)
        return sorted((*self.gone.values(), *self.here.values()), key=lambda told: told.turn)


def _both(first: Said, then: Said) -> Said:
    return {**(first or {}), **(then or {})} if first is not None or then is not None else None


def _row_of(aside: _Told, rows: Mapping[Named, Change]) -> Change | None:
    """What has become of the row that is spoken of aside."""
    if aside.about is None:
        return None
    place, _ = aside.about
    return rows.get(aside.about) or rows.get((place, False))  # a new row may have taken the place of one that is gone


def _in_order(rows: Sequence[_Told]) -> list[_Told]:
    """*rows* with each key given up before it is taken."""
    leaving: dict[Place | None, _Told] = {told.start: told for told in rows if told.start not in (None, told.end)}
    ordered: list[_Told] = []
    for told in rows:
        if told.start not in (None, told.end) and told.start not in leaving:
            continue  # it had to come before another
        chain = [told]  # each takes the key that the next one gives up
        while (giver := leaving.pop(chain[-1].end, None)) not in (None, told):
            chain.append(giver)
        leaving.pop(told.start, None)
        ordered += reversed(chain) if giver is None else _in_place(chain)
    return ordered


def _with(aside: Sequence[_Told], rows: Sequence[_Told]) -> list[_Told]:
    """*rows* and what is no change, each behind all rows whose turn came before its own."""
    waiting, reverse = list(aside), []
    for told in reversed(rows):
        while waiting and waiting[-1].turn > told.turn:
            reverse.append(waiting.pop())
        reverse.append(told)
    return [*waiting, *reversed(reverse)]


def _in_place(circle: Sequence[_Told]) -> Iterable[_Told]:
    """Rows that have handed their keys around, as updates of what stands under each key."""
    before = {told.start: told for told in circle}
    for told in circle:
        first, said = before[told.end].change, _both(before[told.end].said, told.said)
        there = replace(_replaced(_deleted(first, first), told.change), moved_from=None)
        yield from _changed([replace(told, change=there, said=said)])


def _changed(rows: Iterable[_Told]) -> list[_Told]:
    kept = ((told, _without_reverted(told.change)) for told in rows)
    return [replace(told, change=change) for told, change in kept if change is not None]


def _place(change: Change, identity: tuple[Any, ...]) -> Place:
    return change.resource, change.table, encoding.dumps(identity)


def _merge(first: Change, then: Change) -> Change | None:  # noqa: PLR0911  # one for each pair
    """Two changes of one row as one; None if nothing is left. What SQL did in between we have not seen."""
    match first.operation, then.operation:
        case Operation.CREATE, Operation.DELETE:
            return None
        case Operation.CREATE, _:
            links = _linked(first, then)
            whole = replace(then, operation=Operation.CREATE, previous={}, changed=(), moved_from=None, links=links)
            return replace(whole, hidden=_hidden(first, then))
        case Operation.UPDATE, Operation.DELETE:
            return _deleted(first, then)
        case Operation.UPDATE, Operation.CREATE:
            return _replaced(_deleted(first, first), then)
        case Operation.DELETE, Operation.DELETE:
            return first
        case Operation.DELETE, _:
            return _replaced(first, then)
        case _:
            return _merge_updates(first, then)


def _deleted(first: Change, then: Change) -> Change:
    """An update and a delete: the row as it was before both; `changed` keeps what is not known of that."""
    return Change(
        resource=then.resource,
        table=then.table,
        operation=Operation.DELETE,
        identity=first.moved_from or first.identity,
        data={**then.data, **first.previous},
        previous=first.previous,
        changed=tuple(key for key in first.changed if key not in first.previous),
        links=_linked(first, then) if then is not first else {},
        hidden=_hidden(first, then),
    )


def _replaced(first: Change, then: Change) -> Change:
    """A delete and what stands under its key now: an update."""
    unknown = first.changed
    changed = tuple(
        key for key in then.data if key in unknown or not encoding.same(first.data.get(key, _ABSENT), then.data[key])
    )
    previous = {key: first.data[key] for key in changed if key in first.data and key not in unknown}
    return replace(
        then,
        operation=Operation.UPDATE,
        previous=previous,
        changed=changed,
        links=_linked(first, then),
        hidden=_hidden(first, then),
    )


def _merge_updates(first: Change, then: Change) -> Change:
    unknown = set(first.changed) - first.previous.keys()
    previous = {key: old for key, old in then.previous.items() if key not in unknown} | first.previous
    moved_from = first.moved_from or then.moved_from
    return replace(
        then,
        previous=previous,
        changed=tuple(dict.fromkeys((*first.changed, *then.changed))),
        moved_from=None if moved_from == then.identity else moved_from,
        links=_linked(first, then),
        hidden=_hidden(first, then),
    )


def _hidden(first: Change, then: Change) -> tuple[str, ...]:
    """What one of them hides is in the values of both."""
    return tuple(dict.fromkeys((*first.hidden, *then.hidden)))


def _linked(first: Change, then: Change) -> Links:
    """What was added and removed by both: what the second takes back is neither."""
    linked: Links = {}
    for name in dict.fromkeys((*first.links, *then.links)):
        before, after = first.links.get(name, {}), then.links.get(name, {})
        added = _together(before, after, way="added", back="removed")
        removed = _together(before, after, way="removed", back="added")
        if link := {way: some for way, some in (("added", added), ("removed", removed)) if some}:
            linked[name] = link
    return linked


def _together(before: _Link, after: _Link, *, way: str, back: str) -> list[Any]:
    """What went one way before and did not go back after, and the other way round."""
    first, then = _by_text(before, way), _by_text(after, way)
    taken_back, put_back = _by_text(after, back), _by_text(before, back)
    kept = {text: one for text, one in first.items() if text not in taken_back}
    return [*({**kept, **{text: one for text, one in then.items() if text not in put_back}}).values()]


_Link: TypeAlias = dict[str, list[Any]]


def _by_text(link: _Link, way: str) -> dict[bytes, Any]:
    return {encoding.dumps(one): one for one in link.get(way, ())}


def _without_reverted(change: Change) -> Change | None:
    """An update without the values that came back to what they were; None if none is left."""
    if change.operation is not Operation.UPDATE:
        return change
    before, after = change.previous, change.data
    changed = tuple(key for key in change.changed if not encoding.same(before.get(key, _ABSENT), after.get(key)))
    if not changed and change.moved_from is None and not change.links:
        return None
    previous = {key: old for key, old in change.previous.items() if key in changed}
    return replace(change, changed=changed, previous=previous)


_ABSENT = object()
