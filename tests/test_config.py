from __future__ import annotations

import dataclasses
import itertools
from decimal import Decimal
from ipaddress import ip_network
from typing import Any, cast, get_type_hints

import pytest
from support.clock import MovedClock
from support.shop import Customer, Order
from tenacity import retry_never, stop_after_attempt, wait_fixed

from sqla_webhooks import OpenFront
from sqla_webhooks._clock import SystemClock
from sqla_webhooks.config import Options, Settings
from sqla_webhooks.deliveries import Answer
from sqla_webhooks.errors import ConfigurationError, TimedOut


def settings(**options: Any) -> Settings:
    return Settings.of(cast(Options, options))


def refused(**options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(**options)
    return str(caught.value)


# --------------------------------------------------------------------------- what is accepted


def test_the_defaults() -> None:
    defaults = settings()
    found = {one.name: getattr(defaults, one.name) for one in dataclasses.fields(defaults)}
    assert isinstance(found.pop("clock"), SystemClock)
    assert all(callable(found.pop(name)) for name in ("wait", "stop", "retry"))
    assert found == {
        "batch_window": 0.1,
        "batch_size": 100,
        "poll_interval": 1.0,
        "concurrency": 32,
        "max_in_flight": 16,
        "longest_retry_after": 86400.0,
        "after_last_attempt": "skip",
        "disable_after": 432000.0,
        "while_disabled": "hold",
        "retention": 2592000.0,
        "connect_timeout": 5.0,
        "timeout": 15.0,
        "lease": 60.0,
        "payload_limit": 1_048_576,
        "allow_http": False,
        "allow_hosts": frozenset(),
        "allow_networks": (),
        "deny_networks": (),
        "egress_ports": None,
        "egress_proxy": None,
        "encryption_keys": None,
        "include": (),
        "exclude": (),
        "names": {},
        "tenant": None,
        "encoders": {},
        "transform": None,
        "dialects": (),
        "domain_events": {},
        "send_context": (),
        "capture": "subscribed",
        "capture_bulk": True,
        "bulk_limit": 100_000,
        "beyond_bulk_limit": "fail",
        "coalesce": True,
        "deliver": True,
        "create_tables": True,
    }


def test_the_default_strategies_are_the_standard_ones() -> None:
    retries = settings().retries
    first = retries.next_delay(1, 0, outcome=Answer(500))
    assert first is not None
    assert 5 <= first <= 5.5
    assert retries.next_delay(9, 0, outcome=TimedOut()) is not None
    assert retries.next_delay(10, 0, outcome=TimedOut()) is None
    assert retries.next_delay(1, 0, outcome=Answer(204)) is None


def test_every_setting_is_an_option_and_the_other_way_round() -> None:
    assert get_type_hints(Options).keys() == {one.name for one in dataclasses.fields(Settings)}


def test_every_setting_can_be_given() -> None:
    clock = MovedClock()
    wait, stop, retry = wait_fixed(7), stop_after_attempt(2), retry_never
    given = settings(
        batch_window=0,
        batch_size=1,
        poll_interval=0.01,
        concurrency=1,
        wait=wait,
        stop=stop,
        retry=retry,
        connect_timeout=0.001,
        timeout=1,
        lease=2,
        payload_limit=1024,
        allow_http=True,
        allow_hosts=["Localhost.", "example.ORG", "example.org"],
        allow_networks=["127.0.0.0/8", ip_network("::1/128"), "10.0.0.1"],
        include=[Order, Customer.api_key],
        exclude=(Customer, (Order, "delete")),
        names={Order: "purchase"},
        encoders={Decimal: float},
        dialects=[OpenFront(list_keys={"order": "Purchase"})],
        capture="all",
        coalesce=False,
        deliver=False,
        create_tables=False,
        clock=clock,
    )
    assert (given.batch_window, given.batch_size, given.poll_interval, given.concurrency) == (0, 1, 0.01, 1)
    assert (given.wait, given.stop, given.retry, given.clock) == (wait, stop, retry, clock)
    assert (given.connect_timeout, given.timeout, given.lease) == (0.001, 1, 2)
    assert given.payload_limit == 1024
    assert given.allow_hosts == {"localhost", "example.org"}
    assert given.allow_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("10.0.0.1/32"))
    assert given.include == (Order, Customer.api_key)
    assert given.exclude == (Customer, (Order, "delete"))
    assert given.names == {Order: "purchase"}
    assert given.encoders == {Decimal: float}
    assert given.dialects == (OpenFront(list_keys={"order": "Purchase"}),)
    assert given.capture == "all"
    assert (given.allow_http, given.coalesce, given.deliver, given.create_tables) == (True, False, False, False)


