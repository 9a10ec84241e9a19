"""Names whose addresses change: what is connected to is what was checked, each time."""

from __future__ import annotations

import pytest
from support import hostile
from support.hostile import http
from support.network import PUBLIC, STRICT, Connects, Found, Resolver, Send, allowing
from support.receiver import Receiver

from sqla_webhooks.deliveries import Answer
from sqla_webhooks.errors import Blocked, ConnectFailed

NAME = "hooks.partner.example"

#: Only this one; the name leads elsewhere later.
ONE = allowing("127.0.0.1/32")


@pytest.fixture(autouse=True)
def changing(resolver: Resolver) -> None:
    """The name is of this machine once, and of another address from then on."""
    resolver.answers[NAME] = [["127.0.0.1"], ["127.0.0.2"]]


def test_what_is_connected_to_is_what_was_checked(
    send: Send, resolver: Resolver, receiver: Receiver, connects: Connects
) -> None:
    outcome = send(receiver.url().replace("127.0.0.1", NAME), ONE)

    assert isinstance(outcome, Answer)
    assert resolver.asked == [NAME]
    assert connects.addresses == ["127.0.0.1"]
    (request,) = receiver.received
    assert request.headers["host"].startswith(f"{NAME}:")


def test_every_connection_is_checked_anew(send: Send, resolver: Resolver, connects: Connects) -> None:
    with hostile.says(http(200)) as server:
        url = server.url(host=NAME)
        assert isinstance(send(url, ONE), Answer)
        server.ended()

        assert isinstance(send(url, ONE), Blocked)

    assert resolver.asked == [NAME, NAME]
    assert connects.addresses == ["127.0.0.1"]


def test_a_kept_connection_stays_at_the_address_that_was_checked(
    send: Send, resolver: Resolver, connects: Connects
) -> None:
    with hostile.answers(http(200)) as server:
        for _ in range(3):
            assert isinstance(send(server.url(host=NAME), ONE), Answer)

    assert (server.accepted, len(server.requests)) == (1, 3)
    assert resolver.asked == [NAME]
    assert connects.addresses == ["127.0.0.1"]


def test_the_retry_after_a_dead_kept_connection_is_checked_anew(
    send: Send, resolver: Resolver, connects: Connects
) -> None:
    with hostile.drops_kept_connections() as server:
        assert isinstance(send(server.url(host=NAME), ONE), Answer)

        assert isinstance(send(server.url(host=NAME), ONE), Blocked)

    # The second was sent on the dead connection first.
    assert (server.accepted, len(server.requests)) == (1, 2)
    assert resolver.asked == [NAME, NAME]
    assert connects.addresses == ["127.0.0.1"]


def test_a_public_name_that_leads_inside_by_its_second_look_up(
    send: Send, resolver: Resolver, connects: Connects
) -> None:
    resolver.answers[NAME] = [[PUBLIC], ["169.254.169.254"], [PUBLIC]]
    url = f"http://{NAME}/"

    assert isinstance(send(url, STRICT), ConnectFailed)
    assert isinstance(send(url, STRICT), Blocked)
    assert isinstance(send(url, STRICT), ConnectFailed)
    assert connects.places == [(PUBLIC, 80), (PUBLIC, 80)]


def test_the_next_address_is_one_of_the_same_answer(send: Send, resolver: Resolver, connects: Connects) -> None:
    resolver.answers[NAME] = [["127.0.0.3", "127.0.0.1"], ["127.0.0.2"]]
    with hostile.answers(http(200)) as server:
        assert isinstance(send(server.url(host=NAME), allowing("127.0.0.0/8")), Answer)

        assert connects.places == [("127.0.0.3", server.port), ("127.0.0.1", server.port)]
    assert resolver.asked == [NAME]


@pytest.mark.parametrize(
    "found",
    [
        ("fe80::1", 8080, 0, 7),
        ("fe80::1%eth0", 8080, 0, 2),
        ("2606:4700::1111", 8080, 5, 0),
        ("::ffff:8.8.8.8", 8080, 0, 0),
    ],
)
def test_a_socket_is_connected_to_the_very_place_that_was_checked(
    send: Send, resolver: Resolver, connects: Connects, found: Found
) -> None:
    """Its zone and its flow too: an address alone may be that of another interface."""
    resolver.answers[NAME] = [[found], ["::1"]]

    assert isinstance(send(f"http://{NAME}:8080/", allowing("fe80::/10")), ConnectFailed)

    assert connects.places == [found]
    assert resolver.asked == [NAME]


def test_an_address_that_is_found_twice_is_tried_once(send: Send, resolver: Resolver, connects: Connects) -> None:
    resolver.answers[NAME] = [[PUBLIC, "1.1.1.1", PUBLIC]]

    assert isinstance(send(f"http://{NAME}/", STRICT), ConnectFailed)

    assert connects.addresses == [PUBLIC, "1.1.1.1"]


def test_an_address_is_not_looked_up(send: Send, resolver: Resolver, receiver: Receiver) -> None:
    assert isinstance(send(receiver.url(), ONE), Answer)

    assert resolver.asked == []
