"""
Whom an event may reach: the boundary between tenants. Pure.

An event says whose it is, an endpoint whose events it may get. Both are kept
with them, and compared here and nowhere else: in Python, letter by letter, for
a database may call "acme" and "ACME" the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """Whose events an endpoint may get."""

    #: Everybody's.
    ALL = "all"
    #: Those that belong to no tenant.
    SHARED = "shared"
    #: Its own tenant's.
    TENANT = "tenant"


class Audience(StrEnum):
    """Whose an event is."""

    #: Nobody's that could be told: for endpoints of everybody's events alone.
    ALL = "all"
    #: No tenant's: it was said so.
    SHARED = "shared"
    #: Its tenant's.
    TENANT = "tenant"
    #: The halves of a row's move from one to another, of which endpoints of everybody's events get the whole.
    SHARED_ONLY = "shared_only"
    TENANT_ONLY = "tenant_only"


#: Of which audiences an endpoint of that scope may be, if a tenant's is the same.
_WITHIN = {
    Scope.ALL: frozenset({Audience.ALL, Audience.SHARED, Audience.TENANT}),
    Scope.SHARED: frozenset({Audience.SHARED, Audience.SHARED_ONLY}),
    Scope.TENANT: frozenset({Audience.TENANT, Audience.TENANT_ONLY}),
}


@dataclass(frozen=True, slots=True)
class Reach:
    """
    Which events an endpoint may get.

    Attributes:
        tenant: Whose, if the scope is a tenant's; else None.
    """

    scope: Scope = Scope.ALL
    tenant: str | None = None

    def covers(self, audience: Audience, tenant: str | None) -> bool:
        """Whether an event of that audience, and of that tenant, may go there."""
        if audience not in _WITHIN[self.scope]:
            return False
        return self.scope is not Scope.TENANT or (tenant is not None and tenant == self.tenant)

    @property
    def audience(self) -> Audience:
        """Whose what is told of the endpoint itself is."""
        return Audience(self.scope.value)
