"""
Processes of the application: forked as servers do it, and ended.

Nothing is inherited that must not be, each process relays what it commits, and
each commit comes once. A child that hangs for a lock that was held at the fork
does not end in time.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sysconfig
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.databases import database_named
from support.processes.served import Served, served
from support.receiver import PATIENCE, Receiver
from support.threads import Gate

from sqla_webhooks.relay.thread import AT_EXIT, NAME

pytestmark = pytest.mark.stress

#: Where the programs of this environment are.
BIN = sysconfig.get_path("scripts")


#: Seconds for the end of the interpreter beside what it gives us.
GRACE = 4.0


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path, receiver: Receiver) -> Iterator[Served]:
    with database_named(request.param, tmp_path) as database, served(database.patient, receiver, tmp_path) as shop:
        yield shop


class Site:
    """A web server's address, there before the server is: requests wait until it comes."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.number = self.socket.fileno()

    def put(self, sku: str) -> int:
        host, port = self.socket.getsockname()
        with urllib.request.urlopen(f"http://{host}:{port}/{sku}", timeout=PATIENCE) as answer:
            return int(answer.read())


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    with site.socket:
        yield site


@pytest.mark.parametrize(
    ("shop", "preload", "kind"),
    [
        ("postgresql", True, "sync"),
        ("sqlite", False, "gthread"),
        pytest.param("sqlite", True, "gthread", marks=pytest.mark.long),
        pytest.param("postgresql", False, "sync", marks=pytest.mark.long),
        pytest.param("mariadb", True, "gthread", marks=pytest.mark.long),
    ],
    indirect=["shop"],
)
def test_gunicorn(shop: Served, site: Site, preload: bool, kind: str) -> None:  # noqa: FBT001  # a parameter
    options = ["--workers=2", f"--worker-class={kind}", *(["--preload"] if preload else [])]
    command = ["-m", "gunicorn", *options, f"--bind=fd://{site.number}", "support.processes.web:application"]
    with shop.running(*command, pass_fds=[site.number]):
        shop.put_until_each_relays(site.put, processes=2)
        shop.wait_until_recorded()

    shop.check()
    shop.check_threads(inherited=preload)


@pytest.mark.parametrize(
    "shop",
    ["postgresql", pytest.param("sqlite", marks=pytest.mark.long), pytest.param("mariadb", marks=pytest.mark.long)],
    indirect=True,
)
def test_web_processes_that_do_not_send_and_a_worker_that_does(shop: Served, site: Site) -> None:
    """Nothing wakes the worker but its poll."""
    command = [
        "-m",
        "gunicorn",
        "--workers=2",
        "--preload",
        f"--bind=fd://{site.number}",
        "support.processes.web:application",
    ]
    with shop.running(*command, deliver=False, pass_fds=[site.number]):
        put = {site.put(str(number)) for number in range(10)}
        with shop.running("-m", "support.processes.worker", ends_with=0) as worker:
            shop.receiver.wait_for(10)
            shop.wait_until_recorded()

    shop.check()
    assert shop.relayed_by() == {worker.pid}
    assert worker.pid not in put
    assert not any(NAME in one.threads for one in shop.reports)


@pytest.mark.parametrize(
    ("shop", "way"),
    [
        ("postgresql", "os.fork, exit"),
        ("sqlite", "Pool"),
        *(
            pytest.param(name, way, marks=pytest.mark.long)
            for name in ("sqlite", "postgresql", "mariadb")
            for way in ("os.fork, _exit", "os.fork, exit", "Process", "Pool")
        ),
    ],
    indirect=["shop"],
)
def test_children_of_a_process_whose_threads_are_at_work(shop: Served, way: str) -> None:
    with shop.running("-m", "support.processes.children", way, ends_with=0) as parent:
        pass

    shop.wait_until_recorded()
    shop.check()
    shop.check_threads(inherited=True, parent=parent.pid)


@pytest.mark.parametrize(
    "shop",
    [
        "postgresql",
        pytest.param("sqlite", marks=pytest.mark.long),
        pytest.param("mariadb", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_celery(shop: Served) -> None:
    """Its workers are forked from a process that has imported the tasks, and so installed."""
    options = ["--pool=prefork", "--concurrency=2", "--loglevel=WARNING", "--without-gossip", "--without-mingle"]
    command = ["-m", "celery", "--quiet", "--app=support.processes.tasks", "worker", *options, "--without-heartbeat"]
    with shop.running(*command) as worker:
        shop.put_until_each_relays(lambda sku: print(sku, file=worker.stdin, flush=True), processes=2)
        shop.wait_until_recorded()

    shop.check()
    shop.check_threads(inherited=True)


@pytest.mark.skipif(shutil.which("uwsgi", path=BIN) is None, reason="uWSGI is not here: pip install uwsgi builds it")
@pytest.mark.parametrize("shop", ["postgresql"], indirect=True)
def test_uwsgi(shop: Served, site: Site) -> None:
    """
    Each worker loads the application.

    Forked from a master that has, one may wait for ever for the interpreter's lock, which a thread there held.
    """
    options = ["--master", "--processes=2", "--enable-threads", "--die-on-term", "--py-call-osafterfork", "--lazy-apps"]
    command = ["--http-socket", f"fd://{site.number}", "--module=support.processes.web", *options]
    with shop.running(*command, program=f"{BIN}/uwsgi", pass_fds=[site.number]):
        shop.put_until_each_relays(site.put, processes=2)
        shop.wait_until_recorded()

    shop.check()
    shop.check_threads(inherited=False)


_ENDS = pytest.mark.parametrize(
    ("shop", "way", "status"),
    [
        ("postgresql", "exit", 0),
        ("sqlite", "error", 1),
        *(
            pytest.param(name, way, status, marks=pytest.mark.long)
            for name in ("sqlite", "postgresql", "mariadb")
            for way, status in (("return", 0), ("exit", 0), ("error", 1), ("interrupt", -signal.SIGINT))
        ),
    ],
    indirect=["shop"],
)


@_ENDS
def test_the_end_is_not_held_up_by_a_receiver_that_hangs(shop: Served, way: str, status: int, gate: Gate) -> None:
    """What was in flight comes again, and nothing else; what was not sent is sent by the next process."""
    shop.receiver.on_request = gate
    with shop.running("-m", "support.processes.ends", way, ends_with=0, status=status):
        gate.wait()
        begin = shop.clock.monotonic()
    assert shop.clock.monotonic() - begin < AT_EXIT + GRACE
    gate.open()
    shop.receiver.wait_until_alone()
    in_flight = set(shop.receiver.ids)
    shop.clock.advance(shop.observer.settings.lease + 1)
    assert shop.observer.drain(PATIENCE).complete

    came = Counter(shop.receiver.ids)
    assert {one["resource_id"] for one in shop.receiver.events()} == {one.sku for one in shop.reports}
    assert len(came) == len(shop.reports)
    assert {id_ for id_, times in came.items() if times > 1} == in_flight
    assert max(came.values()) == 2


@_ENDS
def test_the_end_waits_for_what_is_in_flight(shop: Served, way: str, status: int, gate: Gate) -> None:
    """As long as it may: so nothing is sent again."""
    shop.receiver.on_request = gate
    opening = threading.Timer(AT_EXIT / 4, gate.open)
    with shop.running("-m", "support.processes.ends", way, ends_with=0, status=status):
        gate.wait()
        opening.start()
    opening.join()
    shop.clock.advance(shop.observer.settings.lease + 1)
    assert shop.observer.drain(PATIENCE).complete

    shop.check()
