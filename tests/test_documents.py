"""What the documents list is what there is: modules, rooms, settings, errors, signals, attributes of values."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

import sqla_webhooks
from sqla_webhooks import DeliveryError, Endpoints, Options, WebhooksError
from sqla_webhooks.signals import Signal

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sqla_webhooks"
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rules(contract: str, option: str) -> list[str]:
    """What import-linter is told."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup[f"importlinter:contract:{contract}"][option].split("\n")[1:]


def section(document: str, title: str) -> str:
    (found,) = re.findall(rf"(?ms)^(#+) {re.escape(title)}\n(.*?)(?=^#+ |\Z)", document)
    return str(found[1])


def first_cells(table: str) -> list[str]:
    """The words in code of the first column."""
    rows = re.findall(r"(?m)^\| ([^|]+) \|", table)
    return [word for row in rows for word in re.findall(r"`([a-z_A-Z]+)`", row)]


def quoted(text: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`\s]+)`", text))


def test_the_rooms_are_those_of_the_import_rules() -> None:
    block = section(ARCHITECTURE, "The rooms").split("```")[1].strip("\n")
    drawn = [re.split(r" {2,}", line)[0].replace("/", "") for line in block.splitlines()]
    assert drawn == rules("rooms", "layers")


def test_what_is_called_pure_is_what_the_import_rules_keep_so() -> None:
    listing = re.search(r"(?s)These import neither.*?\n\n", ARCHITECTURE)
    assert listing is not None
    ours, theirs = listing[0].split("`delivery/`")
    named = [*quoted(ours), *(f"delivery.{one}" for one in quoted(theirs))]
    assert sorted(f"sqla_webhooks.{one}" for one in named) == sorted(rules("pure", "source_modules"))


def test_the_steps_name_modules_that_are_there() -> None:
    """A package's name stands before the first of its modules, and not before the next."""
    rows = re.findall(r"(?m)^\| [^|]+ \| ([^|]*`[^|]*) \|", section(ARCHITECTURE, "The way of the data"))
    assert rows
    for row in rows:
        rooms = [PACKAGE]
        for name in re.findall(r"`([a-z_/]+)`", row):
            found = [room / name for room in rooms if _is_module(room / name)]
            assert found, (row, name)
            rooms += [one.parent for one in found]


def _is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_the_packages_docstring_names_each_module_once() -> None:
    said = (sqla_webhooks.__doc__ or "").partition("The way of the data:")[2]
    entries = re.findall(r"(?m)^ {4}(\w+)/? ", said)
    named = Counter(entries) + quoted(said)
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert {name: named.pop(name, 0) for name in there - {"__init__"}} == dict.fromkeys(there - {"__init__"}, 1)
    assert not named


def test_every_setting_stands_in_the_guide_once() -> None:
    assert sorted(first_cells(section(GUIDE, "Settings"))) == sorted(Options.__annotations__)


def test_every_signal_stands_in_the_guide_once() -> None:
    signals = [name for name in sqla_webhooks.__all__ if isinstance(getattr(sqla_webhooks, name), Signal)]
    assert sorted(first_cells(section(GUIDE, "Signals"))) == sorted(signals)


def test_every_error_stands_in_the_guide() -> None:
    said = section(GUIDE, "Errors")
    found = {name for name in sqla_webhooks.__all__ if _is_error(getattr(sqla_webhooks, name))}
    assert found <= set(re.findall(r"`(\w+)`", said))


def _is_error(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, WebhooksError)


def test_every_reason_of_an_attempt_stands_in_the_guide() -> None:
    kinds: list[type[DeliveryError]] = [DeliveryError, *DeliveryError.__subclasses__()]
    said = quoted(section(GUIDE, "What happened"))
    assert [one.reason for one in kinds if not said[one.reason]] == []


@pytest.mark.parametrize("name", ["Endpoint", "SecretState", "StoredEvent", "Delivery", "Attempt"])
def test_the_attributes_of_values_stand_in_the_guide(name: str) -> None:
    row = re.search(rf"(?m)^\| `{name}` \| (.*) \|$", section(GUIDE, "What happened"))
    assert row is not None
    attributes = {one.name for one in dataclasses.fields(getattr(sqla_webhooks, name))}
    assert attributes <= set(quoted(row[1]))
    assert set(quoted(row[1])) - attributes <= {"None", "secret"}


def test_what_endpoints_can_do_is_said_of_webhooks() -> None:
    tree = ast.parse((PACKAGE / "endpoints.py").read_text(encoding="utf-8"))
    (cls,) = (one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == Endpoints.__name__)
    methods = {one.name for one in cls.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")}
    said = re.search(r"(?s)\bendpoints: Where events go: (.*?)\.\n", sqla_webhooks.Webhooks.__doc__ or "")
    assert said is not None
    assert methods == set(re.findall(r"\w+", said[1])) - {"of", "their"}


@pytest.mark.parametrize("name", ["README.md", "docs/guide.md", "docs/architecture.md"])
def test_links_lead_to_headings_that_are_there(name: str) -> None:
    document = ROOT / name
    for path, anchor in re.findall(r"\]\(([\w./]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
        target = (document.parent / path) if path else document
        headings = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
        anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert anchor in anchors, f"{path}#{anchor}"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*/__init__.py")), ids=lambda one: one.parent.name)
def test_examples_name_sections_of_the_guide(example: Path) -> None:
    said = (ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or "").partition("In docs/guide.md:")[2]
    sections = re.findall(r'"([^"]+)"', said)
    assert sections
    assert set(sections) <= set(re.findall(r"(?m)^##+ (.+)$", GUIDE))


def test_the_guides_contents_are_its_sections_in_their_order() -> None:
    contents = re.findall(r"(?m)^- \[(.+)\]\(#", GUIDE.partition("\n## ")[0])
    assert contents == re.findall(r"(?m)^## (.+)$", GUIDE)
