"""
Signatures as GitHub and Openfront have them: `sha256=` and an HMAC in hexadecimal, keyed with the secret's text.

A header of theirs holds one signature, so only the newest secret signs. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from sqla_webhooks.errors import ConfigurationError

#: Characters of a secret.
SHORTEST, LONGEST = 16, 500

# Printable ASCII, with spaces inside: it goes through configuration files and environments unharmed.
_SECRET = re.compile(r"[!-~][ -~]*[!-~]")


def check_secret(secret: str) -> str:
    """
    The secret, if it is one.

    Raises:
        ConfigurationError: It is not 16 to 500 printable characters of ASCII,
            or has a space at an end. The message does not repeat it.
    """
    problem = "it is not text"
    if isinstance(secret, str):
        problem = f"it has {len(secret)} characters, not {SHORTEST} to {LONGEST}"
        if SHORTEST <= len(secret) <= LONGEST:
            if _SECRET.fullmatch(secret):
                return secret
            problem = "it has a character that is not printable ASCII, or a space at an end"
    message = f"the secret cannot be used: {problem}. secrets.token_hex(32) makes one, and so does endpoints.create()"
    raise ConfigurationError(message)


def signature(secret: str, body: bytes) -> str:
    """`sha256=` and the 64 digits for *body*."""
    return "sha256=" + hmac.new(secret.encode("ascii"), body, hashlib.sha256).hexdigest()
