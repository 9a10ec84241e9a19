"""
A receiver in a process of its own: notes what it gets and when, and answers as the path says.

`/ok` answers 200 at once; `/flaky` 500 to every fifth request, at random;
`/hang` never. `GET /receipts` gives what was noted, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from multiprocessing.connection import Connection
from urllib.request import urlopen

#: How many requests of a flaky endpoint fail.
FAILS = 0.2


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    One request.

    Attributes:
        at: On the system's monotonic clock, which all processes share.
        taken: Whether it was answered with 200.
    """

    path: str
    event: str
    at: float
    taken: bool
    body: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """As its users see it."""

    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def receipts(self) -> list[Receipt]:
        """All so far, in the order in which they came."""
        with urlopen(self.url("/receipts")) as answer:
            return [Receipt(*one) for one in json.load(answer)]

    def count(self) -> int:
        """How many there are so far."""
        with urlopen(self.url("/count")) as answer:
            return int(answer.read())


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, port), daemon=True)
    process.start()
    try:
        yield Receiver(ours.recv())
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, port: int) -> None:
    asyncio.run(_forever(pipe, port))


async def _forever(pipe: Connection, port: int) -> None:
    noted: list[Receipt] = []
    chance = random.Random(1)  # the same in each run

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _one(reader, writer, noted, chance):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port, backlog=1024)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noted: list[Receipt], chance: random.Random
) -> bool:
    """One request and its answer; False at the connection's end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    at = time.monotonic()
    if method == "GET":
        what = [astuple(one) for one in noted] if path == "/receipts" else len(noted)
        _answer(writer, 200, json.dumps(what).encode())
        return True
    taken = path.startswith("/ok") or (path.startswith("/flaky") and chance.random() >= FAILS)
    noted.append(Receipt(path, headers.get("webhook-id", ""), at, taken, body.decode()))
    if path.startswith("/hang"):
        await asyncio.sleep(3600)
        return False
    _answer(writer, 200 if taken else 500, b"ok")
    return True


def _answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    writer.write(f"HTTP/1.1 {status} so\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def percentile(values: Sequence[float], part: float) -> float:
    """The least value that *part* of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
