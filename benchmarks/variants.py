"""
What is measured: SQLAlchemy alone, and with something installed.

Nothing is imported here before it is known which variant a process is to be:
orjson is found, and Continuum listens, when modules are first imported.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, cast

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, configure_mappers, sessionmaker


class Variant(StrEnum):
    """A process is one of them from its start to its end."""

    PLAIN = "plain"
    #: The same once more: how far apart two equal processes are.
    CONTROL = "control"
    NOBODY = "nobody"
    ORJSON = "orjson"
    JSON = "json"
    CONTINUUM_SUBQUERY = "continuum-subquery"
    #: Its default strategy.
    CONTINUUM = "continuum"

    @property
    def label(self) -> str:
        return _LABELS[self]

    @property
    def available(self) -> bool:
        """Whether this environment has what it needs."""
        needed = "orjson" if self is Variant.ORJSON else "sqlalchemy_continuum" if self in CONTINUUM else None
        return needed is None or find_spec(needed) is not None


_LABELS = {
    Variant.PLAIN: "SQLAlchemy alone",
    Variant.CONTROL: "SQLAlchemy alone, again",
    Variant.NOBODY: "installed, nobody subscribed",
    Variant.ORJSON: "subscribed, orjson",
    Variant.JSON: "subscribed, stdlib json",
    Variant.CONTINUUM_SUBQUERY: "Continuum, strategy subquery",
    Variant.CONTINUUM: "Continuum, as it comes",
}

_INSTALLED = {Variant.NOBODY, Variant.ORJSON, Variant.JSON}
_SUBSCRIBED = {Variant.ORJSON, Variant.JSON}
#: Continuum, and its strategies.
CONTINUUM = {Variant.CONTINUUM_SUBQUERY: "subquery", Variant.CONTINUUM: "validity"}

#: The variants that write down every change.
RECORDING = frozenset({*_SUBSCRIBED, *CONTINUUM})


def subscribed() -> Variant:
    """With the faster encoder, if this environment has it."""
    return Variant.ORJSON if Variant.ORJSON.available else Variant.JSON


def prepare(variant: Variant) -> None:
    """What must happen before the model and sqla_webhooks are imported."""
    if variant is Variant.JSON:
        cast("dict[str, Any]", sys.modules)["orjson"] = None  # an import of it fails, as if it were not there
    elif variant in CONTINUUM:
        from sqlalchemy_continuum import make_versioned

        make_versioned(user_cls=None, options={"strategy": CONTINUUM[variant]})


def install(variant: Variant, sessions: sessionmaker[Session]) -> None:
    """What must happen before the tables are created."""
    configure_mappers()
    if variant not in _INSTALLED:
        return
    import sqla_webhooks
    from sqla_webhooks import encoding

    if variant in _SUBSCRIBED and (encoding.orjson is None) is not (variant is Variant.JSON):
        message = f"the variant {variant} runs with encoding.orjson = {encoding.orjson}"
        raise RuntimeError(message)
    webhooks = sqla_webhooks.install(sessions, deliver=False, allow_hosts=["partner.example"])
    if variant in _SUBSCRIBED:
        webhooks.endpoints.create("https://partner.example/hooks", events=["order.*"])


def recorded(variant: Variant, engine: Engine) -> int:
    """How many changes stand written down."""
    with engine.connect() as connection:
        if variant in _INSTALLED:
            from sqla_webhooks.outbox.take import take

            return sum(len(row.changes) for row in take(connection, sys.maxsize >> 1).rows)
        if variant in CONTINUUM:
            from benchmarks.model import Base

            count = select(func.count()).select_from(Base.metadata.tables["orders_version"])
            return connection.scalar(count) or 0
    return 0
