"""
Where a process may fall: every step of the relay, and both sides of every COMMIT.

The library knows nothing of it. The interpreter tells of each call and return
in the threads that run from then on, and at the one that is asked for the
process is gone, as by `kill -9`.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from dataclasses import dataclass
from importlib import import_module
from types import CodeType, FrameType
from typing import Any, Literal, TypeAlias

from sqlalchemy import Engine

#: The exit status of a process that fell where it was to fall.
FELL = 77


@dataclass(frozen=True)
class Step:
    """
    A function of the library, and how a process may fall there.

    Attributes:
        function: Its module and its name.
        calls: Up to which of its calls one may be chosen; a life under load comes to so many in a moment.
        commits: Up to which of the COMMITs within it; 0 if there are none.
    """

    function: str
    calls: int = 4
    commits: int = 0

    @property
    def code(self) -> CodeType:
        """
        Raises:
            AttributeError, ImportError: There is no such function any more: mend the table.
        """
        module, _, path = self.function.partition(":")
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        code = found.__code__
        assert isinstance(code, CodeType)
        return code


#: All names of the library's inside that the crash tests know.
STEPS = {
    "take": Step("sqla_webhooks.outbox.take:take"),
    "lead": Step("sqla_webhooks.outbox.lead:Lead.acquire", commits=1),
    "coalesce": Step("sqla_webhooks.coalesce:coalesce"),
    "enrich": Step("sqla_webhooks.enrich.run:Enrichment.enrich"),
    "publish": Step("sqla_webhooks.outbox.fan_out:fan_out", commits=4),
    "look": Step("sqla_webhooks.outbox.lanes:lanes"),
    "allot": Step("sqla_webhooks.relay.allot:allot"),
    "claim": Step("sqla_webhooks.outbox.claim:claim", commits=4),
    "submit": Step("sqla_webhooks.delivery.senders:SenderPool.submit", calls=12),
    "send": Step("sqla_webhooks.delivery.send:Sender.send", calls=12),
    "record": Step("sqla_webhooks.outbox.record:Recording.record", commits=4),
    "announce": Step("sqla_webhooks.delivery.announce:Announcer.attempt", calls=12),
    # The application's own transaction.
    "write": Step("support.crash.work:Writer.transact", calls=12, commits=12),
}


Side: TypeAlias = Literal["before", "after"]
_SIDES: tuple[Side, ...] = ("before", "after")


@dataclass(frozen=True)
class Fall:
    """
    Where to fall.

    Attributes:
        step: One of `STEPS`.
        when: As it begins, or as it ends.
        commit: Not of the step itself, but of a COMMIT within it.
        nth: At which time, counted from 1.
    """

    step: str
    when: Side
    commit: bool = False
    nth: int = 1

    def __str__(self) -> str:
        what = f"{self.step}'s COMMIT" if self.commit else self.step
        return f"{self.when} {what}, number {self.nth}"

    def arm(self, engine: Engine) -> None:
        """Fall there, in a thread that is started from now on. *engine* is that of the application."""
        step = STEPS[self.step].code
        commit = type(engine.dialect).do_commit.__code__
        threading.setprofile(_Watch(self, code=commit if self.commit else step, within=step))


class _Watch:
    def __init__(self, fall: Fall, *, code: CodeType, within: CodeType) -> None:
        self._event = "call" if fall.when == "before" else "return"
        self._nth = fall.nth
        self._code, self._within = code, within
        self._count = itertools.count(1)  # one step for all threads

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if (
            frame.f_code is self._code
            and event == self._event
            and self._is_within(frame)
            and next(self._count) == self._nth
        ):
            os._exit(FELL)

    def _is_within(self, frame: FrameType | None) -> bool:
        while frame is not None and frame.f_code is not self._within:
            frame = frame.f_back
        return frame is not None


def every_fall(chance: random.Random) -> list[Fall]:
    """Both sides of each step and of the COMMITs within it, each at one of its times; in any order."""
    falls = []
    for name, step in STEPS.items():
        for commit, most in ((False, step.calls), (True, step.commits)):
            if most:
                falls += [Fall(name, when, commit=commit, nth=chance.randint(1, most)) for when in _SIDES]
    chance.shuffle(falls)
    return falls
