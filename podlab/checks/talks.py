"""A conversation with a learner's code: one process that keeps its state, asked again and again.

Where the next question depends on the last answer (a coordinator, a detector, a voter in a simulated group), the
checker holds the world and the learner's process holds only the learner's code.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from podlab.checks.calls import MOST_RESULTS, Called, Start, arguments_of_caller, new_seal, reply, start_here
from podlab.checks.contract import Json
from podlab.checks.places import place

#: Options of a Python that takes no module from where it is, nor from its user's home.
ISOLATED = ("-I", "-S")


class TalkEnded(Exception):
    """Raised by `Talk.ask` for any answer that is no plain value; `called` says what happened."""

    def __init__(self, called: Called, shown: str) -> None:
        super().__init__(f"{shown} {called.error}")
        self.called, self.shown = called, shown


class Talk(AbstractContextManager["Talk"]):
    """One process with the learner's `source` in it. `seconds` is the most for one answer, and for the start.

    `options` are those of its Python. After `late`, `ended` or `huge` the process is gone and every further answer is
    the same.
    """

    def __init__(self, source: str, *, seconds: float, start: Start = start_here, options: Sequence[str] = ()) -> None:
        self._source, self._seconds, self._start, self._options = source, seconds, start, options
        self._buffer, self._seal = b"", new_seal()
        self._gone: Called | None = None
        self.asked = 0

    def __enter__(self) -> Talk:
        self._reading, writing = os.pipe()
        self._place = place("talk")
        folder = self._place.__enter__()
        arguments = [*self._options, *arguments_of_caller(writing)]
        self._process = self._start(arguments, subprocess.PIPE, subprocess.DEVNULL, writing, folder)
        os.close(writing)
        self._first = self._exchange(
            {"source": self._source, "name": "", "calls": [], "talk": True, "seal": self._seal}
        )
        if not self._first.ok:
            self._gone = self._first
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        self._process.end()
        os.close(self._reading)
        self._place.__exit__(None, None, None)

    def make(self, name: str, *arguments: Json, called: str = "it") -> Called:
        """Make an object of the learner's class `name`; its methods are asked for as "it.method"."""
        return self._exchange({"make": name, "arguments": list(arguments), "called": called})

    def call(self, name: str, *arguments: Json, seconds: float | None = None) -> Called:
        """Call a function, or a method "it.name" of the object made as `it`, and return how it went.

        `seconds`: another patience than the conversation's, for this answer.
        """
        return self._exchange({"name": name, "arguments": list(arguments)}, seconds)

    def ask(self, name: str, *arguments: Json) -> Json:
        """The value of a call; TalkEnded if it did not come to one."""
        called = self.call(name, *arguments)
        if not called.ok:
            raise TalkEnded(called, _shown(name, arguments))
        return called.value

    def tell(self, name: str, *arguments: Json) -> None:
        """A call for what it does: whatever it returns does not matter. TalkEnded if it does not return."""
        called = self.call(name, *arguments)
        if not called.ok and called.kind != "unfit":
            raise TalkEnded(called, _shown(name, arguments))

    def _exchange(self, question: dict[str, Json], seconds: float | None = None) -> Called:
        if self._gone is not None:
            return self._gone
        try:
            return self._answered(question, seconds)
        except BaseException:
            # Cut off, by the end of a check's time say: what is still to come would answer the next question.
            self._over("late", "was not waited for any longer")
            raise

    def _answered(self, question: dict[str, Json], seconds: float | None) -> Called:
        self.asked += 1
        patience = self._seconds if seconds is None else seconds
        deadline = time.monotonic() + patience
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return self._over("ended", "ended its own process before it returned")
        while b"\n" not in self._buffer:
            watched, left = [self._reading, self._process.over], max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select(watched, [], [], left)
            if not ready:
                return self._over("late", f"did not return within {patience:.0f} s")
            # A child may hold the pipe on: when the process has ended, what it wrote is all that comes.
            piece = os.read(self._reading, 65536) if self._reading in ready else b""
            self._buffer += piece
            if not piece:
                return self._over("ended", "ended its own process before it returned")
            if len(self._buffer) > MOST_RESULTS:
                return self._over("huge", f"gave more than {MOST_RESULTS // 2**20} MB back")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return reply(line, self._seal) or self._over("ended", "wrote something else than answers where answers go")

    def _over(self, kind: str, error: str) -> Called:
        self._gone = Called(kind, error=error)  # type: ignore[arg-type]
        self._process.end()
        return self._gone


def _shown(name: str, arguments: Sequence[Json]) -> str:
    return f"{name.removeprefix('it.')}({', '.join(repr(each) for each in arguments)[:300]})"
