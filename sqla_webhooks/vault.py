"""
Secrets of endpoints, and values of their headers, as they lie in the database.

Without keys they lie there as they are. With keys each is `enc:v1:` and a
Fernet token (https://github.com/fernet/spec), made by the cryptography package,
which is imported only then. What was written before there were keys stays
readable; `endpoints.reencrypt()` seals it. Pure: text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqla_webhooks.errors import ConfigurationError

#: What a sealed text begins with. No secret does, and no JSON.
PREFIX = "enc:v1:"

# 32 bytes in url-safe base64.
_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


def check_keys(given: object) -> tuple[str, ...]:
    """
    The keys, as text, if each is one.

    Raises:
        ConfigurationError: The message says what to write instead, and repeats nothing.
    """
    if not isinstance(given, list | tuple):
        message = f"encryption_keys is {type(given).__name__}: give a list of keys, the newest first. {_MAKE_ONE}"
        raise ConfigurationError(message)
    if not given:
        message = f"encryption_keys is empty, which would leave secrets as they are: give a key. {_MAKE_ONE}"
        raise ConfigurationError(message)
    return tuple(_key(one, place) for place, one in enumerate(given, start=1))


_MAKE_ONE = "cryptography.fernet.Fernet.generate_key() makes one"


def _key(given: object, place: int) -> str:
    text = given.decode("latin-1") if isinstance(given, bytes) else given
    if isinstance(text, str) and _KEY.fullmatch(text):
        return text
    message = f"number {place} of encryption_keys is no Fernet key, 32 bytes in url-safe base64: {_MAKE_ONE}"
    raise ConfigurationError(message)


class Vault:
    """
    Seals and opens. Safe for any thread, and across a fork.

    Args:
        keys: Fernet keys, as `check_keys` gives them: the first seals, all open. With none, nothing is sealed.

    Raises:
        ConfigurationError: There are keys, and the cryptography package is missing.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        #: Of the first key, and of all; the type is not known without the package.
        self._first: Any = None
        self._all: Any = None
        if keys:
            self._first, self._all = _ciphers(keys)

    @property
    def seals(self) -> bool:
        """Whether there are keys."""
        return self._first is not None

    def seal(self, text: str) -> str:
        """*text*, which does not begin as what is sealed does, as it may lie in the database."""
        return PREFIX + self._first.encrypt(text.encode()).decode("ascii") if self.seals else text

    def open(self, text: str) -> str:
        """
        What was sealed, or lies there as it is.

        Raises:
            ConfigurationError: It was sealed by a key that is not here, or is damaged.
        """
        if not text.startswith(PREFIX):
            return text
        if not self.seals:
            message = (
                "what the database holds is encrypted, and install() got no encryption_keys: give it the key by which "
                "it was encrypted"
            )
            raise ConfigurationError(message)
        opened = _opened(self._all, text)
        if opened is None:
            message = (
                "what the database holds is encrypted, and none of encryption_keys opens it: add the key by which it "
                "was encrypted"
            )
            raise ConfigurationError(message)
        return opened

    def is_current(self, text: str) -> bool:
        """Whether *text* lies as `seal` would leave it: by the first key."""
        if not self.seals:
            return not text.startswith(PREFIX)
        return text.startswith(PREFIX) and _opened(self._first, text) is not None


def _ciphers(keys: Sequence[str]) -> tuple[Any, Any]:
    """That of the first key, and that of all."""
    try:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415  # who gives no keys need not have it
    except ImportError as error:  # it may be there, and lack something itself: the cause says so
        message = 'encryption_keys needs the cryptography package: pip install "sqla_webhooks[crypto]"'
        raise ConfigurationError(message) from error
    each = [Fernet(key) for key in keys]
    return each[0], MultiFernet(each)


def _opened(cipher: Any, text: str) -> str | None:
    """What it has sealed; None if it has not."""
    from cryptography.fernet import InvalidToken  # noqa: PLC0415  # as above

    try:
        return str(cipher.decrypt(text.removeprefix(PREFIX).encode()).decode())
    except (InvalidToken, UnicodeError):  # damaged, too
        return None
