"""Name servers that take their time: they cost a request no more than the time for its connection, and nobody else."""

from __future__ import annotations

import faulthandler
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from support.hostile import LOOPBACK, request_for
from support.names import Names
from support.receiver import PATIENCE, Receiver
from support.threads import until

from sqla_webhooks._clock import SystemClock
from sqla_webhooks.deliveries import Answer, Result
from sqla_webhooks.delivery.resolve import MOST, Resolver
from sqla_webhooks.delivery.send import Sender
from sqla_webhooks.errors import ConnectFailed, DeliveryError, TimedOut

#: Seconds for a connection, and for a request, which is never reached.
SOON, LONG = 0.4, 15.0

STUCK, OTHER = "stuck.partner.example", "other.partner.example"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    names.know(STUCK, stuck=True)
    names.know(OTHER)
    yield names
    names.answer()


def new_sender(*, connect_timeout: float = SOON) -> Sender:
    return Sender(LOOPBACK, connect_timeout=connect_timeout, timeout=LONG, clock=SystemClock())


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = new_sender()
    yield sender
    sender.close()


def send(sender: Sender, name: str, receiver: Receiver) -> Result:
    return sender.send(request_for(receiver.url().replace("127.0.0.1", name)))


def is_answered(result: Result) -> bool:
    return isinstance(result.outcome, Answer) and result.outcome.ok


def look_ups() -> int:
    """Those that are under way."""
    return sum(thread.name == "sqla_webhooks look-up" for thread in threading.enumerate())


def test_a_look_up_that_does_not_end_takes_the_time_of_a_connection(
    sender: Sender, names: Names, receiver: Receiver
) -> None:
    result = send(sender, STUCK, receiver)

    assert isinstance(result.outcome, TimedOut)
    assert SOON <= result.duration < SOON + 2
    assert receiver.received == []


def test_other_names_are_looked_up_meanwhile(sender: Sender, names: Names, receiver: Receiver) -> None:
    send(sender, STUCK, receiver)

    result = send(sender, OTHER, receiver)

    assert is_answered(result)
    assert result.duration < SOON
    assert look_ups() == 1


def test_a_name_is_not_looked_up_twice_at_a_time(sender: Sender, names: Names, receiver: Receiver) -> None:
    for _ in range(3):
        assert isinstance(send(sender, STUCK, receiver).outcome, TimedOut)
    assert names.asked == [STUCK]

    names.answer()
    until(lambda: look_ups() == 0)

    assert is_answered(send(sender, STUCK, receiver))
    assert names.asked == [STUCK] * 2, "what was found too late is not used"


def test_a_look_up_that_ends_while_it_is_waited_for_again_is_waited_for_no_longer(names: Names) -> None:
    resolver = Resolver()
    with pytest.raises(TimeoutError):
        resolver.look_up(STUCK, 443, within=0.01)
    ending = threading.Timer(0.2, names.answer)
    ending.start()

    assert resolver.look_up(STUCK, 443, within=PATIENCE) == [(socket.AF_INET, ("127.0.0.1", 443))]

    assert names.asked == [STUCK]
    ending.join()


def test_after_so_many_stuck_names_no_other_is_looked_up_until_one_of_them_is_found(
    names: Names, receiver: Receiver
) -> None:
    sender = new_sender(connect_timeout=0.01)
    stuck = [f"stuck-{number}.partner.example" for number in range(MOST)]
    names.know(*stuck, stuck=True)
    for name in stuck:
        assert isinstance(send(sender, name, receiver).outcome, TimedOut)
    assert look_ups() == MOST

    refused = send(sender, OTHER, receiver).outcome
    assert isinstance(refused, ConnectFailed)
    assert str(refused) == "no connection: too many names are being looked up: the name servers are slow"
    assert OTHER not in names.asked
    until(lambda: is_answered(sender.send(request_for(receiver.url()))))  # for an address nobody is asked
    sender.close()

    another = new_sender(connect_timeout=LONG)
    assert is_answered(send(another, OTHER, receiver)), "each sender has its own"
    another.close()

    names.answer()
    until(lambda: look_ups() == 0)
    until(lambda: is_answered(send(sender, OTHER, receiver)))  # who has only so little time that one may take longer
    sender.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_child_looks_up_what_its_parent_waits_for(sender: Sender, names: Names, receiver: Receiver) -> None:
    send(sender, STUCK, receiver)
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        names.answer()
        anew = new_sender(connect_timeout=LONG)
        os._exit(0 if is_answered(send(anew, STUCK, receiver)) and is_answered(send(sender, OTHER, receiver)) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert isinstance(send(sender, STUCK, receiver).outcome, DeliveryError)
    assert len(receiver.received) == 2