def test_the_strategies_given_are_those_that_decide() -> None:
    retries = settings(wait=wait_fixed(7), stop=stop_after_attempt(2)).retries
    assert [retries.next_delay(attempt, 0, outcome=Answer(500)) for attempt in (1, 2)] == [7, None]


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(Settings)])
def test_settings_are_frozen(name: str) -> None:
    frozen = settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(frozen, name, getattr(frozen, name))


def test_a_list_that_is_changed_later_changes_no_setting() -> None:
    hosts, networks, include = ["a.example"], ["10.0.0.0/8"], [Order]
    names: dict[type, str] = {Order: "purchase"}
    encoders: dict[type, Any] = {Decimal: float}
    given = settings(allow_hosts=hosts, allow_networks=networks, include=include, names=names, encoders=encoders)
    for one in (hosts, networks, include, names, encoders):
        one.clear()
    assert given.allow_hosts == {"a.example"}
    assert given.allow_networks == (ip_network("10.0.0.0/8"),)
    assert given.include == (Order,)
    assert given.names == {Order: "purchase"}
    assert given.encoders == {Decimal: float}


# --------------------------------------------------------------------------- what is refused


def test_an_unknown_setting_is_refused_with_a_suggestion() -> None:
    assert refused(batch_sise=5) == "install() has no setting 'batch_sise'; did you mean 'batch_size'?"
    assert refused(allow_network=[]) == "install() has no setting 'allow_network'; did you mean 'allow_networks'?"


def test_an_unknown_setting_like_no_other_is_refused_with_the_list() -> None:
    said = refused(zzz=5)
    assert said.startswith("install() has no setting 'zzz'; the settings are batch_window, batch_size, ")
    assert all(one.name in said for one in dataclasses.fields(Settings))


#: Each number with the least it may be.
WHOLE = {"batch_size": 1, "concurrency": 1}
ANY = {"batch_window": 0, "poll_interval": 0.01, "connect_timeout": 0.001, "timeout": 0.001, "lease": 0.001}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(WHOLE, [0, -1, 1.0, 2.5]),
        *itertools.product(ANY, [-0.001, -1]),
        *itertools.product([*WHOLE, *ANY], [True, False, float("nan"), float("inf"), float("-inf"), "5", None, [1]]),
        *itertools.product([*WHOLE, *ANY], [Decimal(5), 5j]),
        *(("poll_interval", 0), ("connect_timeout", 0), ("timeout", 0.0009), ("lease", 0)),
    ],
)
def test_a_number_that_cannot_work_is_refused(name: str, value: Any) -> None:
    kind, lowest = ("a whole number", WHOLE[name]) if name in WHOLE else ("a number", ANY[name])
    assert refused(**{name: value}) == f"{name} is {value!r}: give {kind} of at least {lowest}"


#: Each with the most it may be.
LONGEST = {
    **dict.fromkeys(["connect_timeout", "timeout"], 86400),
    **dict.fromkeys(["batch_window", "poll_interval", "lease", "longest_retry_after", "disable_after"], 3_155_760_000),
    **dict.fromkeys(["retention"], 3_155_760_000),
}


@pytest.mark.parametrize("name", LONGEST)
def test_a_time_after_which_there_is_no_date_or_that_no_socket_can_wait_is_refused(name: str) -> None:
    """A receiver's `Retry-After` would else end a turn of the relay, say."""
    longest = LONGEST[name]
    others = {"lease": 2 * longest} if name == "timeout" else {}
    assert getattr(settings(**{name: longest}, **others), name) == longest
    for value in (longest + 1, 1e300, 10**400):
        where = "attempts" if name == "retention" else name
        assert refused(**{name: value}) == f"{where} is {value!r}: give a number of at most {longest}"


