"""
The request of one attempt: the headers are made anew for each, since its time is that of the attempt.

The dialect's headers come before the endpoint's own, and two of ours before
all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqla_webhooks import headers
from sqla_webhooks._version import __version__
from sqla_webhooks.deliveries import Claim
from sqla_webhooks.delivery.credentials import Credentials
from sqla_webhooks.delivery.dialects.standard import Standard
from sqla_webhooks.delivery.parcel import Parcel
from sqla_webhooks.dialect import Dialect, Post
from sqla_webhooks.errors import SigningFailed

logger = logging.getLogger(__name__)

USER_AGENT = f"sqla-webhooks/{__version__}"

#: Without the reason, which is for the log: tenants read it.
_FAILED = "the request could not be signed: its dialect has failed"


@dataclass(frozen=True, slots=True)
class Request:
    """One POST, ready to go."""

    claim: Claim
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    #: What is sent with it, in a batch.
    others: tuple[Claim, ...] = ()


def request(parcel: Parcel, credentials: Credentials, *, dialect: Dialect, now: datetime) -> Request:
    """
    The request of one attempt that starts *now*.

    Raises:
        SigningFailed: No secret is valid now, or the dialect has failed, which the log tells.
    """
    claim, *others = parcel.claims
    post = Post(
        id=parcel.id,
        endpoint_id=claim.endpoint_id,
        events=parcel.events,
        body=parcel.body,
        batch=parcel.batch,
        secrets=tuple(credentials.live(now)),
        now=now,
    )
    return Request(claim, headers_of(post, dialect, added=credentials.headers), post.body, tuple(others))


def headers_of(post: Post, dialect: Dialect, *, added: Mapping[str, str]) -> dict[str, str]:
    """
    All headers of one attempt.

    Args:
        added: The endpoint's own. One whose name is taken is left out.

    Raises:
        SigningFailed: The dialect has failed, or said what cannot be sent.
    """
    # A compressed answer could be far larger than it looks; nobody needs its body anyway.
    merged = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    for more in (_said(dialect, post), added):
        taken = {name.lower() for name in merged}
        merged |= {name: value for name, value in more.items() if name.lower() not in taken}
    return merged


def _said(dialect: Dialect, post: Post) -> dict[str, str]:
    try:
        said = dialect.headers(post)
        # Ours is known to say what can be sent, and the look takes as long as all else that is done for a request.
        return dict(said) if type(dialect) is Standard else headers.check_dialect(said)
    except KeyboardInterrupt:
        raise  # somebody wants `drain()` to end
    except BaseException:  # whatever an application's own dialect raises: this attempt fails, and not the relay
        about = {"webhooks.endpoint": post.endpoint_id}
        logger.exception("endpoint %s: the dialect %r made no headers", post.endpoint_id, dialect.name, extra=about)
        raise SigningFailed(_FAILED) from None
