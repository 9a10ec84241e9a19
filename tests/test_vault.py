"""How secrets lie in the database: sealed and opened, by the keys that there are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from sqla_webhooks import ConfigurationError
from sqla_webhooks.vault import PREFIX, Vault, check_keys

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
TEXT = "whsec_abc"

texts = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith(PREFIX))


@given(texts)
def test_what_is_sealed_is_opened_by_whoever_has_the_key(text: str) -> None:
    sealed = Vault([NEW]).seal(text)
    assert sealed.startswith(PREFIX)
    assert len(text) < 8 or text not in sealed
    assert sealed.isascii()
    assert Vault([NEW]).open(sealed) == Vault([OLD, NEW]).open(sealed) == text


@given(texts)
def test_without_keys_nothing_is_changed(text: str) -> None:
    assert Vault().seal(text) == Vault().open(text) == text
    assert Vault([NEW]).open(text) == text


def test_the_same_is_sealed_otherwise_each_time() -> None:
    vault = Vault([NEW])
    assert vault.seal(TEXT) != vault.seal(TEXT)


def test_the_first_key_seals_and_all_open() -> None:
    both = Vault([NEW, OLD])
    assert both.open(Vault([OLD]).seal(TEXT)) == TEXT
    assert Vault([NEW]).open(both.seal(TEXT)) == TEXT
    with pytest.raises(ConfigurationError, match="none of encryption_keys opens it"):
        Vault([OLD]).open(both.seal(TEXT))


def test_what_is_sealed_cannot_be_opened_without_keys() -> None:
    sealed = Vault([NEW]).seal(TEXT)
    with pytest.raises(ConfigurationError, match="got no encryption_keys") as caught:
        Vault().open(sealed)
    assert sealed not in str(caught.value)


@pytest.mark.parametrize("damage", ["", "x", "é", "\ud800", "gAAAA", "\0", "=" * 50])
@pytest.mark.parametrize("keys", [(), (NEW,)])
def test_what_is_damaged_is_said_to_be_closed(keys: tuple[str, ...], damage: str) -> None:
    with pytest.raises(ConfigurationError, match="encrypted") as caught:
        Vault(keys).open(PREFIX + damage)
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("place", [0, 9, 20, -1])
def test_one_changed_letter_is_noticed(place: int) -> None:
    sealed = Vault([NEW]).seal(TEXT)
    token = list(sealed.removeprefix(PREFIX))
    token[place - 1] = "A" if token[place - 1] != "A" else "B"
    with pytest.raises(ConfigurationError):
        Vault([NEW]).open(PREFIX + "".join(token))


def test_it_knows_what_is_to_be_sealed_anew() -> None:
    by_old, by_new = Vault([OLD]).seal(TEXT), Vault([NEW]).seal(TEXT)
    assert Vault([NEW, OLD]).is_current(by_new)
    assert not Vault([NEW, OLD]).is_current(by_old)
    assert not Vault([NEW, OLD]).is_current(TEXT)
    assert not Vault([NEW]).is_current(PREFIX + "damaged")
    assert Vault().is_current(TEXT)
    assert not Vault().is_current(by_new)


# --- the keys


def test_keys_may_be_text_or_bytes() -> None:
    assert check_keys([OLD, NEW.encode()]) == check_keys((OLD.encode(), NEW)) == (OLD, NEW)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        [],
        (),
        "secret",
        b"secret",
        NEW[:-1],
        NEW + "=",
        NEW + "\n",
        " " + NEW,
        NEW.replace(NEW[5], "+"),
        b"\xff" * 44,
        "é" * 44,
        None,
        7,
        Fernet(NEW),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"number 2 of encryption_keys.*Fernet\.generate_key\(\)") as caught:
        check_keys([OLD, bad])
    assert OLD not in str(caught.value)
    assert not isinstance(bad, str | bytes) or len(bad) < 7 or str(bad) not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("bad", [NEW, NEW.encode(), {NEW}, {NEW: OLD}, None, iter([NEW])])
def test_what_has_no_order_is_refused_and_not_repeated(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give a list of keys.*Fernet\.generate_key\(\)") as caught:
        check_keys(bad)
    assert NEW not in str(caught.value)


def test_without_the_package_keys_are_refused_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = Vault([NEW]).seal(TEXT)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r'pip install "sqla_webhooks\[crypto\]"'):
        Vault([NEW])
    assert Vault().open(Vault().seal(TEXT)) == TEXT
    with pytest.raises(ConfigurationError, match="got no encryption_keys"):
        Vault().open(sealed)


def test_of_a_package_that_is_there_and_broken_the_cause_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "cryptography.py").write_text("raise ImportError('libssl.so.3: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        Vault([NEW])
    assert "libssl.so.3" in str(caught.value.__cause__)


def test_a_repr_shows_no_key() -> None:
    assert NEW not in repr(Vault([NEW]))
    assert NEW not in repr(vars(Vault([NEW])))
