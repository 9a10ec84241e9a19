"""
One POST, and what came of it. The only module that makes requests; `adapter` opens their sockets.

The prepared request goes to our adapter directly and not through
`Session.send`, which would read the body of a redirect to its end, replay
cookies from one endpoint to another, and send the credentials of a .netrc.
"""

from __future__ import annotations

import logging
from http.client import HTTPException, RemoteDisconnected

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
)
from urllib3.exceptions import SSLError as TLSError
from urllib3.exceptions import TimeoutError as URLLibTimeout
from urllib3.util import Timeout

from sqla_webhooks._clock import Clock
from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.delivery.acknowledge import failed
from sqla_webhooks.delivery.adapter import GuardedAdapter, ProxyFailed
from sqla_webhooks.delivery.budget import READ_LIMIT, Budget, EnoughRead
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.request import Request
from sqla_webhooks.errors import ConnectFailed, DeliveryError, InvalidAnswer, TimedOut, TLSFailed

logger = logging.getLogger(__name__)

#: Characters of an answer that are kept.
KEPT = 4096
#: Characters of an error that are kept.
SENTENCE = 500

#: Hosts to which one sender keeps a connection.
_CONNECTIONS = 32
#: URLs that one sender remembers.
_REMEMBERED = 1000


class Sender:
    """
    Sends one request at a time. Used by one thread; holds its connections.

    Args:
        policy: Where it may connect to.
        connect_timeout: Seconds until a connection is open: its name looked up, TLS agreed.
        timeout: Seconds for the whole request, whatever the server does.
    """

    def __init__(self, policy: EgressPolicy, *, connect_timeout: float, timeout: float, clock: Clock) -> None:
        self._policy = policy
        self._budget = Budget(clock, connect_timeout=connect_timeout, timeout=timeout)
        self._adapter = GuardedAdapter(policy, budget=self._budget, connections=_CONNECTIONS)
        self._proxies = {} if policy.proxy is None else {"http": policy.proxy, "https": policy.proxy}
        # Of urllib3, for which each is a time for one read or one write: the budget bounds them all.
        self._timeouts = Timeout(connect=connect_timeout, read=timeout)
        self._clock = clock
        #: URLs that the policy, which is for life, has let pass.
        self._passed: set[str] = set()

    def send(self, request: Request) -> Result:
        """
        Make the request. Never raises; no database transaction is open meanwhile.
        """
        started_at, start = self._clock.now(), self._clock.monotonic()
        outcome: Answer | DeliveryError
        try:
            self._check(request.claim.url)
            self._budget.begin()
            outcome = self._answer(request)
        except DeliveryError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001  # a delivery must come to something, whatever the libraries below raise
            outcome = explain(error)
        return Result(request.claim, started_at, self._clock.monotonic() - start, outcome, request.others)

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def _check(self, url: str) -> None:
        """Raises `Blocked` if no request may be made to *url*. Each is looked at once: it is a tenth of a request."""
        if url not in self._passed:
            self._policy.check_target(url)
            if len(self._passed) >= _REMEMBERED:
                self._passed.clear()
            self._passed.add(url)

    def _answer(self, request: Request) -> Answer:
        """
        Post, and once more if the connection was kept from an earlier request and has turned out to be dead.

        A server may close a kept connection at any time, also as we begin to
        use it; that is no failure of this delivery (RFC 9112, section 9.3.1).
        """
        opened = self._adapter.opened
        try:
            return self._post(request)
        except requests.ConnectionError as error:
            kept = self._adapter.opened == opened
            if not kept or self._budget.answered or not isinstance(_reason(error), ConnectionError):
                raise
        return self._post(request)

    def _post(self, request: Request) -> Answer:
        prepared = requests.Request(
            "POST", request.claim.url, data=request.body, headers=dict(request.headers)
        ).prepare()
        response = self._adapter.send(
            prepared,
            stream=True,
            timeout=self._timeouts,  # type: ignore[arg-type]  # it takes urllib3's Timeout too
            verify=True,
            proxies=self._proxies,
        )
        try:
            body = _beginning(response)
        finally:
            # A body that was read to its end has given its connection back; any other takes it along.
            response.raw.close()
        not_taken = failed(body) if request.claim.destination.batch else frozenset()
        return Answer(response.status_code, _text(body), response.headers, not_taken)