@pytest.mark.parametrize("value", [0, 1023, -1, 2048.0, True, float("inf"), "2048"], ids=repr)
def test_a_payload_limit_that_leaves_no_room_is_refused(value: Any) -> None:
    assert refused(payload_limit=value) == f"payload_limit is {value!r}: give a whole number of at least 1024"


def test_a_payload_need_have_no_limit() -> None:
    assert settings(payload_limit=None).payload_limit is None


@pytest.mark.parametrize(("lease", "timeout"), [(15, 15), (29.9, 15), (60, 30.5), (1, 3600)])
def test_a_lease_must_outlast_the_request(lease: float, timeout: float) -> None:
    said = refused(lease=lease, timeout=timeout)
    assert said.startswith(f"lease is {lease} s and timeout {timeout} s")
    assert "make lease longer" in said


def test_a_lease_is_compared_to_the_default_timeout_too() -> None:
    assert refused(lease=15).startswith("lease is 15 s and timeout 15.0 s")
    assert refused(timeout=60).startswith("lease is 60.0 s and timeout 60 s")


@pytest.mark.parametrize("name", ["allow_hosts", "allow_networks", "deny_networks", "include", "exclude"])
@pytest.mark.parametrize("value", ["10.0.0.0/8", "", None, 5, Order, object()], ids=repr)
def test_one_thing_instead_of_a_list_is_refused(name: str, value: Any) -> None:
    assert refused(**{name: value}) == f"{name} is {value!r}: give a list, as in {name}=[{value!r}]"


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("10.0.0.1/8", "has host bits set"),
        ("10.0.0.0/33", "does not appear to be an IPv4 or IPv6 network"),
        ("localhost", "does not appear to be an IPv4 or IPv6 network"),
        ("", "does not appear to be an IPv4 or IPv6 network"),
        (None, "does not appear to be an IPv4 or IPv6 network"),
    ],
)
def test_what_is_no_network_is_refused(network: Any, why: str) -> None:
    said = refused(allow_networks=["10.0.0.0/8", network])
    assert said.startswith(f"allow_networks has {network!r}, which is no network: ")
    assert why in said
    assert said.endswith("Write it like '10.0.0.0/8'")


def test_a_host_is_allowed_as_it_is_on_the_wire() -> None:
    assert settings(allow_hosts=["XN--bcher-kva.example."]).allow_hosts == {"xn--bcher-kva.example"}
    assert "like 'xn--bcher-kva.example'" in refused(allow_hosts=["bücher.example"])


@pytest.mark.parametrize(
    "value", ["*", "*.internal", "http://localhost", "localhost:8443", "10.0.0.0/8", "[::1]", "a b", "user@host"]
)
def test_what_is_no_whole_name_of_a_host_is_refused(value: str) -> None:
    said = refused(allow_hosts=["hooks.internal", value])
    assert said == f"allow_hosts has {value!r}: write the whole name of one host, without scheme, port and wildcard"


def test_a_host_that_is_allowed_may_be_an_address() -> None:
    assert settings(allow_hosts=["10.0.0.1", "fd00::1"]).allow_hosts == {"10.0.0.1", "fd00::1"}


@pytest.mark.parametrize("name", ["allow_networks", "deny_networks"])
def test_a_network_that_is_mapped_into_ipv6_is_the_ipv4_network_that_it_is(name: str) -> None:
    """Else it would never be found to contain an address, and what is denied would be allowed."""
    given = settings(**{name: ["::ffff:203.0.113.0/120", "::ffff:0:0/96", "::ffff:c000:201"]})
    assert getattr(given, name) == tuple(map(ip_network, ["203.0.113.0/24", "0.0.0.0/0", "192.0.2.1/32"]))


def test_networks_that_are_denied_are_networks_too() -> None:
    assert settings(deny_networks=["203.0.113.7"]).deny_networks == (ip_network("203.0.113.7/32"),)
    assert refused(deny_networks=["everything"]).startswith("deny_networks has 'everything', which is no network: ")


