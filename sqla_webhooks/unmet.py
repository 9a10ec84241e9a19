"""
What an endpoint asks for that can never come: said in the log when it is written, for nothing else would show it.

It is no error, since another process may map more classes, or enrich them.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Enum
from sqlalchemy.orm import Mapper

from sqla_webhooks import filters
from sqla_webhooks.conditions import hold, ready
from sqla_webhooks.destination import Endpoint
from sqla_webhooks.encoding import Encoding
from sqla_webhooks.resources import Resources, Shape
from sqla_webhooks.schema import enum_values
from sqla_webhooks.subscriptions import Patterns

logger = logging.getLogger(__name__)

#: The keys of a body under which a row's attributes stand, by their names.
_BY_ATTRIBUTE = ("data", "changes")


@dataclass(frozen=True, slots=True)
class Unmet:
    """
    Looks at the endpoints of one installation. In the thread that writes them, before or in the transaction of that.

    Attributes:
        domain: The types of domain events that are declared.
        is_enriched: Whether an enricher adds to the rows of a class.
        ruled: Whether a function tells whose rows are.
    """

    resources: Resources
    domain: Collection[str]
    encoding: Encoding
    is_enriched: Callable[[Mapper[Any]], bool]
    ruled: bool

    def tell(self, endpoint: Endpoint) -> None:
        """Log what of its events, and of its filter, can never be."""
        if endpoint.tenant is not None and not self.ruled:
            self._tell_of_patterns(endpoint.events)
        if endpoint.filter:
            self._tell_of_filter(endpoint.filter, endpoint.events)

    def _tell_of_patterns(self, patterns: Iterable[str]) -> None:
        """Those of a tenant's endpoint that mean rows of which nobody says whose they are."""
        said = self.resources.tenants_said()
        for pattern in patterns:
            asked = Patterns.of([pattern])
            meant = [one for one in said if asked.match_rows(one)]
            if meant and not any(said[one] for one in meant):
                logger.warning(
                    "an endpoint of a tenant asks for %r and gets no rows: nobody says whose those of %s are; say it "
                    'in the class, by __webhooks__ = {"tenant": "account_id"}, or by install(tenant=...)',
                    *(pattern, ", ".join(sorted(meant))),
                )

    def _tell_of_filter(self, filter: Mapping[str, Any], patterns: Iterable[str]) -> None:
        """Attributes that none of its rows has, and values that none of its enums has."""
        shapes = self._shapes(Patterns.of(patterns))
        columns: dict[str, list[Any]] = {}
        for shape in shapes:
            for name, column in shape.columns.items():
                if name not in shape.hidden:
                    columns.setdefault(name, []).append(column)
        for asked in filters.asked(filter) if columns else ():
            key, *names = asked.path.split(".")
            if key not in _BY_ATTRIBUTE or not names:
                continue
            if names[0] not in columns:
                self._tell_of_name(asked, names[0], columns, resources=sorted({one.resource for one in shapes}))
            elif (key, *names[1:]) in _WHOLE:
                self._tell_of_values(asked, columns[names[0]])

    def _shapes(self, patterns: Patterns) -> list[Shape]:
        """Of the rows that are asked for; none, if it is not known here all that their events may have."""
        shapes = [shape for shape in self.resources.all() if patterns.match_rows(shape.resource)]
        # The data of a domain event is the application's.
        unknown = any(map(patterns.match, self.domain)) or any(self.is_enriched(shape.mapper) for shape in shapes)
        return [] if unknown else shapes

    def _tell_of_name(self, asked: filters.Asked, name: str, known: Iterable[str], *, resources: list[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        logger.warning(
            "%s: no event of %s has %r%s",
            *(asked.place, ", ".join(resources), name, f"; did you mean {close[0]!r}?" if close else ""),
        )

    def _tell_of_values(self, asked: filters.Asked, columns: Iterable[Any]) -> None:
        sent: list[Any] = [None]
        for column in columns:
            values = enum_values(column.type, self.encoding) if isinstance(column.type, Enum) else None
            if values is None:
                return
            sent += values
        for value in asked.values:
            if not any(hold(ready({"$eq": value}), one) for one in sent):
                shown = ", ".join(map(repr, dict.fromkeys(sent[1:])))
                logger.warning("%s compares with %r, which is never sent: those are %s", asked.place, value, shown)


#: Where a value of an attribute stands whole.
_WHOLE = {("data",), ("changes", "from"), ("changes", "to")}
