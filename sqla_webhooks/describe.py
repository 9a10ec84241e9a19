"""What is captured, as people read it: `print(webhooks.describe())`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqla_webhooks.attributes import Attribute
from sqla_webhooks.events import CHANGES, Operation
from sqla_webhooks.mappers import full_name, mapped
from sqla_webhooks.resources import Examined, Resources


@dataclass(frozen=True, order=True, slots=True)
class DescribedAttribute:
    """
    What could be sent of a row under one name.

    Attributes:
        type: The name of its SQLAlchemy type; empty for a hybrid that is not sent.
        secret: Whether its name says secret.
        sent: Whether it is sent.
        why: What has decided that: "exclude", "include", "__webhooks__", "info", "secret name", "not a column", or
            "no form in SQL"; empty if nothing had to.
    """

    name: str
    type: str
    secret: bool
    sent: bool
    why: str


@dataclass(frozen=True, order=True, slots=True)
class DescribedResource:
    """
    One mapped class.

    Attributes:
        name: The resource, as event types begin.
        class_name: The class with its module.
        class_: The class itself.
        why_not: Why it is not captured, such as "exclude", "not in include" or "__webhooks__ = False"; empty if it is.
        operations: Of which events are made; none if it is not captured.
        table: The table of its own.
        attributes: All that could be sent, in the order of the class.
        links: The many-to-many relationships that are told of.
        says_tenant: Whether its `__webhooks__` say whose its rows are; else the function of `install(tenant=...)` does,
            or nobody.
        tenant: The attribute by which they say it; None for no tenant's.
    """

    name: str
    class_name: str
    class_: type = field(compare=False, repr=False)
    why_not: str
    operations: tuple[Operation, ...]
    table: str
    attributes: tuple[DescribedAttribute, ...]
    links: tuple[str, ...]
    says_tenant: bool = False
    tenant: str | None = field(default=None, compare=False)

    @property
    def captured(self) -> bool:
        """Whether events are made of it."""
        return not self.why_not

    @property
    def sent(self) -> tuple[DescribedAttribute, ...]:
        """The attributes that are sent."""
        return tuple(one for one in self.attributes if one.sent)

    @property
    def left_out(self) -> tuple[DescribedAttribute, ...]:
        """Those that are not."""
        return tuple(one for one in self.attributes if not one.sent)

    def __str__(self) -> str:
        """A heading, and a line for each attribute if it is captured."""
        head = f"{self.name or '-'}  ({self.class_name}, table {self.table})"
        if not self.captured:
            return f"{head}: not captured: {self.why_not}"
        rows = [
            *(("sent", one.name, one.type, _remark(one)) for one in self.sent),
            *(("left out", one.name, one.type, one.why) for one in self.left_out),
            *(("links", one, "", "") for one in self.links),
            *([("tenant", self.tenant or "none", "", "")] if self.says_tenant else []),
        ]
        return "\n".join((f"{head}: {', '.join(self.operations)}", *_aligned(rows)))


@dataclass(frozen=True, slots=True)
class Description:
    """Every mapped class of this process, by resource: what `print()` shows as a table."""

    resources: tuple[DescribedResource, ...]

    def __iter__(self) -> Iterator[DescribedResource]:
        return iter(self.resources)

    def __len__(self) -> int:
        return len(self.resources)

    def __getitem__(self, class_: type) -> DescribedResource:
        """
        That of a class.

        Raises:
            KeyError: It is not mapped.
        """
        for one in self.resources:
            if one.class_ is class_:
                return one
        raise KeyError(class_)

    def __str__(self) -> str:
        """Those that are captured first."""
        ordered = sorted(self.resources, key=lambda one: not one.captured)
        return "\n".join(map(str, ordered)) or "no class is mapped yet"


def describe(resources: Resources) -> Description:
    """All that is decided of every mapped class."""
    return Description(tuple(sorted(_described(resources.examine(mapper)) for mapper in mapped())))


def _described(examined: Examined) -> DescribedResource:
    standing = examined.standing
    mapper = standing.mapper
    captured = not examined.why_not
    return DescribedResource(
        name=standing.resource,
        class_name=full_name(mapper.class_),
        class_=mapper.class_,
        why_not=examined.why_not,
        operations=tuple(one for one in CHANGES if captured and one in standing.operations),
        table=standing.table,
        attributes=tuple(map(_attribute, examined.attributes)),
        links=tuple(one.key for one in mapper.relationships if one.secondary is not None and not one.viewonly),
        says_tenant=standing.said.says_tenant,
        tenant=standing.said.tenant,
    )


def _attribute(one: Attribute) -> DescribedAttribute:
    type_ = "" if one.column is None else type(one.column.type).__name__
    return DescribedAttribute(one.name, type_, one.secret, one.sent, one.why)


def _remark(one: DescribedAttribute) -> str:
    """What to know of an attribute that is sent."""
    said = [f"by {one.why}" if one.why else "", "its name says secret" if one.secret else ""]
    return ", ".join(filter(None, said))


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A line for each row, its columns below each other; a heading that repeats itself is said once."""
    told = list(rows)
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    lines, last = [], ""
    for row in told:
        cells = ("" if row[0] == last else row[0], *row[1:])
        last = row[0]
        lines.append("    " + "  ".join(map(str.ljust, cells, widths)).rstrip())
    return lines
