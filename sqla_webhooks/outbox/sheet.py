"""
How the changes of one flush stand in an outbox row.

    {"layouts": [{"resource": "order", "table": "orders", "attributes": ["id", "status"], "key": ["id"]}],
     "changes": [[0, "u", [42, "paid"], {"status": "pending"}]]}

A change is its layout's number, what was done, the values of the layout's
attributes, and of an update the old values of what changed. If there is more
to say, an object follows: `unknown`, what changed from a value that is not
known; `moved_from`, the key before; `identity`, if it is not what stands under
the attributes of the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from sqla_webhooks import encoding
from sqla_webhooks.events import Change, Operation

CREATED, UPDATED, DELETED = "c", "u", "d"

_LETTERS = {Operation.CREATE: CREATED, Operation.UPDATE: UPDATED, Operation.DELETE: DELETED}
_OPERATIONS = {letter: operation for operation, letter in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """What the values of some changes are of: said once in an outbox row, and not with each of them."""

    resource: str
    table: str
    attributes: tuple[str, ...]
    #: Those that are the primary key, in its order; none, if each change says its identity.
    key: tuple[str, ...] = ()


#: A change as it stands in the row; the number of its layout is put in last.
Packed: TypeAlias = list[Any]
Row: TypeAlias = tuple[Layout, Packed]


def row(change: Change) -> Row:
    """A change with a layout of its own."""
    layout = Layout(change.resource, change.table, tuple(change.data))
    packed: Packed = [0, _LETTERS[change.operation], list(change.data.values()), change.previous]
    more: dict[str, Any] = {"identity": parts(change.identity)}
    if unknown := [key for key in change.changed if key not in change.previous]:
        more["unknown"] = unknown
    if change.moved_from is not None:
        more["moved_from"] = parts(change.moved_from)
    packed.append(more)
    return layout, packed


def parts(identity: Sequence[Any]) -> list[Any]:
    """A primary key, so that each part is told from every other."""
    return [encoding.key_part(one) for one in identity]


def written(rows: Iterable[Row], *, report: encoding.Report | None = None) -> bytes:
    """
    *rows* as JSON. Their values need not be JSON yet.

    Args:
        report: Told the type of each value that no rule knows.
    """
    numbers: dict[Layout, int] = {}
    last, number = None, 0
    changes = []
    for layout, packed in rows:
        if layout is not last:
            number = numbers.setdefault(layout, len(numbers))
            last = layout
        packed[0] = number
        changes.append(packed)
    return encoding.dumps({"layouts": [asdict(one) for one in numbers], "changes": changes}, report=report)


def read(text: bytes | str) -> Iterator[Change]:
    """
    The changes that `written` wrote.

    Raises:
        ValueError, TypeError, LookupError, AttributeError: It has not.
    """
    sheet = encoding.loads(text)
    layouts = [_Reader.of(one) for one in sheet["layouts"]]
    for number, *packed in sheet["changes"]:
        yield layouts[number].change(*packed)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the changes of one layout."""

    layout: Layout
    places: tuple[int, ...]

    @classmethod
    def of(cls, said: dict[str, Any]) -> _Reader:
        layout = Layout(said["resource"], said["table"], tuple(said["attributes"]), tuple(said["key"]))
        return cls(layout, tuple(layout.attributes.index(name) for name in layout.key))

    def change(
        self,
        letter: str,
        values: Sequence[Any],
        previous: dict[str, Any] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Change:
        more = more or {}
        layout, moved_from = self.layout, more.get("moved_from")
        return Change(
            resource=layout.resource,
            table=layout.table,
            operation=_OPERATIONS[letter],
            identity=tuple(more["identity"] if "identity" in more else (values[place] for place in self.places)),
            data=dict(zip(layout.attributes, values, strict=True)),
            previous=previous or {},
            changed=(*(previous or ()), *more.get("unknown", ())),
            moved_from=None if moved_from is None else tuple(moved_from),
        )
