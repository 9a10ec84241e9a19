"""SECURITY.md names what there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import sqla_webhooks
from sqla_webhooks import Endpoints, Settings, Webhooks, errors, subscriptions

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))

#: Beside modules, settings and what is public: words of columns, of values, and of other people's.
WORDS = {"'***'", "*", "blocked", "webhook-id", "Retry-After", "exclude", "info", "__webhooks__", "webhook_"}

KNOWN = {
    *(one.name for one in dataclasses.fields(Settings)),
    *sqla_webhooks.__all__,
    *vars(errors),
    *(f"{name}()" for name in (*vars(Webhooks), *vars(Endpoints), *sqla_webhooks.__all__)),
    *(f"endpoints.{name}()" for name in vars(Endpoints)),
    *(f"webhooks.{name}" for name in Webhooks.__annotations__),
    *subscriptions.OPERATIONAL,
    "print(webhooks.describe())",
    "replay_guard",
    "rate_limit",
    *sqla_webhooks.models.metadata.tables,
}


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_is_there(name: str) -> None:
    is_module = (ROOT / "sqla_webhooks" / f"{name}.py").is_file()
    assert is_module or name in KNOWN or name in WORDS, f"`{name}` is nothing that there is"


def test_the_modules_that_defend_are_named() -> None:
    guards = ["addresses", "adapter", "budget", "egress", "resolve", "urls"]
    assert [name for name in guards if f"delivery/{name}" not in NAMED] == []
