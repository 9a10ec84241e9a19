"""Which names say that a column holds a secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sqla_webhooks import naming
from sqla_webhooks.naming import says_secret

GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "password",
            "password_hash",
            "passwordHash",
            "PasswordHash",
            "passwordhash",
            "hashed_password",
            "old_passwords",
        ),
        *("pw_hash", "hashed_pw", "pwd", "passwd", "passphrase", "user_pin", "otp_seed", "mfa_key", "jwt", "id_token"),
        *("accessToken", "refresh_tokens", "api_key", "apiKey", "APIKey", "apikey", "stripeapikey", "client_secret"),
        *("clientsecret", "webhook_signing_key", "webhook_key", "session_key", "ssh_private_key", "privatekey", "salt"),
        *("credentials", "recovery_codes", "reset_code", "card_number", "cvv", "ssn"),
    ],
)
def test_a_name_that_says_secret(name: str) -> None:
    assert says_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "id",
            "name",
            "email",
            "status",
            "total",
            "key",
            "keys",
            "code",
            "hash",
            "content_hash",
            "number",
            "order_number",
        ),
        *(
            "spin",
            "shipping",
            "compass",
            "passenger",
            "bypass",
            "tokenless",
            "pwm",
            "keyboard",
            "primary_key",
            "pinned",
        ),
        *("authorization_id", "session_id", "card_type", "monkey", "", "_", "désignation"),
    ],
)
def test_a_name_that_does_not(name: str) -> None:
    assert not says_secret(name)


def test_the_guide_lists_every_word() -> None:
    (said,) = re.findall(r"one of their words is (.*?)Names are all", GUIDE, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", said)) == {*naming._SECRET_WORDS, *naming._SECRET_PAIRS, *naming._SECRET_PARTS}  # noqa: SLF001  # the list itself
