"""What names say: how a class is called by the outside, and whether a column holds a secret. Pure."""

from __future__ import annotations

import re

# A name says secret if one of its words, or two in a row, is on the list, in the singular or the plural.
_SECRET_WORDS = frozenset(
    {
        *("password", "passwd", "passphrase", "passcode", "pwd", "pw", "pin", "otp", "totp", "mfa", "jwt"),
        *("credential", "secret", "token", "apikey", "salt", "ssn", "cvv", "cvc"),
    }
)
_SECRET_PAIRS = frozenset(
    {
        *("api_key", "private_key", "secret_key", "access_key", "signing_key", "encryption_key", "auth_key"),
        *("session_key", "webhook_key", "recovery_code", "backup_code", "reset_code", "card_number"),
    }
)
# These anywhere, for names whose words nobody has parted: `passwordhash`, `clientsecret`.
_SECRET_PARTS = ("password", "passwd", "secret", "apikey", "privatekey")

# "OrderLine" is Order|Line, "APIKey2" is API|Key2.
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9]+")


def snake_case(name: str) -> str:
    """`OrderLine` as `order_line`: only letters, digits and underscores come out."""
    return _NOT_A_WORD.sub("_", _WORD_START.sub("_", name)).strip("_").lower()


def says_secret(name: str) -> bool:
    """Whether a column of this name is left out unless the application names it."""
    words = snake_case(name).split("_")
    singular = [word.removesuffix("s") for word in words]
    pairs = {f"{first}_{second}" for first, second in zip(words, singular[1:], strict=False)}
    return (
        not _SECRET_WORDS.isdisjoint(singular)
        or not _SECRET_PAIRS.isdisjoint(pairs)
        or any(part in name.lower() for part in _SECRET_PARTS)
    )
