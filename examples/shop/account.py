"""What the demo prints."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TextIO

from examples.shop.receiver import Receipt
from examples.shop.scenario import Row, Step
from examples.shop.tally import Count
from sqla_webhooks import Attempt

#: Characters to which the data of a short event fits on a line.
_LINE = 80


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours, where there is a terminal to show them."""

    coloured: bool

    @classmethod
    def of(cls, out: TextIO) -> Ink:
        """Colours for a terminal, unless NO_COLOR (https://no-color.org) is set."""
        return cls(out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")

    def bold(self, text: str) -> str:
        return self._in("1", text)

    def dim(self, text: str) -> str:
        return self._in("2", text)

    def good(self, text: str) -> str:
        return self._in("32", text)

    def odd(self, text: str) -> str:
        return self._in("33", text)

    def bad(self, text: str) -> str:
        return self._in("31", text)

    def _in(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.coloured else text


@dataclass(frozen=True, slots=True)
class Account:
    """Tells the story as it happens. Plain ASCII, so that no terminal and no file refuses it."""

    out: TextIO
    ink: Ink

    def opening(self, title: str, facts: Iterable[tuple[str, str]]) -> None:
        self._say(self.ink.bold(title), "")
        for name, fact in facts:
            self._say(f"   {name:<10} {fact}")

    def step(self, number: int, step: Step, rows: Iterable[Row]) -> None:
        """What a transaction has written, and whether it counts."""
        self._say("", self.ink.bold(f"{number}  {step.title}"))
        for row in rows:
            self._say(f"   row        {row.statement:<7} {row.kind} {row.key}".ljust(39) + row.text)
        self._say("   COMMIT" if step.commits else self.ink.odd("   ROLLBACK"))

    def arrived(self, receipt: Receipt, *, since: int) -> None:
        """One request, at the receiver; *since* is when its transaction ended, in nanoseconds since 1970."""
        after_ms = (receipt.arrived_at - since) / 1e6
        row = json.loads(receipt.body)["resource_id"]
        event = self.ink.dim(f"evt_..{receipt.id[-6:]}")  # ids begin with the time: their ends differ
        what = f"{receipt.type:<18} {row:<6} {event}"
        self._say(f"   arrived    {what}  after {after_ms:5.0f} ms  {receipt.status}  {self._verdict(receipt)}")

    def attempts(self, attempts: Iterable[Attempt]) -> None:
        """What the library has recorded of a delivery."""
        for one in attempts:
            at = f"{one.started_at:%H:%M:%S}.{one.started_at.microsecond // 1000:03}"
            self._say(f"   recorded   attempt {one.number} at {at} UTC: {one.status}, in {one.duration * 1000:.0f} ms")

    def payload(self, body: str, *, remark: str) -> None:
        """What the receiver got: the data of an event if that is short, else the whole body."""
        event = json.loads(body)
        data = json.dumps(event["data"])
        shown = data if len(data) <= _LINE else json.dumps(event, indent=2)
        self._say(f"   payload    {remark}", self.ink.dim(textwrap.indent(shown, " " * 14)))

    def silence(self, seconds: float) -> None:
        self._say(f"   arrived    nothing, in {seconds * 1000:.0f} ms of listening")

    def result(self, counts: Sequence[Count]) -> None:
        """The numbers, and in one line whether they agree."""
        self._say("", self.ink.bold("The count"))
        for count in counts:
            verdict = self.ink.good("agrees") if count.agrees else self.ink.bad(count.complaint)
            self._say(f"   {count.what:<36} {count.number:>3}   {verdict}")
        self._say("")
        if all(count.agrees for count in counts):
            self._say(self.ink.good("Committed = made public = delivered = verified, row by row and id by id."))
        for count in counts:
            if not count.agrees:
                self.failed(f"{count.what}: {count.number}, {count.complaint}")

    def failed(self, why: object) -> None:
        self._say(self.ink.bad(f"FAILED: {why}"))

    def _verdict(self, receipt: Receipt) -> str:
        if not receipt.verified:
            return self.ink.bad("not verified")
        if receipt.accepted:
            return self.ink.good("verified")
        on_purpose = receipt.status == HTTPStatus.SERVICE_UNAVAILABLE
        return self.ink.odd("refused, on purpose") if on_purpose else self.ink.bad("refused")

    def _say(self, *lines: str) -> None:
        for line in lines:
            print(line, file=self.out, flush=True)