def test_ports_may_be_given_in_any_collection() -> None:
    assert settings(egress_ports=[443, 8443, 443]).egress_ports == frozenset({443, 8443})


@pytest.mark.parametrize("value", [[0], [65536], [-1], ["443"], [443.0], [True], [None], [443, "8443"]], ids=repr)
def test_what_is_no_port_is_refused(value: Any) -> None:
    assert refused(egress_ports=value) == f"egress_ports has {value[-1]!r}: give numbers from 1 to 65535, like 443"


def test_no_port_at_all_is_refused() -> None:
    assert refused(egress_ports=[]).startswith("egress_ports is empty")


@pytest.mark.parametrize("url", ["http://proxy.internal:4750", "http://me:hunter2@10.0.0.1:3128/", "http://[::1]:3128"])
def test_a_proxy_is_a_url(url: str) -> None:
    assert settings(egress_proxy=url).egress_proxy == url


@pytest.mark.parametrize(
    "value",
    [
        *("", "hunter2", "proxy:4750", "socks5://hunter2:4750", "http://", "http://hunter2:0", "http://hunter2:99999"),
        *("http://proxy:4750/hunter2", "http://proxy:4750?hunter2", "http://[hunter2", b"http://hunter2:4750", 4750),
    ],
    ids=repr,
)
def test_what_is_no_proxy_is_refused_and_not_repeated(value: Any) -> None:
    said = refused(egress_proxy=value)
    assert said == "egress_proxy is no URL of a proxy: give one like 'http://proxy.internal:4750'"


def test_tls_to_the_proxy_is_refused_and_its_password_not_repeated() -> None:
    said = refused(egress_proxy="https://me:hunter2@proxy.internal:4750")
    assert said.startswith("egress_proxy begins with https://: speak http to the proxy")
    assert "hunter2" not in said


def test_the_password_of_a_proxy_is_not_shown() -> None:
    given = settings(egress_proxy="http://me:hunter2@proxy.internal:4750")
    assert "hunter2" not in repr(given)
    assert given.shown("egress_proxy") == "(not shown)"
    assert given.shown("batch_size") == "100"


@pytest.mark.parametrize("value", ["everything", "", "ALL", None, True, ["all"]], ids=repr)
def test_capture_is_one_of_two_words(value: Any) -> None:
    assert refused(capture=value) == f"capture is {value!r}: write 'subscribed' or 'all'"


@pytest.mark.parametrize("name", ["wait", "stop", "retry"])
@pytest.mark.parametrize("value", [5, None, "exponential", [wait_fixed(1)]], ids=["5", "None", "text", "list"])
def test_a_strategy_that_cannot_be_called_is_refused(name: str, value: Any) -> None:
    example = {"wait": "wait_fixed(60)", "stop": "stop_after_attempt(5)", "retry": "retry_if_exception_type(TimedOut)"}
    assert (
        refused(**{name: value}) == f"{name} is {value!r}: give a tenacity {name}_* strategy, such as {example[name]}"
    )


def test_a_refusal_is_a_value_error() -> None:
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize("name", ["allow_http", "coalesce", "deliver", "create_tables"])
def test_what_is_yes_or_no_is_a_bool(name: str) -> None:
    assert f"{name} is 'false': give True or False" in refused(**{name: "false"})


@pytest.mark.parametrize("kind", [type(None), bool, int, str, float, list, tuple, dict, object])
def test_an_encoder_of_what_json_has_itself_is_refused(kind: type) -> None:
    assert f"encoders has {kind.__qualname__}, which is" in refused(encoders={kind: repr})


@pytest.mark.parametrize("value", [None, [Decimal], {Decimal: "f"}, {"Decimal": float}, {Decimal(1): float}], ids=repr)
def test_encoders_are_classes_and_functions(value: Any) -> None:
    assert "like {Money: lambda money: str(money.amount)}" in refused(encoders=value)


def test_what_is_no_clock_is_refused() -> None:
    assert "give an object with now()" in refused(clock=object())


def test_a_strategy_that_was_not_called_is_refused() -> None:
    assert "such as stop_after_attempt(5)" in refused(stop=stop_after_attempt)
