"""
How the changes of one flush stand in an outbox row.

    {"layouts": [{"resource": "order", "table": "orders", "attributes": ["id", "status"], "key": ["id"]}],
     "runs": [[0, [["c", 42, "new"], ["u", {"status": "new"}, 42, "paid"], ["d", 42, "paid"]]]]}

A run is changes of one layout that follow each other. A change is what was
done, of an update the old values of what changed, and the values of the
layout's attributes. If there is more to say, the letter is a capital, and an
object comes after it: `unknown`, what changed from a value that is not known;
`moved_from`, the key before; `identity`, if it is not what stands under the
attributes of the key; `links`; `by_hand`; `endpoint`, to which alone it goes.
What was emitted has the letter `E`, and in its object the `type`, the `tenant`
if one was said, and the `row` if its values are not the row's. A layout with
attributes that must not be sent names them as `hidden`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqla_webhooks.encoding import Encoding, Key, loads
from sqla_webhooks.events import Change, Operation

CREATED, UPDATED, DELETED, READ, EMITTED = "c", "u", "d", "r", "e"

LETTERS = {
    Operation.CREATE: CREATED,
    Operation.UPDATE: UPDATED,
    Operation.DELETE: DELETED,
    Operation.READ: READ,
    Operation.EMIT: EMITTED,
}
_OPERATIONS = {letter: operation for operation, letter in LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """What the values of some changes are of: said once in an outbox row, and not with each of them."""

    resource: str
    table: str
    attributes: tuple[str, ...]
    #: Those that are the primary key, in its order; none, if each change says its identity.
    key: tuple[str, ...] = ()
    #: Those that must not be sent.
    hidden: tuple[str, ...] = ()

    @property
    def written(self) -> dict[str, Any]:
        said = {"resource": self.resource, "table": self.table, "attributes": self.attributes, "key": self.key}
        return {**said, "hidden": self.hidden} if self.hidden else said


#: A change as it stands in the row.
Packed: TypeAlias = list[Any]
#: Changes of one layout that follow each other.
Run: TypeAlias = tuple[Layout, list[Packed]]


def run_of(change: Change) -> Run:
    """A change alone, with a layout of its own."""
    layout = Layout(change.resource, change.table, tuple(change.data), hidden=change.hidden)
    more: dict[str, Any] = {"identity": parts(change.identity)}
    if unknown := [key for key in change.changed if key not in change.previous]:
        more["unknown"] = unknown
    if change.moved_from is not None:
        more["moved_from"] = parts(change.moved_from)
    if change.links:
        more["links"] = change.links
    if change.by_hand:
        more["by_hand"] = True
    said = {"type": change.type or None, "tenant": change.tenant, "row": change.row, "endpoint": change.endpoint}
    more.update((name, value) for name, value in said.items() if value is not None)
    letter = LETTERS[change.operation]
    previous = [change.previous] if letter == UPDATED else []
    return layout, [[letter.upper(), more, *previous, *change.data.values()]]


def parts(identity: Sequence[Any]) -> list[Any]:
    """A primary key, so that each part is told from every other."""
    return [one if one is None or type(one) in (int, str) else Key(one) for one in identity]


def pieces(runs: Iterable[Run], size: int) -> Iterator[list[Run]]:
    """*runs* in pieces of no more than *size* changes."""
    piece: list[Run] = []
    room = size
    for layout, run in runs:
        start = 0
        while start < len(run):
            some = run[start : start + room] if start or len(run) > room else run
            piece.append((layout, some))
            start += len(some)
            room -= len(some)
            if not room:
                yield piece
                piece, room = [], size
    if piece:
        yield piece


def written(runs: Iterable[Run], *, encoding: Encoding) -> bytes:
    """*runs* as JSON. Their values need not be JSON yet."""
    numbers: dict[Layout, int] = {}
    numbered = [(numbers.setdefault(layout, len(numbers)), run) for layout, run in runs]
    return encoding.dumps({"layouts": [one.written for one in numbers], "runs": numbered})


def read(text: bytes | str) -> Iterator[Change]:
    """
    The changes that `written` wrote.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: It has not.
    """
    sheet = loads(text)
    layouts = [_layout(one) for one in sheet["layouts"]]
    for number, run in sheet["runs"]:
        for packed in run:
            yield _change(layouts[number], packed)


def _layout(said: Mapping[str, Any]) -> Layout:
    attributes, key, hidden = tuple(said["attributes"]), tuple(said["key"]), tuple(said.get("hidden", ()))
    return Layout(said["resource"], said["table"], attributes, key, hidden)


def _change(layout: Layout, packed: Packed) -> Change:
    letter, *values = packed
    more: dict[str, Any] = values.pop(0) if letter.isupper() else {}
    operation = _OPERATIONS[letter.lower()]
    previous: dict[str, Any] = values.pop(0) if operation is Operation.UPDATE else {}
    data = dict(zip(layout.attributes, values, strict=True))
    moved_from = more.get("moved_from")
    return Change(
        resource=layout.resource,
        table=layout.table,
        operation=operation,
        identity=tuple(more["identity"] if "identity" in more else (data[name] for name in layout.key)),
        data=data,
        previous=previous,
        changed=(*previous, *more.get("unknown", ())),
        moved_from=None if moved_from is None else tuple(moved_from),
        links=more.get("links", {}),
        type=more["type"] if operation is Operation.EMIT else "",
        tenant=more.get("tenant"),
        row=more.get("row"),
        by_hand=more.get("by_hand", False),
        endpoint=more.get("endpoint"),
        hidden=layout.hidden,
    )
