"""What may be done to the mapped classes: the values that their attributes may take, and the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from support.machine import models
from support.machine.models import State

Pool = Sequence[Any]

WORDS: Pool = ("x", "y", "", "Grüße", "x ")
TEXTS: Pool = (None, "n", "ü", "")
NUMBERS: Pool = (0, 1, 2, -7)


@dataclass(frozen=True)
class Kind:
    """A mapped class whose rows may stand alone."""

    cls: type[Any]
    #: Attribute to the values that it may be given; databases store them as they are.
    values: Mapping[str, Pool]
    #: Attributes that SQL may count up.
    counts: tuple[str, ...] = ()
    #: The keys that may be given, in their lane; none where the database makes them.
    key: Mapping[str, Pool] = field(default_factory=dict)

    def _repr_pretty_(self, printer: Any, _cycle: object) -> None:
        """As hypothesis prints it in an example."""
        printer.text(self.cls.__name__)

    def value(self, number: int) -> tuple[str, Any]:
        """One of all attributes and values."""
        every = [(name, value) for name, pool in self.values.items() for value in pool]
        return every[number % len(every)]

    def whole(self, number: int) -> dict[str, Any]:
        """A value for each attribute."""
        return {name: pool[number % len(pool)] for name, pool in self.values.items()}

    def identity(self, lane: int, number: int) -> dict[str, Any]:
        """One of the keys of a lane."""
        key = {}
        for name, pool in self.key.items():
            number, place = divmod(number, len(pool))
            part = pool[place]
            key[name] = f"{lane}{part}" if isinstance(part, str) else part
        return key


_COLUMNS: Mapping[str, Pool] = {
    "name": WORDS,
    "status": ("fresh", "stale"),
    "quantity": (1, 2, 3),
    "price": (Decimal("9.50"), Decimal("0.01"), Decimal("1000.00")),
    "state": tuple(State),
    "details": (None, {}, {"a": 1}, {"a": 2}, {"b": [1, {"c": None}]}),
    "flag": (None, True, False),
    "weight": (None, 0.5, -1024.25, 3.0),
    "due": (None, datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5, 678901)),  # noqa: DTZ001  # as the column is
    "blob": (None, b"", b"\x00\xff"),
    "tag": (None, UUID(int=1), UUID(int=2**127)),
}
_LETTERS = ("a", "b", "c")

KINDS = (
    Kind(models.Thing, {**_COLUMNS, "note": TEXTS, "watched": NUMBERS}, ("quantity", "watched")),
    Kind(models.Eager, _COLUMNS, ("quantity",)),
    Kind(models.Simple, {"name": WORDS, "number": (None, *NUMBERS)}, ("number",)),
    Kind(models.Document, {"body": WORDS, "reads": NUMBERS}, ("reads",)),
    Kind(models.Product, {"stock": NUMBERS, "label": TEXTS}, ("stock",), {"sku": _LETTERS}),
    Kind(models.Seat, {"guest": TEXTS}, (), {"row": _LETTERS, "number": (1, 2)}),
    Kind(models.Odd, {"first": TEXTS, "second": TEXTS, "count": NUMBERS}, ("count",), {"key": _LETTERS}),
    Kind(models.Animal, {"name": WORDS}),
    Kind(models.Dog, {"name": WORDS, "tricks": NUMBERS}, ("tricks",)),
    Kind(models.Puppy, {"name": WORDS, "tricks": NUMBERS, "weeks": NUMBERS}, ("tricks", "weeks")),
    Kind(models.Cat, {"name": WORDS, "lives": NUMBERS}, ("lives",)),
    Kind(models.Staff, {"name": WORDS}, (), {"badge": _LETTERS}),
    Kind(models.Manager, {"name": WORDS, "bonus": (None, *NUMBERS)}, ("bonus",), {"badge": ("m", "n")}),
    Kind(models.Report, {"title": WORDS}),
    Kind(models.Invoice, {"title": WORDS, "amount": NUMBERS}, ("amount",)),
    Kind(models.Point, {"x": NUMBERS, "y": (None, *NUMBERS)}, ("x",)),
    Kind(models.Plane, {"name": WORDS, "crew": NUMBERS}, ("crew",)),
    Kind(models.Tag, {"colour": TEXTS}, (), {"name": _LETTERS}),
    Kind(models.Post, {"title": WORDS, "body": TEXTS}),
    Kind(models.Fan, {"name": WORDS}),
    Kind(models.Team, {"name": WORDS}),
    Kind(models.Member, {"name": WORDS}),
    Kind(models.Node, {"name": WORDS}),
    Kind(models.Author, {"name": WORDS}),
    Kind(models.Box, {"name": WORDS}),
)
#: Rows that need another.
PARTS = (
    Kind(models.Book, {"title": WORDS, "blurb": TEXTS}),
    Kind(models.Page, {"words": NUMBERS}, ("words",)),
    Kind(models.Item, {"name": WORDS}),
)
#: Keys may be renamed: nothing else refers to them.
RENAMED = tuple(kind for kind in KINDS if kind.key and kind.cls is not models.Tag)
_OF = {kind.cls: kind for kind in KINDS}
#: Classes whose rows stand in one table.
SISTERS = tuple(
    (_OF[one], _OF[other])
    for one, other in (
        (models.Dog, models.Cat),
        (models.Cat, models.Puppy),
        (models.Animal, models.Dog),
        (models.Puppy, models.Animal),
        (models.Staff, models.Manager),
        (models.Manager, models.Staff),
    )
)
