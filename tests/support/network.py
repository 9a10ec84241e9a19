"""What a test sees of the network, and what it makes of names: look-ups, connections, senders under a policy."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

import requests
from urllib3.util import Timeout

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.config import Settings
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.delivery.adapter import GuardedAdapter
from sqla_webhooks.delivery.budget import Budget
from sqla_webhooks.delivery.egress import EgressPolicy
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.errors import DeliveryError
from support.hostile import request_for

#: Plain http, so that no test stops at a certificate; and public addresses only.
STRICT = EgressPolicy(allow_http=True)

#: One that anybody may have.
PUBLIC = "8.8.8.8"

#: Seconds; no test here is to come near.
LONG = 5.0

#: An address, or all of what a socket of IPv6 is connected to, its zone included.
Found: TypeAlias = str | tuple[str, int, int, int]

Send: TypeAlias = Callable[[str, EgressPolicy], Answer | DeliveryError]


def allowing(*networks: str, **options: Any) -> EgressPolicy:
    """Plain http, these networks though they are not public, and what other settings say."""
    return EgressPolicy.of(Settings(allow_http=True, allow_networks=tuple(map(ip_network, networks)), **options))


class Resolver:
    """Stands for `getaddrinfo`: answers for the names it is given, counts the questions, and knows no other name."""

    def __init__(self) -> None:
        #: The answers to a name's look-ups in turn, the last one for ever.
        self.answers: dict[str, list[list[Found]]] = {}
        #: The names that were looked up, and not addresses, for which nobody has to be asked.
        self.asked: list[str] = []
        self._system = socket.getaddrinfo

    def lead(self, *names: str, to: str) -> None:
        """From now on these names have this address."""
        self.answers |= {name: [[to]] for name in names}

    def __call__(self, host: str, port: int, *, flags: int = 0, **_: Any) -> list[Any]:
        if not flags & socket.AI_NUMERICHOST:
            self.asked.append(host)
        if flags & socket.AI_NUMERICHOST or host not in self.answers:
            return self._system(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        answers = self.answers[host]
        return [_entry(one, port) for one in (answers.pop(0) if len(answers) > 1 else answers[0])]


def _entry(found: Found, port: int) -> Any:
    of_six = not isinstance(found, str) or ":" in found
    if isinstance(found, str):
        place: Any = (found, port, 0, 0) if of_six else (found, port)
    else:
        place = found
    return (socket.AF_INET6 if of_six else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)


class Connects:
    """Stands for `socket.connect`: notes what was to be connected to. Only this machine is connected to."""

    def __init__(self) -> None:
        #: As they were given.
        self.places: list[Any] = []
        self._connect = socket.socket.connect

    @property
    def addresses(self) -> list[str]:
        return [place[0] for place in self.places]

    def connect(self, connection: socket.socket, place: Any) -> None:
        self.places.append(place)
        if not ip_address(place[0].partition("%")[0]).is_loopback:
            message = "no packet leaves this machine"
            raise ConnectionRefusedError(message)
        self._connect(connection, place)


@dataclass
class Senders:
    """A sender for each policy."""

    _made: dict[EgressPolicy, Sender] = field(default_factory=dict)

    def send(self, url: str, policy: EgressPolicy) -> Answer | DeliveryError:
        """What comes of a request, past the check of an endpoint that is written."""
        if policy not in self._made:
            self._made[policy] = Sender(policy, connect_timeout=LONG, timeout=LONG, clock=SystemClock())
        return self._made[policy].send(request_for(url)).outcome

    def close(self) -> None:
        for sender in self._made.values():
            sender.close()


def connect_only(url: str, policy: EgressPolicy = STRICT) -> Exception | None:
    """What a request to *url* raises when nothing but the connection has been checked."""
    adapter = GuardedAdapter(policy, budget=Budget(SystemClock(), connect_timeout=LONG, timeout=LONG), connections=1)
    try:
        prepared = requests.Request("POST", url).prepare()
        adapter.send(prepared, stream=True, timeout=Timeout(LONG), verify=True, proxies={}).close()  # type: ignore[arg-type]  # it takes urllib3's Timeout too
    except Exception as error:  # noqa: BLE001  # whatever it is: it is looked at
        return error
    else:
        return None
    finally:
        adapter.close()