def _beginning(response: requests.Response) -> bytes:
    """The body's beginning as it came: decompressed it may be huge."""
    body = bytearray()
    try:
        while piece := response.raw.read1(READ_LIMIT, decode_content=False):
            body += piece
    except EnoughRead:
        pass
    return bytes(body)


def explain(error: Exception) -> DeliveryError:
    """The error of ours that says what an exception of requests or urllib3 means; the exception is its cause."""
    explained = _explained(error)
    explained.__cause__ = error
    return explained


def _explained(error: Exception) -> DeliveryError:  # noqa: PLR0911  # one for each kind
    inner = _reason(error)
    if isinstance(error, requests.exceptions.SSLError | TLSError) or isinstance(inner, TLSError):
        return TLSFailed(f"TLS failed: {_innermost(inner)}")
    if isinstance(inner, NewConnectionError):  # first: to urllib3 it is a kind of timeout
        return ConnectFailed(f"no connection: {_innermost(inner)}")
    if isinstance(inner, ProxyFailed):
        return _of_the_proxy(inner.original_error)
    if isinstance(inner, ConnectTimeoutError):
        return TimedOut("no connection in time")
    if isinstance(error, requests.Timeout) or isinstance(inner, URLLibTimeout | TimeoutError):
        return TimedOut("no complete answer in time")
    if isinstance(inner, InvalidHeader):
        return InvalidAnswer(f"the answer's headers cannot be read: {_innermost(inner)}")
    if isinstance(error, ValueError):  # InvalidURL, InvalidSchema, LocationParseError and the like
        return DeliveryError(f"the URL cannot be used: {_innermost(inner)}")
    if isinstance(error, requests.RequestException | HTTPError | OSError):
        not_http = isinstance(inner, HTTPException) and not isinstance(inner, RemoteDisconnected)
        what = "what came back is not HTTP" if not_http else "the connection broke"
        return InvalidAnswer(f"{what}: {_innermost(inner)}")
    logger.error("an attempt failed in an unforeseen way", exc_info=error)
    return DeliveryError(f"{type(error).__name__}: {_sentence(error)}")


def _of_the_proxy(error: Exception) -> DeliveryError:
    if isinstance(error, ConnectTimeoutError | TimeoutError) and not isinstance(error, NewConnectionError):
        return TimedOut("no connection through the egress proxy in time")
    return ConnectFailed(f"no connection through the egress proxy: {_innermost(error)}")


def _reason(error: Exception) -> BaseException:
    """What went wrong, out of what requests and urllib3 wrap it in."""
    inner: BaseException = error
    while isinstance(inner, requests.RequestException) and inner.args and isinstance(inner.args[0], Exception):
        inner = inner.args[0]
    if isinstance(inner, MaxRetryError) and inner.reason is not None:
        inner = inner.reason
    if isinstance(inner, ProxyError) and not isinstance(inner, ProxyFailed):
        inner = inner.original_error  # urllib3 takes a connection that has broken for one that was never there
    if isinstance(inner, ProtocolError) and isinstance(inner.args[-1], Exception):
        inner = inner.args[-1]
    return inner


def _innermost(error: BaseException) -> str:
    """The sentence of the error at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _sentence(error)


def _sentence(error: BaseException) -> str:
    """Short, in one line, and without what a terminal would obey, whatever a stranger has put into it."""
    printable = "".join(character if character.isprintable() else " " for character in str(error))
    return " ".join(printable.split())[:SENTENCE].rstrip() or type(error).__name__


def _text(body: bytes) -> str:
    """What is kept of a body, for people: never fails, and holds no NUL, which PostgreSQL's text refuses."""
    return body.decode("utf-8", "replace")[:KEPT].replace("\0", "\N{REPLACEMENT CHARACTER}")
