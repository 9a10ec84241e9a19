from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqla_webhooks import signals
from sqla_webhooks.signals import Signal

Receiver = Callable[..., None]


class Sender:
    pass


class Calls:
    """Makes receivers, and notes in which order they are called."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def by(self, name: str) -> Receiver:
        def receiver(sender: Any, **arguments: Any) -> None:
            self.made.append(name)

        return receiver


@pytest.fixture
def signal() -> Signal:
    return Signal("test")


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_a_receiver_gets_the_sender_and_the_arguments(signal: Signal) -> None:
    got: list[Any] = []

    @signal.connect
    def receiver(sender: Any, *, delivery: str, attempt: int) -> None:
        got.append((sender, delivery, attempt))

    signal.tell("webhooks", delivery="d", attempt=1)
    assert got == [("webhooks", "d", 1)]


def test_receivers_are_called_in_the_order_of_connection(signal: Signal, calls: Calls) -> None:
    names = [str(number) for number in range(50)]
    for name in names:
        signal.connect(calls.by(name), weak=False)
    signal.tell(None)
    assert calls.made == names


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["any", "this", "other", "disconnect"])), max_size=30))
def test_the_order_is_kept_whatever_is_connected_and_disconnected(steps: list[tuple[int, str]]) -> None:
    signal, calls = Signal("test"), Calls()
    this, other = Sender(), Sender()
    receivers = [calls.by(str(number)) for number in range(7)]
    for_all: list[str] = []
    for_this: list[str] = []
    for number, step in steps:
        receiver, name = receivers[number], str(number)
        if step == "disconnect":
            signal.disconnect(receiver)
            for_all, for_this = ([one for one in names if one != name] for names in (for_all, for_this))
        elif step == "any":
            signal.connect(receiver)
            for_all += [] if name in for_all else [name]
        else:
            signal.connect(receiver, sender=this if step == "this" else other)
            for_this += [name] if step == "this" and name not in for_this else []

    signal.tell(this)

    assert calls.made == [*for_all, *(name for name in for_this if name not in for_all)]


def test_receivers_for_every_sender_come_before_those_for_one(signal: Signal, calls: Calls) -> None:
    sender = Sender()
    signal.connect(calls.by("one"), sender=sender, weak=False)
    signal.connect(calls.by("all"), weak=False)
    signal.connect(calls.by("another's"), sender=Sender, weak=False)
    signal.tell(sender)
    assert calls.made == ["all", "one"]


def test_a_receiver_connected_twice_is_called_once_in_its_first_place(signal: Signal, calls: Calls) -> None:
    first, second = calls.by("first"), calls.by("second")
    for receiver in (first, second, first):
        signal.connect(receiver)
    signal.tell(None)
    assert calls.made == ["first", "second"]


def test_a_receiver_connected_again_after_it_was_disconnected_comes_last(signal: Signal, calls: Calls) -> None:
    first, second = calls.by("first"), calls.by("second")
    signal.connect(first)
    signal.connect(second)
    signal.disconnect(first)
    signal.connect(first)
    signal.tell(None)
    assert calls.made == ["second", "first"]


def test_one_that_raises_is_logged_and_the_others_are_called(
    signal: Signal, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sender: Any, **arguments: Any) -> None:
        message = "a bug in a receiver"
        raise RuntimeError(message)

    signal.connect(calls.by("before"), weak=False)
    signal.connect(broken)
    signal.connect(calls.by("after"), weak=False)

    signal.tell(None, delivery=1)

    assert calls.made == ["before", "after"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("sqla_webhooks.signals", logging.ERROR)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a bug in a receiver"
    assert "broken" in record.__dict__["webhooks.receiver"]


def test_one_that_takes_other_arguments_is_logged(
    signal: Signal, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    signal.connect(lambda: None, weak=False)
    signal.connect(calls.by("after"), weak=False)
    signal.tell(None, delivery=1)
    assert calls.made == ["after"]
    assert len(caplog.records) == 1


class BrokenInEveryWay:
    def __call__(self, sender: Any, **arguments: Any) -> None:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


def test_one_that_cannot_even_be_shown_stops_nobody(
    signal: Signal, calls: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    signal.connect(BrokenInEveryWay(), weak=False)
    signal.connect(calls.by("after"), weak=False)
    signal.tell(None)
    assert calls.made == ["after"]
    assert len(caplog.records) == 1


def test_what_is_no_exception_passes_through(signal: Signal) -> None:
    def interrupt(sender: Any) -> None:
        raise KeyboardInterrupt

    signal.connect(interrupt)
    with pytest.raises(KeyboardInterrupt):
        signal.tell(None)


def test_a_muted_signal_tells_nobody(signal: Signal, calls: Calls) -> None:
    signal.connect(calls.by("a"), weak=False)
    with signal.muted():
        signal.tell(None)
        assert list(signal.receivers_in_order(None)) == []
    assert calls.made == []
    signal.tell(None)
    assert calls.made == ["a"]


def test_a_lambda_is_kept_with_weak_false_and_lost_without(signal: Signal) -> None:
    got: list[str] = []
    signal.connect(lambda _: got.append("kept"), weak=False)
    signal.connect(lambda _: got.append("lost"))
    gc.collect()
    signal.tell(None)
    assert got == ["kept"]


def test_a_method_is_called_while_its_object_lives(signal: Signal) -> None:
    got: list[int] = []

    class Owner:
        def receive(self, sender: Any) -> None:
            got.append(1)

    owner = Owner()
    signal.connect(owner.receive)
    signal.tell(None)
    del owner
    gc.collect()
    signal.tell(None)
    assert got == [1]


def test_receivers_may_connect_and_disconnect_while_they_are_called(signal: Signal, calls: Calls) -> None:
    last = calls.by("last")

    def first(sender: Any) -> None:
        signal.disconnect(last)
        signal.connect(calls.by("new"), weak=False)

    signal.connect(first)
    signal.connect(last)
    signal.tell(None)
    assert calls.made == ["last"]
    calls.made.clear()
    signal.tell(None)
    assert calls.made == ["new"]


def test_blinkers_own_ways_work(signal: Signal, calls: Calls) -> None:
    sender = Sender()
    temporary = calls.by("temporary")
    signal.connect_via(sender)(calls.by("via"))
    with signal.connected_to(temporary):
        signal.send(sender)
    signal.send(sender)
    assert calls.made == ["temporary", "via", "via"]


@pytest.mark.parametrize(
    "name", ["enriching", "enricher_failed", "unencodable", "oversized", "delivered", "failed", "dead"]
)
def test_each_signal_of_the_library_says_what_it_sends(name: str) -> None:
    signal = getattr(signals, name)
    assert isinstance(signal, Signal)
    assert "Sender" in (signal.__doc__ or "")
    assert "thread" in (signal.__doc__ or "")
