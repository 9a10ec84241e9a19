"""
Signatures by Standard Webhooks 1.0, made.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
sections "Signature scheme" and "Webhook headers (sending metadata to consumers)".
Pure: bytes in, text out; no database and no network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets as random_source
from collections.abc import Sequence

from sqla_webhooks.errors import ConfigurationError

PREFIX = "whsec_"
VERSION = "v1"

#: What the specification allows a secret to measure, in bytes.
SHORTEST, LONGEST = 24, 64
#: What we make.
LENGTH = 32

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


def generate_secret() -> str:
    """A new secret: `whsec_` and the base64 of 32 random bytes."""
    return PREFIX + base64.b64encode(random_source.token_bytes(LENGTH)).decode("ascii")


def check_secret(secret: str) -> str:
    """
    The secret, if it is one.

    Raises:
        ConfigurationError: It is not `whsec_` and the base64 of 24 to 64
            bytes. The message does not repeat it.
    """
    key_of(secret)
    return secret


def sign(secrets: Sequence[str], message_id: str, *, timestamp: int, body: bytes) -> str:
    """
    The value of `webhook-signature`: one signature for each secret, in their order, and none twice.

    Args:
        secrets: `whsec_…`, the newest first.
        message_id: The value of `webhook-id`.
        timestamp: The value of `webhook-timestamp`: seconds since 1970.
        body: The very bytes that are sent.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(dict.fromkeys(f"{VERSION},{signature(key_of(secret), content)}" for secret in secrets))


def key_of(secret: str) -> bytes:
    """
    The bytes that a secret stands for.

    Raises:
        ConfigurationError: As for `check_secret`.
    """
    problem = "it is not text"
    if isinstance(secret, str):
        problem = f"it does not start with {PREFIX!r}"
        if secret.startswith(PREFIX):
            try:
                key = base64.b64decode(secret.removeprefix(PREFIX).encode(), validate=True)
            except (binascii.Error, UnicodeEncodeError):
                problem = "what follows the prefix is not base64"
            else:
                if SHORTEST <= len(key) <= LONGEST:
                    return key
                problem = f"it has {len(key)} bytes, not {SHORTEST} to {LONGEST}"
    message = f"the secret cannot be used: {problem}. A secret is {PREFIX!r} and base64, as endpoints.create() makes it"
    raise ConfigurationError(message)


def signature(key: bytes, content: bytes) -> str:
    """One signature, without the version before it."""
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode("ascii")
